"""Animated pictures: GIF, WebP and PNG in, WebP out (Pillow). GIF is written by `video_writer.py`.

Data flow: path -> Frame, Frame, ...; and back. Disposal and blending of the parts of an animation
are Pillow's work: every frame comes whole.

A WebP is written by hand, each frame a whole picture in an ANMF chunk of its own (as the container
specification has it). libwebp's encoder of animations, which Pillow and FFmpeg use, holds all
frames, merges those that differ by up to three levels, so that a slow fade stands still, and
forgets how long the last one lasts (measured with FFmpeg's libwebp_anim).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from dsgcli.errors import SinkError, SourceError
from dsgcli.media.base import FrameSink, FrameSource, SinkOptions, SourceInfo, trimmed
from dsgcli.media.files import AtomicFile, sink_error
from dsgcli.media.images import (
    BROKEN,
    WEBP_QUALITY,
    exif_bytes,
    load_frame,
    num_frames,
    open_picture,
)
from dsgcli.types import Frame

if TYPE_CHECKING:
    pass

SHORTEST_MS = 10
"""Frames of at most this long are shown for `INSTEAD_MS`, as every browser does: files that say 0
mean "unspecified"."""
INSTEAD_MS = 100
MAX_WEBP_SIDE_PX = 1 << 14
MAX_WEBP_DURATION_MS = (1 << 24) - 1


class AnimationSource(FrameSource):
    """The frames of an animated GIF, WebP, PNG or AVIF. See `open_source` for the arguments."""

    def __init__(self, path: Path, *, start: Fraction, end: Fraction | None, skip: int) -> None:
        self._path, self._skip = path, skip
        with open_picture(path) as image:
            durations = _durations(image, path)
            total = sum(durations, Fraction(0))
            duration = min(end or total, total) - start
            if duration <= 0:
                raise SourceError(f"{path} lasts {float(total):g} s; nothing is left of it")
            kind = (image.format or "").lower()
            self.info = SourceInfo(
                kind="animation",
                path=path,
                size_px=image.size,
                rate=len(durations) / total,
                duration=duration,
                container=kind,
                codec=kind,
                time_base=Fraction(1, 1000),
                start=start,
                end=end,
                has_alpha=image.has_transparency_data or kind == "gif",
            )

    def __iter__(self) -> Iterator[Frame]:
        return trimmed(self._all(), self.info.start, self.info.end, self._skip)

    def _all(self) -> Iterator[Frame]:
        time = Fraction(0)
        with open_picture(self._path) as image:
            for number in _playable(image):
                try:
                    image.seek(number)
                    frame = load_frame(image.convert("RGBA"), self._path)
                    duration = _shown(image.info.get("duration", 0))
                except (SourceError, *BROKEN):
                    self.info.truncated = True
                    self.info.warn(f"it is cut off or damaged after {number} frames")
                    return
                alpha = None if frame.alpha is None or (frame.alpha == 255).all() else frame.alpha
                yield Frame(pixels=frame.pixels, alpha=alpha, time=time, duration=duration)
                time += duration


def _playable(image: Image.Image) -> range:
    """A PNG may begin with a picture for viewers that know no animations."""
    return range(1 if image.info.get("default_image") else 0, num_frames(image))


def _durations(image: Image.Image, path: Path) -> list[Fraction]:
    """Seconds of the frames up to the first damaged one; at least one value."""
    durations: list[Fraction] = []
    if image.format == "WEBP":  # from the headers of the frames; Pillow would decode each for it
        with path.open("rb") as file:
            file.seek(len(b"RIFF....WEBP"))
            while len(head := file.read(8)) == 8:
                size, begin = struct.unpack("<I", head[4:])[0], file.tell()
                if head[:4] == b"ANMF":
                    durations.append(_shown(int.from_bytes(file.read(15)[12:], "little")))
                file.seek(begin + size + size % 2)
        return durations or [_shown(0)]
    for number in _playable(image):
        try:
            image.seek(number)
        except BROKEN:
            break
        durations.append(_shown(image.info.get("duration", 0)))
    return durations or [_shown(0)]


def _shown(said_ms: float) -> Fraction:
    """How long a frame is shown, in seconds, for what the file says."""
    exact = Fraction(str(round(said_ms, 3)))
    return (exact if exact > SHORTEST_MS else Fraction(INSTEAD_MS)) / 1000


class WebPSink(FrameSink):
    """An animated WebP, written as the frames come."""

    def __init__(self, path: Path, options: SinkOptions) -> None:
        self.path, self.notes, self.num_frames = path, [], 0
        self._options = options
        self._beside = AtomicFile(path)
        self._file: BinaryIO | None = None
        self._pending: Frame | None = None

    def write(self, frame: Frame) -> None:
        """Take a frame; it is stored when the next says how long it lasts."""
        try:
            if self._pending is None:
                self._begin(frame)
            else:
                self._store(self._pending, frame.time - self._pending.time)
        except OSError as error:
            raise sink_error(self.path, error) from error
        self._pending = frame
        self.num_frames += 1

    def close(self) -> None:
        last = self._pending
        if last is None or self._file is None:
            self.abort()
            raise SinkError(f"{self.path}: there was no frame to write")
        earlier = self.num_frames - 1
        usual = last.time / earlier if earlier else Fraction(INSTEAD_MS, 1000)
        try:
            self._store(last, last.duration or usual)
            if self._options.metadata:
                self._file.write(_chunk(b"EXIF", exif_bytes(self._options.metadata)))
            size = self._file.tell()
            self._file.seek(4)
            self._file.write(struct.pack("<I", size - 8))
            self._file.close()
        except OSError as error:
            self.abort()
            raise sink_error(self.path, error) from error
        self._beside.commit()

    def abort(self) -> None:
        with suppress(OSError):  # what is left in its buffer may not fit either
            if self._file is not None:
                self._file.close()
        self._beside.discard()

    def _begin(self, frame: Frame) -> None:
        width, height = frame.size_px
        if max(width, height) >= MAX_WEBP_SIDE_PX:
            raise SinkError(f"{self.path}: a WebP has at most {MAX_WEBP_SIDE_PX - 1} px a side")
        self._file = self._beside.temporary.open("wb")
        flags = 0x02 | 0x10 | (0x08 if self._options.metadata else 0)  # animation, alpha, EXIF
        extended = struct.pack("<I", flags) + _three(width - 1) + _three(height - 1)
        loop = _chunk(b"ANIM", struct.pack("<IH", 0, self._options.loop))
        self._file.write(b"RIFF\0\0\0\0WEBP" + _chunk(b"VP8X", extended) + loop)

    def _store(self, frame: Frame, duration: Fraction) -> None:
        assert self._file is not None
        # rounding the ends, not the lengths, keeps errors from adding up
        begin_ms, end_ms = round(frame.time * 1000), round((frame.time + duration) * 1000)
        lasts_ms = min(max(1, end_ms - begin_ms), MAX_WEBP_DURATION_MS)
        width, height = frame.size_px
        place = _three(0) + _three(0) + _three(width - 1) + _three(height - 1)
        flags = b"\x02"  # replace the frame before, do not blend with it
        picture = _webp_chunks(frame, self._options)
        self._file.write(_chunk(b"ANMF", place + _three(lasts_ms) + flags + picture))


def _three(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _webp_chunks(frame: Frame, options: SinkOptions) -> bytes:
    """The image chunks (ALPH, VP8, VP8L) of a still WebP of this frame."""
    alpha = frame.alpha if options.alpha else None
    stored = frame.pixels if alpha is None else np.dstack([frame.pixels, alpha])
    quality = WEBP_QUALITY if options.quality is None else options.quality
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(
        file, "WEBP", quality=quality, lossless=quality == 100, method=4
    )
    data, chunks, at = file.getvalue(), b"", len(b"RIFF....WEBP")
    # chunks: four letters, u32 size, data, padded to an even length
    while at < len(data):
        name, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        padded = 8 + size + size % 2
        if name in (b"ALPH", b"VP8 ", b"VP8L"):
            chunks += data[at : at + padded]
        at += padded
    return chunks
