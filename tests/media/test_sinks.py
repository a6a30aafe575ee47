"""One suite for every kind of sink, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media.clips import COUNT, HEIGHT, WIDTH, drawn, frames, names, number_of, see_through

from dsgcli.errors import OutputExistsError, SinkError, UsageError
from dsgcli.media.base import FrameSink, HeldFrames, SinkOptions, ThreadedSink
from dsgcli.media.images import read_image
from dsgcli.media.read import open_source, read_metadata
from dsgcli.media.segments import join_segments, open_segment
from dsgcli.media.write import open_sink
from dsgcli.types import Frame

VIDEOS = ["a.mp4", "a.m4v", "a.mov", "a.mkv", "a.webm"]
ANIMATIONS = ["a.gif", "a.webp"]
MOVING = [*VIDEOS, *ANIMATIONS, "folder"]
STILLS = ["a.png", "a.jpg"]
FAST = {"a.webm": {"codec_options": {"cpu-used": "8"}}}


def settings(name, **more):
    return SinkOptions(**(FAST.get(name, {}) | more))


def write(path, pictures, **more):
    with open_sink(path, settings(path.name, **more), HeldFrames(pictures).info) as sink:
        for frame in pictures:
            sink.write(frame)
    return sink


def read(path):
    """The frames that a sink wrote."""
    if not path.is_dir():
        with open_source(path) as source:
            return list(source)
    listed = json.loads((path / "frames.json").read_text())["frames"]
    return [
        Frame(
            pixels=read_image(path / entry["file"]).pixels,
            alpha=read_image(path / entry["file"]).alpha,
            time=Fraction(entry["time_s"]),
            duration=entry["duration_s"] and Fraction(entry["duration_s"]),
        )
        for entry in listed
    ]


# ── what holds for every sink ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_sink_writes_every_frame_once_and_in_order(tmp_path, name):
    pictures = frames()[: 1 if name in STILLS else COUNT]
    sink = write(tmp_path / name, pictures)
    assert isinstance(sink, FrameSink) and sink.num_frames == len(pictures)
    assert [number_of(frame.pixels) for frame in read(tmp_path / name)] == list(
        range(len(pictures))
    )
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", MOVING)
def test_sink_keeps_the_times(tmp_path, name):
    """A variable rate, in centiseconds because GIF knows no finer time."""
    times = [Fraction(t, 100) for t in (0, 4, 9, 20, 23, 40, 46, 50, 56, 60, 64, 100)]
    pictures = frames(times)
    write(tmp_path / name, pictures)
    assert [frame.time for frame in read(tmp_path / name)] == times


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_aborted_sink_leaves_nothing(tmp_path, name):
    with pytest.raises(ZeroDivisionError), open_sink(tmp_path / name, settings(name)) as sink:
        for frame in frames()[: 1 if name in STILLS else COUNT]:
            sink.write(frame)
        _ = 1 / 0
    assert names(tmp_path) == []
    sink.abort()


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_aborted_sink_keeps_the_old_file(tmp_path, name):
    pictures = frames()[:1]
    write(tmp_path / name, pictures)
    before = [frame.pixels for frame in read(tmp_path / name)]
    sink = open_sink(tmp_path / name, settings(name, overwrite=True))
    sink.write(frames()[5])
    sink.abort()
    np.testing.assert_array_equal(before, [frame.pixels for frame in read(tmp_path / name)])
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_nothing_appears_before_the_end(tmp_path, name):
    sink = open_sink(tmp_path / name, settings(name))
    sink.write(frames()[0])
    assert name not in names(tmp_path)
    sink.close()
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_sink_without_frames_is_an_error(tmp_path, name):
    with pytest.raises(SinkError, match="no frame"):
        open_sink(tmp_path / name, settings(name)).close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [*VIDEOS, *ANIMATIONS, *STILLS])
def test_existing_output_is_refused_or_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExistsError):
        open_sink(tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    write(tmp_path / name, frames()[:1], overwrite=True)
    assert len(read(tmp_path / name)) == 1


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_missing_folders_are_made(tmp_path, name):
    write(tmp_path / "new" / "folders" / name, frames()[:1])
    assert names(tmp_path / "new" / "folders") == [name]


@pytest.mark.parametrize("name", [*VIDEOS, *ANIMATIONS, *STILLS])
def test_impossible_folder_is_an_error(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match="folder"):
        open_sink(tmp_path / "file" / name)


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_metadata_reads_back(tmp_path, name):
    said = {"hash": "0123", "settings": "structure=0.75 “ä” " + "x" * 400}
    write(tmp_path / name, frames()[:1], metadata=said)
    path = tmp_path / name / "000000.png" if name == "folder" else tmp_path / name
    assert read_metadata(path) == said


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.png"])
def test_metadata_of_strangers_is_none_of_ours(tmp_path, name):
    write(tmp_path / name, frames()[:1])
    assert read_metadata(tmp_path / name) == {}


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.gif", "a.webp", "folder"])
def test_odd_sizes_are_written(tmp_path, name):
    odd = [Frame(pixels=drawn(i, 63, 47), time=Fraction(i, 25)) for i in range(3)]
    sink = write(tmp_path / name, odd)
    found = read(tmp_path / name)
    assert [number_of(frame.pixels) for frame in found] == [0, 1, 2]
    if name in VIDEOS:
        assert found[0].size_px == (64, 48) and "63x47 becomes 64x48" in sink.notes[0]
    else:
        assert found[0].size_px == (63, 47) and sink.notes == []


# ── alpha ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "a.webm", "a.gif", "a.webp", "folder", "a.png"])
def test_alpha_is_written_where_asked_for(tmp_path, name):
    pictures = frames(alpha=True)[: 1 if name == "a.png" else 4]
    write(tmp_path / name, pictures, alpha=True)
    for number, frame in enumerate(read(tmp_path / name)):
        expected = see_through(number)
        if name == "a.gif":
            expected = np.where(expected >= 128, 255, 0)
        assert frame.alpha is not None
        assert np.abs(frame.alpha.astype(int) - expected).mean() < 3
        solid = expected == 255
        error = np.abs(frame.pixels.astype(int) - drawn(number))[solid].mean()
        assert error < 8


@pytest.mark.parametrize("name", [*MOVING, *STILLS])
def test_alpha_is_left_out_otherwise(tmp_path, name):
    write(tmp_path / name, frames(alpha=True)[:1])
    assert all(frame.alpha is None for frame in read(tmp_path / name))


def test_frames_without_alpha_are_opaque_among_others(tmp_path):
    mixed = [frames(alpha=True)[0], frames()[1]]
    write(tmp_path / "a.mov", mixed, alpha=True)
    assert read(tmp_path / "a.mov")[1].alpha.min() == 255


def test_mp4_refuses_alpha(tmp_path):
    with pytest.raises(SinkError, match="no transparency"):
        open_sink(tmp_path / "a.mp4", SinkOptions(alpha=True))
    with pytest.raises(SinkError, match="no transparency"):
        open_sink(tmp_path / "a.mov", SinkOptions(alpha=True, codec="h264"))


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.txt", "a.avi", "a.mp3", "a.tiff"])
def test_unknown_kinds_are_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(SinkError, match=r"\.mp4.*\.gif"):
        open_sink(tmp_path / name)


def test_picture_holds_one_frame(tmp_path):
    sink = open_sink(tmp_path / "a.png")
    sink.write(frames()[0])
    with pytest.raises(SinkError, match="holds one picture"):
        sink.write(frames()[1])


def test_webp_is_a_picture_for_pictures_and_an_animation_for_videos(tmp_path):
    write(tmp_path / "still.webp", frames()[:1])
    write(tmp_path / "moving.webp", frames()[:3])
    assert open_source(tmp_path / "still.webp").info.kind == "picture"
    assert open_source(tmp_path / "moving.webp").info.kind == "animation"


def test_folder_of_other_files_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(SinkError, match="other files"):
        open_sink(tmp_path / "mine", SinkOptions(overwrite=True))
    assert names(tmp_path / "mine") == ["thesis.txt"]


def test_folder_of_frames_is_replaced_when_told_to(tmp_path):
    write(tmp_path / "out", frames())
    with pytest.raises(OutputExistsError):
        open_sink(tmp_path / "out")
    write(tmp_path / "out", frames()[:2], overwrite=True)
    assert names(tmp_path / "out") == ["000000.png", "000001.png", "frames.json"]


def test_gif_says_that_fast_ones_are_slowed_down(tmp_path):
    sink = write(tmp_path / "a.gif", frames([Fraction(i, 100) for i in range(5)]))
    assert "slower" in sink.notes[0]


@pytest.mark.parametrize(("loop", "said"), [(0, 0), (1, None), (3, 2)])
def test_gif_loops_as_told(tmp_path, loop, said):
    from PIL import Image

    write(tmp_path / "a.gif", frames()[:3], loop=loop)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info.get("loop") == said  # GIF counts the repetitions


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*MOVING, "a.png"])
def test_full_disk_is_an_error_and_leaves_nothing(tmp_path, name):
    """A limit on the size of files stands for the disk."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    noise = [
        Frame(pixels=rng.integers(0, 256, (240, 320, 3), dtype=np.uint8), time=Fraction(i, 25))
        for i in range(1 if name == "a.png" else 8)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SinkError, match="cannot be written"):
            write(tmp_path / name, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


class HeldSink(FrameSink):
    """Keeps frames in memory."""

    def __init__(self) -> None:
        self.path, self.notes, self.num_frames = Path("memory"), [], 0
        self.frames: list[Frame] = []
        self.closed = False

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.num_frames += 1

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.frames, self.num_frames = [], 0


class BrokenSink(HeldSink):
    def write(self, frame: Frame) -> None:
        if self.num_frames == 2:
            raise SinkError("the disk is on fire")
        super().write(frame)


def test_error_in_the_thread_reaches_the_writer():
    sink = ThreadedSink(BrokenSink(), depth=2)
    with pytest.raises(SinkError, match="on fire"):
        for frame in frames() * 50:
            sink.write(frame)


def test_error_in_the_thread_reaches_close():
    sink = ThreadedSink(BrokenSink(), depth=64)
    for frame in frames()[:3]:
        sink.write(frame)
    with pytest.raises(SinkError, match="on fire"):
        sink.close()
    sink.abort()


def test_threaded_sink_holds_a_bounded_number_of_frames():
    import threading

    gate = threading.Event()

    class SlowSink(HeldSink):
        def write(self, frame: Frame) -> None:
            gate.wait(10)
            super().write(frame)

    sink = ThreadedSink(SlowSink(), depth=3)
    put = []
    writer = threading.Thread(target=lambda: [put.append(sink.write(f)) for f in frames()])
    writer.start()
    writer.join(0.3)
    assert len(put) <= 5, "three in the queue, one in the sink, one being put"
    gate.set()
    writer.join(10)
    sink.close()
    assert len(put) == sink.num_frames == COUNT


# ── segments ─────────────────────────────────────────────────────────────────────────────────────

CODECS = [
    ("a.mp4", {}),
    ("a.mp4", {"codec": "hevc", "preset": "ultrafast"}),
    ("a.mkv", {"codec": "ffv1"}),
    ("a.webm", {"alpha": True, "codec_options": {"cpu-used": "8"}}),
    ("a.mov", {"alpha": True}),
    ("a.gif", {}),
    ("a.gif", {"alpha": True}),
    ("a.webp", {"quality": 100}),
    ("folder", {}),
]
UNEVEN = [Fraction(t, 100) for t in (0, 4, 9, 20, 23, 40, 46, 50, 56, 60, 64, 100)]


def in_segments(folder, target, pictures, options, cuts):
    paths = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(pictures)], strict=True)):
        paths.append(folder / f"{number:04d}.seg")
        with open_segment(paths[-1], target, options, None) as sink:
            for frame in pictures[begin:end]:
                sink.write(frame)
    return paths


@pytest.mark.parametrize(("name", "more"), CODECS)
def test_joined_segments_are_the_whole_film(tmp_path, name, more):
    options = SinkOptions(**more)
    pictures = frames(UNEVEN, alpha=bool(more.get("alpha")))
    parts = in_segments(tmp_path / "parts", tmp_path / name, pictures, options, [5, 6])
    join_segments(parts, tmp_path / name, options, None)
    found = read(tmp_path / name)
    assert [frame.time for frame in found] == UNEVEN
    assert [number_of(frame.pixels) for frame in found] == list(range(COUNT))
    if more.get("alpha"):
        assert all(frame.alpha is not None for frame in found)
    assert names(tmp_path) == [name, "parts"]


@pytest.mark.parametrize(("name", "more"), CODECS)
def test_interrupted_run_gives_the_same_film_bit_for_bit(tmp_path, name, more):
    options = SinkOptions(**more)
    pictures = frames(alpha=bool(more.get("alpha")))
    straight = in_segments(tmp_path / "one", tmp_path / name, pictures, options, [4, 8])
    resumed = in_segments(tmp_path / "two", tmp_path / name, pictures[:8], options, [4])
    killed = open_segment(tmp_path / "two" / "0002.seg", tmp_path / name, options, None)
    killed.write(pictures[8])  # and the power goes
    killed.abort()
    again = tmp_path / "two" / "0002.seg"
    with open_segment(again, tmp_path / name, options, None) as sink:
        for frame in pictures[8:]:
            sink.write(frame)
    for folder, parts in (("x", straight), ("y", [*resumed, again])):
        join_segments(parts, tmp_path / folder / name, options, None)
    if name == "folder":
        assert names(tmp_path / "x" / name) == names(tmp_path / "y" / name)
        pairs = [(p, tmp_path / "y" / name / p.name) for p in (tmp_path / "x" / name).iterdir()]
    else:
        pairs = [(tmp_path / "x" / name, tmp_path / "y" / name)]
    for one, two in pairs:
        assert same_but_for_random_ids(one) == same_but_for_random_ids(two)


def same_but_for_random_ids(path: Path) -> bytes | list[bytes]:
    """Matroska gives every file and track a random number: compare its packets."""
    if path.suffix not in (".mkv", ".webm"):
        return path.read_bytes()
    import av

    with av.open(str(path)) as container:
        return [repr(p).split(" at ")[0].encode() + bytes(p) for p in container.demux(video=0)]


def test_incomplete_and_foreign_segments_are_refused(tmp_path):
    from dsgcli.media.segments import segment_frames

    options = SinkOptions()
    good = in_segments(tmp_path, tmp_path / "a.mp4", frames(), options, [6])
    assert [segment_frames(path) for path in good] == [6, 6]
    assert segment_frames(tmp_path / "none.seg") is None
    (tmp_path / "cut.seg").write_bytes(good[0].read_bytes()[:-20])
    (tmp_path / "text.seg").write_text("hello, I am no segment")
    for name in ("cut.seg", "text.seg", "none.seg"):
        assert segment_frames(tmp_path / name) is None
        with pytest.raises(SinkError, match=name):
            join_segments([good[0], tmp_path / name], tmp_path / "a.mp4", options, None)
    other = in_segments(tmp_path / "b", tmp_path / "a.mp4", frames(), SinkOptions(crf=30), [])
    with pytest.raises(SinkError, match="other settings"):
        join_segments([good[0], *other], tmp_path / "a.mp4", options, None)
    assert not (tmp_path / "a.mp4").exists()


def test_frames_of_another_size_in_a_later_segment_are_refused(tmp_path):
    options = SinkOptions()
    parts = in_segments(tmp_path, tmp_path / "a.mp4", frames()[:2], options, [])
    wider = [Frame(pixels=drawn(3, WIDTH + 16, HEIGHT), time=Fraction(3))]
    parts += in_segments(tmp_path / "b", tmp_path / "a.mp4", wider, options, [])
    with pytest.raises(SinkError, match="other settings"):
        join_segments(parts, tmp_path / "a.mp4", options, None)


def test_segment_of_an_impossible_target_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no video encoder"):
        open_segment(tmp_path / "s", tmp_path / "a.mp4", SinkOptions(codec="x266"), None)
