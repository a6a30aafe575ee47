"""A video drawn in parts by several workers becomes the file that one run makes, to the bit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from stylize.staging import RED, Actor, Listener, Play, ScriptedDetector, same_clip, write_clip

from dsgcli.errors import InterruptedRunError, NoFaceError, SinkError
from dsgcli.media.video_reader import VideoSource
from dsgcli.portraits import Portraits
from dsgcli.stylize import crowd, tasks
from dsgcli.stylize.detection_log import TrackReplay
from dsgcli.workers.pieces import Here

COUNT = 30
"""Frames: seven segments of four, and a short one; ten parts at most."""
DICE = np.random.default_rng(5).normal(0, 1.2, (COUNT, 4))
UNEVEN = [Fraction(40 * i + 13 * (i % 3), 1000) for i in range(COUNT)]
GOP = {"codec_options": {"g": "5"}}
"""Key frames every few frames, so that the parts are found by seeking."""


def pair(index):
    """Two people who tremble; one is lost for a while, and a third one comes."""
    dx, dy, ex, ey = DICE[index]
    glow = 20 * (index % 2)
    people = [
        Actor(45 + dx, 60 + dy, color=(200 + glow, 90, 60)),
        Actor(115 + ex, 60 + ey, color=(60, 110, 200 + glow), seen=not 7 <= index < 12),
    ]
    return people if index < 20 else [*people, Actor(80, 25, 20, color=RED)]


def comes_and_goes(index):
    """Somebody who is not there where the segments begin."""
    return [Actor(60 + index, color=RED)] if index % 4 > 1 and index < 11 else []


class SomeHere(Here):
    """Three workers that are none: every piece is done here."""

    capacity = 3

    def warm_up(self, *_):
        return []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __str__(self):
        return "3 that are none"


class TimedDetector(ScriptedDetector):
    """Sees by the time of the frame, which is the same in every part."""

    start = Fraction(0)

    def detect(self, frame, *, hints=(), effort="search"):
        index = UNEVEN.index(frame.time + self.start)
        return super().detect(replace(frame, index=index), hints=hints, effort=effort)


class DriftingDetector(TimedDetector):
    """Whose faces depend on all faces before: each lies a little where it was expected."""

    def detect(self, frame, *, hints=(), effort="search"):
        faces = super().detect(frame, hints=hints, effort=effort)
        if len(hints) == 0:
            return faces
        moved = np.mean([hint.landmarks.mean(0) for hint in hints], axis=0) / 1000
        return [replace(face, landmarks=face.landmarks + moved) for face in faces]


@pytest.fixture
def film(stage, short_segments, tmp_path, monkeypatch):
    """`film(script)` writes a clip that the run's detector sees; `film.run` draws it in parts."""
    monkeypatch.setattr("dsgcli.stylize.dispatch.MIN_SPLIT_SEGMENTS", 1)
    monkeypatch.setattr("dsgcli.stylize.detection_log.LEAD_S", Fraction(1, 10))
    monkeypatch.setattr("dsgcli.stylize.flow.GRADE_REACH_S", 0.13)

    class Film:
        workers = 3

        def __call__(self, script, detector=TimedDetector, **options):
            tasks.open_once.cache_clear()
            play = stage(Play(COUNT, script, times=UNEVEN))
            see = lambda **_: detector(script)  # noqa: E731
            monkeypatch.setattr("dsgcli.stylize.studio.open_detector", see)
            return write_clip(tmp_path / "clip.mkv", play.frames, **(options or GOP))

        def run(self, clip, output, **options):
            """The same with workers that are none: every piece is done here."""

            with monkeypatch.context() as patch:
                patch.setattr("dsgcli.workers.processes.ProcessPool", lambda *_, **__: SomeHere())
                return stage.run(clip, output=output, workers=self.workers, **options)

        def alone(self, clip, output, **options):
            return stage.run(clip, output=output, **options)

    return Film()


@pytest.mark.parametrize("script", [pair, comes_and_goes])
def test_a_split_video_whose_style_keeps_the_crop_is_the_same_file(
    film, tmp_path, monkeypatch, script
):
    """Frames are graded by one frame of each scene, and portraits averaged over the last frames."""
    monkeypatch.setattr(Portraits, "keeps_content", True)
    clip = film(script)
    film.alone(clip, "a.mp4")
    film.run(clip, "s.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "s.mp4").read_bytes()


@pytest.mark.parametrize(
    ("script", "ending", "options"),
    [
        (pair, "mp4", {}),
        (pair, "mkv", {"codec": "ffv1", "smooth": 0.4, "batch_size": 3}),
        (pair, "mkv", {"on_missing": "hold", "face_style": ("1=ink",), "smooth": 0.0}),
        (pair, "mp4", {"faces": "largest", "style": ("toon", "ink")}),
        (pair, "mp4", {"aligned": "yes"}),
        (pair, "mp4", {"grade": True, "batch_size": 3}),
        (comes_and_goes, "mp4", {"grade": True, "smooth": 0.08}),
        (pair, "mp4", {"start": Fraction(1, 10), "end": Fraction(9, 10)}),
        (comes_and_goes, "mp4", {"crop": True}),
    ],
)
def test_a_split_video_is_the_same_file(film, tmp_path, monkeypatch, script, ending, options):
    clip = film(script)
    styles = options.get("style", ("toon",))
    alone, split = ("alone", "split") if len(styles) > 1 else (f"a.{ending}", f"s.{ending}")
    monkeypatch.setattr(TimedDetector, "start", options.get("start", Fraction(0)))
    one = film.alone(clip, alone, **options)
    many = film.run(clip, split, **options)
    assert (many.frames, many.files[0].faces) == (one.frames, one.files[0].faces)
    assert many.machine["workers"] == "3 that are none"
    made = [sorted((tmp_path / name).glob("*.*")) for name in (alone, split)]
    pairs = zip(*made, strict=True) if len(styles) > 1 else [(tmp_path / alone, tmp_path / split)]
    for one_file, other in pairs:
        same = one_file.read_bytes() == other.read_bytes()
        assert same or (one_file.suffix == ".mkv" and same_clip(one_file, other))
    assert not list(tmp_path.rglob(".*.dsg-parts"))


def test_auto_splits_a_long_video(film, monkeypatch):
    clip = film(pair)
    monkeypatch.setattr(crowd, "pick_crowd", lambda *_, **__: crowd.Crowd(2, 1))
    film.workers = "auto"
    assert film.run(clip, "auto.mp4").machine["workers"] == "3 that are none"


def test_what_was_seen_otherwise_is_looked_at_again(film, tmp_path, monkeypatch):
    """A detector whose answers depend on all of the past: nothing that workers saw can be used."""
    clip, followers = film(pair, DriftingDetector), []
    begin = TrackReplay.__init__
    monkeypatch.setattr(
        TrackReplay, "__init__", lambda self, *a: (followers.append(self), begin(self, *a))[1]
    )
    film.alone(clip, "alone.mp4")
    film.run(clip, "split.mp4")
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "split.mp4").read_bytes()
    assert followers[0].looked_again > 0


def test_parts_that_do_not_fit_together_are_drawn_by_one(film, tmp_path, monkeypatch):
    """As where seeking leads to other frames than reading does."""
    clip = film(pair)
    film.alone(clip, "alone.mp4")
    stretch = VideoSource.stretch

    def other_frames(source, begin, end):
        for frame in stretch(source, begin, end):
            yield frame if begin == 0 else replace(frame, pixels=255 - frame.pixels)

    monkeypatch.setattr(VideoSource, "stretch", other_frames)
    film.run(clip, "split.mp4")
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "split.mp4").read_bytes()


class Stopping(Listener):
    """Ctrl-C after so many frames."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def advance(self, steps=1, **figures):
        if figures:
            self.after -= steps
            if self.after <= 0:
                self.after = 10**9
                raise KeyboardInterrupt


@pytest.mark.parametrize(("first", "then"), [("run", "alone"), ("alone", "run"), ("run", "run")])
def test_an_interrupted_video_goes_on_with_however_many(film, tmp_path, first, then):
    clip = film(pair)
    film.alone(clip, "whole.mp4")
    with pytest.raises(InterruptedRunError, match=r"goes on from frame \d+$"):
        getattr(film, first)(clip, "out.mp4", progress=Stopping(14))
    went_on = getattr(film, then)(clip, "out.mp4")
    assert "went on from frame" in "\n".join(went_on.files[0].notes)
    assert went_on.frames == COUNT
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_nobody_in_a_split_video_is_told_as_ever(film, tmp_path):
    clip = film(lambda index: [])
    with pytest.raises(NoFaceError):
        film.run(clip, "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_a_full_disk_in_one_segment_is_that_videos_alone(film, stage, tmp_path, monkeypatch):
    """What is whole stays; the photograph beside it is drawn."""
    from dsgcli.media.segments import SegmentSink

    clip, write = film(pair), SegmentSink.write
    other = write_clip(tmp_path / "other.png", [Play(1, pair).frame(0)])

    def full(self, frame):
        if self.path.name.startswith("00004"):
            raise SinkError(f"{self.path} cannot be written: No space left on device")
        write(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentSink, "write", full)
        (tmp_path / "in").mkdir()
        clip, other = (
            clip.rename(tmp_path / "in" / "clip.mkv"),
            other.rename(tmp_path / "in" / "other.png"),
        )
        summary = film.run(tmp_path / "in", "out")
    assert [result.status for result in summary.files] == ["failed", "done"]
    assert "No space left" in (summary.files[0].error or "")
    again = film.run(tmp_path / "in", "out")
    assert "went on from frame" in again.files[0].notes[0]
