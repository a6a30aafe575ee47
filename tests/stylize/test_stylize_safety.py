"""Runs that meet each other, links, and disks that refuse: nothing is destroyed or left over."""

from __future__ import annotations

import errno

import pytest
from stylize.staging import Actor, Play, still, write_clip

from dsgcli.errors import DsgError, OutputBusyError, SinkError, UsageError
from dsgcli.media import segments
from dsgcli.media.base import SinkOptions
from dsgcli.media.files import locked_outputs
from dsgcli.media.write import open_sink
from dsgcli.stylize.jobs import parts_folder

PLAY = Play(10, still(Actor(60.0), Actor(110.0)))


@pytest.fixture
def clip(stage, short_segments, tmp_path):
    """A video that the detector sees, drawn in segments of four frames."""
    stage(PLAY)
    return write_clip(tmp_path / "clip.mkv", PLAY.frames)


@pytest.fixture
def picture(stage, tmp_path):
    stage(PLAY)
    path = tmp_path / "face.png"
    with open_sink(path, SinkOptions(), None) as sink:
        sink.write(PLAY.frame(0))
    return path


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ── two runs on one output ───────────────────────────────────────────────────────────────────────


def test_second_run_on_an_output_is_refused_and_destroys_nothing(stage, clip, tmp_path):
    """Of five trials with a video both runs failed in three, and in two nothing was left."""
    output = tmp_path / "out.mp4"
    parts = parts_folder(output)
    parts.mkdir()
    (parts / "00000.0.seg").write_text("of the other run")
    with locked_outputs([output]):
        with pytest.raises(OutputBusyError, match=r"another dsg is writing .*out\.mp4; wait"):
            stage.run(clip, output="out.mp4", overwrite=True)
        assert (parts / "00000.0.seg").read_text() == "of the other run"
        with pytest.raises(OutputBusyError):
            stage.run(clip, output="out.mp4", overwrite=True, resume=False)
        assert parts.is_dir()
    stage.run(clip, output="out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mkv", "out.mp4"]


def test_second_run_on_a_picture_is_refused(stage, picture, tmp_path):
    with locked_outputs([tmp_path / "out.png"]), pytest.raises(OutputBusyError):
        stage.run(picture, output="out.png")
    assert not (tmp_path / "out.png").exists()


def test_one_output_that_is_busy_does_not_stop_the_rest(stage, picture, tmp_path):
    with locked_outputs([tmp_path / "out" / "a.png"]):
        (tmp_path / "b.png").write_bytes(picture.read_bytes())
        (tmp_path / "a.png").write_bytes(picture.read_bytes())
        done = stage.run(
            tmp_path / "a.png", tmp_path / "b.png", output="out", output_pattern="{stem}.{ext}"
        )
    assert [file.status for file in done.files] == ["failed", "done"]
    assert "another dsg is writing" in done.files[0].error


def test_a_lock_whose_process_is_dead_does_not_block(stage, picture, tmp_path):
    (tmp_path / ".out.png.dsg-lock").touch()  # as a killed run leaves it
    stage.run(picture, output="out.png")
    assert below(tmp_path) == ["face.png", "out.png"]


# ── what lies in the place of the parts ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("resume", [False, True])
def test_link_in_the_place_of_the_parts_is_refused_and_not_followed(stage, clip, tmp_path, resume):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "job.json").write_text("{}")
    parts_folder(tmp_path / "out.mp4").symlink_to(precious)
    with pytest.raises(SinkError, match="is a link, where the parts of a video are kept"):
        stage.run(clip, output="out.mp4", resume=resume)
    assert below(precious) == ["job.json"]
    assert not (tmp_path / "out.mp4").exists()


def test_file_in_the_place_of_the_parts_is_refused(stage, clip, tmp_path):
    parts_folder(tmp_path / "out.mp4").write_text("mine")
    with pytest.raises(SinkError, match="is no folder, where the parts"):
        stage.run(clip, output="out.mp4")
    assert parts_folder(tmp_path / "out.mp4").read_text() == "mine"


def test_finished_video_with_a_link_in_the_place_of_its_parts_is_skipped(stage, clip, tmp_path):
    stage.run(clip, output="out.mp4")
    (tmp_path / "precious").mkdir()
    parts_folder(tmp_path / "out.mp4").symlink_to(tmp_path / "precious")
    assert stage.run(clip, output="out.mp4").files[0].status == "skipped"
    assert (tmp_path / "precious").is_dir()


# ── a disk that refuses ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("room", [0, 300, 2000])  # bytes
def test_segment_that_does_not_fit_is_told_in_a_sentence(stage, clip, tmp_path, room):
    """Under `ulimit -f` the file raised once more when it was closed, over the first error."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(SinkError, match=r"File too large|allows no larger file"):
            stage.run(clip, output="out/deep/out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out").exists()


def test_error_in_aborting_does_not_hide_the_error(stage, clip, monkeypatch):
    def fails(sink):
        raise OSError(errno.EIO, "while aborting")

    def refuses(sink, frame):
        raise SinkError("the first error")

    monkeypatch.setattr(segments.SegmentSink, "abort", fails)
    monkeypatch.setattr(segments.SegmentSink, "write", refuses)
    with pytest.raises(SinkError, match="the first error"):
        stage.run(clip, output="out.mp4")


# ── folders ──────────────────────────────────────────────────────────────────────────────────────


def test_refused_run_leaves_no_folder(stage, picture, tmp_path):
    with pytest.raises(UsageError):
        stage.run(picture, output="new/deep", output_pattern="{stem}/../../x")
    assert not (tmp_path / "new").exists()


def test_run_that_fails_for_all_its_inputs_leaves_no_folder(stage, tmp_path):
    stage(Play(1, still()))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no picture")
    done = stage.run(tmp_path / "a.png", tmp_path / "b.png", output="new/deep")
    assert [file.status for file in done.files] == ["failed", "failed"]
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(DsgError):
        stage.run(tmp_path / "a.png", output="mine")
    assert (tmp_path / "mine").is_dir()
