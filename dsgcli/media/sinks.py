"""Where frames go: Frame, Frame, ... -> FrameSink -> a file or a folder.

What is written is decided by the name of the target:

    .mp4 .m4v .mov .mkv .webm   a video; sound, subtitles and the rest come from the source
    .gif .webp                  an animation (a .webp is a picture if the source is one)
    .png .jpg .jpeg             one picture
    a folder, or no suffix      pictures 000000.png, ... and frames.json with their times

A sink writes beside its target under a temporary name. `close` puts it in place, `abort` leaves
nothing; as a context manager it aborts on any error. Nothing is opened before the first frame
comes, except to check that it can be written at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from dsgcli.errors import OutputExistsError, SinkError
from dsgcli.media import images
from dsgcli.media.files import Beside, check_output, make_folder, sink_error
from dsgcli.media.sources import SourceInfo
from dsgcli.types import Frame

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
TIMES_NAME = "frames.json"
QUEUE_DEPTH = 8
"""Frames that wait for the encoder's thread: enough to smooth its bursts, 50 MB at 1080p."""


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
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Written into the file beside the source's own; `read_metadata` finds it."""
    overwrite: bool = False


@runtime_checkable
class FrameSink(Protocol):
    """Takes frames in the order of time."""

    @property
    def path(self) -> Path: ...

    @property
    def notes(self) -> list[str]:
        """Sentences for the user: what was re-encoded, left out, padded."""

    @property
    def num_frames(self) -> int:
        """Frames written so far."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Sink:
    """Closes at the end of a `with` block; aborts if it ends with an error."""

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

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


def abort_quietly(sink: FrameSink | Sink) -> None:
    """Abort after an error; what goes wrong in that (the disk is still full) is not raised over
    the error."""
    with suppress(Exception):
        sink.abort()


def open_sink(
    path: Path, options: SinkOptions | None = None, source: SourceInfo | None = None
) -> FrameSink:
    """Open a target for frames.

    Args:
        source: what the frames come from: clock, color tags, and for a video all that is copied.

    Raises:
        OutputExistsError: it exists and `options.overwrite` is False.
        SinkError: no such kind of output, or its folder cannot be written.
        UsageError: options that the codec does not know.
    """
    options = options or SinkOptions()
    suffix = path.suffix.lower()
    if not suffix or path.is_dir():
        return FolderSink(path, options)
    if suffix in VIDEO_SUFFIXES:
        from dsgcli.media.video_sink import VideoSink

        check_output(path, overwrite=options.overwrite)
        return ThreadedSink(VideoSink(path, options, source))
    if suffix == ".gif":
        from dsgcli.media.video_gif import GifSink

        check_output(path, overwrite=options.overwrite)
        return ThreadedSink(GifSink(path, options))
    if suffix == ".webp" and not (source and source.kind == "picture"):
        from dsgcli.media.animations import WebPSink

        check_output(path, overwrite=options.overwrite)
        return ThreadedSink(WebPSink(path, options))
    if images.can_write(path):
        return PictureSink(path, options)
    raise SinkError(
        f"{path}: cannot write {suffix} files; choose one of {' '.join(VIDEO_SUFFIXES)} .gif .webp "
        f".png .jpg, or a folder"
    )


class HeldSink(Sink):
    """Frames kept in memory, for tests and previews."""

    def __init__(self) -> None:
        self.path, self.notes, self.num_frames = Path("memory"), list[str](), 0
        self.frames: list[Frame] = []
        self.closed = False

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.num_frames += 1

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.frames, self.num_frames = [], 0


class PictureSink(Sink):
    """One picture."""

    def __init__(self, path: Path, options: SinkOptions) -> None:
        check_output(path, overwrite=options.overwrite)
        self.path, self.notes, self.num_frames = path, list[str](), 0
        self._options = options
        self._frame: Frame | None = None

    def write(self, frame: Frame) -> None:
        """Take the frame.

        Raises:
            SinkError: it is the second.
        """
        if self._frame is not None:
            raise SinkError(
                f"{self.path} holds one picture, and there are more frames; "
                f"write a .mp4, a .gif or a folder"
            )
        self._frame = frame
        self.num_frames = 1

    def close(self) -> None:
        if self._frame is None:
            raise SinkError(f"{self.path}: there was no frame to write")
        images.write_image(
            self.path,
            self._frame.pixels,
            alpha=self._frame.alpha if self._options.alpha else None,
            quality=self._options.quality,
            metadata=self._options.metadata,
            overwrite=self._options.overwrite,
        )

    def abort(self) -> None:
        self._frame = None


class FolderSink(Sink):
    """A folder of PNG files, and a JSON file with the time of each."""

    def __init__(self, path: Path, options: SinkOptions) -> None:
        _check_folder(path, overwrite=options.overwrite)
        self.path, self.notes, self.num_frames = path, list[str](), 0
        self._options = options
        self._times: list[dict[str, str | None]] = []
        self._beside = Beside(path)

    def write(self, frame: Frame) -> None:
        if not self.num_frames:
            make_folder(self._beside.temporary)
        name = f"{self.num_frames:06d}.png"
        images.save(
            self._beside.temporary / name,
            frame.pixels,
            alpha=frame.alpha if self._options.alpha else None,
            metadata=self._options.metadata,
        )
        lasts = None if frame.duration is None else str(frame.duration)
        self._times.append({"file": name, "time_s": str(frame.time), "duration_s": lasts})
        self.num_frames += 1

    def close(self) -> None:
        if not self.num_frames:
            raise SinkError(f"{self.path}: there was no frame to write")
        text = json.dumps({"frames": self._times}, indent=1)
        try:
            (self._beside.temporary / TIMES_NAME).write_text(text, "utf-8")
        except OSError as error:
            self.abort()
            raise sink_error(self.path, error) from error
        self._beside.commit()

    def abort(self) -> None:
        self._beside.discard()


def _check_folder(path: Path, *, overwrite: bool) -> None:
    """A folder is only ever replaced if it holds nothing but what a `FolderSink` wrote."""
    make_folder(path.parent)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputExistsError(path)
    names = {entry.name for entry in path.iterdir()}
    if not names:
        return
    foreign = sorted(n for n in names if n != TIMES_NAME and not re.fullmatch(r"\d{6}\.png", n))
    if foreign:
        raise SinkError(f"{path} holds other files ({foreign[0]}); choose another folder")
    if not overwrite:
        raise OutputExistsError(path)


class ThreadedSink(Sink):
    """Another sink, working in a thread of its own, at most `depth` frames behind.

    What goes wrong there is raised by the next `write`, or by `close`.
    """

    def __init__(self, sink: FrameSink, depth: int = QUEUE_DEPTH) -> None:
        self._sink = sink
        self._queue: Queue[Frame | None] = Queue(depth)
        self._stop = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name=f"write {sink.path.name}", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        return self._sink.path

    @property
    def notes(self) -> list[str]:
        return self._sink.notes

    @property
    def num_frames(self) -> int:
        return self._sink.num_frames

    def write(self, frame: Frame) -> None:
        self._put(frame)

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
