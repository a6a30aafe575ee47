"""The flags of `dsg stylize` are the fields of StylizeOptions: same names, same defaults."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command import dsg

from dsgcli.cli.options import LookFlags, Machine
from dsgcli.cli.stylize import _parts, options_of, seconds, style_and_exemplar
from dsgcli.cli.stylize_options import Faces, FileFlags, Paste, Spread, Video
from dsgcli.errors import DsgError, UsageError
from dsgcli.media.base import SinkOptions
from dsgcli.media.images import write_image
from dsgcli.media.video_reader import VideoSource
from dsgcli.media.write import open_sink
from dsgcli.stylize import flow
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.paste import Paster
from dsgcli.stylize.summary import FileResult, Summary
from dsgcli.training.drawn import draw_portrait
from dsgcli.types import Frame

GROUPS = (FileFlags, LookFlags, Faces, Paste, Video, Machine, Spread)
NOT_OPTIONS = {"input", "output", "no_smooth"}
"""Flags that are arguments of their own, or another way to write one."""


def flags():
    return {f.name: f for group in GROUPS for f in fields(group)}


def default(field):
    return field.default if field.default_factory is MISSING else field.default_factory()


def options(**changed):
    """StylizeOptions as the command makes them, with some flags given."""
    groups = []
    for group in GROUPS:
        mine = {f.name: changed.pop(f.name) for f in fields(group) if f.name in changed}
        groups.append(group(**mine))
    assert not changed
    return options_of(*groups)


def test_flags_are_the_fields_of_the_options():
    assert set(flags()) - NOT_OPTIONS == {f.name for f in fields(StylizeOptions)}


def test_nothing_given_is_the_library_default():
    assert options() == StylizeOptions()


@pytest.mark.parametrize("name", [f.name for f in fields(StylizeOptions)])
def test_defaults_shown_in_help_are_those_of_the_library(name):
    shown, real = default(flags()[name]), getattr(StylizeOptions(), name)
    real = str(real) if name == "workers" else real  # auto, or a number
    assert (tuple(shown) if isinstance(shown, list) else shown) == (real if real != () else None)


def test_values_of_more_than_one_word_are_read():
    made = options(
        weights="0.5, 1 1",
        start="1:02.5",
        codec_option=["tune=film"],
        style=["a:1", "b"],
        face_style=["0=a:3"],
        no_smooth=True,
    )
    assert made.weights == (0.5, 1.0, 1.0)
    assert made.start == Fraction(125, 2)
    assert made.codec_option == ("tune=film",)
    assert made.style == ("a:1", "b")
    assert made.face_style == ("0=a:3",)
    assert made.smooth == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("75", 75), ("1:15", 75), ("0:01:15.5", Fraction(151, 2)), (".5", Fraction(1, 2))],
)
def test_times_are_exact(text, expected):
    assert seconds("--start", text) == expected


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-3", "1:-2", "", "1/0"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="--end"):
        seconds("--end", text)


def test_an_exemplar_is_a_number_or_name_of_every_style():
    assert style_and_exemplar(["a", "b"], "12") == (("a:12", "b:12"), None)


def test_an_exemplar_that_is_a_file_is_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("me.jpg").touch()
    assert style_and_exemplar(["a"], "me.jpg") == (("a",), Path("me.jpg"))


def test_a_path_that_is_not_there_is_told_as_a_picture_not_as_a_name():
    assert style_and_exemplar(["a"], "pictures/me.jpg") == (("a",), Path("pictures/me.jpg"))


def test_options_that_contradict_each_other_are_refused_before_any_work():
    with pytest.raises(DsgError, match="end"):
        options(start="10", end="5")


# ── in the command ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("only_tiny_store")
def test_one_file_cannot_take_two_outputs(tmp_path):
    """Not a folder called toon.mp4 either."""
    write_image(tmp_path / "a.png", draw_portrait(3, 256))
    result = dsg("stylize", "a.png", "--style", "toon", "--style", "ink", "-o", "toon.png")
    assert result.exit_code == 2
    assert "several outputs" in result.stderr
    assert not (tmp_path / "toon.png").exists()


@pytest.mark.usefixtures("only_tiny_store")
def test_a_folder_with_a_bad_file_does_the_others_and_is_5(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for seed in (1, 2):
        write_image(folder / f"{seed}.png", draw_portrait(seed, 256))
    (folder / "text.jpg").write_text("no picture")
    result = dsg("stylize", folder, "-o", "out", "--style", "toon", "--aligned", "yes", "--json")
    assert result.exit_code == result.json["exit_code"] == 5
    states = {Path(f["source"]).name: f["status"] for f in result.json["files"]}
    assert states == {"1.png": "done", "2.png": "done", "text.jpg": "failed"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "1_toon-ada.png",
        "2_toon-ada.png",
    ]


@pytest.mark.usefixtures("only_tiny_store")
def test_a_picture_without_a_face_is_3_and_leaves_nothing(tmp_path):
    write_image(tmp_path / "grey.png", np.full((256, 256, 3), 128, np.uint8))
    result = dsg("stylize", "grey.png", "-o", "out.png", "--style", "toon")
    assert result.exit_code == 3
    assert "--aligned yes" in result.stderr
    assert not (tmp_path / "out.png").exists()


@pytest.mark.usefixtures("only_tiny_store")
def test_the_summary_names_the_output_unless_quiet(tmp_path):
    write_image(tmp_path / "a.png", draw_portrait(3, 256))
    loud = dsg("stylize", "a.png", "-o", "b.png", "--style", "toon", "--aligned", "yes")
    assert loud.exit_code == 0
    assert "b.png" in loud.stdout
    quiet = dsg("stylize", "a.png", "-o", "c.png", "-q", "--style", "toon", "--aligned", "yes")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (tmp_path / "c.png").exists()


@pytest.mark.usefixtures("only_tiny_store")
def test_ctrl_c_ends_the_threads_before_their_source_is_closed(tmp_path, monkeypatch):
    """A decoder that is closed under a thread which reads from it brings the process down."""
    clip = tmp_path / "clip.mp4"
    times = [Fraction(i, 10) for i in range(40)]
    with open_sink(clip, SinkOptions(codec="mpeg4"), None) as sink:
        for i, time in enumerate(times):
            sink.write(Frame(pixels=draw_portrait(3, 128), index=i, time=time))
    alive_at_close, pasted = [], []
    close, paste = VideoSource.close, Paster.paste

    def watched_close(self):
        alive_at_close.append([t.name for t in threading.enumerate() if "prefetch" in t.name])
        close(self)

    def interrupted_paste(*arguments):
        pasted.append(1)
        if len(pasted) == 3:
            raise KeyboardInterrupt
        return paste(*arguments)

    monkeypatch.setattr(VideoSource, "close", watched_close)
    monkeypatch.setattr(Paster, "paste", interrupted_paste)
    result = dsg("stylize", clip, "-o", "out.mp4", "--style", "toon", "--aligned", "yes")
    assert result.exit_code == 130
    assert "same command" in result.stderr
    assert alive_at_close
    assert not any(alive_at_close)
    assert not (tmp_path / "out.mp4").exists()


@pytest.fixture
def hung_clip(tmp_path, only_tiny_store, monkeypatch):
    """A clip of whose frames the sixth is never cut out: that step hangs until the test is over."""
    over, cut = threading.Event(), flow.crop_whole

    def hanging_cut(frame, size_px):
        if frame.index == 5:
            over.wait()
        return cut(frame, size_px)

    monkeypatch.setattr(flow, "crop_whole", hanging_cut)
    path = tmp_path / "clip.mp4"
    with open_sink(path, SinkOptions(codec="mpeg4"), None) as sink:
        for i in range(12):
            sink.write(Frame(pixels=draw_portrait(3, 128), index=i, time=Fraction(i, 10)))
    yield path
    over.set()


def test_a_run_that_hangs_ends_with_a_sentence(hung_clip, monkeypatch):
    monkeypatch.setattr("dsgcli.runtime.STALL_S", 0.5)
    result = dsg("stylize", hung_clip, "-o", "out.mp4", "--style", "toon", "--aligned", "yes", "-v")
    assert result.exit_code == 1
    assert "the run hangs" in result.stderr
    assert "in hanging_cut" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_ends_a_run_that_hangs(hung_clip):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressed = threading.Timer(2.0, _thread.interrupt_main)
    pressed.start()
    try:
        result = dsg("stylize", hung_clip, "-o", "out.mp4", "--style", "toon", "--aligned", "yes")
    finally:
        pressed.cancel()
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert "same command" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_many_short_runs_beside_a_busy_machine_all_end(tmp_path, tiny_store):
    """The threads of OpenBLAS waited for each other in 7 of 102 such runs."""
    path = tmp_path / "clip.mp4"
    with open_sink(path, SinkOptions(codec="mpeg4"), None) as sink:
        for i in range(24):
            sink.write(Frame(pixels=draw_portrait(3, 128), index=i, time=Fraction(i, 10)))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    words = ["stylize", str(path), "--style", "toon", "--overwrite", "-o", str(tmp_path / "o.mp4")]
    words += ["--pretrained", str(tiny_store), "--aligned", "yes", "--no-resume"]
    command = [sys.executable, "-m", "dsgcli", *words]
    try:
        for _ in range(20):
            ran = subprocess.run(command, env=environment, timeout=600, capture_output=True)
            assert ran.returncode == 0, ran.stderr
    finally:
        for process in busy:
            process.kill()
            process.wait()


# ── the summary ──────────────────────────────────────────────────────────────────────────────────


def summary_of(**count):
    """So many files of each status."""
    files = [
        FileResult(
            source=Path(f"{status}-{number:03}.jpg"),
            status=status,
            error=f"{status}-{number:03}.jpg is broken" if status == "failed" else None,
            notes=["the sound was re-encoded"] if status == "done" else [],
        )
        for status, several in count.items()
        for number in range(several)
    ]
    return Summary(files=files, seconds=2.0)


def test_a_summary_fits_a_screen_and_shows_failures_first():
    table, text = _parts(summary_of(done=300, skipped=50, failed=9))
    assert len(table.rows) + 3 + len(text.splitlines()) <= 24
    assert [row[1] for row in table.rows] == ["failed"] * 9
    assert "359 files (350 more than shown): 9 failed, 300 done, 50 skipped" in text
    assert "... and 6 more like these; --json has all" in text


def test_a_summary_of_few_files_keeps_their_order_and_says_nothing_twice():
    table, text = _parts(summary_of(done=2, failed=1))
    assert [row[1] for row in table.rows] == ["done", "done", "failed"]
    assert "3 files: 1 failed, 2 done" in text
    assert "more" not in text


def test_failures_that_were_seen_are_not_said_again():
    summary = summary_of(done=1, failed=2)
    assert "failed-000.jpg is broken" in _parts(summary)[1]
    table, text = _parts(summary, told=True)
    assert "is broken" not in text
    assert [row[1] for row in table.rows].count("failed") == 2


def test_whoever_named_no_style_is_told_which_it_was_and_where_others_are():
    summary = summary_of(done=1)
    summary.styles = ("noir-ada",)
    last = _parts(summary, chosen=False)[0].splitlines()[-1]
    assert last == "drawn in noir-ada; `dsg styles list` has others for --style"
    assert "styles list" not in _parts(summary)[0]


def test_one_picture_is_one_line():
    done = FileResult(source=Path("me.jpg"), outputs=[Path("me_noir-3.jpg")], frames=1, faces=1)
    summary = Summary(files=[done], seconds=2.0, styles=("noir:3",), stages={"draw": 1.0})
    assert _parts(summary) == ["Wrote me_noir-3.jpg (1 face, noir:3)"]
    assert "draw 1.0 s" in _parts(summary, verbose=True)[0]
    done.frames, done.seconds = 240, 10.0
    assert _parts(summary) == ["Wrote me_noir-3.jpg (240 frames, 24.0 a second, noir:3)"]


@pytest.mark.parametrize(
    ("count", "hint"),
    [({"skipped": 1}, "1"), ({"skipped": 2, "done": 1}, "2")],
)
def test_what_was_skipped_is_told_with_the_flag_that_draws_it_again(count, hint):
    assert f"{hint} already done; --overwrite draws again." in _parts(summary_of(**count))[1]
    assert "--overwrite" not in _parts(summary_of(done=1))[0]


def test_workers_are_a_number_or_auto():
    assert [options(workers=text).workers for text in ("auto", "3")] == ["auto", 3]
    for text in ("0", "-1", "two", "1.5", ""):
        with pytest.raises(UsageError, match=r"--workers takes auto or a number from 1"):
            options(workers=text)


def test_a_cluster_that_is_not_there_is_a_sentence(only_tiny_store, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("dsgcli.workers.cluster.CONNECT_S", 0.3)
    write_image(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    words = ["a.png", "-s", "toon", "--mask", "feather", "--cluster", "tcp://127.0.0.1:9"]
    result = dsg("stylize", *words, "--json")
    assert result.exit_code == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in str(result.json)
