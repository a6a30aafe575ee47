"""The figures of `benchmarks/quality.py`, where their answer is known.

Source distributions come without benchmarks.
"""

import importlib
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dsgcli.models.translator import Translator, TranslatorConfig
from dsgcli.store.write import save_translator
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.sheets import save_picture
from dsgcli.types import NUM_LANDMARKS

FOLDER = Path(__file__).parents[1] / "benchmarks"

if not (FOLDER / "quality.py").is_file():
    pytest.skip("benchmarks are not here", allow_module_level=True)

sys.path.insert(0, str(FOLDER))
try:
    figures = importlib.import_module("quality_figures")
    far = importlib.import_module("quality_distance")
    models = importlib.import_module("quality_models")
    photos = importlib.import_module("quality_photos")
    video = importlib.import_module("quality_video")
    quality, quality_base = map(importlib.import_module, ("quality", "quality_base"))
finally:
    sys.path.remove(str(FOLDER))

CONFIG = TranslatorConfig(
    widths=(8, 8, 8, 8), code_dim=4, style_hidden=8, style_widths=(4, 4, 4, 4, 4)
)


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).random((NUM_LANDMARKS, 2))


@pytest.fixture
def translator() -> Translator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Translator(CONFIG).eval()
        torch.nn.init.normal_(network.color[-1].conv.weight, std=0.05)  # draws something
    return network


def texture(size: int = 96, seed: int = 0, blur: float = 2.0) -> np.ndarray:
    """(S, S, 3) uint8, even numbers from 0 to 200: detail of one scale."""
    noise = np.random.default_rng(seed).standard_normal((size, size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    low, high = smooth.min(), smooth.max()
    return (2 * np.rint(100 * (smooth - low) / (high - low))).astype(np.uint8)


# ── one face ─────────────────────────────────────────────────────────────────────────────────────


def test_yaw_is_zero_in_the_middle_and_one_at_the_side(points):
    points[[234, 454]] = [[0.2, 0.5], [0.8, 0.6]]
    for share, wanted in ((0.5, 0.0), (1.0, 1.0), (0.0, -1.0)):
        points[1] = points[234] + share * (points[454] - points[234])
        assert figures.yaw(points) == pytest.approx(wanted)


def test_mouth_and_eyes_are_measured_in_widths_of_the_face(points):
    points[[234, 454]] = [[0.1, 0.5], [0.9, 0.5]]
    points[[13, 14]] = [[0.5, 0.6], [0.5, 0.8]]
    points[[159, 145, 386, 374]] = [[0.3, 0.3], [0.3, 0.38], [0.7, 0.3], [0.7, 0.46]]
    points[[33, 133, 362, 263]] = [[0.2, 0.3], [0.36, 0.3], [0.6, 0.3], [0.76, 0.3]]
    assert figures.mouth_opening(points) == pytest.approx(0.25)
    assert figures.eye_height(points) == pytest.approx((0.1 + 0.2) / 2)
    assert figures.eye_opening(points) == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("name", ["yaw", "mouth_opening", "eye_height", "eye_opening"])
def test_measures_do_not_depend_on_size_place_and_tilt(points, name):
    measure = getattr(figures, name)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert measure(3 * points @ turn.T + 7) == pytest.approx(measure(points))


def test_cheek_lightness_sees_the_cheeks_alone(points):
    points[[234, 454]] = [[0.1, 0.5], [0.9, 0.5]]
    points[[50, 280]] = [[0.25, 0.5], [0.75, 0.5]]
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[24:40, 8:24], picture[24:40, 40:56] = 119, 119
    assert figures.cheek_lightness(picture, points) == pytest.approx(50.03, abs=0.05)
    points[280] = [5, 5]  # out of sight
    assert figures.cheek_lightness(picture, points) == pytest.approx(50.03, abs=0.05)
    points[50] = [5, 5]
    assert math.isnan(figures.cheek_lightness(picture, points))


# ── one picture beside another ───────────────────────────────────────────────────────────────────


def test_edges_are_kept_by_another_light_and_not_by_another_picture():
    picture = texture()
    assert figures.edges_kept(picture, picture // 2 + 20) == pytest.approx(1.0, abs=1e-6)
    assert figures.edges_kept(picture, 255 - picture) == pytest.approx(1.0)
    assert abs(figures.edges_kept(picture, texture(seed=1))) < 0.15
    half = picture.copy()
    half[:, 48:] = 100
    assert 0.4 < figures.edges_kept(picture, half) < 0.9


def test_sharpness_is_energy_where_the_mask_is():
    picture = texture(blur=0.7)
    mask = np.zeros((96, 96), bool)
    mask[:48] = True
    drawn = picture // 2
    drawn[60:] = 0
    assert figures.sharpness(picture, drawn, mask) == pytest.approx(0.25, rel=1e-6)
    assert figures.sharpness(picture, cv2.GaussianBlur(picture, (0, 0), 1.5), mask) < 0.1
    assert math.isnan(figures.sharpness(np.zeros_like(picture), picture, mask))


def test_decibels_count_only_where_the_mask_is():
    one, other = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    other[:4] = 51
    assert figures.decibels(one, other) == pytest.approx(10 * math.log10(25 * 2))
    assert figures.decibels(one, other, np.arange(8)[:, None].repeat(8, 1) < 4) == pytest.approx(
        10 * math.log10(25)
    )


# ── people and exemplars ─────────────────────────────────────────────────────────────────────────


def test_correlation_has_its_sign_and_needs_something_that_varies():
    values = np.random.default_rng(1).random(9)
    assert figures.correlation(values * 0.3 + 5, values) == pytest.approx(1.0)
    assert figures.correlation(-values, values) == pytest.approx(-1.0)
    assert math.isnan(figures.correlation(np.ones(4), np.arange(4.0)))


def test_rank_correlation_sees_order_alone():
    values = np.array([3.0, 1.0, 2.0, 9.0])
    assert figures.ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [1.5, 0.0, 1.5, 3.0]
    assert figures.rank_correlation(values, np.exp(values)) == pytest.approx(1.0)
    assert figures.rank_correlation(values, np.array([3.0, 2.0, 1.0, 9.0])) == pytest.approx(0.8)


def test_people_are_compared_within_each_exemplar_and_where_faces_were_found():
    people = np.array([1.0, 2.0, 4.0, 3.0])
    drawn = np.array([people + 10, 2 * people + 70, [9.0, math.nan, 6.0, 7.0]])
    found = figures.over_people(figures.correlation, people, drawn)
    assert found == pytest.approx((1 + 1 - 1) / 3, abs=0.01)
    lost = np.full((1, 4), math.nan)
    assert math.isnan(figures.over_people(figures.correlation, people, lost))


def test_growth_counts_closed_eyes_little():
    drawn = np.array([[0.15, 0.30, 0.05], [math.nan, 0.30, 0.05]])
    people = np.array([0.10, 0.20, 0.001])
    assert figures.growth(people, drawn) == pytest.approx(0.85 / 0.502)
    assert math.isnan(figures.growth(people, np.full((2, 3), math.nan)))


def test_exemplars_that_differ_in_color_alone_do_not_differ_beyond_it():
    drawn = np.full((3, 2, 8, 8, 3), 100, np.uint8)
    drawn[1] += 20
    drawn[2, :, :4] += 30
    found = list(figures.differ(drawn).values())
    assert found == pytest.approx([(0 + 15 + 15) / 3, 0.0])


def test_rises_counts_steps_that_do_not_fall():
    assert figures.rises([1.0, 0.9, 0.9, 0.4, 0.5]) == 2
    assert figures.rises([1.0, 0.5, 0.1]) == 0


# ── distance to a style ──────────────────────────────────────────────────────────────────────────


def test_pyramid_adds_up_to_the_picture():
    picture = texture(64)
    levels = far.pyramid(picture)
    assert [level.shape[0] for level in levels] == [64, 32, 16]
    whole = levels[-1]
    for level in levels[-2::-1]:
        whole = level + cv2.pyrUp(whole, dstsize=level.shape[:2])
    assert np.abs(whole - picture).max() < 1e-3


def test_projections_of_two_known_distributions_are_as_far_apart_as_they_should_be():
    """W1 of +-1 and of a uniform distribution of the same spread is 0.4434."""
    signs = np.repeat([1.0, -1.0], 1000)
    even = np.sqrt(3) * np.linspace(-1, 1, 3001)
    levels = [
        np.broadcast_to(5 + 9 * values[:, None, None], (len(values), 3, 49)).astype(np.float32)
        for values in (signs, even)
    ]
    one, other = (far.Sketch((level,), seed=0) for level in levels)
    unit = np.abs(one.normalised[0]).mean()
    assert far.distance(one, other) / unit == pytest.approx(0.4434, abs=0.005)
    wider = far.Sketch((5 + 2 * (levels[0] - 5),), seed=0)
    assert far.distance(wider, one) == pytest.approx(0.0, abs=1e-4)
    assert far.toned_distance(wider, one) / unit == pytest.approx(1.0, abs=1e-3)


def sketch(*seeds: int, blur: float = 1.0, light: float = 1.0) -> object:
    pictures = [texture(64, seed, blur) for seed in seeds]
    return far.sketch([np.rint(light * p).astype(np.uint8) for p in pictures], count=1500)


def test_distance_sees_texture_and_light_only_if_it_is_to_count():
    style = sketch(0, 1, 2, 3)
    assert far.distance(style, sketch(0, 1, 2, 3)) == 0
    dark, coarse = sketch(0, 1, 2, 3, light=0.5), sketch(4, 5, 6, 7, 8, blur=5.0)
    assert far.distance(dark, style) < 0.02
    assert far.toned_distance(dark, style) > 0.1
    floor = far.distance(sketch(10, 11, 12, 13, 14), style)
    assert floor < 0.5 * far.distance(coarse, style)


def test_distance_falls_towards_the_style():
    style = sketch(*range(20, 24), blur=0.8)
    steps = [sketch(4, 5, 6, 7, blur=blur) for blur in (6.0, 2.5, 1.0)]
    for measure in (far.distance, far.toned_distance):
        assert figures.rises([measure(step, style) for step in steps]) == 0


# ── flicker ──────────────────────────────────────────────────────────────────────────────────────


def test_flicker_follows_what_moves_and_tells_face_from_ground():
    still = texture(160, blur=4.0)
    face = np.zeros((96, 96), bool)
    face[30:66, 30:66] = True
    windows = [still[2 * t : 2 * t + 96, 3 * t : 3 * t + 96] for t in range(6)]
    blink = [2 * (t % 2) for t in range(6)]
    source = [w + np.uint8(2 * b) for w, b in zip(windows, blink, strict=True)]
    drawn = [
        w + np.where(face, 10 * b, 2 * b)[..., None].astype(np.uint8)
        for w, b in zip(windows, blink, strict=True)
    ]
    found = video.flicker(source, drawn, [face] * 6)
    assert found[figures.FLICKER_FACE] == pytest.approx(5.0, rel=0.15)
    assert found[figures.FLICKER_GROUND] == pytest.approx(1.0, rel=0.1)
    again = video.flicker(source, source, [face] * 6)
    assert again == {figures.FLICKER_FACE: 1.0, figures.FLICKER_GROUND: 1.0}


def test_face_mask_is_the_hull_of_the_landmarks():
    mask = video.face_mask(np.array([[10.0, 5], [20, 5], [20, 15], [10, 15], [15, 10]]), 40, 30)
    assert mask.shape == (30, 40)
    assert mask[10, 15] and not mask[10, 25] and not mask[2, 15]
    assert 100 <= mask.sum() <= 121


# ── people, exemplars, models ────────────────────────────────────────────────────────────────────


def test_spread_takes_both_ends():
    assert photos.spread(range(10), 4) == [0, 3, 6, 9]
    assert photos.spread(range(3), 8) == [0, 1, 2]


def test_split_keeps_apart_what_training_held_out(tmp_path):
    for number in range(40):
        (tmp_path / "base" / "photos").mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / "photos" / f"{number}.webp").touch()
    trained, held_out = photos.split(tmp_path, "base/photos", 0.5)
    assert len(trained) + len(held_out) == 40 and trained and held_out
    assert all(photos.is_held_out(f"base/photos/{p.stem}", 0.5) for p in held_out)
    assert not any(photos.is_held_out(f"base/photos/{p.stem}", 0.5) for p in trained)


def test_a_checkpoint_is_read_as_its_averaged_translator(tmp_path, translator):
    state = translator.state_dict()
    tensors = {f"modules/average/{key}": value for key, value in state.items()}
    tensors |= {f"modules/g/{key}": value + 1 for key, value in state.items()}
    path = tmp_path / "distill-128px-0.safetensors"
    save_file(tensors, path, metadata={"dsg": json.dumps({"iteration": 12})})
    save_translator(tmp_path / "translator.safetensors", translator)
    for file in (path, tmp_path / "translator.safetensors"):
        read = models.open_translator(file)
        assert all(torch.equal(value, state[key]) for key, value in read.state_dict().items())
    assert models.step_of(path) == "distill-128px-0, step 12"
    assert models.step_of(tmp_path / "translator.safetensors") == "translator"


def test_a_translator_draws_by_degrees_and_after_codes_where_there_are_such(translator):
    crops = [texture(64, seed) for seed in range(3)]
    one, other = (photos.Exemplar(f"{seed}", texture(64, seed)) for seed in (7, 8))
    painter = models.TranslatorPainter(translator, {})
    assert (painter.draw(crops, one, 0.0) == crops).all()
    drawn = painter.draw(crops, one)
    assert drawn.shape == (3, 64, 64, 3) and (drawn != crops).any()
    known = models.TranslatorPainter(translator, {"7": painter.code(other)})
    assert (known.draw(crops, one) == painter.draw(crops, other)).all()


def test_pictures_of_numbered_exemplars_are_found_by_their_codes(translator):
    pictures = [photos.Exemplar(f"{seed}", texture(64, seed)) for seed in range(4)]
    coder = models.TranslatorPainter(translator, {})
    codes = {"000": coder.code(pictures[2]).half().float(), "001": -coder.code(pictures[1])}
    painter = models.TranslatorPainter(translator, codes)
    found = models.find_by_codes(painter, ["000", "001"], pictures)
    assert (found[0].pixels == pictures[2].pixels).all()
    assert found[1].pixels is None


# ── the report ───────────────────────────────────────────────────────────────────────────────────


def test_table_marks_what_misses_the_mark():
    report = {
        "toon": {figures.EYE: 1.1, figures.SHARP: 1.6, "people": 12},
        "toon, held out": {figures.EYE: 1.3, figures.SHARP: 0.7},
        "noir": {figures.EYE: 1.0, figures.SHARP: math.nan},
    }
    lines = figures.table(report).splitlines()
    assert lines[2:] == [
        f"| {figures.EYE} | toon >= 1.2 | **1.1** | 1.3 | 1 | no: 1 of 2 |",
        f"| {figures.SHARP} | 0.7 to 1.5 | **1.6** | 0.7 | **nan** | no: 2 of 3 |",
        "| people |  | 12 |  |  |  |",
    ]
    assert figures.passes(1.0, figures.EYE, "comic")
    assert not figures.passes(1.0, figures.EYE, "toon")


def run(module, monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    module.main()


@pytest.fixture
def people(tmp_path) -> Path:
    for seed in (5, 6):
        save_picture(tmp_path / "photos" / f"{seed}.png", draw_portrait(seed, 256))
    return tmp_path / "photos"


def test_script_measures_a_translator_and_a_style_beside_it(
    people, translator, tiny_store, tmp_path, monkeypatch, capsys
):
    for seed, name in enumerate(("ada", "ed")):
        save_picture(tmp_path / "data" / "styles" / "toon" / f"{name}.png", texture(64, seed))
    save_translator(tmp_path / "t.safetensors", translator)
    words = ["--translator", str(tmp_path / "t.safetensors"), "--photos", str(people)]
    words += ["--style", "default/toon", "--style", "default/ink", "--pretrained", str(tiny_store)]
    words += ["--styles-data", str(tmp_path / "data"), "--count", "2"]
    words += ["--size-px", "128"]
    monkeypatch.setattr(far, "DIRECTIONS", 8)
    run(quality, monkeypatch, *words, "--output", str(tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "quality.json").read_text("utf-8"))
    assert list(report) == ["toon", "default/toon", "default/ink"]
    for found in report.values():
        assert (found["people"], found["exemplars"]) == (2, 2)
        assert found[figures.DIFFER] > 0
    assert report["toon"][figures.ZERO] > 100
    assert report["toon"]["at 0"] == 1
    assert report["default/toon"][figures.STYLE] > 0
    assert figures.STYLE not in report["default/ink"]  # its exemplars' pictures are not there
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made >= {"quality.md", "toon.jpg", "default-toon.jpg", "default-ink.jpg"}
    assert "| people |  | 2 | 2 | 2 |  |" in capsys.readouterr().out


def test_script_measures_a_base(people, tiny_store, tmp_path, monkeypatch):
    words = [str(people), "--pretrained", str(tiny_store), "--json", str(tmp_path / "q.json")]
    run(quality_base, monkeypatch, *words)
    found = json.loads((tmp_path / "q.json").read_text("utf-8"))["base"]
    assert found["photographs"] == 2
    assert found["  the best for yaw"] == pytest.approx(1.0, abs=0.1)
