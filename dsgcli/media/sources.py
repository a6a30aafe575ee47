"""Where frames come from: path -> FrameSource -> Frame, Frame, ...

A source is decided by the content of its file, never by the name, and streams: its memory does not
grow with the length of the video. Iterating again starts again.

Conventions
    time    exact, in seconds; 0 is the start of the file's presentation, or `start=` where one is
            given, so that a trimmed stream begins at 0 too; strictly increasing
    size    of the picture as it is meant to be seen: turned upright, with square pixels
    frames  as many as decode; what headers say is shown to people and never counted on
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from dsgcli.errors import UsageError
from dsgcli.media import images
from dsgcli.types import Frame

Kind = Literal["picture", "animation", "video", "memory"]
DecoderName = Literal["cpu", "nvdec"]
"""What decodes a video; nvdec is the decoder of an NVIDIA GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream of a container, for people and for the sink that copies it."""

    index: int
    kind: str
    """"video", "audio", "subtitle", "attachment", "data"."""
    codec: str
    language: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorFacts:
    """How a video stores its colors; codes are those of ITU-T H.273, 2 is "not said"."""

    matrix: int
    """Of RGB to YUV: 1 bt709, 5 and 6 bt601, 9 bt2020, 0 stored as RGB. Never 2: a video that does
    not say is taken as bt709 from 1280 px wide or above 576 px high, else as bt601."""
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


@dataclass(slots=True, kw_only=True)
class SourceInfo:
    """What is known of a source. `warnings` and `truncated` are complete after the last frame."""

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
    """Seconds a tick of the stream's clock; frame times are multiples of it."""
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
    warnings: list[str] = field(default_factory=list)
    """Sentences for the user, without the file's name."""
    truncated: bool = False
    """The file ends before what its header promises."""
    decoder: DecoderName = "cpu"
    """What decodes it, which may be another one than was asked for."""

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


@runtime_checkable
class FrameSource(Protocol):
    """Frames in the order of time, each once."""

    @property
    def info(self) -> SourceInfo: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ContextManaged:
    """Closes at the end of a `with` block."""

    def close(self) -> None:
        """Let go of what is open; nothing by default."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class HeldFrames(ContextManaged):
    """Frames that lie in memory: a picture, or what a test wants."""

    def __init__(self, frames: Sequence[Frame], info: SourceInfo | None = None) -> None:
        assert frames, "a source has at least one frame"
        self._frames = list(frames)
        self._info = info or _describe(frames)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def close(self) -> None:
        self._frames = []


def open_source(
    path: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    skip: int = 0,
    decoder: DecoderName = "cpu",
) -> FrameSource:
    """Open a picture, an animation (GIF, WebP, PNG) or a video.

    Args:
        start: seconds; frames before it are left out, and it becomes time 0.
        end: seconds from the beginning of the file; frames from it on are left out.
        skip: frames to leave out after that, without changing the time and index of the others: a
            resumed run goes on where it stopped.
        decoder: of videos; what it cannot decode, the CPU decodes, and a warning says so.

    Raises:
        SourceMissingError: it does not exist, or is a folder.
        SourceError: it is neither, is damaged beyond use, or has no frames there.
        UsageError: `end` is not after `start`, or one of them is negative.
    """
    _check_trim(start, end)
    match images.identify(path):
        case "picture":
            return _picture(path)
        case "animation":
            from dsgcli.media.animations import AnimationSource

            return AnimationSource(path, start=start, end=end, skip=skip)
        case _:
            from dsgcli.media.video_source import VideoSource

            return VideoSource(path, start=start, end=end, skip=skip, decoder=decoder)


def preview_frames(
    path: Path, count: int, *, start: Fraction | None = None, end: Fraction | None = None
) -> list[Frame]:
    """About `count` frames, evenly spread over what `open_source` would yield; fewer if it has
    fewer. Videos are not read in between. Raises as `open_source`."""
    with open_source(path, start=start, end=end) as source:
        if source.info.kind == "video":
            from dsgcli.media.video_source import sample_video

            return sample_video(path, source.info, count)
        total = source.info.expected_frames or 1
        wanted = {(2 * i + 1) * total // (2 * count) for i in range(count)}
        return [frame for i, frame in enumerate(source) if i in wanted]


def read_metadata(path: Path) -> dict[str, str]:
    """What `write_image` or a sink was given as `metadata`; empty if nothing of ours is there.

    Raises:
        SourceMissingError, SourceError: as `open_source`.
    """
    if images.identify(path) is not None:
        texts: list[str | bytes] = [images.read_own_text(path)]
    else:
        from dsgcli.media.video_sink import read_own_texts

        texts = list(read_own_texts(path))
    for text in texts:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {str(key): str(value) for key, value in found.items()}
    return {}


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


def _check_trim(start: Fraction | None, end: Fraction | None) -> None:
    if (start is not None and start < 0) or (end is not None and end <= (start or 0)):
        raise UsageError(
            f"--start {_seconds(start)} --end {_seconds(end)} leaves nothing; "
            f"the end must be after the start, both in seconds from the beginning"
        )


def _seconds(time: Fraction | None) -> str:
    return "(not given)" if time is None else f"{float(time):g}"


def _picture(path: Path) -> HeldFrames:
    with images.open_picture(path) as image:
        frame = images.load_frame(image, path)
        info = SourceInfo(
            kind="picture",
            path=path,
            size_px=frame.size_px,
            container=(image.format or "").lower(),
            codec=(image.format or "").lower(),
            has_alpha=frame.alpha is not None,
        )
        count = images.num_frames(image)
        if count > 1 and image.format == "TIFF":
            info.warn(f"it has {count} pages; the first is used")
    return HeldFrames([frame], info)


def _describe(frames: Sequence[Frame]) -> SourceInfo:
    """Facts of frames in memory."""
    info = SourceInfo(
        kind="memory" if len(frames) > 1 else "picture",
        size_px=frames[0].size_px,
        has_alpha=frames[0].alpha is not None,
    )
    if len(frames) > 1:
        span = frames[-1].time - frames[0].time
        info.rate = (len(frames) - 1) / span if span > 0 else None
        info.duration = span + (frames[-1].duration or span / (len(frames) - 1))
    return info
