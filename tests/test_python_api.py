"""What `from dsgcli import ...` gives: its examples run, it has the command line's defaults, and it
is quick to import."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command import dsg

import dsgcli
from dsgcli.errors import NoFaceError, StyleRefError, UsageError
from dsgcli.media.images import read_image, write_image
from dsgcli.stylize import api
from dsgcli.stylize.options import StylizeOptions
from dsgcli.training.drawn import draw_portrait

DOCS = Path(__file__).parents[1] / "docs"
QUICK = {"mask": "feather", "size": 32}


def photograph(seed=3):
    """A drawn portrait as a part of a larger picture."""
    pixels = np.full((240, 320, 3), 90, np.uint8)
    pixels[40:200, 80:240] = draw_portrait(seed, 160)
    return pixels


@pytest.fixture
def here(only_tiny_store, tmp_path):
    """A working folder with a photograph in it, and the tiny store as the only models."""
    write_image(tmp_path / "photo.png", photograph())
    return tmp_path


# ── examples ─────────────────────────────────────────────────────────────────────────────────────


def examples_of(module):
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("module", ["dsgcli.stylize.api", "dsgcli.generate.sample"])
@pytest.mark.usefixtures("here")
def test_examples_in_docstrings_run(module):
    tests = examples_of(module)
    assert tests
    for test in tests:
        test.globs |= {"photo": photograph()}
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.usefixtures("here")
def test_examples_of_the_page_run():
    done = doctest.testfile(str(DOCS / "python.md"), module_relative=False, encoding="utf-8")
    assert done.attempted > 15
    assert done.failed == 0


# ── the names ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", dsgcli.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(dsgcli, name)
    assert name == "__version__" or inspect.getdoc(value)
    assert name in dir(dsgcli)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="'stylise'"):
        _ = dsgcli.stylise


@pytest.mark.parametrize(
    "line", ["import dsgcli", "from dsgcli import DsgError", "import dsgcli; dir(dsgcli)"]
)
def test_importing_loads_nothing_heavy(line):
    heavy = "{'torch', 'numpy', 'mediapipe', 'av', 'rich', 'typer'}"
    code = f"{line}\nimport sys\nprint({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_function_and_the_package_share_a_name_in_any_order_of_import():
    code = (
        "from dsgcli import stylize\nimport dsgcli.stylize.run\nfrom dsgcli import stylize as two\n"
        "assert callable(stylize) and stylize is two is dsgcli.stylize\n"
        "assert dsgcli.stylize.run.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_what_the_command_line_makes_of_it(here):
    summary = dsgcli.stylize("photo.png", "python.png", style="toon:bo", **QUICK)
    assert (summary.exit_code, summary.files[0].faces) == (0, 1)
    words = ("--style", "toon:bo", "--mask", "feather", "--size", "32")
    assert dsg("stylize", "photo.png", "-o", "command.png", *words).exit_code == 0
    ours, theirs = (read_image(here / f"{n}.png").pixels for n in ("python", "command"))
    np.testing.assert_array_equal(ours, theirs)


def test_several_styles_make_several_files(here):
    summary = dsgcli.stylize(["photo.png"], "out", style=["toon", "ink"], **QUICK)
    assert len(summary.files[0].outputs) == 2
    assert all(path.parent == Path("out") and path.exists() for path in summary.files[0].outputs)


def test_an_unknown_choice_is_refused_by_name():
    with pytest.raises(TypeError, match="structur"):
        dsgcli.stylize("photo.png", structur=0.5)


def test_what_goes_wrong_with_one_file_is_raised(here):
    write_image(here / "nobody.png", np.full((64, 96, 3), 90, np.uint8))
    with pytest.raises(NoFaceError):
        dsgcli.stylize("nobody.png", "out.png", **QUICK)


@pytest.mark.usefixtures("here")
def test_samples_are_those_of_the_command_line(here):
    drawn = dsgcli.sample("toon:cy", seeds="4,9", truncation=0.8)
    words = ("--seeds", "4,9", "--truncation", "0.8", "--style", "toon:cy", "-o", "people")
    names = dsg("sample", *words, "--json").json["pictures"]
    written = [read_image(here / "people" / f"{name}.png").pixels for name in names]
    np.testing.assert_array_equal(drawn, written)


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def toon(here):
    with dsgcli.Stylizer("toon:bo", **QUICK) as stylizer:
        yield stylizer


def test_an_array_is_drawn_as_a_file_is(here, toon):
    dsgcli.stylize("photo.png", "python.png", style="toon:bo", **QUICK)
    np.testing.assert_array_equal(toon(photograph()), read_image(here / "python.png").pixels)


def test_the_array_itself_stays_as_it_was(toon):
    before = photograph()
    given = before.copy()
    toon(given)
    np.testing.assert_array_equal(given, before)


def test_an_array_without_a_face_is_an_error(toon):
    with pytest.raises(NoFaceError, match="the picture"):
        toon(np.full((64, 96, 3), 90, np.uint8))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((8, 8)), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8), [[1, 2], [3, 4]]],
    ids=["gray", "floats", "with alpha", "list"],
)
def test_other_arrays_are_refused(toon, pixels):
    with pytest.raises(UsageError, match=r"\(height, width, 3\) of uint8"):
        toon(pixels)


@pytest.mark.usefixtures("here")
def test_crops_and_transparent_heads_have_their_own_shapes():
    with dsgcli.Stylizer("toon", crop=True, **QUICK) as crop:
        assert crop(photograph()).shape == (32, 32, 3)
        assert crop(draw_portrait(3, 64)).shape == (32, 32, 3)
    with dsgcli.Stylizer("toon", alpha=True, **QUICK) as alpha:
        drawn = alpha(photograph())
    assert drawn.shape == (240, 320, 4)
    assert drawn[0, 0, 3] == 0 and drawn[120, 160, 3] > 200


@pytest.mark.usefixtures("here")
def test_a_style_that_is_not_there_is_told_when_it_is_asked_for():
    with pytest.raises(StyleRefError):
        dsgcli.Stylizer("toon:nobody")


def test_a_stream_gives_every_frame_back_in_order(toon):
    empty = np.full((240, 320, 3), 90, np.uint8)
    frames = [photograph(), photograph(), empty, photograph()]
    drawn = list(toon.stream(iter(frames), rate=24))
    assert [d.shape for d in drawn] == [(240, 320, 3)] * 4
    np.testing.assert_array_equal(drawn[2], empty)
    assert not np.array_equal(drawn[3], photograph())
    assert list(toon.stream([])) == []


def test_a_stream_that_is_left_early_ends_cleanly(toon):
    stream = toon.stream(photograph() for _ in range(50))
    assert next(stream).shape == (240, 320, 3)
    stream.close()


def test_a_camera_that_is_too_fast_loses_frames_and_keeps_the_order(toon):
    total = 60

    def camera():
        for number in range(total):
            picture = photograph()
            picture[:8, :8] = number
            yield picture
            time.sleep(0.002)

    with toon.stream(camera(), live=True) as stream:
        numbers = []
        for drawn in stream:
            numbers.append(int(drawn[0, 0, 0]))
            assert 0 < stream.latency_s < 60
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == total - 1  # the newest frame is always drawn
    assert len(numbers) + stream.dropped == total
    assert stream.dropped > 0


def test_a_camera_that_is_slow_loses_nothing(toon):
    def camera():
        for _ in range(3):
            yield photograph()
            taken.acquire(timeout=30)

    taken = threading.Semaphore(0)
    with toon.stream(camera(), live=True) as stream:
        for drawn in stream:
            assert drawn.shape == (240, 320, 3)
            taken.release()
    assert stream.dropped == 0


def test_an_error_of_the_camera_is_raised_where_its_frames_are_taken(toon):
    def camera():
        yield photograph()
        raise OSError("the camera was unplugged")

    with toon.stream(camera(), live=True) as stream, pytest.raises(OSError, match="unplugged"):
        list(stream)


def test_a_camera_that_is_left_is_read_no_more(toon):
    read = []

    def camera():
        while True:
            read.append(1)
            yield photograph()
            time.sleep(0.001)

    with toon.stream(camera(), live=True) as stream:
        next(stream)
    time.sleep(0.2)
    count = len(read)
    time.sleep(0.1)
    assert len(read) == count


def test_a_camera_without_frames_gives_none(toon):
    assert list(toon.stream([], live=True)) == []


def test_one_level_down_are_codes_and_looks(toon):
    codes = toon.portraits.encode([draw_portrait(3, toon.portraits.crop_px)])
    assert codes.shape == (1, toon.portraits.layout.num_latents, 32)
    assert toon.portraits.draw(codes, toon.look).shape == (1, 32, 32, 3)


@pytest.mark.parametrize("function", [api.stylize, api.Stylizer], ids=["files", "arrays"])
def test_the_default_style_is_that_of_the_command_line(function):
    assert (inspect.signature(function).parameters["style"].default,) == StylizeOptions().style


def test_strength_scales_every_weight():
    from dsgcli import Stylizer

    with Stylizer("toon:1", structure=0.8, strength=0.5) as half:
        weights = half.look.weights.layers
    assert weights == pytest.approx([0.4] * 7 + [0.5] * 7)
