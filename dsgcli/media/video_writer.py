"""Videos and GIFs out: frames -> a file, with the sound of its source (PyAV).

Data flow: Frame -> FramePainter -> FrameEncoder -> packets -> Muxer, which copies the rest of the
source alongside. `segments.py` puts a store between the encoder and the muxer.

Every packet carries its frame's time: what comes in at a variable rate goes out at one. A GIF gets
for each frame the 256 colors that suit it best, and writes it at once: one palette for the whole
film would need the whole film in memory.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list
from av.container.output import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dsgcli.errors import MediaError, SinkError, UsageError
from dsgcli.media.base import (
    CONTAINERS,
    ColorFacts,
    FrameSink,
    SinkOptions,
    SourceInfo,
    abort_quietly,
)
from dsgcli.media.color import FramePainter, output_color
from dsgcli.media.files import AtomicFile, sink_error
from dsgcli.media.remux import CannotCopyError, Copier
from dsgcli.memory import check_memory
from dsgcli.types import Frame

if TYPE_CHECKING:
    pass

FINEST_CLOCK = 1_000_000
"""Ticks per second that every container and encoder here copes with."""
COARSEST_CLOCK = 90_000
"""Ticks per second where the source's own clock cannot be kept."""
SHORT_CLOCKS = {"mpeg4": 60_000}
"""Ticks per second of encoders whose streams count them in 16 bits: what all usual rates divide."""

ENCODERS = {
    "h264": "libx264",
    "x264": "libx264",
    "hevc": "libx265",
    "h265": "libx265",
    "x265": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
}
"""Common name of a codec -> name of its encoder."""

REPEATABLE = {"x264-params": "cpu-independent=1"}
"""Without it, x264's AVX-512 code gives another bitstream in some runs (measured: 5 kinds in 120
runs of 12 frames on one thread), and a resumed run would differ from an uninterrupted one."""

DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", **REPEATABLE},
    "libx264rgb": {"crf": "17", **REPEATABLE},
    "libx265": {"crf": "19", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
    "libvpx": {"crf": "10", "b": "4000000", "deadline": "good", "cpu-used": "3"},
    "libsvtav1": {"crf": "24", "preset": "8"},
    "prores_ks": {"vendor": "apl0"},
}
"""Quality at which the eye sees no loss, at speeds that keep up with the generator."""

PIXEL_FORMATS = {"mjpeg": "yuvj420p"}
"""Where an encoder announces yuv420p and then refuses it."""
ODD_SIZES = {"libvpx", "libvpx-vp9", "ffv1", "prores_ks", "mjpeg", "mpeg4"}
"""Encoders that take odd sizes even with subsampled chroma."""

CENTISECOND = Fraction(1, 100)
"""The clock of GIF."""
FASTEST_CS = 2
"""Most viewers show shorter frames much slower."""
USUAL_CS = 10
"""A single frame's duration."""


# ── the choice of an encoder ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """All settings of an encoder; equal specs make packets that can be joined."""

    codec: str
    size_px: tuple[int, int]
    """Size of the stored picture: even, if the codec needs it."""
    pix_fmt: str
    options: dict[str, str]
    time_base: Fraction
    rate: Fraction
    color: ColorFacts

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"time_base": str(self.time_base), "rate": str(self.rate)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EncoderSpec:
        exact = {key: Fraction(data[key]) for key in ("time_base", "rate")}
        size = {"size_px": tuple(data["size_px"])}
        return cls(**(data | exact | size | {"color": ColorFacts(**data["color"])}))

    def configure(self, context: VideoCodecContext) -> None:
        """Set up an encoder that is not open yet."""
        context.width, context.height = self.size_px
        context.pix_fmt = self.pix_fmt
        context.time_base, context.framerate = self.time_base, self.rate
        context.colorspace, context.color_primaries = self.color.matrix, self.color.primaries
        context.color_trc = self.color.transfer
        context.color_range = 2 if self.color.full_range else 1
        context.options = dict(self.options)
        context.thread_count = 0
        if self.codec == "libx265":
            context.codec_tag = "hvc1"  # what Apple's players insist on


def choose_encoder(path: Path, options: SinkOptions) -> tuple[str, str, dict[str, str]]:
    """(encoder, pixel format, its options) for a target; before any frame is there.

    Raises:
        UsageError: no such codec, or options that it does not have.
        SinkError: transparency is asked for where there is none.
    """
    container = CONTAINERS[path.suffix.lower()]
    default = container.alpha_codec if options.alpha else container.codec
    if default is None and options.codec is None:
        raise SinkError(f"{path}: MP4 has no transparency; write a .mov, .webm, .gif or .webp")
    name = ENCODERS.get(options.codec or "", options.codec) or default or ""
    codec = _encoder(name)
    pix_fmt = options.pix_fmt or _pixel_format(codec, path, alpha=options.alpha)
    try:
        av.VideoFormat(pix_fmt)
    except ValueError:
        raise UsageError(
            f"there is no pixel format {pix_fmt!r}; yuv420p plays everywhere"
        ) from None
    chosen = dict(DEFAULTS.get(name, {}))
    for key, value in _asked_for(name, options).items():
        joins = key.endswith("-params") and key in chosen  # lists of settings of their own
        chosen[key] = f"{chosen[key]}:{value}" if joins else value
    if name == "libvpx" and options.alpha:
        chosen.setdefault("auto-alt-ref", "0")  # VP8 refuses it together with transparency
    if "lossless" in options.codec_options and options.crf is None:
        chosen.pop("crf", None)  # VP9 refuses the two together
    return name, pix_fmt, chosen


def make_spec(
    path: Path, options: SinkOptions, source: SourceInfo | None, size_px: tuple[int, int]
) -> tuple[EncoderSpec, list[str]]:
    """The specification for frames of a size, and notes for users. Raises as `choose_encoder`."""
    codec, pix_fmt, chosen = choose_encoder(path, options)
    stored, notes = _storable_size(codec, pix_fmt, size_px)
    ticks = COARSEST_CLOCK
    if source is not None and source.time_base is not None:
        # times of frames are multiples of the time base, less where 0 and --start are: a clock in
        # which all of them are whole numbers, if there is one
        parts = (source.time_base, source.origin, source.start)
        exact = math.lcm(*(part.denominator for part in parts))
        if exact <= FINEST_CLOCK:
            ticks = exact * max(1, 10_000 // exact)
    spec = EncoderSpec(
        codec=codec,
        size_px=stored,
        pix_fmt=pix_fmt,
        options=chosen,
        time_base=Fraction(1, min(ticks, SHORT_CLOCKS.get(codec, FINEST_CLOCK))),
        rate=(source.rate if source else None) or Fraction(25),
        color=output_color(source.color if source else None, pix_fmt),
    )
    return spec, notes


def _encoder(name: str) -> av.Codec:
    try:
        codec = av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        codec = None
    if codec is None or codec.type != "video":
        known = sorted({*ENCODERS, *ENCODERS.values(), *DEFAULTS, "ffv1"})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
        raise UsageError(f"there is no video encoder {name!r}; {hint}")
    return codec


def _pixel_format(codec: av.Codec, path: Path, *, alpha: bool) -> str:
    if codec.name in PIXEL_FORMATS and not alpha:
        return PIXEL_FORMATS[codec.name]
    formats = [f.name for f in codec.video_formats or []]
    usual = "yuva420p" if alpha else "yuv420p"
    if usual in formats and codec.lossy:
        return usual
    best, _ = find_best_pix_fmt_of_list(formats or [usual], "rgba" if alpha else "rgb24", alpha)
    chosen = best.name if best else usual
    if alpha and not any(c.is_alpha for c in av.VideoFormat(chosen).components):
        raise SinkError(f"{path}: {codec.name} has no transparency; try prores, vp9 or ffv1")
    return chosen


def _asked_for(name: str, options: SinkOptions) -> dict[str, str]:
    known = av.CodecContext.create(name, "w").supported_options
    private = {option.name for option in known.private}
    every = private | {option.name for option in known.generic}
    asked: dict[str, str] = {}
    if options.crf is not None:
        if "crf" not in private:
            raise UsageError(f"{name} has no --crf; set its quality with --codec-option")
        if not 0 <= options.crf <= 63:
            raise UsageError(f"--crf goes from 0 (lossless or nearly) to 63, got {options.crf:g}")
        asked["crf"] = f"{options.crf:g}"
    if options.preset is not None:
        if "preset" not in private:
            raise UsageError(f"{name} has no --preset; set its speed with --codec-option")
        asked["preset"] = options.preset
    for key, value in options.codec_options.items():
        if key not in every:
            near = difflib.get_close_matches(key, every, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{name} has no option {key!r}{hint}")
        asked[key] = value
    return asked


def _storable_size(
    codec: str, pix_fmt: str, size_px: tuple[int, int]
) -> tuple[tuple[int, int], list[str]]:
    """Round up to what subsampled chroma needs: a repeated column loses nothing and plays
    everywhere; full chroma, the alternative, plays in few players."""
    if codec in ODD_SIZES:
        return size_px, []
    layout = av.VideoFormat(pix_fmt, 16, 16)
    across, down = 16 // layout.chroma_width(16), 16 // layout.chroma_height(16)
    width, height = size_px
    stored = (math.ceil(width / across) * across, math.ceil(height / down) * down)
    if stored == size_px:
        return size_px, []
    note = (
        f"{codec} in {pix_fmt} needs even sizes: the last column or row is repeated, "
        f"{width}x{height} becomes {stored[0]}x{stored[1]}"
    )
    return stored, [note]


def open_encoder(make: Callable[[], Any], spec: EncoderSpec) -> Any:
    """Run what opens an encoder; its refusal becomes an error that names the options."""
    try:
        return make()
    except (av.FFmpegError, ValueError, MemoryError) as error:
        check_memory(error)
        given = ", ".join(f"{k}={v}" for k, v in spec.options.items()) or "none"
        raise SinkError(
            f"the encoder {spec.codec} refuses {spec.size_px[0]}x{spec.size_px[1]} {spec.pix_fmt} "
            f"with the options {given}: {error}"
        ) from error


# ── videos ───────────────────────────────────────────────────────────────────────────────────────


class FrameEncoder:
    """Frames of one size -> packets with their times."""

    def __init__(self, spec: EncoderSpec, context: VideoCodecContext, *, alpha: bool) -> None:
        self._spec, self._context, self._alpha = spec, context, alpha
        self._paint = FramePainter(spec.size_px, spec.pix_fmt, spec.color)
        self._durations: dict[int, int] = {}
        self._last_pts: int | None = None
        self._size: tuple[int, int] | None = None

    def encode(self, frame: Frame) -> Iterator[Packet[VideoStream]]:
        """Packets that are ready; an encoder holds some frames back."""
        self._size = self._size or frame.size_px
        assert frame.size_px == self._size, "frames of one video have one size"
        alpha = frame.alpha if self._alpha else None
        if self._alpha and alpha is None:
            alpha = np.full(frame.pixels.shape[:2], 255, np.uint8)
        picture = self._paint(frame.pixels, alpha)
        pts = round(frame.time / self._spec.time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1  # two frames within a tick
        self._last_pts = picture.pts = pts
        picture.time_base = self._spec.time_base
        if frame.duration:
            ticks = max(1, round(frame.duration / self._spec.time_base))
            self._durations[picture.pts] = picture.duration = ticks
        yield from self._timed(self._context.encode(picture))

    def flush(self) -> Iterator[Packet[VideoStream]]:
        """Packets that the encoder still holds.

        Containers take the end of the film from the packet that comes last, which may be shown
        before others: it is given the duration of the frame that is shown last.
        """
        last = self._durations.get(self._last_pts if self._last_pts is not None else -1)
        packets = list(self._timed(self._context.encode(None)))
        if packets and last is not None:
            packets[-1].duration = last
        yield from packets

    def _timed(self, packets: list[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        usual = round(1 / (self._spec.rate * self._spec.time_base))
        for packet in packets:
            packet.time_base = self._spec.time_base
            packet.duration = self._durations.pop(packet.pts or 0, usual)
            yield packet


class Muxer:
    """Packets of a video, and all that is copied from its source -> a file."""

    def __init__(
        self,
        path: Path,
        spec: EncoderSpec,
        options: SinkOptions,
        source: SourceInfo | None,
        notes: list[str],
        encode: Collection[int] = (),
    ) -> None:
        """
        Args:
            notes: gets sentences for the user.
            encode: numbers of the source's streams that cannot be copied as they are.
        """
        self._path = path
        kind = CONTAINERS[path.suffix.lower()]
        self._beside = AtomicFile(path)
        self._copier: Copier | None = None
        self._container: OutputContainer = av.open(
            str(self._beside.temporary.absolute()),  # `12:30.mp4` alone would be an address
            "w",
            format=kind.format,
            # the index in front, edit lists as exact as the stream's clock
            container_options={
                "movflags": "+faststart",
                "movie_timescale": str(spec.time_base.denominator),
            }
            if kind.format in ("mp4", "mov")
            else {},
        )
        self.stream = open_encoder(
            lambda: self._container.add_stream(spec.codec, rate=spec.rate), spec
        )
        spec.configure(self.stream.codec_context)
        self.stream.time_base = spec.time_base
        if source is not None and source.kind == "video":
            self._copier = Copier(source, options, self._container, kind, notes, encode)
        if options.metadata:
            # below what the source says under the same key, in whatever case
            tags, key = self._container.metadata, kind.metadata_key
            old = [tags.pop(other) for other in list(tags) if other.lower() == key.lower()]
            tags[key] = "\n".join([*old, json.dumps(dict(options.metadata))])
        open_encoder(self._container.start_encoding, spec)

    def mux(self, packet: Packet[VideoStream]) -> None:
        """Write a packet of the video, after what of the rest is due before it."""
        if self._copier is not None and packet.dts is not None:
            self._copier.pump(packet.dts * packet.time_base)
        packet.stream = self.stream
        self._container.mux(packet)

    def close(self) -> None:
        """Write what is left, and put the file in its place."""
        if self._copier is not None:
            self._copier.pump(None)
            self._copier.close()
        self._container.close()
        if not self._beside.temporary.stat().st_size:
            raise SinkError(f"{self._path}: the container wrote nothing")
        self._beside.commit()

    def abort(self) -> None:
        """Leave nothing."""
        try:
            if self._copier is not None:
                self._copier.close()
            self._container.close()
        except (OSError, ValueError, av.FFmpegError):
            pass
        finally:
            self._beside.discard()


class VideoSink(FrameSink):
    """A video file, written as frames come."""

    def __init__(self, path: Path, options: SinkOptions, source: SourceInfo | None) -> None:
        choose_encoder(path, options)  # says now, not after the first frame, if that cannot be
        self.path, self.notes, self.num_frames = path, [], 0
        self._options, self._source = options, source
        self._muxer: Muxer | None = None
        self._encoder: FrameEncoder | None = None

    def write(self, frame: Frame) -> None:
        """Encode a frame.

        Raises:
            SinkError: the encoder refuses its options, or the disk is full.
        """
        with writing(self.path), _copying(self.path):
            if self._muxer is None or self._encoder is None:
                self._begin(frame)
            assert self._muxer is not None and self._encoder is not None
            for packet in self._encoder.encode(frame):
                self._muxer.mux(packet)
        self.num_frames += 1

    def close(self) -> None:
        if self._muxer is None or self._encoder is None:
            raise SinkError(f"{self.path}: there was no frame to write")
        try:
            with writing(self.path), _copying(self.path):
                for packet in self._encoder.flush():
                    self._muxer.mux(packet)
                self._muxer.close()
        except BaseException:
            abort_quietly(self)
            raise

    def abort(self) -> None:
        if self._muxer is not None:
            self._muxer.abort()

    def _begin(self, frame: Frame) -> None:
        spec, notes = make_spec(self.path, self._options, self._source, frame.size_px)
        self.notes += notes
        self._muxer = Muxer(self.path, spec, self._options, self._source, self.notes)
        self._encoder = FrameEncoder(
            spec, self._muxer.stream.codec_context, alpha=self._options.alpha
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of PyAV and of the disk while writing into errors for the user."""
    try:
        yield
    except MediaError:
        raise
    except OSError as error:
        raise sink_error(path, error) from error
    except av.FFmpegError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _copying(path: Path) -> Iterator[None]:
    """Packets that are written cannot be encoded again here; `join_segments` starts again."""
    try:
        yield
    except CannotCopyError as error:
        raise SinkError(
            f"{path} cannot be written: the sound of its source changes; leave it out "
            f"with --audio none"
        ) from error


# ── GIF ──────────────────────────────────────────────────────────────────────────────────────────


class GifSink(FrameSink):
    """An animated GIF; with `alpha`, pixels that are less than half opaque are transparent."""

    def __init__(self, path: Path, options: SinkOptions) -> None:
        self.path, self.notes, self.num_frames = path, [], 0
        self._options = options
        self._beside = AtomicFile(path)
        self._container: OutputContainer | None = None
        self._pending: Frame | None = None

    def write(self, frame: Frame) -> None:
        """Take a frame; it is stored when the next says how long it lasts."""
        with writing(self.path):
            if self._pending is None:
                self._begin(frame)
            else:
                self._store(self._pending, frame.time)
        self._pending = frame
        self.num_frames += 1

    def close(self) -> None:
        last = self._pending
        if last is None or self._container is None:
            raise SinkError(f"{self.path}: there was no frame to write")
        usual = last.time / (self.num_frames - 1) if self.num_frames > 1 else USUAL_CS * CENTISECOND
        try:
            with writing(self.path):
                self._store(last, last.time + (last.duration or usual))
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._write_comment()
                self._beside.commit()
        except BaseException:
            abort_quietly(self)
            raise

    def abort(self) -> None:
        try:
            if self._container is not None:
                self._container.close()
        except (OSError, ValueError, av.FFmpegError):
            pass
        finally:
            self._beside.discard()

    def _begin(self, frame: Frame) -> None:
        self._graph = _palette_graph(frame.size_px, alpha=self._options.alpha)
        rounds = self._options.loop
        loop = {0: "0", 1: "-1"}.get(rounds, str(rounds - 1))  # the muxer counts the extra ones
        self._container = av.open(
            str(self._beside.temporary.absolute()),
            "w",
            format="gif",
            container_options={"loop": loop},
        )
        stream = self._container.add_stream("gif", rate=25)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        stream.codec_context.width, stream.codec_context.height = frame.size_px
        stream.codec_context.pix_fmt = "pal8"
        stream.codec_context.time_base = CENTISECOND

    def _store(self, frame: Frame, until: Fraction) -> None:
        assert self._container is not None
        begin, end = round(frame.time / CENTISECOND), round(until / CENTISECOND)
        if end - begin < FASTEST_CS and not self.notes:
            self.notes.append(
                "the frames are shorter than 0.02 s, which most viewers show much slower"
            )
        alpha = frame.alpha if self._options.alpha else None
        if alpha is None:
            alpha = np.full(frame.pixels.shape[:2], 255, np.uint8)
        stored = np.ascontiguousarray(np.dstack([frame.pixels, alpha]))
        picture = VideoFrame.from_ndarray(stored, format="rgba")
        picture.pts, picture.time_base = self.num_frames, CENTISECOND
        self._graph.vpush(picture)
        painted = self._graph.vpull()
        painted.pts, painted.time_base = begin, CENTISECOND
        for packet in self._stream.encode(painted):
            packet.duration = max(1, end - begin)
            self._container.mux(packet)

    def _write_comment(self) -> None:
        """GIF keeps text in comment blocks of up to 255 bytes, here before the final byte."""
        if not self._options.metadata:
            return
        text = json.dumps(dict(self._options.metadata)).encode()
        blocks = b"".join(
            bytes([len(part)]) + part
            for part in (text[i : i + 255] for i in range(0, len(text), 255))
        )
        with self._beside.temporary.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x21\xfe" + blocks + b"\0\x3b")


def _palette_graph(size_px: tuple[int, int], *, alpha: bool) -> Graph:
    graph = Graph()
    source = graph.add(
        "buffer",
        f"video_size={size_px[0]}x{size_px[1]}:pix_fmt=rgba:time_base=1/100:pixel_aspect=1/1",
    )
    split = graph.add("split")
    palette = graph.add("palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}")
    use = graph.add("paletteuse", "new=1:dither=sierra2_4a:alpha_threshold=128")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
