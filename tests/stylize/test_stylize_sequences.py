"""Numbered pictures and pipes, from the command line to the files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction

import pytest
from command import dsg
from PIL import Image
from stylize.staging import Actor, Play, still, write_clip

from dsgcli.errors import OutputExistsError, UsageError
from dsgcli.media.images import write_image
from dsgcli.media.read import open_source
from dsgcli.training.drawn import draw_portrait

PLAY = Play(6, still(Actor(80)))


@pytest.fixture
def shots(tmp_path):
    (tmp_path / "shots").mkdir()
    for frame in PLAY.frames:
        write_image(tmp_path / "shots" / f"{frame.index}.png", frame.pixels)
    return tmp_path / "shots"


def test_a_folder_with_a_rate_becomes_a_video(stage, shots, tmp_path):
    stage(PLAY)
    summary = stage.run(shots, rate=Fraction(12))
    assert (summary.files[0].frames, summary.files[0].faces) == (6, 6)
    with open_source(tmp_path / "shots_toon-ada.mp4") as made:
        assert made.info.rate == 12 and len(list(made)) == 6
    assert stage.run(shots, rate=Fraction(12)).files[0].status == "skipped"


def test_a_video_into_a_new_folder_becomes_pictures(stage, tmp_path):
    stage(PLAY)
    clip = write_clip(tmp_path / "a.mp4", PLAY.frames)
    stage.run(clip, output="frames")
    found = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert found == [*(f"{i:06d}.png" for i in range(6)), "frames.json"]
    with pytest.raises(OutputExistsError):
        stage.run(clip, output="frames")


def test_a_video_becomes_pictures_after_a_pattern(stage, tmp_path):
    stage(PLAY)
    clip = write_clip(tmp_path / "a.mp4", PLAY.frames)
    stage.run(clip, output="out/f_%03d.png")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == [f"f_{i:03d}.png" for i in range(6)]
    with pytest.raises(OutputExistsError, match="f_"):
        stage.run(clip, output="out/f_%03d.png")


def test_a_video_into_a_folder_of_other_things_becomes_a_video(stage, tmp_path):
    stage(PLAY)
    clip = write_clip(tmp_path / "a.mp4", PLAY.frames)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    stage.run(clip, output="out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_toon-ada.mp4", "notes.txt"]


def test_a_rate_for_a_single_picture_is_refused(stage, shots):
    with pytest.raises(UsageError, match=r"0\.png is neither; drop --rate"):
        stage.run(shots / "0.png", rate=Fraction(12))


# ── pipes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_picture_comes_and_goes_through_pipes(only_tiny_store, tmp_path):
    write_image(tmp_path / "a.png", draw_portrait(3, 256))
    words = [sys.executable, "-m", "dsgcli", "stylize", "-", "-s", "toon", "--size", "32"]
    environment = {**os.environ, "DSG_PRETRAINED": os.environ["DSG_PRETRAINED"]}
    done = subprocess.run(
        [*words, "--aligned", "yes"],
        input=(tmp_path / "a.png").read_bytes(),
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).size == (32, 32)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-", "--json"), "--json and the picture"),
        (("a.png", "b.png", "-o", "-"), "takes one picture"),
    ],
)
def test_what_a_pipe_cannot_carry_is_refused(words, says):
    result = dsg("stylize", *words)
    assert result.exit_code == 2 and says in result.stderr
