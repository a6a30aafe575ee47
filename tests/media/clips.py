"""Tiny videos with known content, made with PyAV: the torture set.

Each frame carries its number as four black or white squares in the upper left, so that it can be
read back after any codec; the rest is a smooth gradient with a bar that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.subtitles.subtitle import SubtitleSet

from dsgcli.types import Frame

WIDTH, HEIGHT, COUNT = 64, 48, 12
RATE = Fraction(25)
UNTAGGED = {"colorspace": 2, "color_range": 0, "color_primaries": 2, "color_trc": 2}
BIT_PX = 8
ASS_HEAD = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,20\n\n[Events]\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
INTERLACED = int(av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me)


def drawn(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3): a smooth picture with its number in it."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack(
        [40 + 150 * x / width, 200 - 120 * y / height, 90 + 60 * (x + y) / (width + height)], -1
    )
    left = 8 + 4 * number
    pixels[height // 2 : height // 2 + 8, left : left + 8] = [230, 200, 40]
    for bit in range(4):
        value = 235 if number >> bit & 1 else 16
        pixels[:BIT_PX, bit * BIT_PX : (bit + 1) * BIT_PX] = value
    return pixels.round().astype(np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """The number of a drawn picture."""
    bits = (pixels[2:6, b * BIT_PX + 2 : b * BIT_PX + 6].mean() > 128 for b in range(4))
    return sum(int(bit) << place for place, bit in enumerate(bits))


def see_through(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W): alpha that is 255 above, 0 in a band below, 128 at the bottom."""
    alpha = np.full((height, width), 255, np.uint8)
    alpha[height * 2 // 3 :] = 0
    alpha[height * 5 // 6 :] = 128
    alpha[:, : number + 1] = 255
    return alpha


def names(folder: Path) -> list[str]:
    """Of what a folder holds, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def frames(times: Sequence[Fraction] | None = None, *, alpha: bool = False) -> list[Frame]:
    """Drawn frames for sinks."""
    times = times or [Fraction(i, 25) for i in range(COUNT)]
    return [
        Frame(
            pixels=drawn(i),
            alpha=see_through(i) if alpha else None,
            index=i,
            time=time,
            duration=(times[i + 1] - time) if i + 1 < len(times) else Fraction(1, 25),
        )
        for i, time in enumerate(times)
    ]


def write_clip(
    path: Path,
    *,
    count: int = COUNT,
    stamps: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    codec: str = "libx264",
    pix_fmt: str = "yuv444p",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    format: str | None = None,
    mux_options: dict[str, str] | None = None,
    audio: Sequence[str] = (),
    subtitles: str | None = None,
    chapters: bool = False,
    metadata: dict[str, str] | None = None,
    rotate: tuple[float, bool, bool] | None = None,
    aspect: Fraction | None = None,
    color: dict[str, int] | None = None,
    tagged: bool = True,
    interlaced: bool = False,
    start_s: Fraction = Fraction(0),
    draw: Any = drawn,
    audio_s: Fraction | None = None,
    audio_rate: int = 48_000,
    layout: str = "stereo",
) -> Path:
    """Write a clip of `count` drawn frames; `stamps` in units of `time_base`."""
    if path.suffix == ".avi":
        time_base = 1 / RATE  # it knows no other
    options = {"crf": "0", "g": "6"} if options is None and codec == "libx264" else options
    step = 1 / (RATE * time_base)
    stamps = list(stamps) if stamps is not None else [round(i * step) for i in range(count)]
    with av.open(str(path), "w", format=format, container_options=mux_options or {}) as out:
        out.metadata.update(metadata or {})
        video = out.add_stream(codec, rate=RATE, options=options or {})
        context = video.codec_context
        context.width, context.height = size
        context.pix_fmt, context.time_base = pix_fmt, time_base
        for name, value in (color or {}).items() if tagged else ():
            setattr(context, name, value)
        if aspect:
            context.sample_aspect_ratio = aspect
        if rotate:
            video.set_display_rotation(*rotate)
        if interlaced:
            context.flags |= INTERLACED
            context.field_order = 2
        sounds = [_add_audio(out, name, i, audio_rate, layout) for i, name in enumerate(audio)]
        text = _add_subtitles(out, subtitles) if subtitles else None
        if chapters:
            out.set_chapters(_chapters())
        paint = _painter(draw, size, pix_fmt, color or {}, interlaced=interlaced, tagged=tagged)
        for number, stamp in enumerate(stamps):
            frame = paint(number)
            frame.pts = stamp + round(start_s / time_base)
            frame.time_base = time_base
            out.mux(video.encode(frame))
        out.start_encoding()
        out.mux(video.encode(None))
        seconds = audio_s or Fraction(count) / RATE
        for track, sound in enumerate(sounds):
            _write_tone(out, sound, track, seconds, start_s)
        if text is not None:
            _write_text(out, text, start_s)
    return path


def write_sound(path: Path, codec: str = "aac") -> Path:
    """A file that holds only sound."""
    with av.open(str(path), "w") as out:
        _write_tone(
            out, _add_audio(out, codec, 0, 48_000, "stereo"), 0, Fraction(1, 2), Fraction(0)
        )
    return path


def _painter(
    draw: Any,
    size: tuple[int, int],
    pix_fmt: str,
    color: dict[str, int],
    *,
    interlaced: bool,
    tagged: bool,
):
    graph = None
    if interlaced:
        graph = Graph()
        nodes = [
            graph.add(
                "buffer",
                f"video_size={size[0]}x{size[1]}:pix_fmt={pix_fmt}:time_base=1/25:pixel_aspect=1/1",
            ),
            graph.add("setfield", "tff"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
    matrix = {1: 1, 9: 9}.get(color.get("colorspace", 5), 5)

    def paint(number: int) -> av.VideoFrame:
        pixels = draw(number, *size)
        frame = av.VideoFrame.from_ndarray(pixels, "rgba" if pixels.shape[2] == 4 else "rgb24")
        frame.colorspace, frame.color_range = 0, 2
        frame = frame.reformat(
            format=pix_fmt,
            dst_colorspace=matrix,
            src_color_range=2,
            dst_color_range=2 if color.get("color_range") == 2 else 1,
            interpolation="BICUBIC",
        )
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(frame, name, color.get(name, UNTAGGED[name]) if tagged else UNTAGGED[name])
        if graph is not None:
            frame.pts = number
            graph.vpush(frame)
            frame = graph.vpull()
        return frame

    return paint


def _add_audio(out: Any, codec: str, track: int, rate: int, layout: str) -> Any:
    stream = out.add_stream(codec, rate=rate)
    stream.codec_context.layout = layout
    stream.metadata["language"] = ("eng", "fra", "deu")[track]
    return stream


def _write_tone(out: Any, stream: Any, track: int, seconds: Fraction, start_s: Fraction) -> None:
    """440 Hz, 880 Hz, ... the same in every channel."""
    context = stream.codec_context
    context.open(strict=False)
    rate, layout = context.sample_rate, context.layout.name
    t = np.arange(int(rate * seconds))
    tone = (0.3 * np.sin(2 * np.pi * 440 * (track + 1) * t / rate)).astype(np.float32)
    channels = np.stack([tone] * len(context.layout.channels))
    block = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
    block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
    resampler = av.AudioResampler(
        format=context.format.name, layout=layout, rate=rate, frame_size=context.frame_size or 1024
    )
    for part in [*resampler.resample(block), *resampler.resample(None)]:
        part.pts += round(start_s * rate)
        out.mux(stream.encode(part))
    out.mux(stream.encode(None))


def _add_subtitles(out: Any, codec: str) -> Any:
    stream = out.add_stream(codec)
    stream.metadata["language"] = "deu"
    stream.codec_context.subtitle_header = ASS_HEAD
    stream.codec_context.time_base = Fraction(1, 1000)
    return stream


def _write_text(out: Any, stream: Any, start_s: Fraction) -> None:
    for number, begin in enumerate((40, 240)):
        line = f"{number},0,Default,,0,0,0,,line {number}".encode()
        made = stream.codec_context.encode_subtitle(SubtitleSet.create(line, 0, 160, begin * 1000))
        made.stream, made.time_base = stream, Fraction(1, 1000)
        made.pts = made.dts = begin + round(start_s * 1000)
        made.duration = 160
        out.mux(made)


def _chapters() -> list[dict[str, Any]]:
    base = Fraction(1, 1000)
    return [
        {"id": 1, "start": 0, "end": 240, "time_base": base, "metadata": {"title": "One"}},
        {"id": 2, "start": 240, "end": 480, "time_base": base, "metadata": {"title": "Two"}},
    ]
