"""Everything but the picture: sound, subtitles, chapters, attachments and metadata of a source.

Data flow: source file -> packets -> the container that a video is written to, in step with its
frames, so that memory stays constant. Each stream is a `MediaTrack`: its packets are copied, moved
in time, where the container can hold them; sound and text that it cannot hold are re-encoded, with
a note; the rest is left out, with a note.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container.output import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from dsgcli.media.base import Container, SinkOptions, SourceInfo
from dsgcli.media.video_reader import JUMP_S, open_container

if TYPE_CHECKING:
    from av.container.core import Chapter  # in its stub only

UNPLAYABLE = {"mp4": ("pcm_", "vorbis")}
"""Sound that a muxer may write, and few players play."""
SPEAKERS = {
    1: ("mono",),
    3: ("3.0",),
    4: ("quad", "4.0"),
    5: ("5.0",),
    6: ("5.1",),
    7: ("6.1",),
    8: ("7.1",),
}
"""Channels -> usual arrangements of speakers, as encoders want them."""
USUAL_AUDIO_RATE = 48_000
AUDIO_BITS_PER_CHANNEL = 96_000
"""Bits a second of re-encoded sound: 192 kbit/s in stereo, transparent for AAC and Opus."""
OWN_TAGS = ("duration", "encoder", "handler_name", "vendor_id", "alpha_mode", "filename")
"""Tags that describe a stream in its old file."""
CHANGING = ("mpegts", "mpeg", "aac", "mp3", "ac3", "eac3")
"""Containers whose streams may change in the middle: they have no header that says what follows."""
MAX_LAG_S = Fraction(1, 10)
"""How far sound may come after its picture; what would be later is left out."""
MILLISECOND = Fraction(1, 1000)


class Copier:
    """Copies into a container whose header is not written yet.

    Args:
        source: a video; its file is read a second time, without its picture.
        notes: gets sentences for the user.
        encode: numbers of streams that cannot be copied as they are.
    """

    def __init__(
        self,
        source: SourceInfo,
        options: SinkOptions,
        output: OutputContainer,
        container: Container,
        notes: list[str],
        encode: Collection[int],
    ) -> None:
        assert source.path is not None
        self.notes = notes
        self._output, self._container, self._location = output, container, options.location
        self._window, self._encode = Window(source), frozenset(encode)
        self._input = open_container(source.path)
        self._tracks: dict[int, MediaTrack] = {}
        covers = {s.index for s in source.streams if s.kind == "cover"}
        skipped = {"video", "data"} | ({"audio"} if options.audio == "none" else set())
        for stream in self._input.streams:
            if stream.type not in skipped and stream.index not in covers:
                self._add(stream)
        if covers:
            self.notes.append("the cover picture is left out")
        data = sum(s.kind == "data" for s in source.streams)
        if data and not (data == 1 and self._input.chapters()):  # chapters are one in MP4
            self.notes.append(f"{data} data streams (timecode, sensors) are left out")
        self._copy_texts(source)
        self._packets = self._demux()
        self._next = next(self._packets, None)

    def pump(self, until: Fraction | None) -> None:
        """Mux what is due before a time of the output; all that is left if None."""
        while self._next is not None:
            packet, time = self._next
            if until is not None and time > until:
                return
            self._mux(self._tracks[packet.stream.index], packet)
            self._next = next(self._packets, None)
        if until is None:
            for track in self._tracks.values():
                self._mux(track, None)

    def close(self) -> None:
        self._input.close()

    def _mux(self, track: MediaTrack, packet: Packet[Stream] | None) -> None:
        for made in track.flush() if packet is None else track.feed(packet):
            try:
                self._output.mux(made)
            except (av.InvalidDataError, av.PatchWelcomeError):
                # damaged beyond what the muxer can repack
                self._note("damaged pieces of sound are left out")
            except av.ArgumentError as error:
                if isinstance(track, CopiedTrack) and track.stream.type == "audio":
                    raise CannotCopyError(track.stream.index) from error
                raise

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _demux(self) -> Iterator[tuple[Packet[Stream], Fraction]]:
        """Packets with their output time; an error of the container ends them, like a cut."""
        if not self._tracks:
            return
        wanted = [track.stream for track in self._tracks.values()]
        if self._window.trims_start:
            self._input.seek(int(self._window.begin * av.time_base))
        time = Fraction(0)
        packets = self._input.demux(wanted)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                return
            if packet is None:
                return
            if packet.size == 0 or packet.is_corrupt:
                continue
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is not None:
                time = stamp * packet.time_base - self._window.begin
            if self._window.end is not None and time > self._window.end + JUMP_S:
                return
            yield packet, time

    def _add(self, stream: Stream) -> None:
        copied = None if stream.index in self._encode else self._copied(stream)
        track = copied or self._encoded(stream)
        if track is None:
            codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
            self.notes.append(
                f"{stream.type} in {codec} is left out: {self._container.format} cannot hold it"
            )
        elif stream.type != "attachment":
            self._tracks[stream.index] = track
        if track is not None and not self._location:
            for key in filter(names_place, list(track.target.metadata)):
                del track.target.metadata[key]

    def _copied(self, stream: Stream) -> MediaTrack | None:
        if stream.type == "attachment":
            if self._container.format != "matroska":
                return None
            return CopiedTrack(stream, self._output.add_stream_from_template(stream), self._window)
        if stream.codec_context is None or not _can_hold(self._container.format, stream):
            return None
        target = self._output.add_stream_from_template(stream, opaque=True)
        edit_lists = self._input.format.name.startswith("mov")
        primed = edit_lists and self._container.format not in ("mp4", "mov")
        primed = primed and stream.codec_context.codec.canonical_name != "opus"  # has its own
        return CopiedTrack(stream, target, self._window, drop_priming=primed)

    def _encoded(self, stream: Stream) -> MediaTrack | None:
        if isinstance(stream, AudioStream) and stream.codec_context is not None:
            encoder, sound = self._container.audio, stream.codec_context
            fits = sound.sample_rate in (av.Codec(encoder, "w").audio_rates or [])
            rate = sound.sample_rate if fits else USUAL_AUDIO_RATE
            target = self._output.add_stream(encoder, rate=rate)
            assert isinstance(target, AudioStream)
            layout = pick_layout(encoder, sound.layout, rate)
            target.codec_context.layout = layout.name
            target.codec_context.bit_rate = AUDIO_BITS_PER_CHANNEL * layout.nb_channels
            if layout.nb_channels != sound.channels:
                self._note(f"sound of {sound.channels} channels is mixed to {layout.name}")
            self._say_encoded("sound", stream, target)
            return EncodedAudio(stream, target, self._window)
        if (
            isinstance(stream, SubtitleStream)
            and stream.codec_context is not None
            and stream.codec_context.codec.text_sub
        ):
            text = self._output.add_stream(self._container.subtitles)
            assert isinstance(text, SubtitleStream)
            stream.codec_context.open(strict=False)
            text.codec_context.subtitle_header = stream.codec_context.subtitle_header
            text.codec_context.time_base = MILLISECOND
            self._say_encoded("subtitles", stream, text)
            return EncodedText(stream, text, self._window)
        return None

    def _say_encoded(self, what: str, stream: Stream, target: Stream) -> None:
        old = stream.codec_context.codec.canonical_name
        new = target.codec_context.codec.canonical_name
        why = f"{self._container.format} cannot hold {old}"
        if stream.index in self._encode:
            why = "it changes in the middle"
        self._note(f"{what} re-encoded from {old} to {new}: {why}")

    def _copy_texts(self, source: SourceInfo) -> None:
        """Chapters, moved and trimmed, and metadata."""
        moved: list[Chapter] = []
        for chapter in self._input.chapters():
            base = chapter["time_base"] or MILLISECOND
            begin = max(chapter["start"] * base, self._window.begin) - self._window.begin
            end = min(chapter["end"] * base, self._window.end or chapter["end"] * base)
            end -= self._window.begin
            if end > begin:
                chapter["start"], chapter["end"] = round(begin * 1000), round(end * 1000)
                chapter["time_base"] = MILLISECOND
                moved.append(chapter)
        self._output.set_chapters(moved)
        self._output.metadata.update(
            (key, text)
            for key, text in source.metadata.items()
            if self._location or not names_place(key)
        )


def names_place(key: str) -> bool:
    """Whether a tag says where a video was taken: `location`, `com.apple.quicktime.location...`."""
    return "location" in key.lower() or "gps" in key.lower()


def pick_layout(encoder: str, wanted: av.AudioLayout, rate: int) -> av.AudioLayout:
    """The speakers for sound that is encoded again: those of the source, else another arrangement
    of as many, else 5.1 or stereo."""
    alike = SPEAKERS.get(wanted.nb_channels, ())
    fewer = ("5.1", "stereo") if wanted.nb_channels > 5 else ("stereo",)
    for name in (wanted.name, *alike, *fewer):
        with contextlib.suppress(av.FFmpegError, ValueError):
            layout = av.AudioLayout(name)
            context = av.CodecContext.create(encoder, "w")
            assert isinstance(context, AudioCodecContext)
            formats = av.Codec(encoder, "w").audio_formats or []
            context.sample_rate, context.layout, context.format = rate, name, formats[0].name
            context.open(strict=False)
            return layout
    return av.AudioLayout("stereo")


def _can_hold(format_name: str, stream: Stream) -> bool:
    """Whether a container takes a stream as it is: tried on a header in memory, because muxers
    announce codecs that they then refuse."""
    if stream.codec_context.codec.canonical_name.startswith(UNPLAYABLE.get(format_name, ())):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=format_name) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


# ── tracks ───────────────────────────────────────────────────────────────────────────────────────


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


class MediaTrack:
    """One stream on its way into the new container. Subclasses say what becomes of a packet."""

    def __init__(self, stream: Stream, target: Stream, window: Window) -> None:
        self.stream, self.target, self.window = stream, target, window
        target.metadata.update(
            (key, value)
            for key, value in stream.metadata.items()
            if key.lower() not in OWN_TAGS
            and not key.startswith(("_STATISTICS", "BPS", "NUMBER_OF"))
        )
        target.disposition = stream.disposition

    def feed(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Packets to mux for one of the source."""
        raise NotImplementedError

    def flush(self) -> Iterator[Packet[Stream]]:
        """Packets that are left at the end."""
        return iter(())


class CannotCopyError(Exception):
    """A stream that has to be encoded again: what it holds changes, or the muxer refuses it."""

    def __init__(self, index: int) -> None:
        super().__init__(f"stream {index} cannot be copied")
        self.index = index


class CopiedTrack(MediaTrack):
    """Packets as they are, moved in time.

    Raises `CannotCopyError` where sound changes its layout or rate, which a header at the front of
    the output cannot say.

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
        self._last_out: int | None = None
        self._sound: tuple[str, int] | None = None
        changes = stream.container.format.name in CHANGING
        self._watched = stream if changes and isinstance(stream, AudioStream) else None

    def feed(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        self._watch(packet)
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None:
            return
        time = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
        if not self.window.holds(time):
            return
        # from the container's time to that of the output, and on by what clocks stepped back
        offset = round(self.window.begin / packet.time_base)
        self._move(packet, self._shift - offset)
        if self._drop_priming and packet.dts < 0:
            if packet.dts + (packet.duration or 0) <= 0:
                return
            packet.pts = packet.dts = 0
        if self._last is not None and packet.dts <= self._last:
            self._mend(packet)
        self._last = packet.dts
        self._rise(packet)
        packet.stream = self.target
        yield packet

    def _watch(self, packet: Packet[Stream]) -> None:
        """Decode sound of recordings, which may change in the middle, to see whether it does."""
        if self._watched is None:
            return
        try:
            frames = self._watched.codec_context.decode(packet)
        except av.FFmpegError:
            return
        for frame in frames:
            sound = frame.layout.name, frame.sample_rate
            if self._sound not in (None, sound):
                raise CannotCopyError(self.stream.index)
            self._sound = sound

    def _rise(self, packet: Packet[Stream]) -> None:
        """Let decoding times rise in the clock of the output too, which may be coarser."""
        base = self.target.time_base
        assert packet.dts is not None
        if not base:
            return
        out = round(packet.dts * packet.time_base / base)
        if self._last_out is not None and out <= self._last_out:
            out = self._last_out + 1
            shown = packet.dts if packet.pts is None else packet.pts
            shown_out = max(round(shown * packet.time_base / base), out)
            lasts = round((packet.duration or 0) * packet.time_base / base)
            packet.time_base = base
            packet.dts, packet.pts, packet.duration = out, shown_out, lasts
        self._last_out = out

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


class EncodedAudio(MediaTrack):
    """Sound, decoded and encoded again, whose layout and rate may change in the middle."""

    stream: AudioStream
    target: AudioStream

    def __init__(self, stream: AudioStream, target: AudioStream, window: Window) -> None:
        super().__init__(stream, target, window)
        self._graph: Graph | None = None
        self._shape: tuple[object, ...] = ()
        """Rate, format and layout that the graph was made for."""
        self._fifo: AudioFifo | None = None
        """Samples in the encoder's format, until there are enough for a frame."""
        self._begin = self._written = 0
        """Time of the first sample, and number of samples encoded, in samples of the output."""
        self._shift = self._end = Fraction(0)
        """Seconds added to the stream's clock, and where its sound ends by now."""
        self._started = False

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
        yield from self._end_graph()
        yield from self._encode_waiting(partial=True)
        yield from self.target.encode(None)

    def _encode(self, frame: AudioFrame) -> Iterator[Packet[Stream]]:
        assert frame.time_base is not None
        time = self._time(frame)
        if time is None:
            return
        shape = (frame.sample_rate, frame.format.name, frame.layout.name)
        if shape != self._shape:
            yield from self._end_graph()
            self._graph, self._shape = self._open(frame), shape
        assert self._graph is not None
        frame.pts = round(time / frame.time_base)
        self._graph.push(frame)
        yield from self._drain()

    def _time(self, frame: AudioFrame) -> Fraction | None:
        """Seconds in the output; None for what would lag behind the picture, where two recordings
        overlap. Where the clock starts over, it goes on from the old one's end."""
        assert frame.pts is not None and frame.time_base is not None
        time = frame.pts * frame.time_base - self.window.begin + self._shift
        if self._started:
            lag = self._end - time
            if lag > JUMP_S:
                self._shift += lag
            elif lag > MAX_LAG_S:
                return None
            time = max(time, self._end)
        self._started = True
        self._end = time + Fraction(frame.samples, frame.sample_rate)
        return time

    def _open(self, frame: AudioFrame) -> Graph:
        """A graph that fills gaps with silence and converts to the encoder's format."""
        context, graph = self.target.codec_context, Graph()
        if not context.is_open:
            context.open(strict=False)
        fill = "async=1"
        if self._fifo is not None:  # go on where the graph before ended, with silence if need be
            reached = Fraction(self._begin + self._written + self._fifo.samples)
            fill += f":first_pts={round(reached * frame.sample_rate / context.sample_rate)}"
        nodes = [
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format,
                layout=frame.layout,
                time_base=frame.time_base,
            ),
            graph.add("aresample", fill),
            graph.add(
                "aformat",
                f"sample_fmts={context.format.name}:sample_rates={context.sample_rate}"
                f":channel_layouts={context.layout.name}",
            ),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph

    def _end_graph(self) -> Iterator[Packet[Stream]]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._drain()
        self._graph = None

    def _drain(self) -> Iterator[Packet[Stream]]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break
            assert isinstance(frame, AudioFrame)
            if self._fifo is None:
                # the first sample says where sound begins; from here on samples are counted
                self._fifo = AudioFifo()
                base = frame.time_base or Fraction(1, frame.sample_rate)
                self._begin = round((frame.pts or 0) * base * frame.sample_rate)
            frame.pts = None
            self._fifo.write(frame)
        yield from self._encode_waiting()

    def _encode_waiting(self, *, partial: bool = False) -> Iterator[Packet[Stream]]:
        """Encode whole frames; what is left at the end with `partial`."""
        context = self.target.codec_context
        while self._fifo is not None and self._fifo.samples:
            frame = self._fifo.read(context.frame_size or self._fifo.samples, partial)
            if frame is None:
                return
            frame.pts, frame.time_base = (
                self._begin + self._written,
                1 / Fraction(frame.sample_rate),
            )
            self._written += frame.samples
            yield from self.target.encode(frame)


class EncodedText(MediaTrack):
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
