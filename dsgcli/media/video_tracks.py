"""Streams on their way from a source to an output: copied, or re-encoded where they must be.

Data flow: packets of one stream of the source -> packets of one stream of the output, moved in time
and trimmed. `video_copy.py` decides which kind of track a stream gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from dsgcli.media.sources import SourceInfo
from dsgcli.media.times import JUMP_S

OWN_TAGS = ("duration", "encoder", "handler_name", "vendor_id", "alpha_mode", "filename")
"""Tags that describe a stream in its old file."""
MILLISECOND = Fraction(1, 1000)


class Window:
    """The part of the source that is kept, and where it goes: container time -> output time."""

    def __init__(self, source: SourceInfo) -> None:
        self.begin = source.origin + source.start
        self.trims_start = source.start > 0
        self.end = None if source.end is None else source.origin + source.end

    def holds(self, time: Fraction) -> bool:
        """Whether a packet of that container time is kept. Without --start nothing is cut there:
        what lies before 0 is an encoder's priming, which players need."""
        return not (self.trims_start and time < self.begin) and not (
            self.end is not None and time >= self.end
        )


class Track:
    """One stream on its way into the new container. Subclasses say what becomes of a packet."""

    def __init__(self, stream: Stream, target: Stream, window: Window) -> None:
        self.stream, self.target, self.window = stream, target, window
        _copy_tags(stream, target)

    def feed(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Packets to mux for one of the source."""
        raise NotImplementedError

    def flush(self) -> Iterator[Packet[Stream]]:
        """Packets that are left at the end."""
        return iter(())


class CopiedTrack(Track):
    """Packets as they are, moved in time.

    Args:
        drop_priming: leave out what lies before 0. MP4 says in an edit list that players must not
            play it; in a container without such lists the whole film would be shifted for it.
    """

    def __init__(
        self, stream: Stream, target: Stream, window: Window, *, drop_priming: bool = False
    ) -> None:
        super().__init__(stream, target, window)
        self._drop_priming = drop_priming
        self._shift = 0
        self._last: int | None = None

    def feed(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None:
            return
        time = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
        if not self.window.holds(time):
            return
        offset = round(self.window.begin / packet.time_base)
        self._move(packet, self._shift - offset)
        if self._drop_priming and packet.dts < 0:
            if packet.dts + (packet.duration or 0) <= 0:
                return
            packet.pts = packet.dts = 0
        if self._last is not None and packet.dts <= self._last:
            self._mend(packet)
        self._last = packet.dts
        packet.stream = self.target
        yield packet

    def _mend(self, packet: Packet[Stream]) -> None:
        """Muxers refuse clocks that step back: nudge, or go on where the old clock ended."""
        assert self._last is not None and packet.dts is not None
        back = self._last - packet.dts
        step = packet.duration or 1
        if back * packet.time_base > JUMP_S:
            self._shift += back + step
            self._move(packet, back + step)
        else:
            packet.dts = self._last + 1
            packet.pts = max(packet.pts or packet.dts, packet.dts)

    @staticmethod
    def _move(packet: Packet[Stream], ticks: int) -> None:
        assert packet.dts is not None
        packet.dts += ticks
        packet.pts = packet.dts if packet.pts is None else packet.pts + ticks


class EncodedAudio(Track):
    """Sound, decoded and encoded anew."""

    stream: AudioStream
    target: AudioStream

    def __init__(self, stream: AudioStream, target: AudioStream, window: Window) -> None:
        super().__init__(stream, target, window)
        self._graph: Graph | None = None

    def feed(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        try:
            frames = self.stream.codec_context.decode(packet if packet.size else None)
        except av.FFmpegError:
            return  # a damaged piece of sound is a short silence
        for frame in frames:
            if frame.pts is None:
                continue
            frame.time_base = self.stream.time_base
            if self.window.holds(frame.pts * Fraction(self.stream.time_base or 1)):
                yield from self._encode(frame)

    def flush(self) -> Iterator[Packet[Stream]]:
        if self._graph is None:
            return
        yield from self.feed(Packet())
        self._graph.push(None)
        yield from self._drain()
        yield from self.target.encode(None)

    def _encode(self, frame: AudioFrame) -> Iterator[Packet[Stream]]:
        assert frame.pts is not None and frame.time_base is not None
        if self._graph is None:
            self._graph = self._open(frame)
        offset = round(self.window.begin / frame.time_base)
        frame.pts -= offset
        self._graph.push(frame)
        yield from self._drain()

    def _open(self, frame: AudioFrame) -> Graph:
        """A graph that fills gaps with silence and cuts the sound into the encoder's frames."""
        context, graph = self.target.codec_context, Graph()
        context.open(strict=False)
        nodes = [
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format,
                layout=frame.layout,
                time_base=frame.time_base,
            ),
            graph.add("aresample", "async=1"),
            graph.add(
                "aformat",
                f"sample_fmts={context.format.name}:sample_rates={context.sample_rate}"
                f":channel_layouts={context.layout.name}",
            ),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
        if context.frame_size:
            graph.set_audio_frame_size(context.frame_size)
        return graph

    def _drain(self) -> Iterator[Packet[Stream]]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            yield from self.target.encode(frame)


class EncodedText(Track):
    """Subtitles of one text format, written in another."""

    stream: SubtitleStream
    target: SubtitleStream

    def feed(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        if not packet.size or packet.pts is None:
            return
        begin, lasts = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
        end = min(begin + lasts, self.window.end or begin + lasts)
        begin = max(begin, self.window.begin) if self.window.trims_start else begin
        if end <= begin:
            return
        try:
            text = self.stream.codec_context.decode2(packet)
        except av.FFmpegError:
            return
        if not text or not len(text):
            return
        encoded = self.target.codec_context.encode_subtitle(text)
        encoded.stream, encoded.time_base = self.target, MILLISECOND
        encoded.pts = encoded.dts = round((begin - self.window.begin) * 1000)
        encoded.duration = round((end - begin) * 1000)
        yield encoded


def _copy_tags(stream: Stream, target: Stream) -> None:
    kept = {
        key: value
        for key, value in stream.metadata.items()
        if key.lower() not in OWN_TAGS and not key.startswith(("_STATISTICS", "BPS", "NUMBER_OF"))
    }
    target.metadata.update(kept)
    target.disposition = stream.disposition
