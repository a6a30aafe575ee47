"""`dsg stylize` itself, with the real detector on drawn faces: exit codes, messages, documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import dsg
from media.clips import write_sound
from stylize.staging import difference, make_studio, read_clip, write_clip

from dsgcli.faces.detect import open_detector
from dsgcli.media.base import HeldFrames
from dsgcli.media.images import read_image, write_image
from dsgcli.store import ModelStore
from dsgcli.stylize import studio
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.paste import Paster
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.drawn_clip import draw_clip
from dsgcli.types import Frame

QUICK = ("--style", "toon", "--mask", "feather", "--size", "32")


@pytest.fixture(scope="module")
def detector():
    with open_detector() as opened:
        yield opened


@pytest.fixture(scope="module")
def clip_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    write_clip(path, list(draw_clip(10, 160, 120, seed=2)), codec="h264", codec_options={"g": "2"})
    return path.read_bytes()


@pytest.fixture
def clip(only_tiny_store, tmp_path, clip_bytes):
    (tmp_path / "clip.mkv").write_bytes(clip_bytes)
    return Path("clip.mkv")


def photograph(seed=3, size=(320, 240)):
    """A drawn portrait as a part of a larger picture."""
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels[40:200, 80:240] = draw_portrait(seed, 160)
    return pixels


def written(folder):
    return {p.name for p in folder.iterdir()} - {"home", "clip.mkv"}


# ── what came aligned ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pixels", "aligned"),
    [
        pytest.param(draw_portrait(3, 256), True, id="FFHQ crop"),
        pytest.param(photograph(size=(320, 320)), False, id="square photograph"),
        pytest.param(photograph(), False, id="photograph"),
        pytest.param(np.full((256, 256, 3), 90, np.uint8), False, id="nobody"),
    ],
)
def test_an_ffhq_crop_is_recognised_and_a_photograph_is_not(tiny_store, detector, pixels, aligned):
    source = HeldFrames([Frame(pixels=pixels)])
    assert make_studio(tiny_store, detector).is_aligned(source) is aligned
    assert make_studio(tiny_store, detector, aligned="yes").is_aligned(source)
    assert not make_studio(tiny_store, detector, aligned="no").is_aligned(source)


@pytest.mark.usefixtures("only_tiny_store")
def test_a_photograph_keeps_its_size_and_its_surroundings(tmp_path):
    write_image(tmp_path / "a.png", photograph())
    result = dsg("stylize", "a.png", "-o", "b.png", *QUICK, "--json")
    assert (result.exit_code, result.json["faces"]) == (0, 1)
    drawn = read_image(tmp_path / "b.png").pixels
    assert drawn.shape == (240, 320, 3)
    np.testing.assert_array_equal(drawn[:, :60], photograph()[:, :60])
    assert difference(drawn[80:160, 120:200], photograph()[80:160, 120:200]) > 5


@pytest.mark.usefixtures("only_tiny_store")
def test_an_aligned_portrait_is_not_cut_again(tmp_path):
    write_image(tmp_path / "a.png", draw_portrait(3, 256))
    assert dsg("stylize", "a.png", "-o", "auto.png", *QUICK).exit_code == 0
    assert dsg("stylize", "a.png", "-o", "yes.png", *QUICK, "--aligned", "yes").exit_code == 0
    auto, yes = (read_image(tmp_path / f"{name}.png").pixels for name in ("auto", "yes"))
    np.testing.assert_array_equal(auto, yes)


# ── videos ───────────────────────────────────────────────────────────────────────────────────────


def test_a_video_is_drawn_frame_for_frame(clip, tmp_path):
    result = dsg("stylize", clip, "-o", "out.mp4", *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    assert (result.json["frames"], result.json["faces"]) == (10, 10)
    times = [[f.time for f in read_clip(path)] for path in (clip, tmp_path / "out.mp4")]
    assert times[0] == times[1]


def test_the_default_mask_is_as_exact_after_an_interruption(clip, tmp_path, monkeypatch):
    """MediaPipe's segmentation, too, depends on nothing but its picture."""
    monkeypatch.setattr("dsgcli.stylize.frame_state.SEGMENT_FRAMES", 4)
    words = ("stylize", clip, "--style", "toon", "--size", "32", "-o")
    assert dsg(*words, "whole.mp4").exit_code == 0
    paste, pasted = Paster.paste, []

    def interrupted(*arguments):
        pasted.append(1)
        if len(pasted) == 6:
            raise KeyboardInterrupt
        return paste(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Paster, "paste", interrupted)
        stopped = dsg(*words, "out.mp4")
    assert stopped.exit_code == 130
    assert "the same command goes on from frame 4" in stopped.stderr
    assert dsg(*words, "out.mp4").exit_code == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_truncated_video_is_0_and_says_truncated(clip, tmp_path, clip_bytes):
    (tmp_path / "clip.mkv").write_bytes(clip_bytes[: int(len(clip_bytes) * 0.6)])
    there = len(read_clip(clip))
    assert 0 < there < 10
    result = dsg("stylize", clip, "-o", "out.mp4", *QUICK, "--json")
    assert (result.exit_code, result.json["truncated"]) == (0, True)
    assert result.json["frames"] == len(read_clip(tmp_path / "out.mp4")) == there


@pytest.mark.usefixtures("only_tiny_store")
def test_a_video_without_a_face_is_3_and_leaves_nothing(tmp_path):
    frames = [Frame(pixels=np.full((96, 128, 3), 90 + i, np.uint8), index=i) for i in range(1)]
    write_clip(tmp_path / "clip.mkv", frames)
    result = dsg("stylize", "clip.mkv", "-o", "out.mp4", *QUICK)
    assert result.exit_code == 3
    assert "no face found in clip.mkv" in result.stderr
    assert not written(tmp_path)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(lambda path: path.write_text("hello\n" * 99), 1, id="text"),
        pytest.param(write_sound, 1, id="sound"),
        pytest.param(lambda path: path.touch(), 1, id="empty"),
        pytest.param(lambda path: None, 2, id="missing"),
    ],
)
@pytest.mark.usefixtures("only_tiny_store")
def test_what_is_no_video_is_told_without_a_traceback(tmp_path, make, code):
    make(tmp_path / "bad.mp4")
    result = dsg("stylize", "bad.mp4", "-o", "out.mp4", *QUICK, "--json")
    assert (result.exit_code, result.json["exit_code"]) == (code, code)
    assert "bad.mp4" in result.json["error"]["message"]
    assert "Traceback" not in result.stderr
    assert written(tmp_path) <= {"bad.mp4"}


def test_a_preview_can_be_added_to_a_command(clip, tmp_path):
    assert dsg("stylize", clip, "-o", "out.mp4", *QUICK, "--preview", "2").exit_code == 0
    assert written(tmp_path) == {"out.preview.png"}


@pytest.mark.usefixtures("only_tiny_store")
def test_several_inputs_have_a_bar_of_their_own_and_failures_are_named_once(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, photograph())
    write_image(tmp_path / "nobody.png", np.full((64, 96, 3), 90, np.uint8))
    words = ("a.png", "nobody.png", "b.png", "-o", "out", *QUICK, "--progress", "json")
    result = dsg("stylize", *words)
    events = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    ends = [e for e in events if e["event"] == "end" and e["task"] == "files"]
    assert [(end["done"], end["total"]) for end in ends] == [(3, 3)]
    (warning,) = [e["message"] for e in events if e["event"] == "warning"]
    assert warning.count("nobody.png") == 1


@pytest.mark.usefixtures("only_tiny_store")
def test_one_input_has_its_own_bar_alone(tmp_path):
    write_image(tmp_path / "a.png", photograph())
    result = dsg("stylize", "a.png", "-o", "b.png", *QUICK, "--progress", "json")
    begun = [json.loads(line) for line in result.stderr.splitlines() if "begin" in line]
    assert [event["task"] for event in begun] == ["a.png"]


# ── what is replaced ─────────────────────────────────────────────────────────────────────────────


class NoSegmenter:
    """Stands in for a segmentation model that is not opened."""

    def close(self) -> None:
        """Nothing to free."""


@pytest.mark.parametrize(
    ("least", "options", "wanted"),
    [
        (256, {}, "face"),  # the tiny styles draw 64 px
        (256, {"mask": "head"}, "head"),
        (256, {"alpha": True}, "head"),
        (256, {"style": ("nobody",)}, "head"),  # who loads it tells
        (64, {}, "head"),
        (64, {"size": 32}, "face"),
        (64, {"crop": True}, "feather"),
    ],
)
def test_small_portraits_replace_the_face_alone(tiny_store, monkeypatch, least, options, wanted):
    opened = []
    monkeypatch.setattr(studio, "LEAST_HEAD_PX", least)
    monkeypatch.setattr(studio, "open_segmenter", lambda _: opened.append(1) or NoSegmenter())
    chosen = StylizeOptions(**{"style": ("toon",), **options})
    segmenter, mask = studio._segmentation(chosen, ModelStore.open(tiny_store))
    assert mask == wanted
    assert bool(opened) == (segmenter is not None) == (wanted == "head")
