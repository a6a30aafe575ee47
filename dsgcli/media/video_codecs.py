"""Which encoder, in which pixel format, with which options: `SinkOptions` -> `EncoderSpec`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.codeccontext import VideoCodecContext

from dsgcli.errors import SinkError, UsageError
from dsgcli.media.sinks import SinkOptions
from dsgcli.media.sources import ColorFacts, SourceInfo
from dsgcli.media.video_color import output_color
from dsgcli.memory import check_memory

FINEST_CLOCK = 1_000_000
"""Ticks per second that every container and encoder here copes with."""
COARSEST_CLOCK = 90_000
"""Ticks per second where the source's own clock cannot be kept."""
SHORT_CLOCKS = {"mpeg4": 60_000}
"""Ticks per second of encoders whose streams count them in 16 bits: what all usual rates divide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A kind of output file."""

    format: str
    """FFmpeg's name of the muxer."""
    codec: str
    alpha_codec: str | None
    """Default video encoders, without and with transparency."""
    audio: str
    subtitles: str
    """Encoders for sound and text that cannot be copied."""
    metadata_key: str
    """Where `SinkOptions.metadata` goes: Matroska takes any key; MP4 has a closed list of them, so
    there it is the last line of the comment."""

    def mux_options(self, time_base: Fraction) -> dict[str, str]:
        """Options of the muxer: the index in front, edit lists as exact as the stream's clock."""
        if self.format not in ("mp4", "mov"):
            return {}
        return {"movflags": "+faststart", "movie_timescale": str(time_base.denominator)}


CONTAINERS = {
    ".mp4": Container(
        format="mp4",
        codec="libx264",
        alpha_codec=None,
        audio="aac",
        subtitles="mov_text",
        metadata_key="comment",
    ),
    ".mov": Container(
        format="mov",
        codec="libx264",
        alpha_codec="prores_ks",
        audio="aac",
        subtitles="mov_text",
        metadata_key="comment",
    ),
    ".mkv": Container(
        format="matroska",
        codec="libx264",
        alpha_codec="libvpx-vp9",
        audio="aac",
        subtitles="subrip",
        metadata_key="DSG",
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
CONTAINERS[".m4v"] = CONTAINERS[".mp4"]

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
"""What people call a codec -> the encoder that is used for it."""

REPEATABLE = {"x264-params": "cpu-independent=1"}
"""Without it, x264's AVX-512 code gives another bitstream in some runs (measured: 5 kinds in 120
runs of 12 frames on one thread), and a resumed run would differ from an uninterrupted one."""

NVIDIA = ("h264", "hevc", "av1")
"""What encoders on NVIDIA GPUs write: `--codec h264_nvenc`. Which of them a GPU has is known only
when one is opened."""

DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", **REPEATABLE},
    "libx264rgb": {"crf": "17", **REPEATABLE},
    "libx265": {"crf": "19", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
    "libvpx": {"crf": "10", "b": "4000000", "deadline": "good", "cpu-used": "3"},
    "libsvtav1": {"crf": "24", "preset": "8"},
    "prores_ks": {"vendor": "apl0"},
    **{f"{kind}_nvenc": {"rc": "vbr", "cq": "19", "b": "0", "preset": "p5"} for kind in NVIDIA},
}
"""Quality at which the eye sees no loss, at speeds that keep up with the generator."""

PIXEL_FORMATS = {"mjpeg": "yuvj420p"}
"""Where an encoder announces yuv420p and then refuses it."""
ODD_SIZES = {"libvpx", "libvpx-vp9", "ffv1", "prores_ks", "mjpeg", "mpeg4"}
"""Encoders that take odd sizes even with subsampled chroma."""
QUALITY_OPTIONS = ("crf", "cq")
"""What encoders call their constant quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """All that an encoder is told; equal specs make packets that can be joined."""

    codec: str
    size_px: tuple[int, int]
    """Of the stored picture: even where the codec wants it."""
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


def container_of(path: Path) -> Container:
    return CONTAINERS[path.suffix.lower()]


def choose_encoder(path: Path, options: SinkOptions) -> tuple[str, str, dict[str, str]]:
    """(encoder, pixel format, its options) for a target; before any frame is there.

    Raises:
        UsageError: no such codec, or options that it does not have.
        SinkError: transparency is asked for where there is none.
    """
    container = container_of(path)
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
    spec = EncoderSpec(
        codec=codec,
        size_px=stored,
        pix_fmt=pix_fmt,
        options=chosen,
        time_base=_clock(codec, source),
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
        quality = next((q for q in QUALITY_OPTIONS if q in private), None)
        if quality is None:
            raise UsageError(f"{name} has no --crf; set its quality with --codec-option")
        if not 0 <= options.crf <= 63:
            raise UsageError(f"--crf goes from 0 (lossless or nearly) to 63, got {options.crf:g}")
        asked[quality] = f"{options.crf:g}"
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


def _clock(codec: str, source: SourceInfo | None) -> Fraction:
    """A time base in which every frame time of the source is a whole number, if there is one."""
    ticks = COARSEST_CLOCK
    if source is not None and source.time_base is not None:
        parts = (source.time_base, source.origin, source.start)
        exact = math.lcm(*(part.denominator for part in parts))
        if exact <= FINEST_CLOCK:
            ticks = exact * max(1, 10_000 // exact)
    longest = SHORT_CLOCKS.get(codec, FINEST_CLOCK)
    return Fraction(1, min(ticks, longest))


def open_encoder(make: Callable[[], Any], spec: EncoderSpec) -> Any:
    """Run what opens an encoder; its refusal becomes an error that names the options."""
    try:
        return make()
    except (av.FFmpegError, ValueError, MemoryError) as error:
        check_memory(error)
        if spec.codec.endswith("_nvenc") and not opens(spec.codec):
            raise SinkError(
                f"the encoder {spec.codec} needs an NVIDIA GPU that has it, and its driver; "
                f"use --codec {spec.codec.removesuffix('_nvenc')}"
            ) from error
        given = ", ".join(f"{k}={v}" for k, v in spec.options.items()) or "none"
        raise SinkError(
            f"the encoder {spec.codec} refuses {spec.size_px[0]}x{spec.size_px[1]} {spec.pix_fmt} "
            f"with the options {given}: {error}"
        ) from error


def opens(encoder: str) -> bool:
    """Whether an encoder is not only built in but works on this machine."""
    try:
        context: VideoCodecContext = av.CodecContext.create(encoder, "w")  # type: ignore[assignment]
        context.width = context.height = 256
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
        context.open()
    except (av.FFmpegError, av.codec.codec.UnknownCodecError, ValueError):
        return False
    return True
