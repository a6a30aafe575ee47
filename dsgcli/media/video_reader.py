"""Videos in: path -> SourceInfo and frames, streaming (PyAV).

Data flow of one pass, each step holding a bounded number of pictures:

    packets -> decoded pictures (YUV, coded size, not turned; damage is counted, not fatal)
            -> timestamps made usable -> deinterlaced -> trimmed -> RGB, upright -> Frame
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

import av
from av.codec.context import ThreadType
from av.container.input import InputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dsgcli.errors import SourceError
from dsgcli.media.base import CONTAINERS, FrameSource, SourceInfo, StreamFacts
from dsgcli.media.color import FrameReader, color_facts, display_size, has_alpha, orientation
from dsgcli.media.files import check_input
from dsgcli.types import Frame

MAX_DAMAGED_IN_A_ROW = 250
"""Packets that may fail to decode one after the other: ten seconds at 25 frames a second. Scratches
and lost network packets are far shorter; what lasts longer is a file of which nothing good follows,
and a video that stands still for minutes helps no one."""

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these ignore the alpha that WebM keeps beside the picture."""

MAX_REORDER = 16
"""Frames by which decoding and showing may differ in order: the most that H.264 and H.265 allow."""
MAX_RATE = 1000
"""A rate in a header above this is a clock, not a frame rate."""
MAX_ASPECT = 8
"""Sample aspect ratios beyond this are nonsense in the header."""
TEXT_CODECS = ("ansi", "bintext", "xbin", "idf")
"""FFmpeg's formats for text files, which it shows as pictures of letters."""
PICTURE_BRANDS = ("heic", "heix", "hevc", "mif1", "msf1", "avif", "avis")

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

JUMP_S = Fraction(1)
"""A step back by more than this starts a new recording; by less, it is a faulty timestamp."""
MAX_WAITING = 16
"""Frames held back until a good timestamp says where they belong; after that they are spaced by the
nominal rate, so that memory stays bounded."""


# ── decoding ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Damage:
    """Errors while decoding."""

    packets: int = 0
    """Packets that did not decode; their frames are missing."""
    frames: int = 0
    """Frames that decoded with errors; they are shown as they are."""
    cut: bool = False
    """The file ends in the middle of a packet."""


def open_container(path: Path) -> InputContainer:
    """Open a video file for reading.

    Raises:
        SourceMissingError, SourceError: no file, or nothing that can be read as a video.
    """
    check_input(path)
    try:
        # an absolute path is never taken for a URL, and playlists cannot reach the network
        container = av.open(
            str(path.resolve()),
            "r",
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise SourceError(_cannot_open(path, error)) from error
    if container.metadata.get("major_brand") in PICTURE_BRANDS:
        container.close()
        raise SourceError(f"{path} is a HEIC picture, which is not read; convert it to JPEG or PNG")
    return container


def pick_video(container: InputContainer, path: Path) -> VideoStream:
    """The stream that a player would show.

    Raises:
        SourceError: there is none (only sound, or a cover picture), or no decoder for it.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = " and ".join(sorted({str(stream.type) for stream in container.streams}))
        raise SourceError(f"{path} holds no moving picture, only {kinds or 'an empty container'}")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if stream.codec_context and stream.codec_context.codec.canonical_name in TEXT_CODECS:
        raise SourceError(f"{path} is a text file, not a video")
    if stream.codec_context is None:
        raise SourceError(f"{path} is coded in a way that cannot be decoded; convert it to H.264")
    return stream


def stamp_of(frame: VideoFrame, time_base: Fraction) -> Fraction | None:
    """Presentation time in seconds, in the container's clock; None if the stream does not say."""
    pts = frame.pts if frame.pts is not None else frame.dts
    return None if pts is None else pts * time_base


def _in_display_order(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield the frames with their time stamps in rising order."""
    waiting: deque[VideoFrame] = deque()
    stamps: list[int] = []

    def released() -> VideoFrame:
        frame = waiting.popleft()
        if frame.pts is not None:
            frame.pts = heapq.heappop(stamps)
        return frame

    for frame in frames:
        # frames come in the order in which they are shown; only their stamps are mixed up
        waiting.append(frame)
        if frame.pts is not None:
            heapq.heappush(stamps, frame.pts)
        if len(waiting) > MAX_REORDER:
            yield released()
    while waiting:
        yield released()


class Decoder:
    """The decoded pictures of one pass over a video stream."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock, self.closed = Lock(), False
        self._failed_in_a_row = 0
        self.container = open_container(path)
        try:
            self.stream = pick_video(self.container, path)
        except SourceError:
            self.close()
            raise
        self.damage = Damage()
        self.leading = 0  # packets before the first key frame
        self.key_pts: int | None = None
        self.time_base = self.stream.time_base or Fraction(1, 1000)
        self.has_alpha = self.stream.metadata.get("alpha_mode") == "1"
        self._context = self.stream.codec_context
        by = ALPHA_DECODERS.get(self._context.codec.canonical_name)
        if self.has_alpha and by:
            self._context = av.CodecContext.create(by, "r")  # type: ignore[assignment]
        else:
            self._context.thread_type, self._context.thread_count = ThreadType.AUTO, 0

    def seek(self, time: Fraction) -> bool:
        """Go to a key frame at or before a container time; False if the file cannot seek."""
        try:
            self.container.seek(int(time / self.time_base), stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    @property
    def rate(self) -> Fraction | None:
        """Frames per second on average, if the stream says it in earnest."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate):
            if rate and 0 < rate <= MAX_RATE:
                return Fraction(rate)
        return None

    @property
    def aspect(self) -> Fraction | None:
        """Width over height of a pixel, if the stream says it in earnest."""
        aspect = self.stream.sample_aspect_ratio
        if not aspect or aspect <= 0 or not 1 / Fraction(MAX_ASPECT) <= aspect <= MAX_ASPECT:
            return None
        return Fraction(aspect)

    @property
    def decoded_aspect(self) -> Fraction | None:
        """Aspect of the pixels that are decoded now; recordings may change it."""
        return self._context.sample_aspect_ratio or None

    def frames(self) -> Iterator[VideoFrame]:
        """Decode to the end, or until closed; what cannot be decoded is counted in `damage`.

        Raises:
            SourceError: more than `MAX_DAMAGED_IN_A_ROW` packets in a row failed.
        """
        packets = self._packets()
        pictures = chain.from_iterable(iter(lambda: self._decode_next(packets), None))
        # AVI has no other stamps than the order in which pictures are decoded
        avi = self.container.format.name == "avi" and self._context.has_b_frames
        yield from _in_display_order(pictures) if avi else pictures

    def close(self) -> None:
        """Let go of the file; safe while another thread decodes."""
        with self._lock:
            self.closed = True
            self.container.close()

    def _decode_next(self, packets: Iterator[Packet[VideoStream]]) -> list[VideoFrame] | None:
        """The pictures of one packet; None at the end."""
        with self._lock:
            packet = None if self.closed else next(packets, None)
            if packet is None:
                return None
            try:
                pictures = self._context.decode(packet if packet.size else None)
            except av.EOFError:
                return None
            except av.FFmpegError as error:
                self._failed_in_a_row += 1
                self.damage.packets += 1
                if self._failed_in_a_row > MAX_DAMAGED_IN_A_ROW:
                    raise SourceError(
                        f"{self._path}: {MAX_DAMAGED_IN_A_ROW} packets in a row cannot be decoded; "
                        f"pass --end to stop before the damaged part"
                    ) from error
                return []
        if pictures:
            self._failed_in_a_row = 0
        self.damage.frames += sum(picture.is_corrupt for picture in pictures)
        return pictures

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Demux, one packet behind, so that a last one which is cut off is never decoded: behind
        its error a threaded decoder would lose the good frames that it still holds."""
        held: Packet[VideoStream] | None = None
        demuxed = self.container.demux(self.stream)
        while True:
            try:
                packet = next(demuxed, None)
            except av.FFmpegError:  # an error of the container ends the stream like a cut
                self.damage.packets += 1
                demuxed = iter(())
                flush: Packet[VideoStream] = Packet()  # type: ignore[assignment]
                flush.stream, packet = self.stream, flush
            if packet is None:
                break
            if self.key_pts is None and packet.is_keyframe:
                self.key_pts = packet.pts
            elif self.key_pts is None and packet.size:
                self.leading += 1
            if held is not None and (packet.size or not held.is_corrupt):
                yield held
            elif held is not None:
                self.damage.cut = True
            held = packet
        if held is not None:
            yield held  # without data: it flushes the decoder


def _cannot_open(path: Path, error: av.FFmpegError) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and isinstance(error, av.InvalidDataError):
        return (
            f"{path} was cut off before its index was written (no 'moov' atom), so nothing of it "
            f"can be read; copy it again, or repair it with a tool made for that"
        )
    if isinstance(error, av.InvalidDataError):
        return f"{path} is neither a picture nor a video that can be read"
    return f"{path} cannot be read: {error.strerror or error}"


# ── timestamps ───────────────────────────────────────────────────────────────────────────────────


Item = TypeVar("Item")


class Timeline(Generic[Item]):
    """Gives each item a time; items come out in the order in which they went in.

    Args:
        origin: the stamp that becomes time 0.
        nominal: seconds an item usually lasts.
    """

    def __init__(self, *, origin: Fraction, nominal: Fraction) -> None:
        self._shift = -origin
        self._nominal = nominal
        self._last: Fraction | None = None
        self._waiting: list[Item] = []
        self.repaired = 0
        """Items whose stamp was missing, repeated or stepped back."""
        self.jumps = 0
        """Times the stream started over."""

    def push(self, item: Item, stamp: Fraction | None) -> list[tuple[Item, Fraction]]:
        """Take an item with its stamp in seconds; return those whose time is settled."""
        time = self._place(stamp)
        if time is None:
            self._waiting.append(item)
            return self._space_nominally() if len(self._waiting) >= MAX_WAITING else []
        settled = self._spread(before=time) if self._waiting else []
        if self._last is not None and time <= self._last:  # no room before the first good stamp
            self._shift += self._last + self._nominal - time
            time = self._last + self._nominal
        self._last = time
        return [*settled, (item, time)]

    def flush(self) -> list[tuple[Item, Fraction]]:
        """The items that still wait, at the end of the stream."""
        return self._space_nominally()

    def _place(self, stamp: Fraction | None) -> Fraction | None:
        """The time of a stamp; None if the stamp is of no use."""
        if stamp is None:
            return None
        time = stamp + self._shift
        if self._last is None or time > self._last:
            return time
        if self._last - time <= JUMP_S:
            return None
        # a new recording: its first frame follows those that still wait, at the nominal rate
        self.jumps += 1
        resumed = self._last + self._nominal * (len(self._waiting) + 1)
        self._shift += resumed - time
        return resumed

    def _spread(self, before: Fraction) -> list[tuple[Item, Fraction]]:
        """Place the waiting items evenly between the last time and the next."""
        count = len(self._waiting)
        if self._last is None:
            step = before / count if before > 0 else self._nominal
            first = Fraction(0)
        else:
            step = (before - self._last) / (count + 1)
            first = self._last + step
        return self._release(first, step)

    def _space_nominally(self) -> list[tuple[Item, Fraction]]:
        first = Fraction(0) if self._last is None else self._last + self._nominal
        return self._release(first, self._nominal)

    def _release(self, first: Fraction, step: Fraction) -> list[tuple[Item, Fraction]]:
        placed = [(item, first + i * step) for i, item in enumerate(self._waiting)]
        self.repaired += len(placed)
        self._waiting = []
        if placed:
            self._last = placed[-1][1]
        return placed


# ── frames ───────────────────────────────────────────────────────────────────────────────────────


class Picture(NamedTuple):
    """A decoded picture with its time, in seconds of the presentation."""

    stored: VideoFrame
    time: Fraction
    duration: Fraction | None


class VideoSource(FrameSource):
    """The frames of a video file. See `open_source` for the arguments."""

    def __init__(
        self,
        path: Path,
        *,
        start: Fraction | None,
        end: Fraction | None,
        skip: int,
    ) -> None:
        self._path, self._skip = path, skip
        self.irregular = False
        """Whether frames read so far were damaged, or had no usable timestamps."""
        self._open: list[Decoder] = []
        opened = self._decoder()
        try:
            first = next(opened.frames(), None)
            if first is None:
                raise SourceError(f"{path} has a video stream without a single frame in it")
            self._turn = orientation(first)
            self.info = _describe(path, opened, first)
            self._square, self.info.size_px = display_size(first, opened.aspect, self._turn)
            self._stored_size, self._changed_size = (first.width, first.height), False
            self._promised = _promised_end(opened)
            if opened.leading and opened.key_pts is not None and (first.pts or 0) >= opened.key_pts:
                self.info.warn(
                    f"its start is missing: at least {opened.leading} frames before the first key "
                    f"frame cannot be decoded"
                )
        finally:
            opened.close()
        info, whole = self.info, self.info.duration
        info.start, info.end = start or Fraction(0), end
        if whole is not None and info.start >= whole + 1:
            raise SourceError(
                f"{path} lasts {float(whole):.2f} s; nothing is left after --start "
                f"{float(info.start):g}"
            )
        if whole is not None:
            info.duration = min(end or whole, whole) - info.start
        elif end is not None:
            info.duration = end - info.start

    def __iter__(self) -> Iterator[Frame]:
        reader = self._reader()
        for index, picture in enumerate(self._pictures(self.info.start)):
            if index >= self._skip:  # what is skipped is not converted
                yield self._frame(picture, index, reader)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def frames_from(self, time: Fraction) -> Iterator[Frame]:
        """Frames from a time (seconds after `start`) on; quick, by seeking."""
        for index, picture in enumerate(self._pictures(self.info.start + time)):
            yield self._frame(picture, index, self._reader())

    def stretch(self, begin: Fraction, end: Fraction | None) -> Generator[Frame]:
        """Frames of `begin` <= time < `end` (seconds after `start`), with the times that iterating
        gives them, numbered from 0; quick, by seeking to well before. `irregular` says afterwards
        whether they can be relied on."""
        reader = self._reader()
        for index, picture in enumerate(self._pictures(self.info.start + begin, SEEK_MARGIN_S)):
            frame = self._frame(picture, index, reader)
            if end is not None and frame.time >= end:
                return
            yield frame

    def _decoder(self) -> Decoder:
        decoder = Decoder(self._path)
        self._open.append(decoder)
        return decoder

    def _reader(self) -> FrameReader:
        assert self.info.color is not None
        return FrameReader(
            self.info.color, self._square, self._turn, with_alpha=self.info.has_alpha
        )

    def _frame(self, picture: Picture, index: int, reader: FrameReader) -> Frame:
        size = picture.stored.width, picture.stored.height
        if size != self._stored_size and not self._changed_size:  # `FrameReader` scales them
            self._changed_size = True
            self.info.warn(
                f"its picture changes from {self._stored_size[0]}x{self._stored_size[1]} to "
                f"{size[0]}x{size[1]} at {float(picture.time):.2f} s; what differs from the first "
                f"size is scaled to it"
            )
        pixels, alpha = reader(picture.stored)
        return Frame(
            pixels=pixels,
            alpha=alpha,
            index=index,
            time=picture.time - self.info.start,
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
            # the presentation's 0 is `origin` in the container; broken indexes lead past the goal,
            # and then everything is decoded from the start
            sought = max(begin - margin, Fraction(0))
            if sought > 0 and not (
                decoder.seek(self.info.origin + sought) and self._reached(sought)
            ):
                decoder.close()
                decoder = self._decoder()
            first = last = None
            count, holes, aspect = 0, _Holes(), None
            for picture in self._timed(decoder):
                if self.info.end is not None and picture.time >= self.info.end:
                    return
                if last is not None:
                    holes.look(last.time, picture.time)
                aspect = aspect if first else decoder.decoded_aspect
                first, last, count = first or picture, picture, count + 1
                if picture.time >= begin:
                    yield picture
                if decoder.decoded_aspect != aspect:
                    self.info.warn(
                        f"the shape of its pixels changes at about {float(picture.time):.2f} s; "
                        f"what follows is stretched like the first"
                    )
                    aspect = decoder.decoded_aspect
            if first is not None and last is not None and not decoder.closed:
                spacing = (last.time - first.time) / (count - 1) if count > 1 else Fraction(0)
                self._conclude(decoder, last, spacing)
                if hole := holes.described():
                    self.info.warn(hole)
        finally:
            self.irregular |= bool(decoder.damage.packets or decoder.damage.frames)
            decoder.close()
            if decoder in self._open:
                self._open.remove(decoder)

    def _reached(self, begin: Fraction) -> bool:
        """Whether seeking lands at or before a time: broken indexes lead past it."""
        probe = Decoder(self._path)
        try:
            if not probe.seek(self.info.origin + begin):
                return False
            first = next(probe.frames(), None)
            stamp = None if first is None else stamp_of(first, probe.time_base)
            return stamp is not None and stamp - self.info.origin <= begin
        finally:
            probe.close()

    def _timed(self, decoder: Decoder) -> Iterator[Picture]:
        timeline = Timeline[VideoFrame](
            origin=self.info.origin, nominal=1 / (self.info.rate or USUAL_RATE)
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
            self.info.warn(
                f"{timeline.repaired} frames had no usable timestamp; they are spaced evenly"
            )
        if timeline.jumps:
            self.info.warn(f"its clock starts over {timeline.jumps} times; the parts are joined")

    def _conclude(self, decoder: Decoder, last: Picture, spacing: Fraction) -> None:
        """At the end of the file: say what was damaged, and whether it ended too soon.

        `spacing` is the seconds between frames as they came; what headers say may be nonsense.
        """
        damage = decoder.damage
        if damage.packets:
            self.info.warn(f"{damage.packets} damaged pieces could not be decoded")
        if damage.frames:
            self.info.warn(f"{damage.frames} frames are damaged and shown as they decode")
        nominal = max(spacing, 1 / (self.info.rate or USUAL_RATE))
        reached = self.info.origin + last.time + (last.duration or nominal)
        # damage in the middle shortens nothing; only a missing end does
        promised = reached if self._promised is None else self._promised
        short = promised - reached >= TRUNCATION_SLACK_FRAMES * nominal
        if short or damage.cut:
            self.info.truncated = True
            told = f", where its header promises {float(promised):.2f} s" if short else ""
            self.info.warn(f"it ends at {float(reached):.2f} s{told}: the file is cut off")


class _Holes:
    """Watches for frames that are missing in the middle of a video whose frames come evenly.

    A file that lost a piece may decode without an error: the frames of that piece are just not
    there. Videos whose frames come unevenly have gaps by nature, without a note.
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
        # every step must be a whole number of the usual one; those of several frames are gaps
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
    streams = [
        StreamFacts(
            index=one.index,
            kind="cover" if one.disposition & Disposition.attached_pic else one.type,
            codec=one.codec_context.codec.canonical_name
            if one.codec_context
            else (getattr(one, "name", None) or "unknown"),
            language=one.metadata.get("language"),
            title=one.metadata.get("title"),
        )
        for one in container.streams
    ]
    info = SourceInfo(
        kind="video",
        path=path,
        size_px=(0, 0),
        rate=decoder.rate,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        time_base=decoder.time_base,
        origin=_origin(decoder, first),
        streams=tuple(streams),
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


def read_own_texts(path: Path) -> list[str]:
    """The tags of a video into which a sink writes its metadata. Raises as `open_source`."""
    keys = {kind.metadata_key.lower() for kind in CONTAINERS.values()}
    with open_container(path) as container:
        found = [text for key, text in container.metadata.items() if key.lower() in keys]
    return [text.rpartition("\n")[2] for text in found]
