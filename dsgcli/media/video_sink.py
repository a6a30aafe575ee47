"""Videos out: frames -> a video file with the sound of its source (PyAV).

Data flow: Frame -> FramePainter -> FrameEncoder -> packets -> Muxer, which copies the rest of the
source alongside. `video_segments.py` puts a store between the encoder and the muxer.

Every packet carries its frame's time: what comes in at a variable rate goes out at one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.container.output import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from dsgcli.errors import MediaError, SinkError
from dsgcli.media.files import Beside, sink_error
from dsgcli.media.sinks import Sink, SinkOptions, abort_quietly
from dsgcli.media.sources import SourceInfo
from dsgcli.media.video_codecs import (
    CONTAINERS,
    EncoderSpec,
    choose_encoder,
    container_of,
    make_spec,
    open_encoder,
)
from dsgcli.media.video_color import FramePainter
from dsgcli.media.video_copy import Copier
from dsgcli.media.video_decode import VideoPacket, open_container
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels


class FrameEncoder:
    """Frames of one size -> packets with their times."""

    def __init__(self, spec: EncoderSpec, context: VideoCodecContext, *, alpha: bool) -> None:
        self._spec, self._context, self._alpha = spec, context, alpha
        self._paint = FramePainter(spec.size_px, spec.pix_fmt, spec.color)
        self._durations: dict[int, int] = {}
        self._last_pts: int | None = None
        self._size: tuple[int, int] | None = None

    def encode(self, frame: Frame) -> Iterator[VideoPacket]:
        """Packets that are ready; an encoder holds some frames back."""
        self._size = self._size or frame.size_px
        assert frame.size_px == self._size, "frames of one video have one size"
        picture = self._paint(frame.pixels, self._opacity(frame))
        picture.pts, picture.time_base = self._next_pts(frame), self._spec.time_base
        if frame.duration:
            ticks = max(1, round(frame.duration / self._spec.time_base))
            self._durations[picture.pts] = picture.duration = ticks
        yield from self._timed(self._context.encode(picture))

    def flush(self) -> Iterator[VideoPacket]:
        """What the encoder held back.

        Containers take the end of the film from the packet that comes last, which may be shown
        before others: it is given the duration of the frame that is shown last.
        """
        last = self._durations.get(self._last_pts if self._last_pts is not None else -1)
        packets = list(self._timed(self._context.encode(None)))
        if packets and last is not None:
            packets[-1].duration = last
        yield from packets

    def _opacity(self, frame: Frame) -> Pixels | None:
        if not self._alpha:
            return None
        if frame.alpha is not None:
            return frame.alpha
        return np.full(frame.pixels.shape[:2], 255, np.uint8)

    def _next_pts(self, frame: Frame) -> int:
        pts = round(frame.time / self._spec.time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1  # two frames within a tick
        self._last_pts = pts
        return pts

    def _timed(self, packets: list[VideoPacket]) -> Iterator[VideoPacket]:
        usual = round(1 / (self._spec.rate * self._spec.time_base))
        for packet in packets:
            packet.time_base = self._spec.time_base
            packet.duration = self._durations.pop(packet.pts or 0, usual)
            yield packet


class Muxer:
    """Packets of a video, and all that is copied from its source -> a file."""

    def __init__(
        self, path: Path, spec: EncoderSpec, options: SinkOptions, source: SourceInfo | None
    ) -> None:
        self.notes: list[str] = []
        self._path = path
        kind = container_of(path)
        self._beside = Beside(path)
        self._copier: Copier | None = None
        self._container: OutputContainer = av.open(
            str(self._beside.temporary),
            "w",
            format=kind.format,
            container_options=kind.mux_options(spec.time_base),
        )
        self.stream = self._add_video(spec)
        if source is not None and source.kind == "video":
            self._copier = Copier(source, options, self._container, kind)
            self.notes = self._copier.notes
        if options.metadata:
            self._add_metadata(kind.metadata_key, json.dumps(dict(options.metadata)))
        open_encoder(self._container.start_encoding, spec)

    def mux(self, packet: VideoPacket) -> None:
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

    def _add_metadata(self, key: str, text: str) -> None:
        """Below what the source says under the same key, in whatever case."""
        tags = self._container.metadata
        said = [tags.pop(other) for other in list(tags) if other.lower() == key.lower()]
        tags[key] = "\n".join([*said, text])

    def _add_video(self, spec: EncoderSpec) -> VideoStream:
        def add() -> VideoStream:
            stream = self._container.add_stream(spec.codec, rate=spec.rate)
            assert isinstance(stream, VideoStream)
            return stream

        stream: VideoStream = open_encoder(add, spec)
        spec.configure(stream.codec_context)
        stream.time_base = spec.time_base
        return stream


class VideoSink(Sink):
    """A video file, written as frames come."""

    def __init__(self, path: Path, options: SinkOptions, source: SourceInfo | None) -> None:
        choose_encoder(path, options)  # says now, not after the first frame, if that cannot be
        self.path, self.num_frames = path, 0
        self._options, self._source = options, source
        self._notes: list[str] = []
        self._muxer: Muxer | None = None
        self._encoder: FrameEncoder | None = None

    @property
    def notes(self) -> list[str]:
        return self._notes + (self._muxer.notes if self._muxer else [])

    def write(self, frame: Frame) -> None:
        """Encode a frame.

        Raises:
            SinkError: the encoder refuses its options, or the disk is full.
        """
        with writing(self.path):
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
            with writing(self.path):
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
        self._notes += notes
        self._muxer = Muxer(self.path, spec, self._options, self._source)
        self._encoder = FrameEncoder(
            spec, self._muxer.stream.codec_context, alpha=self._options.alpha
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What PyAV and the disk raise while a file is written, as errors for the user."""
    try:
        yield
    except MediaError:
        raise
    except OSError as error:
        raise sink_error(path, error) from error
    except av.FFmpegError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error


def read_own_texts(path: Path) -> list[str]:
    """The tags of a video in which a sink puts its metadata. Raises as `open_source`."""
    keys = {kind.metadata_key.lower() for kind in CONTAINERS.values()}
    with open_container(path) as container:
        said = [text for key, text in container.metadata.items() if key.lower() in keys]
    return [text.rpartition("\n")[2] for text in said]
