"""Paths and figures: keyframes are met exactly, files are whole or not there."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from command import dsg
from PIL import Image

from dsgcli.errors import (
    ModelMismatchError,
    NoFaceError,
    OutputExistsError,
    RecipeError,
    SourceMissingError,
    StyleRefError,
)
from dsgcli.generate import people as people_module
from dsgcli.generate.figures import draw_cells, layer_name, matrix, sweep
from dsgcli.generate.interpolate import InterpolateOptions, draw_path, load_keyframes, run
from dsgcli.generate.people import FaceCutter, find_people, seed_of
from dsgcli.generate.sample import SampleOptions
from dsgcli.generate.sample import run as run_sample
from dsgcli.media.images import read_image, write_image
from dsgcli.media.read import open_source
from dsgcli.portraits import to_pixels
from dsgcli.types import Face, Frame, LatentLayout, StyleWeights

CPU = {"device": "cpu", "precision": "fp32"}


def options(**values):
    return InterpolateOptions(**{**CPU, **values})


def path_of(**values):
    chosen = options(**values)
    keyframes = load_keyframes(chosen)
    return keyframes, [to_pixels(image[None])[0] for image in draw_path(chosen, keyframes)]


def one(keyframes, person=0, style=0, weights=None):
    """One portrait, drawn by the network itself."""
    keyframe = keyframes.styles[style]
    image = keyframe.model(
        keyframes.ws(keyframes.people[person])[None],
        keyframe.exstyle_ws[None],
        (weights or keyframes.weights).layers,
    )
    return to_pixels(image)[0]


def near(a, b):
    """Equal up to a rounding here and there."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return difference.max() <= 1 and (difference > 0).mean() < 0.01


# ── ways ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("space", ["z+", "w+"])
def test_a_way_between_exemplars_meets_both(only_tiny_store, space):
    keyframes, drawn = path_of(style=("toon:ada", "toon:bo"), frames=5, space=space)
    assert len(drawn) == 5
    assert near(drawn[0], one(keyframes, style=0)) and near(drawn[-1], one(keyframes, style=1))
    assert not near(drawn[2], drawn[0]) and not near(drawn[2], drawn[-1])


def test_a_way_between_models_meets_both(only_tiny_store):
    keyframes, drawn = path_of(style=("toon:ada", "ink:fox"), frames=5)
    assert keyframes.styles[0].model is not keyframes.styles[1].model
    assert keyframes.styles[0].model.generator is keyframes.styles[1].model.generator
    assert near(drawn[0], one(keyframes, style=0)) and near(drawn[-1], one(keyframes, style=1))
    steps = [np.abs(a.astype(float) - b).mean() for a, b in pairwise(drawn)]
    assert max(steps) < 0.6 * np.abs(drawn[0].astype(float) - drawn[-1]).mean()


@pytest.mark.parametrize("axis", ["structure", "color"])
def test_an_axis_moves_its_own_rows_only(only_tiny_store, axis):
    keyframes, drawn = path_of(style=("toon:ada", "toon:bo"), frames=3, axis=axis)
    first, second = (style.exstyle_ws for style in keyframes.styles)
    rows = getattr(keyframes.portraits.layout, axis)
    mixed = first.clone()
    mixed[rows] = second[rows]
    image = keyframes.styles[0].model(
        keyframes.ws(keyframes.people[0])[None], mixed[None], keyframes.weights.layers
    )
    assert near(drawn[0], one(keyframes)) and near(drawn[-1], to_pixels(image)[0])


@pytest.mark.parametrize("space", ["z+", "w+"])
def test_a_way_between_people_meets_both(only_tiny_store, space):
    keyframes, drawn = path_of(content=("3", "8"), axis="content", frames=4, space=space)
    assert near(drawn[0], one(keyframes, person=0)) and near(drawn[-1], one(keyframes, person=1))


def test_the_weight_axis_begins_without_style(only_tiny_store):
    keyframes, drawn = path_of(axis="weight", frames=3)
    nothing = StyleWeights.of(keyframes.portraits.layout, structure=0, color=0)
    assert near(drawn[0], one(keyframes, weights=nothing)) and near(drawn[-1], one(keyframes))


def test_a_loop_comes_back_without_repeating(only_tiny_store):
    keyframes, drawn = path_of(style=("toon:0", "toon:1", "toon:2"), frames=6, loop=True)
    assert len(drawn) == 6
    assert near(drawn[0], one(keyframes, style=0)) and near(drawn[4], one(keyframes, style=2))
    assert not near(drawn[-1], drawn[0])


def test_easing_goes_slower_at_the_stops(only_tiny_store):
    _, eased = path_of(style=("toon:0", "toon:1"), frames=9)
    _, even = path_of(style=("toon:0", "toon:1"), frames=9, ease=False)
    first = [np.abs(d[1].astype(float) - d[0]).mean() for d in (eased, even)]
    assert first[0] < 0.5 * first[1]


def test_a_seed_is_the_person_that_sample_draws(only_tiny_store, tmp_path):
    drawn = SampleOptions(seeds="5", plain=True, output=tmp_path / "out", **CPU)
    run_sample(drawn)
    chosen = options(content=("5",), axis="weight", frames=2, truncation=drawn.truncation)
    image = next(draw_path(chosen, load_keyframes(chosen)))
    assert near(to_pixels(image[None])[0], read_image(tmp_path / "out" / "seed0005.png").pixels)


def test_styles_of_other_bases_are_refused(only_tiny_store, monkeypatch):
    monkeypatch.setattr(type(only_tiny_store), "same_base", lambda *_: False)
    with pytest.raises(ModelMismatchError, match="different bases"):
        load_keyframes(options(style=("toon", "ink"), frames=3))


# ── photographs ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "me.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(path, pixels)
    return path


class ScriptedDetector:
    """Says what it was told to."""

    name = "script"

    def __init__(self, *faces):
        self.faces, self.closed = list(faces), False

    def detect(self, frame, **_):
        return self.faces

    def close(self):
        self.closed = True


def face(center, size):
    """Eyes and mouth of an upright face; all other landmarks lie between them."""
    from dsgcli.types import LEFT_EYE, MOUTH_CORNERS, NUM_LANDMARKS, RIGHT_EYE

    points = np.tile(np.array(center, float), (NUM_LANDMARKS, 1))
    points[list(LEFT_EYE)] += (-size, -size)
    points[list(RIGHT_EYE)] += (size, -size)
    points[MOUTH_CORNERS[0]] += (-size / 2, size)
    points[MOUTH_CORNERS[1]] += (size / 2, size)
    return Face(landmarks=points)


def test_a_photograph_is_encoded_by_the_styles_encoder(only_tiny_store, photograph):
    keyframes = load_keyframes(options(content=(str(photograph),), axis="weight", aligned="yes"))
    (person,) = keyframes.people
    assert person.label == "me"
    np.testing.assert_array_equal(person.photograph, read_image(photograph).pixels)
    image = torch.from_numpy(person.photograph).permute(2, 0, 1)[None] / 127.5 - 1
    wanted = only_tiny_store.encoder("toon")(image.float())[0]
    torch.testing.assert_close(person.code, wanted, atol=1e-4, rtol=1e-3)


def test_the_largest_face_is_taken(only_tiny_store, monkeypatch):
    detector = ScriptedDetector(face((30, 30), 4), face((70, 60), 12))
    monkeypatch.setattr(people_module, "open_detector", lambda **_: detector)
    with FaceCutter(only_tiny_store) as cutter:
        frame = Frame(pixels=np.zeros((100, 120, 3), np.uint8))
        crop = cutter.crop(frame, "two.png", 64)
    assert crop.face is detector.faces[1] and crop.pixels.shape == (64, 64, 3)
    assert detector.closed


def test_a_photograph_without_a_face_is_refused_before_drawing(
    only_tiny_store, photograph, monkeypatch, tmp_path
):
    monkeypatch.setattr(people_module, "open_detector", lambda **_: ScriptedDetector())
    with pytest.raises(NoFaceError, match=r"me\.png"):
        run(options(content=(str(photograph), "3"), output=tmp_path / "a.mp4"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["me.png"]


def test_a_file_named_like_a_seed_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert seed_of("12") == 12
    (tmp_path / "12").write_bytes(b"x")
    assert seed_of("12") is None


def test_a_photograph_that_is_not_there_is_refused(only_tiny_store):
    with pytest.raises(SourceMissingError, match=r"nobody\.jpg"):
        load_keyframes(options(content=("nobody.jpg", "1")))


def test_a_way_through_z_plus_needs_codes_in_z_plus(only_tiny_store, photograph, monkeypatch):
    chosen = options(content=(str(photograph), "1"), aligned="yes", space="z+", axis="content")
    keyframes = load_keyframes(chosen)
    object.__setattr__(keyframes.people[0], "space", "w+")
    with pytest.raises(ModelMismatchError, match="drop --space"):
        draw_path(chosen, keyframes)


def test_people_keep_their_order(only_tiny_store, photograph):
    keyframes = load_keyframes(
        options(content=("2", str(photograph), "1"), aligned="yes", axis="content")
    )
    assert [person.label for person in keyframes.people] == ["seed 2", "me", "seed 1"]
    assert find_people([], keyframes.portraits, only_tiny_store) == []


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def test_a_matrix_draws_every_person_in_every_style(only_tiny_store):
    chosen = options(matrix=(2, 3), output=None)
    keyframes = load_keyframes(chosen)
    figure = matrix(keyframes)
    cells = draw_cells(keyframes, figure)
    assert figure.columns == 4 and len(cells) == 3 * 4
    assert (cells[0] == 255).all()
    for row in range(2):
        for column in range(3):
            assert near(cells[(1 + row) * 4 + 1 + column], one(keyframes, person=row, style=column))
    assert figure.row_labels == ["", "seed 0", "seed 1"]
    assert [cell.label for cell in figure.cells[1:4]] == ["toon-ada", "toon-bo", "toon-cy"]


def test_the_head_of_a_matrix_is_what_the_codes_draw(only_tiny_store):
    keyframes = load_keyframes(options(matrix=(1, 2), style=("toon:bo", "ink:hen")))
    cells = draw_cells(keyframes, matrix(keyframes))
    style = only_tiny_store.style("toon")
    model = keyframes.styles[0].model
    ws = model.generator.map_plus(style.instyle[1:2])
    exstyle_ws = model.generator.map_plus(style.refined[1:2])
    assert near(cells[1], to_pixels(model(ws, exstyle_ws))[0])
    nothing = StyleWeights.of(keyframes.portraits.layout, structure=0, color=0)
    assert near(cells[3], one(keyframes, weights=nothing))


def test_a_sweep_goes_over_both_weights(only_tiny_store):
    keyframes = load_keyframes(options(sweep="structure,color"))
    cells = draw_cells(keyframes, sweep(keyframes, ("structure", "color")))
    layout = keyframes.portraits.layout
    assert len(cells) == 25
    for index, (structure, color) in {0: (0, 0), 4: (0, 1), 13: (0.5, 0.75), 20: (1, 0)}.items():
        weights = StyleWeights.of(layout, structure=structure, color=color)
        assert near(cells[index], one(keyframes, weights=weights))


def test_a_sweep_of_one_weight_leaves_the_other(only_tiny_store):
    keyframes = load_keyframes(options(sweep="color", structure=0.3))
    cells = draw_cells(keyframes, sweep(keyframes, ("color",)))
    weights = StyleWeights.of(keyframes.portraits.layout, structure=0.3, color=0.25)
    assert len(cells) == 5 and near(cells[1], one(keyframes, weights=weights))


def test_a_sweep_of_layers_shows_each_alone(only_tiny_store):
    keyframes = load_keyframes(options(sweep="layers"))
    layout = keyframes.portraits.layout
    cells = draw_cells(keyframes, sweep(keyframes, ("layers",)))
    assert len(cells) == layout.num_latents + 2
    alone = StyleWeights(tuple(float(row == 4) for row in range(layout.num_latents)))
    assert near(cells[5], one(keyframes, weights=alone))
    assert near(cells[-1], one(keyframes))


def test_layers_are_named_by_what_they_draw():
    layout = LatentLayout(1024)
    names = [layer_name(layout, row) for row in range(layout.num_latents)]
    assert names[0] == "0: structure, 4 px" and names[6] == "6: structure, 32 px"
    assert names[7] == "7: color, 64 px" and names[17] == "17: color, 1024 px"


@pytest.mark.parametrize(
    ("style", "columns", "said"),
    [(("toon",), 9, "has 5 exemplars"), (("toon:bo",), 3, "is one exemplar")],
)
def test_a_matrix_wider_than_the_style_is_refused(only_tiny_store, style, columns, said):
    with pytest.raises(StyleRefError, match=said):
        load_keyframes(options(matrix=(1, columns), style=style))


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frames", [3, 4, 7])
@pytest.mark.parametrize("loop", [False, True])
def test_there_are_as_many_pictures_as_asked_for_and_one_at_each_keyframe(
    only_tiny_store, frames, loop
):
    keyframes, drawn = path_of(
        style=("toon:0", "toon:1", "toon:2"), frames=frames, loop=loop, space="w+"
    )
    assert len(drawn) == frames
    for style in range(3):
        assert any(near(picture, one(keyframes, style=style)) for picture in drawn)


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp", "png"])
def test_a_second_run_gets_a_numbered_neighbor(only_tiny_store, tmp_path, suffix):
    target = tmp_path / f"a.{suffix}"
    chosen = {"style": ("toon:0", "toon:1"), "frames": 2, "output": target}
    outputs = [
        run(options(**chosen, **extra))["output"] for extra in ({}, {"seed": 1}, {"seed": 2})
    ]
    assert outputs == [str(tmp_path / f"{name}.{suffix}") for name in ("a", "a-2", "a-3")]
    assert run(options(**chosen, overwrite=True))["output"] == str(target)


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_films_have_all_frames_at_their_times(only_tiny_store, tmp_path, suffix):
    target = tmp_path / f"a.{suffix}"
    done = run(options(style=("toon:0", "toon:1"), frames=5, fps=20.0, output=target))
    with open_source(target) as source:
        frames = list(source)
    assert done["frames"] == len(frames) == 5
    assert frames[0].size_px == (64, 64)
    np.testing.assert_allclose([float(f.time) for f in frames], np.arange(5) / 20, atol=1e-3)


def test_a_strip_is_one_picture(only_tiny_store, tmp_path):
    done = run(options(style=("toon:0", "toon:1"), frames=4, output=tmp_path / "strip.png"))
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width > 4 * 64 and strip.height < 2 * 64
    assert done["duration_s"] is None


def test_nothing_is_overwritten_unless_told(only_tiny_store, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"mine")
    (tmp_path / "a.png").write_bytes(b"mine")
    for values in (
        {"output": tmp_path / "a.mp4"},
        {"sweep": "color", "output": tmp_path / "a.png"},
    ):
        with pytest.raises(OutputExistsError):
            run(options(**({"axis": "weight"} | values)))
    assert {p.read_bytes() for p in tmp_path.glob("a.*")} == {b"mine"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "Give two styles: -s noir:1 -s noir:4 or two people: -c 3 -c 8"),
        ({"axis": "style", "content": ("1", "2")}, "stays at one content"),
        ({"axis": "content", "style": ("a", "b"), "content": ("1", "2")}, "stays at one style"),
        ({"axis": "weight", "fps": 0.0}, "fps"),
        ({"axis": "weight", "frames": 1}, "frames must be at least 2"),
        ({"style": ("a", "b", "c"), "frames": 2}, "frames must be at least 3"),
        ({"matrix": (2, 2), "sweep": "color"}, "choose one"),
        ({"matrix": (2, 2), "content": ("1",)}, "has 2 rows"),
        ({"matrix": (2, 3), "style": ("a", "b")}, "has 3 columns"),
        ({"sweep": "hue"}, "sweep is"),
        ({"sweep": "layers,color"}, "stands alone"),
        ({"sweep": "color", "style": ("a", "b")}, "one person in one style"),
    ],
)
def test_contradictions_are_refused(values, said):
    with pytest.raises(RecipeError, match=said):
        options(**values)


def test_a_figure_is_no_film():
    from pathlib import Path

    with pytest.raises(RecipeError, match="one picture"):
        options(matrix=(2, 2), output=Path("a.mp4"))


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_draws_a_matrix(only_tiny_store, tmp_path):
    result = dsg("interpolate", "--matrix", 2, 2, "-o", "m.png", "--json", "--device", "cpu")
    assert result.exit_code == 0
    assert result.json | {"output": ""} == {
        "output": "",
        "kind": "matrix",
        "styles": ["toon-ada", "toon-bo"],
        "contents": ["seed 0", "seed 1"],
        "size_px": 64,
        "rows": 3,
        "columns": 3,
    }
    assert (tmp_path / "m.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-s", "toon:0", "-s", "toon:7"], 2, "0 to 4"),
        (["-s", "toon", "-s", "nobody"], 4, "no style 'nobody'"),
        (["-s", "toon:0"], 2, "Give two styles"),
        (["-c", "gone.jpg", "-c", "2"], 2, "does not exist"),
        (["--axis", "weight", "-o", "a.txt"], 1, "cannot write .txt"),
        (["--axis", "weight", "--size", "7"], 2, "--size"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(only_tiny_store, tmp_path, words, code, said):
    result = dsg("interpolate", *words, "--device", "cpu")
    assert result.exit_code == code
    assert said in result.stderr
    assert not list(tmp_path.glob("*"))
