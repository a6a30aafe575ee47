"""An interrupted video goes on with the same command, and becomes the video that an uninterrupted
run makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from stylize.staging import RED, Actor, Listener, Play, read_clip, same_clip, write_clip

from dsgcli.errors import InterruptedRunError, NoFaceError, SinkError
from dsgcli.media.segments import SegmentSink
from dsgcli.portraits import Portraits
from dsgcli.stylize import checkpoint as parts
from dsgcli.stylize.paste import Paster
from dsgcli.training.drawn_clip import draw_clip

COUNT = 14
"""Frames: three segments of four, and a short one."""
DICE = np.random.default_rng(8).normal(0, 1.2, (COUNT, 4))


def pair(index):
    """Two people who tremble and change color, one of them lost over a boundary of segments."""
    dx, dy, ex, ey = DICE[index]
    glow = 20 * (index % 2)
    return [
        Actor(45 + dx, 60 + dy, color=(200 + glow, 90, 60)),
        Actor(115 + ex, 60 + ey, color=(60, 110, 200 + glow), seen=not 7 <= index < 10),
    ]


def single(index):
    """The first of them."""
    return pair(index)[:1]


def comes_and_goes(index):
    """Somebody who is not there where the segments begin."""
    return [Actor(60 + index, color=RED)] if index % 4 > 1 and index < 11 else []


UNEVEN = [Fraction(40 * i + 13 * (i % 3), 1000) for i in range(COUNT)]


class Interrupting(Listener):
    """A listener at whose n-th frame Ctrl-C is pressed."""

    def __init__(self, after):
        super().__init__()
        self.after, self.drawn = after, 0

    def advance(self, steps=1, **figures):
        if figures:
            self.drawn += 1
            if self.drawn == self.after:
                raise KeyboardInterrupt


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def made():
    """The bytes of clips (which are never twice the same), and of uninterrupted videos by what they
    were made of and how."""
    return {}


@pytest.fixture
def film(stage, short_segments, made, tmp_path):
    """A clip of a play, which the detector sees from now on."""

    def write(name, script):
        stage(play := Play(COUNT, script, times=UNEVEN))
        path = tmp_path / f"{name}.mkv"
        if name in made:
            path.write_bytes(made[name])
        else:
            made[name] = write_clip(path, play.frames).read_bytes()
        return path

    return write


@pytest.fixture
def clip(film):
    return film("clip", single)


@pytest.fixture
def pair_clip(film):
    return film("pair", pair)


@pytest.fixture
def whole(stage, made):
    """The bytes of the video that an uninterrupted run makes."""

    def make(clip, ending="mp4", **options):
        key = clip.name, ending, repr(options)
        if key not in made:
            stage.run(clip, output=f"whole.{ending}", overwrite=True, **options)
            made[key] = clip.with_name(f"whole.{ending}").read_bytes()
        return made[key]

    return make


def interrupt(stage, clip, after, **options):
    with pytest.raises(InterruptedRunError) as error:
        stage.run(clip, progress=Interrupting(after), **options)
    return str(error.value)


def notes_of(summary):
    return "\n".join(summary.files[0].notes)


# ── the same video ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [4, 5, 11, 14])
def test_an_interrupted_video_becomes_the_same_file(stage, clip, whole, tmp_path, after):
    interrupt(stage, clip, after, output="out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    went_on = stage.run(clip, output="out.mp4")
    assert (went_on.frames, went_on.files[0].faces) == (COUNT, COUNT)
    begun_again = after < 5
    assert ("went on from frame" in notes_of(went_on)) != begun_again
    assert (tmp_path / "out.mp4").read_bytes() == whole(clip)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("smooth", [0.0, 0.4])
def test_a_video_may_be_interrupted_again_and_again(stage, pair_clip, whole, tmp_path, smooth):
    """Two faces, one of them held; the smoothing reaches over the segments."""
    options = {"on_missing": "hold", "smooth": smooth, "face_style": ("1=ink",)}
    for after in (6, 6):
        interrupt(stage, pair_clip, after, output="out.mp4", **options)
    assert "went on from frame 8" in notes_of(stage.run(pair_clip, output="out.mp4", **options))
    assert (tmp_path / "out.mp4").read_bytes() == whole(pair_clip, **options)


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("mkv", {"faces": "largest"}),
        ("mov", {"aligned": "yes"}),
        ("mp4", {"start": Fraction(1, 10), "end": Fraction(1, 2)}),
        ("mp4", {"grade": True}),
        ("webm", {"alpha": True, "codec_option": ("deadline=realtime", "cpu-used=8")}),
        ("gif", {}),
        ("webp", {}),
    ],
)
def test_every_kind_of_video_goes_on(stage, clip, whole, tmp_path, ending, options):
    output = f"out.{ending}"
    interrupt(stage, clip, 6, output=output, **options)
    assert "went on from frame 4" in notes_of(stage.run(clip, output=output, **options))
    (tmp_path / f"again.{ending}").write_bytes(whole(clip, ending, **options))
    assert len(read_clip(tmp_path / output)) == (11 if "start" in options else COUNT)
    assert same_clip(tmp_path / output, tmp_path / f"again.{ending}")


@pytest.mark.parametrize("script", [pair, comes_and_goes])
def test_a_style_that_keeps_the_crop_goes_on(stage, film, whole, tmp_path, monkeypatch, script):
    """The frame by which the scene is graded is read again."""
    monkeypatch.setattr(Portraits, "keeps_content", True)
    clip = film(f"graded {script.__name__}", script)
    for after in (6, 10):
        interrupt(stage, clip, after, output=f"{after}.mp4")
        stage.run(clip, output=f"{after}.mp4")
        assert (tmp_path / f"{after}.mp4").read_bytes() == whole(clip)


def test_a_crop_without_a_face_goes_on_at_the_same_place(stage, film, whole, tmp_path):
    """The place of the last portrait is remembered, too."""
    walk = film("walk", comes_and_goes)
    for after in (6, 10):
        interrupt(stage, walk, after, output=f"{after}.mp4", crop=True)
        stage.run(walk, output=f"{after}.mp4", crop=True)
        assert (tmp_path / f"{after}.mp4").read_bytes() == whole(walk, crop=True)


# ── wherever Ctrl-C strikes ──────────────────────────────────────────────────────────────────────

STYLES = ("toon", "ink")


def same_pair(stage, clip, whole, folder):
    """Whether both styles' videos are those of uninterrupted runs of one style."""
    written = sorted(path.name for path in folder.iterdir())
    assert written == ["clip_ink-fox.mkv", "clip_toon-ada.mkv"]
    for name, style in zip(written, ("ink", "toon"), strict=True):
        (alone := folder.with_name(name)).write_bytes(whole(clip, "mkv", style=(style,)))
        if not same_clip(folder / name, alone):
            return False
    return True


@pytest.mark.parametrize("where", ["paste", "encode", "state", "join", "between outputs"])
def test_ctrl_c_anywhere_leaves_what_the_next_run_needs(
    stage, clip, whole, tmp_path, monkeypatch, where
):
    """Two styles, so that it may strike between their outputs."""
    place, name, at = {
        "paste": (Paster, "paste", 2 * 11),
        "encode": (SegmentSink, "write", 2 * 11),  # in a thread of its own
        "state": (parts, "write_memory", 3),
        "join": (parts, "join_segments", 1),
        "between outputs": (parts, "join_segments", 2),
    }[where]
    calls, usual = [], getattr(place, name)

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, interrupted)
        with pytest.raises(InterruptedRunError, match=r"goes on from frame (8|12)$"):
            stage.run(clip, output="out", style=STYLES)
    assert ".clip_toon-ada.mkv.dsg-parts" in leftovers(tmp_path / "out")
    assert stage.run(clip, output="out", style=STYLES).files[0].status == "done"
    assert same_pair(stage, clip, whole, tmp_path / "out")


def test_ctrl_c_between_files_leaves_those_that_are_done(stage, clip, tmp_path):
    """The same command takes them as they are, and goes on with the others."""
    other = write_clip(tmp_path / "other.mkv", Play(COUNT, comes_and_goes).frames)
    both = {"output": "out", "codec_option": ("g=5",)}
    with pytest.raises(InterruptedRunError):
        stage.run(clip, other, progress=Interrupting(COUNT + 6), **both)
    first = tmp_path / "out" / "clip_toon-ada.mkv"
    made = first.stat().st_mtime_ns
    summary = stage.run(clip, other, **both)
    assert [result.status for result in summary.files] == ["skipped", "done"]
    assert first.stat().st_mtime_ns == made
    assert "went on from frame 4" in summary.files[1].notes[0]


@pytest.mark.parametrize(
    ("after", "resume", "said"),
    [
        (6, True, r"after 6 frames of .*clip\.mkv; the same command goes on from frame 4$"),
        (6, False, r"stopped after 6 frames .*; it without --no-resume goes on from frame 4$"),
        (3, True, r"stopped after 3 frames .*; the same command starts again$"),
    ],
)
def test_ctrl_c_says_how_to_go_on(stage, clip, tmp_path, after, resume, said):
    message = interrupt(stage, clip, after, output="out.mp4", resume=resume)
    assert re.search(said, message.replace(", nothing saved yet", ""))
    assert bool(leftovers(tmp_path)) == (after > 4)


# ── what begins anew ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "changed",
    [
        {"structure": 0.3},
        {"style": ("ink",)},
        {"style": ("toon:2",)},
        {"face_style": ("0=ink",)},
        {"crf": 30},
        {"resume": False},
    ],
    ids=str,
)
def test_other_settings_begin_anew(stage, clip, changed):
    interrupt(stage, clip, 6, output="out.mp4")
    assert "went on" not in notes_of(stage.run(clip, output="out.mp4", **changed))


def test_faces_that_change_their_styles_begin_anew(stage, clip):
    interrupt(stage, clip, 6, output="out.mp4", face_style=("0=ink", "1=toon:2"))
    changed = stage.run(clip, output="out.mp4", face_style=("1=ink", "0=toon:2"))
    assert "went on" not in notes_of(changed)


def test_another_input_of_the_same_name_begins_anew(stage, clip):
    interrupt(stage, clip, 6, output="out.mp4")
    write_clip(clip, Play(COUNT, lambda i: single(COUNT - 1 - i)).frames, overwrite=True)
    again = stage.run(clip, output="out.mp4")
    assert "went on" not in notes_of(again)
    assert again.frames == COUNT


def test_another_length_of_segments_begins_anew(stage, clip, monkeypatch):
    interrupt(stage, clip, 6, output="out.mp4")
    monkeypatch.setattr("dsgcli.stylize.frame_state.SEGMENT_FRAMES", 6)
    assert "went on" not in notes_of(stage.run(clip, output="out.mp4"))


def test_what_decides_no_picture_does_not_begin_anew(stage, clip):
    interrupt(stage, clip, 6, output="out.mp4")
    again = stage.run(clip, output="out.mp4", batch_size=1, recursive=True, overwrite=True)
    assert "went on from frame 4" in notes_of(again)


def test_a_run_goes_on_where_one_without_resume_was_stopped(stage, clip, whole, tmp_path):
    interrupt(stage, clip, 6, output="out.mp4", resume=False)
    assert "went on from frame 4" in notes_of(stage.run(clip, output="out.mp4"))
    assert (tmp_path / "out.mp4").read_bytes() == whole(clip)


# ── damaged and useless parts ────────────────────────────────────────────────────────────────────


def part(folder, name):
    return folder / ".out.mp4.dsg-parts" / name


def remove(path):
    path.unlink()


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("lost", "damage", "frame"),
    [
        ("00000.0.seg", remove, 0),
        ("00000.0.seg", cut_off, 0),
        ("00001.0.seg", remove, 4),
        ("00001.0.seg", cut_off, 4),
        ("00001.state", remove, 0),
    ],
)
def test_a_part_that_is_not_whole_is_drawn_again(stage, clip, whole, tmp_path, lost, damage, frame):
    interrupt(stage, clip, 10, output="out.mp4")
    damage(part(tmp_path, lost))
    notes = notes_of(stage.run(clip, output="out.mp4"))
    assert (f"went on from frame {frame} " in notes) == (frame > 0)
    assert (tmp_path / "out.mp4").read_bytes() == whole(clip)


def test_a_damaged_state_is_told_and_can_be_left(stage, clip, tmp_path):
    interrupt(stage, clip, 6, output="out.mp4")
    cut_off(part(tmp_path, "00001.state"))
    with pytest.raises(SinkError, match="--no-resume"):
        stage.run(clip, output="out.mp4")
    assert stage.run(clip, output="out.mp4", resume=False).frames == COUNT


def test_a_job_that_cannot_be_read_begins_anew(stage, clip, tmp_path):
    interrupt(stage, clip, 6, output="out.mp4")
    part(tmp_path, "job.json").write_text("{")
    assert "went on" not in notes_of(stage.run(clip, output="out.mp4"))
    assert not leftovers(tmp_path)


def test_a_video_without_a_face_leaves_nothing(stage, clip, tmp_path):
    stage(Play(COUNT, lambda i: []))
    with pytest.raises(NoFaceError):
        stage.run(clip, output="out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_a_lost_face_that_may_not_be_lost_leaves_nothing(stage, pair_clip, tmp_path):
    with pytest.raises(NoFaceError, match=r"at 0\.29 s"):
        stage.run(pair_clip, output="out.mp4", on_missing="fail")
    assert not leftovers(tmp_path)


def test_a_full_disk_keeps_the_parts_that_are_whole(stage, clip, whole, tmp_path, monkeypatch):
    write, written = SegmentSink.write, []

    def full(self, frame):
        written.append(1)
        if len(written) > 10:
            raise SinkError(f"{self.path} cannot be written: No space left on device")
        write(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentSink, "write", full)
        with pytest.raises(SinkError, match="No space left"):
            stage.run(clip, output="out.mp4")
    assert "went on from frame 8" in notes_of(stage.run(clip, output="out.mp4"))
    assert (tmp_path / "out.mp4").read_bytes() == whole(clip)


def test_parts_of_a_run_that_was_killed_at_its_very_end_are_dropped(
    stage, clip, tmp_path, monkeypatch
):
    """After the video was put in its place, before its parts were dropped."""
    with monkeypatch.context() as patch:
        patch.setattr(parts.Segments, "discard", lambda self: None)
        stage.run(clip, output="out.mp4")
    assert leftovers(tmp_path)
    assert stage.run(clip, output="out.mp4").files[0].status == "skipped"
    assert not leftovers(tmp_path)


# ── killed ───────────────────────────────────────────────────────────────────────────────────────

COMMAND = """
import runpy, sys
import torch
torch.set_num_threads(1)
from dsgcli.stylize import frame_state
frame_state.SEGMENT_FRAMES = 8
runpy.run_module("dsgcli", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_command(tiny_store, tmp_path):
    """`python -m dsgcli stylize`, the real detector, kill -9."""
    write_clip(tmp_path / "clip.mkv", list(draw_clip(60, 160, 120, seed=2)))
    environment = {**os.environ, "DSG_PRETRAINED": str(tiny_store), "OMP_NUM_THREADS": "1"}
    words = ["stylize", "clip.mkv", "--style", "toon", "--mask", "feather", "--json", "-o"]

    def start(output):
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words, output],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    killed = start("out.mp4")
    deadline = time.monotonic() + 60
    while not part(tmp_path, "00002.state").exists() and time.monotonic() < deadline:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "out.mp4").exists()

    went_on, whole = start("out.mp4"), start("whole.mp4")
    out, err = went_on.communicate(timeout=60)
    assert went_on.returncode == 0, err
    assert "went on from frame" in out
    whole.communicate(timeout=60)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert {path.name for path in Path(tmp_path).iterdir()} == {
        "clip.mkv",
        "out.mp4",
        "whole.mp4",
    }
