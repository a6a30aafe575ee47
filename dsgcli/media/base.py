"""Where frames come from and go to: the two Protocols, and the facts that pass between them.

Imports neither Pillow nor PyAV. `read.py` chooses a `FrameSource` by the content of a file,
`write.py` a `FrameSink` by the name of the target.

Conventions
    time    exact, in seconds; 0 is the start of the file's presentation, or `start=` where one is
            given, so that a trimmed stream begins at 0 too; strictly increasing
    size    of the picture as it is meant to be seen: turned upright, with square pixels
    frames  as many as decode; what headers say is shown to people and never counted on
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from dsgcli.types import Frame

Kind = Literal["picture", "animation", "video", "memory"]
QUEUE_DEPTH = 8
"""Frames that wait for the encoder's thread: enough to smooth its bursts, 50 MB at 1080p."""


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream of a container, for people and for the sink that copies it."""

    index: int
    kind: str
    """"video", "audio", "subtitle", "attachment", "data", or "cover" (a picture on the sleeve)."""
    codec: str
    language: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorFacts:
    """How a video stores its colors; codes are those of ITU-T H.273, 2 means unspecified."""

    matrix: int
    """From RGB to YUV: 1 bt709, 5 and 6 bt601, 9 bt2020, 0 stored as RGB. Never 2: a video that
    does not specify it is taken as bt709 from 1280 px wide or above 576 px high, else as bt601."""
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False
    bits: int = 8
    guessed: bool = False
    """The matrix is a guess."""

    @property
    def hdr(self) -> bool:
        """PQ or HLG; frames come tone-mapped."""
        return self.transfer in (16, 18)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoData:
    """Metadata of a photograph, ready to be written into its drawing."""

    exif: bytes = b""
    """When, where and with what it was taken; without its orientation, which frames have had
    already, and without thumbnail and maker's notes."""
    xmp: bytes = b""
    """Adobe's XMP packet: title, rating, rights; without orientation and thumbnails."""
    iptc: bytes = b""
    """The Photoshop block of a JPEG that holds the IPTC fields: caption, credit, keywords."""


@dataclass(slots=True, kw_only=True)
class SourceInfo:
    """Facts about a source. `warnings` and `truncated` are complete after the last frame."""

    kind: Kind
    size_px: tuple[int, int]
    """Width and height of every frame."""
    path: Path | None = None
    rate: Fraction | None = None
    """Frames per second on average, as far as the header knows; None for a picture."""
    duration: Fraction | None = None
    """Seconds between `start` and `end`, as far as the header knows: for progress bars."""
    container: str = ""
    codec: str = ""
    time_base: Fraction | None = None
    """Seconds in a tick of the stream's clock; frame times are multiples of it."""
    origin: Fraction = Fraction(0)
    """The container's time, in seconds, that is time 0 of its presentation."""
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    """Seconds of the presentation that are read; `end` itself is not."""
    streams: tuple[StreamFacts, ...] = ()
    """All streams of the container."""
    color: ColorFacts | None = None
    has_alpha: bool = False
    interlaced: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    """Tags of a video's container, without those that describe the file."""
    photo: PhotoData = PhotoData()
    warnings: list[str] = field(default_factory=list)
    """Sentences for the user, without the file's name."""
    truncated: bool = False
    """The file ends before what its header promises."""

    @property
    def expected_frames(self) -> int | None:
        """About how many frames to expect; None if the header does not know."""
        if self.kind == "picture":
            return 1
        if self.rate is None or self.duration is None:
            return None
        return max(1, round(self.duration * self.rate))

    def warn(self, text: str) -> None:
        """Note a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """How to write; every default is what a person would want."""

    codec: str | None = None
    """Video codec (h264, hevc, vp9, av1, prores, ffv1, or any encoder's name); by the container if
    None: H.264, VP9 in WebM."""
    crf: float | None = None
    """Quality of the codec's constant-quality mode, lower is better; 17 for H.264 if None."""
    preset: str | None = None
    """The encoder's trade of speed for size."""
    pix_fmt: str | None = None
    """Pixel format; yuv420p if the codec has it, which plays everywhere."""
    codec_options: Mapping[str, str] = field(default_factory=dict)
    """Anything else that the encoder knows."""
    audio: Literal["copy", "none"] = "copy"
    """Keep the sound (re-encoded only where the container cannot hold it), or not."""
    alpha: bool = False
    """Write `Frame.alpha` too, in a container and codec that can."""
    quality: int | None = None
    """1 to 100, of JPEG and WebP; 100 is lossless in WebP."""
    loop: int = 0
    """How often a GIF or WebP plays; 0 is forever."""
    location: bool = True
    """Keep where a photograph or a video was taken (GPS)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Written into the file beside the source's own; `read_metadata` finds it."""
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A kind of video file that can be written; encoders by FFmpeg's names."""

    format: str
    """FFmpeg's name of the muxer."""
    codec: str = "libx264"
    alpha_codec: str | None = None
    """Video encoders without and with transparency; None if it can have none."""
    audio: str = "aac"
    subtitles: str = "mov_text"
    """Encoders for sound and text that cannot be copied."""
    metadata_key: str = "comment"
    """Tag for `SinkOptions.metadata`: Matroska takes any key; MP4 has a closed list of them, so
    there it is the last line of the comment."""


CONTAINERS = {
    ".mp4": Container(format="mp4"),
    ".m4v": Container(format="mp4"),
    ".mov": Container(format="mov", alpha_codec="prores_ks"),
    ".mkv": Container(
        format="matroska", alpha_codec="libvpx-vp9", subtitles="subrip", metadata_key="DSG"
    ),
    ".webm": Container(
        format="webm",
        codec="libvpx-vp9",
        alpha_codec="libvpx-vp9",
        audio="libopus",
        subtitles="webvtt",
        metadata_key="DSG",
    ),
}
VIDEO_SUFFIXES = tuple(CONTAINERS)
NUMBER = re.compile(r"%(0?\d?)d")
"""The place of the frame's number in a name (`frame_%05d.png`), as `printf` and FFmpeg write it."""


def numbered(name: str, number: int) -> str:
    """A name with this number at its place."""
    return NUMBER.sub(lambda place: format(number, f"{place[1]}d"), name, count=1)


# ── sources ──────────────────────────────────────────────────────────────────────────────────────


@runtime_checkable
class FrameSource(Protocol):
    """Frames in the order of time, each once. Iterating again starts again.

    A source streams: its memory does not grow with the length of the video. It closes at the end of
    a `with` block.
    """

    info: SourceInfo

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Let go of what is open; nothing by default."""
        return  # a body, so that a source may leave it out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class HeldFrames(FrameSource):
    """Frames in memory: a picture, or what a test wants."""

    def __init__(self, frames: Sequence[Frame], info: SourceInfo | None = None) -> None:
        assert frames, "a source has at least one frame"
        self._frames = list(frames)
        if info is None:
            first, last, gaps = frames[0], frames[-1], len(frames) - 1
            info = SourceInfo(
                kind="memory" if gaps else "picture",
                size_px=first.size_px,
                has_alpha=first.alpha is not None,
            )
            if gaps:
                span = last.time - first.time
                info.rate = gaps / span if span > 0 else None
                info.duration = span + (last.duration or span / gaps)
        self.info = info

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def close(self) -> None:
        self._frames = []


def trimmed(
    frames: Iterator[Frame], start: Fraction, end: Fraction | None, skip: int
) -> Iterator[Frame]:
    """Frames of `start` <= time < `end`, with time 0 at `start` and index 0 at the first, less the
    first `skip`."""

    def chosen() -> Iterator[Frame]:
        index = 0
        for frame in frames:
            if end is not None and frame.time >= end:
                return
            if frame.time >= start:
                yield replace(frame, time=frame.time - start, index=index)
                index += 1

    return islice(chosen(), skip, None)


# ── sinks ────────────────────────────────────────────────────────────────────────────────────────


@runtime_checkable
class FrameSink(Protocol):
    """Takes frames in the order of time.

    A sink writes beside its target under a temporary name. `close` puts it in place, `abort` leaves
    nothing; a `with` block closes it, or aborts it if it ends with an error. Nothing is opened
    before the first frame comes, except to check that it can be written at all.
    """

    path: Path
    notes: list[str]
    """Sentences for the user: what was re-encoded, left out, padded."""
    num_frames: int
    """Frames written so far."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            abort_quietly(self)


def abort_quietly(sink: FrameSink) -> None:
    """Abort after an error; what goes wrong in that (the disk is still full) is not raised over
    the error."""
    with suppress(Exception):
        sink.abort()


class ThreadedSink(FrameSink):
    """Another sink, working in a thread of its own, at most `depth` frames behind.

    What goes wrong there is raised by the next `write`, or by `close`.
    """

    def __init__(self, sink: FrameSink, depth: int = QUEUE_DEPTH) -> None:
        self.path, self.notes, self.num_frames = sink.path, sink.notes, 0
        self._sink = sink
        self._queue: Queue[Frame | None] = Queue(depth)
        self._stop = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name=f"write {sink.path.name}", daemon=True)
        self._thread.start()

    def write(self, frame: Frame) -> None:
        self._put(frame)
        self.num_frames += 1

    def close(self) -> None:
        self._put(None)
        self._thread.join()
        self._raise()

    def abort(self) -> None:
        self._stop.set()
        self._thread.join()
        self._sink.abort()

    def _put(self, frame: Frame | None) -> None:
        while True:
            self._raise()
            try:
                return self._queue.put(frame, timeout=0.5)
            except Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            abort_quietly(self)
            raise self._error

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    frame = self._queue.get(timeout=0.1)
                except Empty:
                    continue
                if frame is None:
                    return self._sink.close()
                self._sink.write(frame)
        except BaseException as error:  # handed to the thread that writes
            self._error = error
