"""Videos in parts, so that an interrupted run can go on: frames -> segments -> one video.

A segment holds the encoded packets of some frames, from a key frame on (the encoder starts again
with every segment), exactly as they left the encoder. `join_segments` writes them into the final
container one after the other, with the sound of the source: no frame is encoded twice, so a run
that was interrupted gives the same video, bit for bit, as one that was not, as long as both cut at
the same frames.

Segments are no playable files: containers round times or guess the order of decoding, and some lose
alpha. The format, all numbers little-endian:

    b"dsgseg01"  u32 length  JSON: {"spec": EncoderSpec, "alpha": bool, "extradata": hexadecimal}
    per packet:  u32 size  i64 pts  i64 duration  u8 key  u32 size of alpha  data  alpha
    b"end!" in place of a packet's size, then u32 delay  u64 number of frames

What GIF and WebP store depends on other frames, so for those (and folders of pictures) a segment
holds lossless FFV1, which is decoded and written at the end.
"""

from __future__ import annotations

import heapq
import json
import struct
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import av
from av.packet import Packet, PacketSideData, packet_sidedata_type_from_literal
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from dsgcli.errors import SinkError
from dsgcli.media.base import (
    CONTAINERS,
    ColorFacts,
    FrameSink,
    SinkOptions,
    SourceInfo,
    ThreadedSink,
    abort_quietly,
)
from dsgcli.media.color import FrameReader
from dsgcli.media.files import AtomicFile, check_output
from dsgcli.media.remux import CannotCopyError
from dsgcli.media.video_writer import (
    EncoderSpec,
    FrameEncoder,
    Muxer,
    choose_encoder,
    make_spec,
    open_encoder,
    writing,
)
from dsgcli.media.write import open_sink
from dsgcli.types import Frame

MAGIC = b"dsgseg01"
_END = 0x21646E65
"""b"end!" as a packet size; no packet has 560 MB."""
_PACKET = struct.Struct("<IqqBI")
_TAIL = struct.Struct("<IIQ")
MAX_DELAY = 64
"""Frames that an encoder may show later than it stores them; those here need at most 16."""
_ALPHA: Literal["matroska_block_additional"] = "matroska_block_additional"
LOSSLESS = "ffv1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHead:
    """Header of a segment, before its packets."""

    spec: EncoderSpec
    alpha: bool
    extradata: bytes
    """Extra data that a decoder needs before the first packet."""

    def as_bytes(self) -> bytes:
        fields = {"spec": self.spec.as_json(), "alpha": self.alpha}
        text = json.dumps(fields | {"extradata": self.extradata.hex()}).encode()
        return MAGIC + struct.pack("<I", len(text)) + text


def open_segment(
    path: Path, target: Path, options: SinkOptions, source: SourceInfo | None
) -> FrameSink:
    """A sink for some frames of `target`; an existing segment is replaced.

    Frames keep the times they have in the whole video.

    Raises:
        SinkError, UsageError: as `open_sink` of the target.
    """
    check_output(path, overwrite=True)
    return ThreadedSink(SegmentSink(path, target, options, source))


def segment_frames(path: Path) -> int | None:
    """Frames of a complete segment; None if it is missing, incomplete or no segment."""
    tail = _read_tail(path)
    return None if tail is None else tail[1]


def join_segments(
    segments: Sequence[Path], target: Path, options: SinkOptions, source: SourceInfo | None
) -> list[str]:
    """Write the frames of all segments, in order, into the target, with the source's sound.

    Returns notes for the user, as `FrameSink.notes`. The segments stay.

    Raises:
        OutputExistsError, SinkError: the target cannot be written, or a segment is missing, damaged
            or made with other settings than the first.
    """
    heads = [_check(path) for path in segments]
    if not heads:
        raise SinkError(f"{target}: there is no segment to join")
    head = heads[0]
    for path, other in zip(segments, heads, strict=True):
        if other != head:
            raise SinkError(
                f"{path} was made with other settings; delete the segments, start again"
            )
    if target.suffix.lower() not in CONTAINERS or target.is_dir():
        return _write_anew(segments, head, target, options, source)
    check_output(target, overwrite=options.overwrite)
    encode: set[int] = set()
    while True:  # once more for each stream that turns out not to be copied as it is
        try:
            return _join(segments, head, target, options, source, encode)
        except CannotCopyError as error:
            assert error.index not in encode, "what is encoded is not copied"
            encode.add(error.index)


def _join(
    segments: Sequence[Path],
    head: SegmentHead,
    target: Path,
    options: SinkOptions,
    source: SourceInfo | None,
    encode: Collection[int],
) -> list[str]:
    """`join_segments`, encoding these streams of the source again.

    Raises:
        CannotCopyError: another one has to be.
    """
    notes: list[str] = []
    with writing(target):
        muxer = Muxer(target, head.spec, options, source, notes, encode)
        try:
            delay = max(tail[0] for tail in map(_read_tail, segments) if tail)
            packets = chain.from_iterable(_packets(path, head.spec) for path in segments)
            for packet in _restamped(packets, delay, head.spec):
                muxer.mux(packet)
            muxer.close()
        except BaseException:
            with suppress(Exception):
                muxer.abort()
            raise
    return notes


class SegmentSink(FrameSink):
    """Encodes frames into a segment."""

    def __init__(
        self, path: Path, target: Path, options: SinkOptions, source: SourceInfo | None
    ) -> None:
        self.path, self.num_frames, self.notes = path, 0, []
        if target.suffix.lower() not in CONTAINERS or target.is_dir():
            target = Path("segment.mkv")
            options = replace(
                options, codec=LOSSLESS, crf=None, preset=None, pix_fmt=None, codec_options={}
            )
        self._target, self._options = target, options
        choose_encoder(self._target, self._options)  # says now if that cannot be
        self._source = source
        self._beside = AtomicFile(path)
        self._recent: deque[int] = deque(maxlen=MAX_DELAY)
        self._delay = 0
        self._file: BinaryIO | None = None
        self._encoder: FrameEncoder | None = None

    def write(self, frame: Frame) -> None:
        with writing(self.path):
            if self._encoder is None:
                self._begin(frame)
            assert self._encoder is not None
            for packet in self._encoder.encode(frame):
                self._store(packet)
        self.num_frames += 1

    def close(self) -> None:
        if self._encoder is None or self._file is None:
            raise SinkError(f"{self.path}: there was no frame to write")
        try:
            with writing(self.path):
                for packet in self._encoder.flush():
                    self._store(packet)
                self._file.write(_TAIL.pack(_END, self._delay, self.num_frames))
                self._file.close()
                self._beside.commit()
        except BaseException:
            abort_quietly(self)
            raise

    def abort(self) -> None:
        with suppress(OSError):  # what is left in its buffer may not fit either
            if self._file is not None:
                self._file.close()
        self._beside.discard()

    def _begin(self, frame: Frame) -> None:
        spec, notes = make_spec(self._target, self._options, self._source, frame.size_px)
        self.notes += notes

        def make() -> VideoCodecContext:
            context = av.CodecContext.create(spec.codec, "w")
            assert isinstance(context, VideoCodecContext)
            spec.configure(context)
            context.flags |= av.codec.context.Flags.global_header
            context.open(strict=False)
            return context

        context: VideoCodecContext = open_encoder(make, spec)
        self._encoder = FrameEncoder(spec, context, alpha=self._options.alpha)
        self._file = self._beside.temporary.open("wb")
        extradata = bytes(context.extradata or b"")
        head = SegmentHead(spec=spec, alpha=self._options.alpha, extradata=extradata)
        self._file.write(head.as_bytes())

    def _store(self, packet: Packet[VideoStream]) -> None:
        assert self._file is not None and packet.pts is not None
        alpha = bytes(packet.get_sidedata(_ALPHA)) if packet.has_sidedata(_ALPHA) else b""
        # packets that were stored before this one and are shown after it
        self._delay = max(self._delay, sum(pts > packet.pts for pts in self._recent))
        self._recent.append(packet.pts)
        numbers = (packet.size, packet.pts, packet.duration or 0, packet.is_keyframe, len(alpha))
        self._file.write(_PACKET.pack(*numbers))
        self._file.write(bytes(packet))
        self._file.write(alpha)


def _check(path: Path) -> SegmentHead:
    if segment_frames(path) is None:
        raise SinkError(f"{path} is no complete segment; delete it and run the same command again")
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        (length,) = struct.unpack("<I", file.read(4))
        fields = json.loads(file.read(length))
    return SegmentHead(
        spec=EncoderSpec.from_json(fields["spec"]),
        alpha=fields["alpha"],
        extradata=bytes.fromhex(fields["extradata"]),
    )


def _read_tail(path: Path) -> tuple[int, int] | None:
    """(delay, frames) of a complete segment."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC))
            file.seek(-_TAIL.size, 2)
            end, delay, count = _TAIL.unpack(file.read(_TAIL.size))
    except (OSError, struct.error):
        return None
    return (delay, count) if begins == MAGIC and end == _END else None


def _packets(path: Path, spec: EncoderSpec) -> Iterator[Packet[VideoStream]]:
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        file.seek(struct.unpack("<I", file.read(4))[0], 1)
        while True:
            fields = file.read(_PACKET.size)
            if fields[:4] == struct.pack("<I", _END):
                return
            size, pts, duration, key, alpha_size = _PACKET.unpack(fields)
            packet: Packet[VideoStream] = Packet(file.read(size))  # type: ignore[assignment]
            packet.pts, packet.duration = pts, duration
            packet.time_base, packet.is_keyframe = spec.time_base, bool(key)
            if alpha_size:
                kind = packet_sidedata_type_from_literal(_ALPHA)
                side_data = PacketSideData(kind, alpha_size)  # type: ignore[call-arg]  # missing in its stub
                side_data.update(file.read(alpha_size))
                packet.set_sidedata(side_data)
            yield packet


def _restamped(
    packets: Iterator[Packet[VideoStream]], delay: int, spec: EncoderSpec
) -> Iterator[Packet[VideoStream]]:
    """Give all packets decoding times that rise through the whole video.

    Each encoder began its own clock before its first frame, where the segment before still lasts.
    The n-th packet is decoded when the (n - delay)-th frame is shown: right for any stream whose
    frames are shown at most `delay` packets after they are decoded.
    """
    shown: list[int] = []
    usual = round(1 / (spec.rate * spec.time_base))
    for number, packet in enumerate(packets):
        assert packet.pts is not None
        heapq.heappush(shown, packet.pts)
        if number < delay:
            packet.dts = shown[0] - (delay - number) * usual
        else:
            packet.dts = heapq.heappop(shown)
        yield packet


def _write_anew(
    segments: Sequence[Path],
    head: SegmentHead,
    target: Path,
    options: SinkOptions,
    source: SourceInfo | None,
) -> list[str]:
    """Decode lossless segments into a sink that cannot be joined."""
    with open_sink(target, options, source) as sink:
        for path in segments:
            for frame in _decode(path, head):
                sink.write(frame)
    return sink.notes


def _decode(path: Path, head: SegmentHead) -> Iterator[Frame]:
    spec = head.spec
    context = av.CodecContext.create(spec.codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = spec.size_px
    context.extradata = head.extradata
    rgb = ColorFacts(matrix=0, full_range=True)
    read = FrameReader(rgb, spec.size_px, (1, 0, 0, 1), with_alpha=head.alpha)
    for packet in _packets(path, spec):
        lasts = (packet.duration or 0) * spec.time_base
        for picture in context.decode(packet):
            pixels, alpha = read(picture)
            time = (picture.pts or 0) * Fraction(spec.time_base)
            yield Frame(pixels=pixels, alpha=alpha, time=time, duration=lasts or None)
