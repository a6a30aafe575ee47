"""Animated GIFs out: frames -> palette -> GIF (PyAV's filters make the palettes).

Every frame gets the 256 colors that suit it best, and is written at once: a palette for the whole
film would need the whole film in memory.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container.output import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dsgcli.errors import SinkError
from dsgcli.media.files import Beside
from dsgcli.media.sinks import Sink, SinkOptions, abort_quietly
from dsgcli.media.video_sink import writing
from dsgcli.types import Frame

CENTISECOND = Fraction(1, 100)
"""The clock of GIF."""
FASTEST_CS = 2
"""Most viewers show shorter frames much slower."""
USUAL_CS = 10
"""A single frame's duration."""


class GifSink(Sink):
    """An animated GIF; with `alpha`, pixels that are less than half opaque are transparent."""

    def __init__(self, path: Path, options: SinkOptions) -> None:
        self.path, self.notes, self.num_frames = path, list[str](), 0
        self._options = options
        self._beside = Beside(path)
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
            str(self._beside.temporary), "w", format="gif", container_options={"loop": loop}
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
        painted = self._with_palette(frame)
        painted.pts, painted.time_base = begin, CENTISECOND
        for packet in self._stream.encode(painted):
            packet.duration = max(1, end - begin)
            self._container.mux(packet)

    def _with_palette(self, frame: Frame) -> VideoFrame:
        opaque = np.full(frame.pixels.shape[:2], 255, np.uint8)
        alpha = frame.alpha if self._options.alpha and frame.alpha is not None else opaque
        stored = np.ascontiguousarray(np.dstack([frame.pixels, alpha]))
        picture = VideoFrame.from_ndarray(stored, format="rgba")
        picture.pts, picture.time_base = self.num_frames, CENTISECOND
        self._graph.vpush(picture)
        return self._graph.vpull()

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
