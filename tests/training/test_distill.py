"""Stage `distill`: teachers draw what they should, pairs are kept, a translator learns of them."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_store import write_tiny_store

from dsgcli.errors import TrainingError
from dsgcli.models.patch import StyleDiscriminator
from dsgcli.models.translator import Translator, TranslatorConfig, gate
from dsgcli.recipe import DistillPhase, DistillRecipe, ExemplarSource, build
from dsgcli.store import ModelStore
from dsgcli.store.contents import open_model
from dsgcli.store.networks import load_translator
from dsgcli.training.data import write_pack
from dsgcli.training.run import TrainOptions, plan_of, train
from dsgcli.training.stage import Batch, SeededDraws
from dsgcli.training.stages.distill import DistillTraining
from dsgcli.training.teachers.base import CHUNK, PairChunk, draw_pairs, random_degrees, rejected
from dsgcli.training.teachers.headshot import (
    CONTROL,
    LIPS,
    OVAL,
    Headshot,
    HeadshotLook,
    LandmarkedPortrait,
    affine_between,
    apply_affine,
    face_mask,
    ink,
    is_folded,
    kuwahara,
    mean_shape,
    shape_difference,
    skin_mask,
    to_lab,
    wanted_difference,
    warp_fields,
    warped,
)
from dsgcli.training.teachers.pairs import pair_problems

SIDE = 256
SMALL = TranslatorConfig(
    widths=(8, 8, 8, 8), code_dim=8, style_hidden=16, style_widths=(8, 8, 8, 8, 8)
)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """(512, 600, 3): the public-domain portrait that matplotlib brings."""
    import matplotlib
    from PIL import Image

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def subject(portrait) -> LandmarkedPortrait:
    """The same as an aligned crop, with its landmarks."""
    from dsgcli.faces.align import crop_face
    from dsgcli.faces.detect import open_detector
    from dsgcli.types import Frame

    with open_detector() as detector:
        frame = Frame(pixels=portrait)
        crop = crop_face(frame, detector.detect(frame)[0], SIDE)
        found = detector.detect(Frame(pixels=crop.pixels))
    return LandmarkedPortrait(crop.pixels, found[0].landmarks.astype(np.float32))


# ── shapes and warps ─────────────────────────────────────────────────────────────────────────────


def test_mean_shape_of_one_shape_seen_through_affine_maps_is_that_shape_up_to_such_a_map(subject):
    rng = np.random.default_rng(0)
    shapes = []
    for _ in range(4):
        matrix = np.eye(2) + rng.normal(scale=0.1, size=(2, 2))
        shapes.append(subject.landmarks @ matrix + rng.normal(scale=5, size=2))
    mean = mean_shape(np.array(shapes, np.float32))
    back = apply_affine(affine_between(mean, subject.landmarks), mean)
    np.testing.assert_allclose(back, subject.landmarks, atol=0.05)


def test_proportions_do_not_change_with_place_size_and_turn(subject):
    mean = subject.landmarks + np.random.default_rng(1).normal(size=(478, 2)).astype(np.float32)
    turn = 0.8 * np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    moved = (subject.landmarks @ turn + (30, -12)).astype(np.float32)
    np.testing.assert_allclose(
        shape_difference(moved, mean), shape_difference(subject.landmarks, mean), atol=0.01
    )


def test_mouth_moves_as_a_whole_so_the_expression_stays(subject):
    mean, lips = subject.landmarks, list(LIPS)
    difference = np.random.default_rng(2).normal(scale=3, size=(478, 2)).astype(np.float32)
    wanted = wanted_difference(difference, mean, HeadshotLook())
    at = mean[lips] - mean[lips].mean(axis=0)
    moved = wanted[lips] - wanted[lips].mean(axis=0)
    scale = (moved * at).sum() / (at * at).sum()
    np.testing.assert_allclose(moved, scale * at, atol=1e-3)


def test_eyes_are_exaggerated_about_their_centers(subject):
    mean, difference = subject.landmarks, np.zeros((478, 2), np.float32)
    difference[159], difference[145] = (0, -2), (0, 2)  # an eye that is open wider by four pixels
    wanted = wanted_difference(difference, mean, HeadshotLook(eyes=1.5))
    assert wanted[145, 1] - wanted[159, 1] == pytest.approx(6.0)


def test_warp_takes_control_points_where_they_shall_be_and_leaves_borders():
    rng = np.random.default_rng(3)
    source = rng.uniform(60, 200, size=(20, 2)).astype(np.float32)
    wanted = source + np.float32(4.0)
    (field,) = warp_fields(wanted, [source], SIDE)
    for (x, y), there in zip(np.rint(wanted).astype(int), source, strict=True):
        assert np.hypot(*(field[y, x] - there)) < 1.5
    np.testing.assert_allclose(field[0, 0], (0, 0), atol=0.5)
    assert not is_folded(field)


def test_warp_of_no_change_gives_the_picture_back(subject):
    points = subject.landmarks[list(CONTROL)]
    (field,) = warp_fields(points, [points], SIDE)
    picture = subject.pixels.astype(np.float32)
    assert np.abs(warped(picture, field) - picture).max() < 0.6


def test_fold_is_seen(subject):
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    assert is_folded(np.stack([SIDE - x, y], axis=2))


def test_kuwahara_keeps_an_edge_and_removes_noise():
    rng = np.random.default_rng(4)
    step = np.full((64, 64, 3), 0.2, np.float32)
    step[:, 32:] = 0.8
    noisy = step + rng.normal(scale=0.03, size=step.shape).astype(np.float32)
    smooth = kuwahara(noisy, 3)
    assert smooth[20:40, 8:24].std() < 0.5 * noisy[20:40, 8:24].std()
    assert smooth[30, 30:34].mean(axis=1).ptp() > 0.45  # a blur of that reach leaves 0.3


# ── the headshot teacher ─────────────────────────────────────────────────────────────────────────


def tinted(subject: LandmarkedPortrait) -> LandmarkedPortrait:
    """A darker, bluer exemplar of the same face."""
    pixels = subject.pixels.astype(np.float32) * (0.5, 0.6, 1.0)
    return LandmarkedPortrait(pixels.astype(np.uint8), subject.landmarks)


def test_degrees_of_zero_give_back_the_photograph(subject):
    artist = Headshot(subject.landmarks)
    still = np.zeros((478, 2), np.float32)
    drawn = artist.draw(subject, tinted(subject), still, HeadshotLook(), 0.0, 0.0)
    assert np.abs(drawn.pixels.astype(int) - subject.pixels).max() <= 1


def test_color_goes_to_the_exemplars_and_in_part_at_half_degree(subject):
    artist, exemplar = Headshot(subject.landmarks), tinted(subject)
    still = np.zeros((478, 2), np.float32)
    cheek = np.rint(subject.landmarks[[50, 280]]).astype(int)

    def chroma(pixels):
        lab = to_lab(pixels.astype(np.float32) / 255)
        return np.mean([lab[y - 3 : y + 4, x - 3 : x + 4, 2].mean() for x, y in cheek])

    at = {c: chroma(artist.draw(subject, exemplar, still, HeadshotLook(), 0.0, c).pixels)
          for c in (0.0, 0.5, 1.0)}  # fmt: skip
    gap = chroma(exemplar.pixels) - at[0.0]
    assert at[1.0] - at[0.0] == pytest.approx(gap, rel=0.25)
    assert at[0.5] - at[0.0] == pytest.approx((at[1.0] - at[0.0]) / 2, rel=0.2)


def test_lightness_of_skin_follows_by_its_share_only(subject):
    artist, still = Headshot(subject.landmarks), np.zeros((478, 2), np.float32)
    dark = LandmarkedPortrait((subject.pixels * 0.4).astype(np.uint8), subject.landmarks)
    inside = cv2.fillPoly(
        np.zeros((SIDE, SIDE), np.uint8),
        [np.rint(subject.landmarks[list(OVAL)]).astype(np.int32)],
        (1,),
    ).astype(bool)

    def lightness(pixels):
        return to_lab(pixels.astype(np.float32) / 255)[..., 0][inside].mean()

    before, exemplar = lightness(dark.pixels), lightness(subject.pixels)
    full = artist.draw(dark, subject, still, HeadshotLook(lightness=1.0, shading=0.0))
    kept = artist.draw(dark, subject, still, HeadshotLook(lightness=0.3, shading=0.0))
    assert lightness(full.pixels) > before + 0.7 * (exemplar - before)
    assert lightness(kept.pixels) < before + 0.55 * (exemplar - before)


def test_highlights_on_the_forehead_are_skin(subject):
    """They were taken for hair, and got the color of the exemplar's ground: gray blotches."""
    center = subject.landmarks[[9, 151]].mean(axis=0)  # middle of the forehead, below the hat
    shiny = subject.pixels.astype(np.float32).copy()
    y, x = np.mgrid[:SIDE, :SIDE]
    spot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 5.0**2))[..., None]
    shiny += 0.85 * spot * (245 - shiny)
    lab = to_lab(shiny / 255)
    mask = skin_mask(lab, subject.landmarks, face_mask(subject.landmarks, SIDE, 6.0))
    near = (x - center[0]) ** 2 + (y - center[1]) ** 2 < 6**2
    assert mask[near].min() > 0.8


def test_ground_follows_by_its_share_only(subject):
    artist, still = Headshot(subject.landmarks), np.zeros((478, 2), np.float32)
    corner = np.s_[230:250, 230:250]
    moved = []
    for share in (0.0, 0.5, 1.0):
        look = HeadshotLook(strokes=0, ground=share)
        drawn = artist.draw(subject, tinted(subject), still, look, 0.0, 1.0).pixels
        moved.append(np.abs(drawn[corner].astype(int) - subject.pixels[corner]).mean())
    assert moved[0] < moved[1] < moved[2]


def test_ink_darkens_edges_and_leaves_flat_areas():
    lab = np.full((64, 64, 3), 20.0, np.float32)
    lab[..., 0] = 80.0
    lab[:, 32:, 0] = 30.0  # an edge in the middle
    inked = ink(lab, lab, 1.0)
    np.testing.assert_array_equal(inked[..., 1:], lab[..., 1:])
    np.testing.assert_array_equal(inked[:, :20], lab[:, :20])
    assert (inked[8:-8, 32, 0] < 0.5 * lab[8:-8, 32, 0]).all()
    np.testing.assert_array_equal(ink(lab, lab, 0.0), lab)


def test_shape_follows_the_style_by_the_degree_of_structure(subject):
    artist = Headshot(subject.landmarks)
    shape = np.zeros((478, 2), np.float32)
    shape[152] = (0, -6)  # a higher chin
    own = HeadshotLook(own_shape=0.0)
    half, full = (artist.draw(subject, subject, shape, own, s, 0.0).landmarks for s in (0.5, 1.0))
    moved = full[152] - subject.landmarks[152]
    assert np.hypot(*moved) > 4
    np.testing.assert_allclose(half[152] - subject.landmarks[152], moved / 2, atol=1e-3)


def test_degrees_are_full_for_most_pairs_and_cover_the_rest():
    rng = np.random.default_rng(0)
    drawn = np.array([random_degrees(rng) for _ in range(4000)])
    assert 0.56 < (drawn.min(axis=1) == 1).mean() < 0.64
    both = drawn[(drawn < 1).all(axis=1)]
    assert 0.07 < len(both) / len(drawn) < 0.13 and both.min() < 0.1


# ── pairs on disk ────────────────────────────────────────────────────────────────────────────────


class ColorTeacher:
    """Draws photographs of one gray value as exemplars of a color, by a rule that a network learns
    in seconds."""

    def __init__(self, folder: Path) -> None:
        colors = np.random.default_rng(0).integers(0, 255, size=(6, 3))
        self.pack = write_pack(
            folder,
            64,
            (
                (f"c{i}", np.tile(color.astype(np.uint8), (64, 64, 1)))
                for i, color in enumerate(colors)
            ),
        )
        self.calls: list[str] = []

    @property
    def exemplars(self):
        return self.pack

    @property
    def shipped(self):
        return range(len(self.pack))

    def draw(self, key: str, count: int) -> PairChunk:
        self.calls.append(key)
        rng = np.random.default_rng(len(key) + int(key.rsplit("/", 1)[1]))
        numbers = rng.integers(6, size=count)
        photos = rng.integers(0, 255, size=(count, 1, 1, 1)) * np.ones((1, 64, 64, 3))
        colors = self.pack.level(64)[numbers]
        drawn = 0.3 * photos + 0.7 * colors
        pixels = np.stack([photos, drawn], axis=1).astype(np.uint8)
        ones = [1.0] * (count - 1)
        return PairChunk(
            pixels=pixels[1:],
            exemplars=numbers[1:].tolist(),
            structure=ones,
            color=ones,
            rejected=Counter({"first": 1}),
        )


@pytest.fixture
def teacher(tmp_path, monkeypatch) -> ColorTeacher:
    monkeypatch.setattr("dsgcli.runtime.num_cpus", lambda: 1)
    return ColorTeacher(tmp_path / "exemplars")


def test_pairs_are_drawn_once_and_a_missing_chunk_again(teacher, tmp_path):
    folder, told = tmp_path / "pairs", []
    count = 2 * CHUNK + 5
    pairs = draw_pairs(teacher, folder, count, 0, lambda done, total: told.append((done, total)))
    assert len(teacher.calls) == 3 and told[-1] == (count, count)
    assert len(pairs) == count - 3 and rejected(pairs) == {"first": 3}
    wanted = pairs.drawn([0, CHUNK, len(pairs) - 1], 64)
    (folder / "pairs-0001.json").unlink()
    again = draw_pairs(teacher, folder, count, 0, lambda done, total: None)
    assert teacher.calls[3:] == ["0/pairs/1"]
    torch.testing.assert_close(again.drawn([0, CHUNK, len(pairs) - 1], 64), wanted)


def training_of(teacher, folder, steps=60, size_px=32, **options) -> DistillTraining:
    pairs = draw_pairs(teacher, folder, 120, 0, lambda done, total: None)
    torch.manual_seed(0)
    translator = Translator(SMALL)
    average = deepcopy(translator)
    phase = DistillPhase(size_px=size_px, steps=steps, batch_size=8, lr=5e-3, **options)
    recipe = DistillRecipe(
        teacher="pairs", pairs_folder="x", phases=(phase,), warmup_steps=2, ema_half_life_steps=2
    )
    code_size = translator.layout.num_latents * translator.config.code_dim
    discriminator = StyleDiscriminator(code_size, (4, 8, 8))
    return DistillTraining(
        translator, average, discriminator, recipe, phase, pairs, teacher.exemplars, None
    )


def step(training: DistillTraining, iteration: int) -> float:
    """One iteration as the loop does it; returns the pixel distance."""
    rows = tuple(range(8))
    indices = torch.tensor([(8 * iteration + r) % len(training.pairs) for r in rows])
    images = training.pairs.get(indices.tolist(), training.pairs.side_px)
    batch = Batch(images=images, indices=indices, rows=rows)
    training.begin(iteration)
    for phase in training.phases(iteration):
        draws = SeededDraws(0, iteration, phase.name, rows, torch.device("cpu"))
        optimizer = training.optimizers[phase.optimizer]
        optimizer.zero_grad()
        loss, scalars = phase.loss(batch, draws, None)
        loss.backward()
        optimizer.step()
    training.finish(iteration)
    return float(scalars["pixel"])


def test_translator_learns_the_teachers_colors(teacher, tmp_path):
    training = training_of(teacher, tmp_path / "pairs")
    losses = [step(training, i) for i in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_every_term_gives_gradients_and_the_discriminator_its_own_steps(teacher, tmp_path):
    training = training_of(
        teacher, tmp_path / "pairs", size_px=96, lambda_adv=0.1, lambda_shift=0.2
    )
    assert [p.name for p in training.phases(0)] == ["d", "r1", "g"]
    assert [p.name for p in training.phases(1)] == ["d", "g"]
    before = [p.clone() for p in training.discriminator.parameters()]
    step(training, 0)
    after = list(training.discriminator.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_photograph_drawing_and_exemplar_are_mirrored_and_moved_together(teacher, tmp_path):
    training = training_of(teacher, tmp_path / "pairs")
    ramp = torch.linspace(-1, 1, 64).expand(8, 3, 64, 64)
    training.pairs.__dict__["drawn"] = lambda indices, size: ramp  # the drawing is the photograph
    rows = tuple(range(8))
    batch = Batch(images=ramp, indices=torch.arange(8), rows=rows)
    example = training.example(batch, SeededDraws(0, 0, "g", rows, torch.device("cpu")))
    torch.testing.assert_close(example.photos, example.drawn)
    slopes = example.photos.diff(dim=3).mean(dim=(1, 2, 3))
    assert (slopes > 0).any() and (slopes < 0).any()  # some are mirrored


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def test_weights_of_zero_give_back_the_photograph_whatever_was_learnt():
    torch.manual_seed(0)
    translator = Translator(SMALL)
    with torch.no_grad():
        translator.color[-1].conv.weight.normal_()
    crops, code = torch.randn(2, 3, 64, 96), torch.randn(2, 14, 8)
    torch.testing.assert_close(translator(crops, code, [0.0] * 14), crops, atol=1e-5, rtol=0)
    assert (translator(crops, code, [1.0] * 14) - crops).abs().mean() > 0.1


def test_gate_is_zero_at_zero_and_nearly_one_at_a_quarter():
    weights = torch.tensor([[0.0] * 14, [0.25] * 14, [1.0] * 14, [-1.0] * 14])
    values = gate(weights).tolist()
    assert values[0] == values[3] == 0 and values[1] > 0.89 and values[2] == 1


# ── the whole stage ──────────────────────────────────────────────────────────────────────────────


def write_pairs(folder: Path, portrait: np.ndarray, count: int = 8) -> None:
    """Photographs cut a little differently each, and what a tool that swaps colors made of them."""
    from PIL import Image

    for part in ("before", "after"):
        (folder / part).mkdir(parents=True)
    for k in range(count):
        photo = portrait[4 * k : 4 * k + 460, 3 * k : 3 * k + 480]
        Image.fromarray(photo).save(folder / "before" / f"p{k}.png")
        Image.fromarray(np.ascontiguousarray(photo[..., ::-1])).save(folder / "after" / f"p{k}.png")


def small_recipe(root: Path, **distill):
    phase = {"size_px": 64, "steps": 3, "batch_size": 2}
    return build(
        {
            "run": {"name": "swap", "sample_every": 2, "sample_count": 2},
            "data": {"root": str(root)},
            "model": {"size_px": 256},
            "distill": {"pairs": 12, "phases": [phase], **distill},
        }
    )


@pytest.mark.slow
def test_folder_of_pairs_becomes_a_style_that_the_store_has(portrait, tmp_path):
    write_pairs(tmp_path / "pairs", portrait)
    recipe = small_recipe(tmp_path, teacher="pairs", pairs_folder="pairs")
    summary = train(recipe, TrainOptions(folder=tmp_path / "run"))
    assert summary is not None and summary.done == ("distill",)
    notes = json.loads((tmp_path / "run/distill/pairs/pairs-0000.json").read_text())
    assert len(notes["exemplars"]) == 12
    store = ModelStore.open(tmp_path / "run" / "pretrained")
    assert "swap" in {info.name for info in store.styles()}
    translator = load_translator(tmp_path / "run/pretrained/swap/translator.safetensors")
    crop = torch.zeros(1, 3, 64, 64)
    codes = open_model(tmp_path / "run/pretrained/swap/swap.safetensors").part("codes")["exstyle"]
    assert codes.shape == (8, 14, 32)
    assert translator(crop, codes[:1].float(), [1.0] * 14).shape == crop.shape


@pytest.mark.slow
def test_dualstylegan_teaches_a_translator(tmp_path):
    store = write_tiny_store(tmp_path / "models")
    recipe = small_recipe(tmp_path, teacher="dualstylegan", style="toon")
    train(recipe, TrainOptions(folder=tmp_path / "run", pretrained=store))
    pixels = np.load(tmp_path / "run/distill/pairs/pairs-0000.npy")
    assert pixels.shape == (12, 2, 64, 64, 3)
    assert np.abs(pixels[:, 0].astype(int) - pixels[:, 1]).mean() > 1  # twins differ
    codes = open_model(tmp_path / "run/distill/codes.safetensors")
    assert list(codes.header.names) == ["ada.png", "bo.png", "cy.png", "di.png", "ed.png"]


# ── what is told before the first step ───────────────────────────────────────────────────────────


def test_everything_wrong_with_a_folder_of_pairs_is_told_at_once(portrait, tmp_path):
    write_pairs(tmp_path / "pairs", portrait, 6)
    from PIL import Image

    (tmp_path / "pairs/after/p0.png").unlink()
    Image.new("RGB", (10, 10)).save(tmp_path / "pairs/after/p1.png")
    problems = list(pair_problems(tmp_path / "pairs"))
    assert len(problems) == 3
    assert "p0.png has no twin in" in problems[0]
    assert "p1.png is 10 x 10 px and its photograph 480 x 460" in problems[1]
    assert "holds 5 pair(s), and at least 8 are needed" in problems[2]


def test_missing_folder_of_pairs_is_told(tmp_path):
    recipe = small_recipe(tmp_path, teacher="pairs", pairs_folder="none")
    plan = plan_of(recipe, TrainOptions(folder=tmp_path / "run"))
    assert any("none/before" in problem for problem in plan.problems)
    with pytest.raises(TrainingError, match="pairs lie in before/ and after/"):
        plan.check()


def test_missing_style_of_a_teacher_is_told(tmp_path):
    store = write_tiny_store(tmp_path / "models")
    recipe = small_recipe(tmp_path, teacher="dualstylegan", style="arcane")
    plan = plan_of(recipe, TrainOptions(folder=tmp_path / "run", pretrained=store))
    assert any(p.startswith("[distill] style: ") and "arcane" in p for p in plan.problems)


def test_more_exemplars_than_there_are_is_told(tmp_path):
    for folder, count in (("photos", 3), ("styles/ink", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for k in range(count):
            cv2.imwrite(str(tmp_path / folder / f"{k}.png"), np.zeros((64, 64, 3), np.uint8))
    exemplars = [{"folder": "ink", "count": 3}, {"folder": "oil"}]
    recipe = build(
        {
            "data": {"root": str(tmp_path), "style": "styles", "source": [{"folder": "photos"}]},
            "model": {"size_px": 256},
            "prepare": {},
            "distill": {"exemplars": exemplars, "phases": [{"size_px": 64, "steps": 1}]},
        }
    )
    problems = plan_of(recipe, TrainOptions(folder=tmp_path / "run")).problems
    assert any("'ink' holds 2 portrait(s), and 3 are asked for" in p for p in problems)
    assert any("'oil' holds 0 portrait(s), and at least 1" in p for p in problems)


def test_recipe_of_a_teacher_without_its_key_is_refused():
    phase = DistillPhase(size_px=64, steps=1)
    for teacher, key in (("headshot", "exemplars"), ("dualstylegan", "style"), ("pairs", "folder")):
        with pytest.raises(Exception, match=key):
            DistillRecipe(teacher=teacher, phases=(phase,))
    with pytest.raises(Exception, match="multiple of 32"):
        DistillPhase(size_px=100, steps=1)
    with pytest.raises(Exception, match="phases"):
        DistillRecipe(exemplars=(ExemplarSource(folder="ink"),))


def test_noise_is_added_to_photographs_and_not_to_what_is_wanted(teacher, tmp_path):
    """The same batch with and without noise: only the photographs differ, by about as much as the
    phase says."""
    rows = tuple(range(8))
    examples = []
    for noise in (0.0, 0.2):
        training = training_of(teacher, tmp_path / "pairs", noise=noise)
        images = training.pairs.get(list(rows), training.pairs.side_px)
        batch = Batch(images=images, indices=torch.tensor(rows), rows=rows)
        draws = SeededDraws(0, 0, "g", rows, torch.device("cpu"))
        examples.append(training.example(batch, draws))
    quiet, noisy = examples
    assert torch.equal(quiet.drawn, noisy.drawn)
    assert torch.equal(quiet.exemplars, noisy.exemplars)
    spread = (noisy.photos - quiet.photos).flatten(1).std(dim=1)
    assert (spread > 0).all() and float(spread.max()) < 0.25
