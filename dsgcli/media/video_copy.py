"""Everything but the picture: sound, subtitles, chapters, attachments and metadata of a source.

Data flow: source file -> packets -> the container that a video is written to, in step with its
frames, so that memory stays constant. Packets are copied as they are where the container can hold
them; sound and text that it cannot hold are re-encoded, and said so; the rest is left out, and said
so.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container.output import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from dsgcli.media.sinks import SinkOptions
from dsgcli.media.sources import SourceInfo
from dsgcli.media.times import JUMP_S
from dsgcli.media.video_codecs import Container
from dsgcli.media.video_decode import open_container
from dsgcli.media.video_tracks import (
    MILLISECOND,
    CannotCopyError,
    CopiedTrack,
    EncodedAudio,
    EncodedText,
    Track,
    Window,
)

UNPLAYABLE = {"mp4": ("pcm_", "vorbis")}
"""Sound that a muxer may write, and few players play."""

if TYPE_CHECKING:
    from av.container.core import Chapter  # in its stub only

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


class Copier:
    """Copies into a container whose header is not written yet.

    Args:
        source: a video; its file is read a second time, without its picture.
        encode: numbers of streams that cannot be copied as they are.
    """

    def __init__(
        self,
        source: SourceInfo,
        options: SinkOptions,
        output: OutputContainer,
        container: Container,
        encode: Collection[int] = (),
    ) -> None:
        assert source.path is not None
        self.notes: list[str] = []
        self._output, self._container = output, container
        self._window, self._encode = Window(source), frozenset(encode)
        self._input = open_container(source.path)
        self._tracks: dict[int, Track] = {}
        skipped = {"video", "data"} | ({"audio"} if options.audio == "none" else set())
        for stream in self._input.streams:
            if stream.type not in skipped and not self._is_cover(source, stream):
                self._add(stream)
        self._say_left_out(source)
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

    def _mux(self, track: Track, packet: Packet[Stream] | None) -> None:
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

    def _copied(self, stream: Stream) -> Track | None:
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

    def _encoded(self, stream: Stream) -> Track | None:
        if isinstance(stream, AudioStream) and stream.codec_context is not None:
            target = self._add_audio(stream)
            self._say_encoded("sound", stream, target)
            return EncodedAudio(stream, target, self._window)
        if isinstance(stream, SubtitleStream) and _is_text(stream):
            text = self._output.add_stream(self._container.subtitles)
            assert isinstance(text, SubtitleStream)
            stream.codec_context.open(strict=False)
            text.codec_context.subtitle_header = stream.codec_context.subtitle_header
            text.codec_context.time_base = MILLISECOND
            self._say_encoded("subtitles", stream, text)
            return EncodedText(stream, text, self._window)
        return None

    def _add_audio(self, stream: AudioStream) -> AudioStream:
        known = av.Codec(self._container.audio, "w").audio_rates or []
        said = stream.codec_context.sample_rate
        rate = said if said in known else USUAL_AUDIO_RATE
        target = self._output.add_stream(self._container.audio, rate=rate)
        assert isinstance(target, AudioStream)
        channels = stream.codec_context.channels
        layout = pick_layout(self._container.audio, stream.codec_context.layout, rate)
        target.codec_context.layout = layout.name
        target.codec_context.bit_rate = AUDIO_BITS_PER_CHANNEL * layout.nb_channels
        if layout.nb_channels != channels:
            self._note(f"sound of {channels} channels is mixed to {layout.name}")
        return target

    def _say_encoded(self, what: str, stream: Stream, target: Stream) -> None:
        old = stream.codec_context.codec.canonical_name
        new = target.codec_context.codec.canonical_name
        why = f"{self._container.format} cannot hold {old}"
        if stream.index in self._encode:
            why = "it changes in the middle"
        self._note(f"{what} re-encoded from {old} to {new}: {why}")

    def _is_cover(self, source: SourceInfo, stream: Stream) -> bool:
        return any(s.index == stream.index and s.kind == "cover" for s in source.streams)

    def _say_left_out(self, source: SourceInfo) -> None:
        if any(s.kind == "cover" for s in source.streams):
            self.notes.append("the cover picture is left out")
        data = [s for s in source.streams if s.kind == "data"]
        if data and not (len(data) == 1 and self._input.chapters()):  # chapters are one in MP4
            self.notes.append(f"{len(data)} data streams (timecode, sensors) are left out")

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
        self._output.metadata.update(source.metadata)


def pick_layout(encoder: str, wanted: av.AudioLayout, rate: int) -> av.AudioLayout:
    """The speakers for sound that is encoded anew: those of the source, else another arrangement of
    as many, else 5.1 or stereo."""
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


def _is_text(stream: SubtitleStream) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.text_sub


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
