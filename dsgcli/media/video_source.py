"""Videos in: path -> SourceInfo and frames, streaming (PyAV).

Data flow of one pass, each step holding a bounded number of pictures:

    decode -> timestamps made usable -> deinterlace -> trim -> RGB, upright -> Frame
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
from av.filter import Graph
from av.stream import Disposition
from av.video.frame import VideoFrame

from dsgcli.errors import SourceError
from dsgcli.media.sources import ContextManaged, DecoderName, SourceInfo, StreamFacts
from dsgcli.media.times import Timeline
from dsgcli.media.video_color import FrameReader, color_facts, display_size, has_alpha, orientation
from dsgcli.media.video_decode import Decoder, has_nvdec, planar, stamp_of
from dsgcli.types import Frame

USUAL_RATE = Fraction(25)
"""Frames per second where a stream does not say."""
MAX_JITTER = Fraction(1, 5)
"""Largest difference of a step between two frames from whole frames that still counts as even."""
MAX_STEPS = 64
"""Different steps between frames; a video with more has no even rate."""
MIN_EVEN_STEPS = 2
"""Even steps for each gap, so that the gap is an exception."""
TRUNCATION_SLACK_FRAMES = 3
"""A video that ends this many frames before the end its header gives is called truncated; writers
round, and count the last frame differently."""
SEEK_MARGIN_S = Fraction(1)
"""How long before a stretch decoding begins: deinterlacing looks at the frame before, and a key
frame may be shown later than its place in the file says."""
OWN_DATA = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate"),
}
"""Metadata that describe a file, not the work in it."""


class Picture(NamedTuple):
    """A decoded picture with its time, in seconds of the presentation."""

    stored: VideoFrame
    time: Fraction
    duration: Fraction | None


class VideoSource(ContextManaged):
    """The frames of a video file. See `open_source` for the arguments."""

    def __init__(
        self,
        path: Path,
        *,
        start: Fraction | None,
        end: Fraction | None,
        skip: int,
        decoder: DecoderName = "cpu",
    ) -> None:
        self._path, self._skip, self._by = path, skip, decoder
        self.irregular = False
        """Whether frames read so far were damaged, or had no usable timestamps."""
        self._open: list[Decoder] = []
        opened = self._decoder()
        try:
            first = next(opened.frames(), None)
            if first is None:
                raise SourceError(f"{path} has a video stream without a single frame in it")
            self._turn = orientation(first)
            self._info = _describe(path, opened, first)
            self._square, self._info.size_px = display_size(first, opened.aspect, self._turn)
            self._promised = _promised_end(opened)
            self._note_decoder(opened.decoder_of(first))
        finally:
            opened.close()
        self._trim(start, end)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        return islice(self._frames(), self._skip, None)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def frames_from(self, time: Fraction) -> Iterator[Frame]:
        """Frames from a time (seconds after `start`) on; quick, by seeking."""
        for index, picture in enumerate(self._pictures(self._info.start + time)):
            yield self._frame(picture, index, self._reader())

    def stretch(self, begin: Fraction, end: Fraction | None) -> Generator[Frame]:
        """Frames of `begin` <= time < `end` (seconds after `start`), with the times that iterating
        gives them, numbered from 0; quick, by seeking to well before. `irregular` says afterwards
        whether they can be relied on."""
        reader = self._reader()
        for index, picture in enumerate(self._pictures(self._info.start + begin, SEEK_MARGIN_S)):
            frame = self._frame(picture, index, reader)
            if end is not None and frame.time >= end:
                return
            yield frame

    def _trim(self, start: Fraction | None, end: Fraction | None) -> None:
        info, whole = self._info, self._info.duration
        info.start, info.end = start or Fraction(0), end
        if whole is not None and info.start >= whole + 1:
            raise SourceError(
                f"{self._path} lasts {float(whole):.2f} s; nothing is left after --start "
                f"{float(info.start):g}"
            )
        if whole is not None:
            info.duration = min(end or whole, whole) - info.start
        elif end is not None:
            info.duration = end - info.start

    def _note_decoder(self, used: DecoderName) -> None:
        """What NVDEC cannot decode is decoded as if nobody had asked for it."""
        if used != self._by:
            why = f"cannot decode this {self._info.codec}" if has_nvdec() else "is not here"
            self._info.warn(f"NVDEC {why}, so the CPU decodes it")
        self._by = self._info.decoder = used

    def _decoder(self) -> Decoder:
        decoder = Decoder(self._path, self._by)
        self._open.append(decoder)
        return decoder

    def _reader(self) -> FrameReader:
        assert self._info.color is not None
        return FrameReader(
            self._info.color, self._square, self._turn, with_alpha=self._info.has_alpha
        )

    def _frames(self) -> Iterator[Frame]:
        """All frames between start and end; those to skip are left unconverted."""
        reader = self._reader()
        empty = Frame.__new__(Frame)
        for index, picture in enumerate(self._pictures(self._info.start)):
            yield self._frame(picture, index, reader) if index >= self._skip else empty

    def _frame(self, picture: Picture, index: int, reader: FrameReader) -> Frame:
        pixels, alpha = reader(picture.stored)
        return Frame(
            pixels=pixels,
            alpha=alpha,
            index=index,
            time=picture.time - self._info.start,
            duration=picture.duration,
        )

    def _pictures(self, begin: Fraction, margin: Fraction = Fraction(0)) -> Iterator[Picture]:
        """Pictures of `begin` <= time < end, with the time of the presentation.

        Args:
            margin: seconds before `begin` that are decoded too, so that what pictures depend on is
                there.
        """
        decoder = self._decoder()
        try:
            sought = max(begin - margin, Fraction(0))
            if sought > 0 and not (
                decoder.seek(self._info.origin + sought) and self._reached(sought)
            ):
                decoder.close()
                decoder = self._decoder()
            first = last = None
            count, holes = 0, _Holes()
            for picture in self._timed(decoder):
                if self._info.end is not None and picture.time >= self._info.end:
                    return
                if last is not None:
                    holes.look(last.time, picture.time)
                first, last, count = first or picture, picture, count + 1
                if picture.time >= begin:
                    yield picture
            if first is not None and last is not None and not decoder.closed:
                spacing = (last.time - first.time) / (count - 1) if count > 1 else Fraction(0)
                self._conclude(decoder, last, spacing)
                if hole := holes.described():
                    self._info.warn(hole)
        finally:
            self.irregular |= bool(decoder.damage.packets or decoder.damage.frames)
            decoder.close()
            if decoder in self._open:
                self._open.remove(decoder)

    def _reached(self, begin: Fraction) -> bool:
        """Whether seeking lands at or before a time: broken indexes lead past it."""
        probe = Decoder(self._path, self._by)
        try:
            if not probe.seek(self._info.origin + begin):
                return False
            first = next(probe.frames(), None)
            stamp = None if first is None else stamp_of(first, probe.time_base)
            return stamp is not None and stamp - self._info.origin <= begin
        finally:
            probe.close()

    def _timed(self, decoder: Decoder) -> Iterator[Picture]:
        timeline = Timeline[VideoFrame](
            origin=self._info.origin, nominal=1 / (self._info.rate or USUAL_RATE)
        )
        deinterlacer = _Deinterlacer()

        def settled() -> Iterator[Picture]:
            for stored in decoder.frames():
                for item, time in timeline.push(stored, stamp_of(stored, decoder.time_base)):
                    yield Picture(item, time, (item.duration * decoder.time_base) or None)
            for item, time in timeline.flush():
                yield Picture(item, time, None)

        for picture in settled():
            self.irregular |= bool(timeline.repaired or timeline.jumps)
            yield from deinterlacer.push(picture)
        yield from deinterlacer.flush()
        if timeline.repaired:
            self._info.warn(
                f"{timeline.repaired} frames had no usable timestamp; they are spaced evenly"
            )
        if timeline.jumps:
            self._info.warn(f"its clock starts over {timeline.jumps} times; the parts are joined")

    def _conclude(self, decoder: Decoder, last: Picture, spacing: Fraction) -> None:
        """At the end of the file: say what was damaged, and whether it ended too soon.

        `spacing` is the seconds between frames as they came; what headers say may be nonsense.
        """
        damage = decoder.damage
        if damage.packets:
            self._info.warn(f"{damage.packets} damaged pieces could not be decoded")
        if damage.frames:
            self._info.warn(f"{damage.frames} frames are damaged and shown as they decode")
        nominal = max(spacing, 1 / (self._info.rate or USUAL_RATE))
        reached = self._info.origin + last.time + (last.duration or nominal)
        promised = reached if self._promised is None else self._promised
        short = promised - reached >= TRUNCATION_SLACK_FRAMES * nominal
        if short or damage.cut:
            self._info.truncated = True
            told = f", where its header promises {float(promised):.2f} s" if short else ""
            self._info.warn(f"it ends at {float(reached):.2f} s{told}: the file is cut off")


class _Holes:
    """Watches for frames that are missing in the middle of a video whose frames come evenly.

    A file that lost a piece may decode without an error: the frames of that piece are just not
    there. Videos whose frames come unevenly have gaps by nature, and nothing is said of those.
    """

    def __init__(self) -> None:
        self._counts: Counter[Fraction] = Counter()
        self._first: dict[Fraction, tuple[Fraction, Fraction]] = {}

    def look(self, before: Fraction, after: Fraction) -> None:
        """Take the times of two frames in a row, in seconds."""
        step = after - before
        if step in self._first or len(self._first) < MAX_STEPS:
            self._counts[step] += 1
            self._first.setdefault(step, (before, after))

    def described(self) -> str:
        """A sentence about the missing frames; empty if there are none."""
        usual = next((step for step, _ in self._counts.most_common(1) if step > 0), None)
        if usual is None or len(self._first) == MAX_STEPS:
            return ""
        even, gaps = 0, dict[Fraction, int]()
        for step, times in self._counts.items():
            frames = round(step / usual)
            if abs(step / usual - frames) > MAX_JITTER or frames < 1:
                return ""
            even += times if frames == 1 else 0
            gaps |= {step: times * (frames - 1)} if frames > 1 else {}
        places = sum(self._counts[step] for step in gaps)
        if not gaps or places * MIN_EVEN_STEPS > even:
            return ""
        before, after = min(self._first[step] for step in gaps)
        others = "" if places == 1 else f", and at {places - 1} more places"
        return (
            f"{sum(gaps.values())} frames are missing, from {float(before):.2f} to "
            f"{float(after):.2f} s{others}: the file may have lost a piece"
        )


class _Deinterlacer:
    """Passes pictures through until the first interlaced one; from then on, through bwdif.

    One picture comes out for each that goes in. Progressive ones stay as they are.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._shape: tuple[object, ...] = ()
        self._count = 0
        self._inside: deque[Picture] = deque()

    def push(self, picture: Picture) -> Iterator[Picture]:
        frame = picture.stored
        if self._graph is None and not frame.interlaced_frame:
            yield picture
            return
        frame = planar(frame)
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or shape != self._shape:
            yield from self.flush()
            self._graph, self._shape = _bwdif(frame), shape
        self._inside.append(picture)
        self._count += 1  # the filter wants stamps that rise; those of the stream may not
        frame.pts, frame.time_base = self._count, Fraction(1, 1000)
        self._graph.vpush(frame)
        yield from self._ready()

    def flush(self) -> Iterator[Picture]:
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()
        self._graph = None

    def _ready(self) -> Iterator[Picture]:
        while self._graph is not None:
            try:
                filtered = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield self._inside.popleft()._replace(stored=filtered)


def _bwdif(frame: VideoFrame) -> Graph:
    graph = Graph()
    nodes = [
        graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
            f":time_base=1/1000:pixel_aspect=1/1"
            f":colorspace={frame.colorspace}:range={frame.color_range}",
        ),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes)
    graph.configure()
    return graph


def sample_video(path: Path, info: SourceInfo, count: int) -> list[Frame]:
    """`count` frames spread over a video, by seeking; all frames are read if it says no length."""
    source = VideoSource(path, start=info.start, end=info.end, skip=0)
    with source:
        if info.duration is None:
            held = list(islice(source, 0, None, max(1, count)))
            return held[:: max(1, len(held) // count)][:count]
        lasts = 1 / (info.rate or USUAL_RATE)  # what begins up to so long before is on the screen
        times = [info.duration * (2 * i + 1) / (2 * count) - lasts for i in range(count)]
        found = [next(source.frames_from(max(time, Fraction(0))), None) for time in times]
    unique = {frame.time: frame for frame in found if frame is not None}
    return [unique[time] for time in sorted(unique)]


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


def _describe(path: Path, decoder: Decoder, first: VideoFrame) -> SourceInfo:
    container, stream = decoder.container, decoder.stream
    info = SourceInfo(
        kind="video",
        path=path,
        size_px=(0, 0),
        rate=decoder.rate,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        time_base=decoder.time_base,
        origin=_origin(decoder, first),
        streams=tuple(_stream_facts(s) for s in container.streams),
        color=color_facts(first, stream.codec_context),
        has_alpha=has_alpha(first),
        interlaced=first.interlaced_frame,
        metadata={k: v for k, v in container.metadata.items() if k.lower() not in OWN_DATA},
    )
    promised = _promised_end(decoder)
    if promised is None and container.duration:
        promised = Fraction(container.duration, av.time_base) + info.origin
    info.duration = None if promised is None else max(promised - info.origin, Fraction(0))
    if len([s for s in info.streams if s.kind == "video"]) > 1:
        info.warn(f"it has several video streams; number {stream.index} is used")
    if info.color is not None and info.color.hdr:
        info.warn("it is HDR; its colors are mapped to the standard range")
    return info


def _stream_facts(stream: av.stream.Stream) -> StreamFacts:
    context = stream.codec_context
    cover = bool(stream.disposition & Disposition.attached_pic)
    return StreamFacts(
        index=stream.index,
        kind="cover" if cover else stream.type,
        codec=context.codec.canonical_name
        if context
        else (getattr(stream, "name", None) or "unknown"),
        language=stream.metadata.get("language"),
        title=stream.metadata.get("title"),
    )


def _origin(decoder: Decoder, first: VideoFrame) -> Fraction:
    """The container time that a player shows as 0: the earliest start of picture and sound.

    Sound that starts below 0 is the encoder's priming, which players cut off.
    """
    picture = stamp_of(first, decoder.time_base) or Fraction(0)
    sound = [
        max(stream.start_time * stream.time_base, Fraction(0))
        for stream in decoder.container.streams.audio
        if stream.start_time is not None and stream.time_base
    ]
    return min([picture, *sound])


def _promised_end(decoder: Decoder) -> Fraction | None:
    """Where the stream ends by its header, in container time; None if that says nothing of this
    stream alone, or was estimated from the packets (MPEG streams have no header)."""
    stream, container = decoder.stream, decoder.container
    if container.format.name.startswith(("mpegts", "mpeg", "mpegvideo")):
        return None
    begin = (stream.start_time or 0) * decoder.time_base
    if stream.duration:
        return begin + stream.duration * decoder.time_base
    tag = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        alone = len(container.streams) == 1 and container.duration
        return Fraction(container.duration or 0, av.time_base) + begin if alone else None
