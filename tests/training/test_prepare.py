"""The audit: every reason to leave a picture out, and that nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dsgcli.errors import TrainingError
from dsgcli.recipe import DataRecipe, PrepareRecipe, Source, build
from dsgcli.training.audit import (
    Duplicates,
    Examination,
    list_pictures,
    perceptual_hash,
    sharpness,
    square,
    to_gray,
    without_duplicates,
)
from dsgcli.training.data import open_pack
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.prepare import Prepare, list_set, read_audit, smallest_set, weights_of

SIZE_PX = 64
TAKEN = PrepareRecipe(aligned="yes")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def face():
    return draw_portrait(0, 256)


def examine(path, recipe=TAKEN):
    return Examination(recipe=recipe, size_px=SIZE_PX)(path)


class Alone:
    """As much of a run as `prepare` looks at."""

    def __init__(self, folder, recipe):
        self.folder, self.recipe = folder, recipe
        self.store = type("Store", (), {"file": lambda self, name: None})()
        self.told = []

    def advance(self, done, total, message=""):
        self.told.append((done, total))


# ── one picture ──────────────────────────────────────────────────────────────────────────────────


def test_sound_portrait_is_taken_whole(tmp_path, face):
    found = examine(save(tmp_path / "a.png", face))
    assert found.problem == ""
    np.testing.assert_array_equal(found.crop, square(face, SIZE_PX))
    assert found.size_px == (256, 256)


def test_colors_under_transparent_pixels_are_not_learnt(tmp_path, face):
    alpha = np.zeros(face.shape[:2], np.uint8)
    alpha[40:220, 60:200] = 255
    crops = []
    for name, hidden in (("a.png", (255, 0, 255)), ("b.png", (0, 0, 0)), ("c.webp", (9, 200, 9))):
        pixels = np.where(alpha[:, :, None] > 0, face, np.uint8(hidden))
        picture = Image.fromarray(np.dstack([pixels, alpha]))
        picture.save(tmp_path / name, lossless=True, exact=True)
        crops.append(examine(tmp_path / name).crop)
    np.testing.assert_array_equal(crops[0], crops[1])
    np.testing.assert_array_equal(crops[0], crops[2])
    assert (crops[0][0, 0] == 255).all()  # on white


def test_damaged_picture_is_told(tmp_path, face):
    path = save(tmp_path / "a.png", face)
    path.write_bytes(path.read_bytes()[:2000])
    assert examine(path).problem.startswith("cannot be read")
    assert examine(tmp_path / "gone.png").problem.startswith("cannot be read")


def test_small_portrait_is_told(tmp_path, face):
    found = examine(save(tmp_path / "a.png", face[::4, ::4]))
    assert found.problem == "too small: the face is 29 px high, and min_face_px is 64"


def test_blurred_portrait_is_told(tmp_path, face):
    blurred = np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(8)))
    limit = replace(TAKEN, min_sharpness=20.0)
    assert examine(save(tmp_path / "sharp.png", face), limit).problem == ""
    found = examine(save(tmp_path / "blurred.png", blurred), limit)
    assert found.problem.startswith("blurred: sharpness ")


def test_sharpness_falls_with_blur_and_not_with_brightness(face):
    gray = to_gray(face)
    blurred = to_gray(np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(2))))
    assert sharpness(blurred) < 0.5 * sharpness(gray)
    assert sharpness(gray + 20) == pytest.approx(sharpness(gray), rel=1e-3)


@pytest.mark.slow
def test_face_is_found_aligned_and_counted(tmp_path, face):
    """A real detector on drawn people: one off the middle, none, two."""
    auto = PrepareRecipe(aligned="auto", min_face_px=20)
    scene = np.full((512, 800, 3), 120, dtype=np.uint8)
    nobody = save(tmp_path / "nobody.png", scene)
    one = scene.copy()
    one[200:456, 40:296] = face
    two = one.copy()
    two[60:316, 480:736] = draw_portrait(3, 256)
    assert examine(nobody, auto).problem == "no face"
    kept = examine(nobody, replace(auto, no_face="keep"))
    assert (kept.problem, kept.crop.shape) == ("", (SIZE_PX, SIZE_PX, 3))
    found = examine(save(tmp_path / "one.png", one), auto)
    assert (found.problem, found.faces) == ("", 1)
    difference = np.abs(found.crop.astype(float) - square(face, SIZE_PX)).mean()
    assert difference < 25, "the crop is not where the portrait was"
    pair = save(tmp_path / "two.png", two)
    assert (examine(pair, auto).problem, examine(pair, auto).faces) == ("", 2)
    assert examine(pair, replace(auto, several="leave_out")).problem == "2 faces"
    whole = examine(save(tmp_path / "whole.png", face), auto)
    np.testing.assert_array_equal(whole.crop, square(face, SIZE_PX))


# ── duplicates ───────────────────────────────────────────────────────────────────────────────────


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_hash_stays_when_a_picture_is_scaled_compressed_or_brightened(face, tmp_path):
    whole = perceptual_hash(to_gray(face))
    assert bits(whole, perceptual_hash(to_gray(face[::2, ::2]))) <= 4
    Image.fromarray(face).save(tmp_path / "a.jpg", quality=40)
    compressed = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert bits(whole, perceptual_hash(to_gray(compressed))) <= 2
    assert bits(whole, perceptual_hash(to_gray(face) * 0.8 + 20)) <= 2


def test_hashes_of_different_people_differ():
    hashes = [perceptual_hash(to_gray(draw_portrait(seed, 64))) for seed in range(12)]
    distances = [bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 4


def test_first_of_two_alike_is_kept_and_the_second_names_it(tmp_path, face):
    paths = [save(tmp_path / name, face) for name in ("a.png", "b.png")]
    first, second = without_duplicates(map(examine, paths), most_bits=4)
    assert first.problem == ""
    assert second.problem == "duplicate of a.png"
    assert [f.problem for f in without_duplicates(map(examine, paths), -1)] == ["", ""]


def test_picture_left_out_is_not_the_one_that_others_repeat(tmp_path, face):
    small = save(tmp_path / "a.png", face[::4, ::4])
    large = save(tmp_path / "b.png", face)
    first, second = without_duplicates(map(examine, [small, large]), most_bits=8)
    assert first.problem.startswith("too small")
    assert second.problem == ""


def test_distance_of_hashes_counts_bits():
    twins = Duplicates(most_bits=1)
    one = examine_hash(0b1011)
    assert twins.find(one) is None
    assert twins.find(examine_hash(0b1010)) is not None
    assert twins.find(examine_hash(1 << 63)) is None


def examine_hash(phash: int):
    from pathlib import Path

    from dsgcli.training.audit import Examined

    return Examined(path=Path("x.png"), phash=phash)


# ── names and weights ────────────────────────────────────────────────────────────────────────────


def test_pictures_are_listed_in_one_order_everywhere(tmp_path, face):
    for name in ("b.png", "sub/a.JPG", "a.webp"):
        save(tmp_path / name, face[::8, ::8])
    (tmp_path / "notes.txt").write_text("no picture")
    names = [p.relative_to(tmp_path).as_posix() for p in list_pictures(tmp_path)]
    assert names == ["a.webp", "b.png", "sub/a.JPG"]


def test_exemplars_are_named_by_their_files(tmp_path, face):
    for name in ("Cartoons_00440_04.png", "two.png", "two.jpg"):
        save(tmp_path / "cartoon" / name, face[::8, ::8])
    listed = list_set(tmp_path, DataRecipe(style="cartoon"), "style")
    assert [item.name for item in listed] == ["Cartoons_00440_04", "two.jpg", "two.png"]


def test_folder_decides_how_often_its_portraits_come():
    sources = (Source(folder="p", weight=3.0), Source(folder="p/old", weight=0.5))
    data = DataRecipe(source=sources)
    assert weights_of(["p/a", "p/old/b"], "base", data) == [3.0, 0.5]


def test_held_out_portraits_stay_so_when_others_come():
    data = DataRecipe(source=(Source(folder="p"),), holdout=0.2)
    names = [f"p/{i}" for i in range(400)]
    weights = weights_of(names, "base", data)
    assert 50 < weights.count(0.0) < 110
    assert weights_of([*names, "p/new"], "base", data)[:400] == weights


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


def recipe_for(root, batch_size=4):
    return build(
        {
            "data": {"root": str(root), "style": "toon", "source": [{"folder": "photos"}]},
            "model": {"size_px": 32, "last_structure": 2},
            "prepare": {"aligned": "yes", "min_face_px": 8},
            "finetune": {"batch_size": batch_size},
        }
    )


@pytest.fixture
def folders(tmp_path, face):
    for seed in range(6):
        save(tmp_path / "data" / "toon" / f"t{seed}.png", draw_portrait(seed, 64, "pop"))
        save(tmp_path / "data" / "photos" / f"p{seed}.png", draw_portrait(seed, 64))
    (tmp_path / "data" / "toon" / "broken.png").write_bytes(b"no picture")
    save(tmp_path / "data" / "toon" / "z.png", draw_portrait(0, 64, "pop"))
    return tmp_path / "data"


def test_prepare_packs_what_is_fit_and_lists_the_rest(tmp_path, folders):
    before = sorted(p.name for p in folders.rglob("*"))
    context = Alone(tmp_path / "run", recipe_for(folders))
    Prepare().run(context)
    style, base = (open_pack(tmp_path / "run" / name) for name in ("style", "base"))
    assert style.names == tuple(f"t{seed}" for seed in range(6))
    assert base.names == tuple(f"photos/p{seed}" for seed in range(6))
    assert style.get([0], 32).shape == (1, 3, 32, 32)
    audit = read_audit(tmp_path / "run" / "style")["pictures"]
    assert audit["broken"]["problem"].startswith("cannot be read")
    assert audit["z"]["problem"] == "duplicate of t0.png"
    page = (tmp_path / "run" / "style" / "report.html").read_text("utf-8")
    assert "6 used, 2 left out. Nothing was deleted." in page
    assert page.count("data:image/jpeg;base64,") == 7  # a damaged one has no picture
    assert sorted(p.name for p in folders.rglob("*")) == before
    assert context.told[-1] == (8, 8)


def test_prepare_stops_when_too_little_is_left(tmp_path, folders):
    context = Alone(tmp_path / "run", recipe_for(folders, batch_size=8))
    with pytest.raises(TrainingError) as caught:
        Prepare().run(context)
    message = str(caught.value)
    assert "6 of 8 portraits of 'style' are fit, and the recipe needs 8" in message
    assert "1 cannot be read" in message
    assert "1 duplicate" in message
    assert json.loads((tmp_path / "run" / "style" / "audit.json").read_text())


def test_needed_portraits_are_the_largest_batch():
    recipe = build(
        {
            "base": {"batch_size": 4, "growth": [{"size_px": 32, "steps": 1, "batch_size": 24}]},
            "transfer": {"batch_size": 16},
            "refine": {"batch_size": 99},
        }
    )
    assert (smallest_set(recipe, "base"), smallest_set(recipe, "style")) == (24, 16)
