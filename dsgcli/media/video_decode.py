"""Open a container and decode its video, tolerating damage (PyAV).

Data flow: path -> decoded pictures as the codec stores them (YUV, coded size, not turned).
`video_source.py` makes frames of them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import av
from av.codec.context import ThreadType
from av.codec.hwaccel import HWAccel
from av.container.input import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dsgcli.errors import SourceError
from dsgcli.media.files import check_input
from dsgcli.media.sources import DecoderName

MAX_DAMAGED_IN_A_ROW = 250
"""Packets that may fail to decode one after the other: ten seconds at 25 frames a second. Scratches
and lost network packets are far shorter; what lasts longer is a file of which nothing good follows,
and a video that stands still for minutes helps nobody."""

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these ignore the alpha that WebM keeps beside the picture."""

MAX_REORDER = 16
"""Frames by which decoding and showing may differ in order: the most that H.264 and H.265 allow."""
MAX_RATE = 1000
"""What a header says above this is a clock, not a frame rate."""
MAX_ASPECT = 8
"""Sample aspect ratios beyond this are nonsense in the header."""
NVDEC_FORMATS = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p016le": "yuv420p16le"}
"""How pictures come back from NVDEC: samples as the CPU decodes them, blue beside red in one plane.
The same colors come out of them, to the bit. Filters want each in a plane of its own."""

TEXT_CODECS = ("ansi", "bintext", "xbin", "idf")
"""What FFmpeg makes of text files: pictures of letters."""
PICTURE_BRANDS = ("heic", "heix", "hevc", "mif1", "msf1", "avif", "avis")


VideoPacket: TypeAlias = "Packet[VideoStream]"  # no generic at run time


@dataclass(slots=True)
class Damage:
    """What went wrong while decoding."""

    packets: int = 0
    """Packets that did not decode; their frames are missing."""
    frames: int = 0
    """Frames that decoded with errors; they are shown as they are."""
    cut: bool = False
    """The file ends in the middle of a packet."""


@cache
def has_nvdec() -> bool:
    """Whether there is an NVIDIA GPU, with a driver that decodes."""
    try:
        HWAccel("cuda").create(av.Codec("h264", "r"))
    except (av.FFmpegError, NotImplementedError):  # no device or no driver; a PyAV built without
        return False
    return True


def open_container(path: Path, decoder: DecoderName = "cpu") -> InputContainer:
    """Open a video file for reading.

    Args:
        decoder: nvdec only where `has_nvdec`.

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
            hwaccel=HWAccel("cuda", allow_software_fallback=True) if decoder == "nvdec" else None,
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


def planar(frame: VideoFrame) -> VideoFrame:
    """The same samples, every color in a plane of its own."""
    wanted = NVDEC_FORMATS.get(frame.format.name)
    return frame if wanted is None else frame.reformat(format=wanted)


def _in_display_order(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """The same frames, with the stamps that they have among them given out in rising order."""
    waiting: deque[VideoFrame] = deque()
    stamps: list[int] = []

    def released() -> VideoFrame:
        frame = waiting.popleft()
        if frame.pts is not None:
            frame.pts = heapq.heappop(stamps)
        return frame

    for frame in frames:
        waiting.append(frame)
        if frame.pts is not None:
            heapq.heappush(stamps, frame.pts)
        if len(waiting) > MAX_REORDER:
            yield released()
    while waiting:
        yield released()


class Decoder:
    """The decoded pictures of one pass over a video stream.

    Args:
        decoder: nvdec is taken where it is there, and `decoder_of` says whether it did.
    """

    def __init__(self, path: Path, decoder: DecoderName = "cpu") -> None:
        self._path = path
        self._lock, self.closed = Lock(), False
        self._failed_in_a_row = 0
        by = "cpu" if decoder == "cpu" or not has_nvdec() else decoder
        self._container = open_container(path, by)
        try:
            self.stream = pick_video(self._container, path)
        except SourceError:
            self.close()
            raise
        self.container = self._container
        self.damage = Damage()
        self.time_base = self.stream.time_base or Fraction(1, 1000)
        self.has_alpha = self.stream.metadata.get("alpha_mode") == "1"
        self._context = self._choose_context()

    def seek(self, time: Fraction) -> bool:
        """Go to a key frame at or before a container time; False if the file cannot seek."""
        try:
            self._container.seek(int(time / self.time_base), stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def decoder_of(self, frame: VideoFrame) -> DecoderName:
        """What decoded a picture: where NVDEC cannot, the CPU does, in formats of its own."""
        on_gpu = self._context.is_hwaccel and frame.format.name in NVDEC_FORMATS
        return "nvdec" if on_gpu else "cpu"

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

    def frames(self) -> Iterator[VideoFrame]:
        """Decode to the end, or until closed; what cannot be decoded is counted in `damage`.

        Raises:
            SourceError: more than `MAX_DAMAGED_IN_A_ROW` packets in a row failed.
        """
        if self._counts_in_decoding_order():
            yield from _in_display_order(self._decoded())
        else:
            yield from self._decoded()

    def close(self) -> None:
        """Let go of the file; safe while another thread decodes."""
        with self._lock:
            self.closed = True
            self._container.close()

    def _decoded(self) -> Iterator[VideoFrame]:
        packets = self._packets()
        while (pictures := self._decode_next(packets)) is not None:
            yield from pictures

    def _counts_in_decoding_order(self) -> bool:
        """Whether the stamps of the container are the order in which pictures are decoded: AVI has
        no others."""
        return self._container.format.name == "avi" and self._context.has_b_frames

    def _decode_next(self, packets: Iterator[VideoPacket]) -> list[VideoFrame] | None:
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
                    raise SourceError(self._hopeless()) from error
                return []
        if pictures:
            self._failed_in_a_row = 0
        self.damage.frames += sum(picture.is_corrupt for picture in pictures)
        return pictures

    def _choose_context(self) -> VideoCodecContext:
        context = self.stream.codec_context
        decoder = ALPHA_DECODERS.get(context.codec.canonical_name)
        if self.has_alpha and decoder:
            return av.CodecContext.create(decoder, "r")  # type: ignore[return-value]
        if context.is_hwaccel:
            return context  # threads of the CPU's are of no use to it
        context.thread_type = ThreadType.AUTO
        context.thread_count = 0
        return context

    def _packets(self) -> Iterator[VideoPacket]:
        """Demux, one packet behind, so that a last one which is cut off is never decoded: behind
        its error a threaded decoder would lose the good frames that it still holds."""
        held: VideoPacket | None = None
        for packet in self._demux():
            if held is not None and (packet.size or not held.is_corrupt):
                yield held
            elif held is not None:
                self.damage.cut = True
            held = packet
        if held is not None:
            yield held  # without data: it flushes the decoder

    def _demux(self) -> Iterator[VideoPacket]:
        """All packets and an empty one; an error of the container ends the stream like a cut."""
        packets = self._container.demux(self.stream)
        try:
            yield from packets
        except av.FFmpegError:
            self.damage.packets += 1
            flush: VideoPacket = Packet()  # type: ignore[assignment]
            flush.stream = self.stream
            yield flush

    def _hopeless(self) -> str:
        return (
            f"{self._path}: {MAX_DAMAGED_IN_A_ROW} packets in a row cannot be decoded; "
            f"pass --end to stop before the damaged part"
        )


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
