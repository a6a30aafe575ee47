"""One segment of a video whose faces are known: shots without pictures -> its encoded frames.

Flow: DrawPiece -> (any worker) the segment's file, and the state where it begins.

What smoothing and batches make of a frame depends on frames around it, so those are cut out and
encoded too, by the same batches as in a run through the whole video. The nearest of them are drawn
as well where frames are graded, but not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from dsgcli.errors import SourceError
from dsgcli.media.base import abort_quietly
from dsgcli.runtime import return_freed_memory

if TYPE_CHECKING:
    from dsgcli.media.base import FrameSink
    from dsgcli.media.video_reader import VideoSource
    from dsgcli.stylize.cast import Cast
    from dsgcli.stylize.flow import Crew
    from dsgcli.stylize.memory import Memory
    from dsgcli.stylize.segments import Segments
    from dsgcli.stylize.shots import Shot
    from dsgcli.types import Frame

T = TypeVar("T")


@dataclass(slots=True)
class Known:
    """Shots whose faces are known already, and what to do with each."""

    shots: Sequence[Shot]
    """In order, without pictures."""
    coded: range
    """Numbers of the frames to cut out and encode; those before that are encoded already, by an
    earlier run, count too."""
    graded: range
    """Numbers of the frames to draw, in whole batches; those before that are drawn already, by an
    earlier run, count too."""
    drawn: range
    """Numbers of the frames to write."""
    past: list[Shot] = field(default_factory=list)
    """Filled on the way: the encoded ones before those that are written."""

    def with_pictures(self, frames: Iterable[Frame]) -> Iterator[Shot]:
        """All shots, those to be encoded with their frames."""
        pictures = iter(frames)
        for shot in self.shots:
            wanted = shot.index in self.coded and not shot.encoded
            yield replace(shot, frame=next(pictures)) if wanted else shot

    def placed(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """Without those that only steadied the faces of others."""
        return (shot for shot in shots if shot.frame is not None or shot.encoded)

    def to_draw(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """Those before the first one to draw without their frames; none after the last one."""
        for shot in shots:
            if shot.index in self.graded:
                yield shot
            elif shot.index < self.graded.start:
                yield shot.without_pictures()

    def to_write(self, drawn: Iterable[tuple[Shot, T]]) -> Iterator[tuple[Shot, T]]:
        """Without those that only steadied the colors of others."""
        for shot, rest in drawn:
            if shot.index in self.drawn:
                yield shot, rest
            elif shot.index < self.drawn.start:
                self.past.append(shot.without_pictures())


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWork:
    """All that is needed to draw one segment."""

    number: int
    shots: Sequence[Shot]
    coded: range
    graded: range
    drawn: range
    times: Sequence[Fraction]
    """Of the frames to read, exactly."""
    memory: Memory
    """What was known where it begins, but for the recent shots."""
    state: bool = True
    """Write the state where it begins, too."""
    faces: int = 0
    """How many there are to draw."""


@dataclass(slots=True)
class Drew:
    """A segment that is on the disk."""

    frames: int = 0
    faces: int = 0


def draw_segment(
    work: SegmentWork, source: VideoSource, crew: Crew, segments: Segments, casts: Sequence[Cast]
) -> Drew:
    """Draw a segment and write it where `Segments` wants it.

    Raises:
        SourceError, SinkError: it cannot be read or written.
    """
    known, drew = Known(work.shots, work.coded, work.graded, work.drawn), Drew()
    crew.paster.place = work.memory.place
    sinks: list[FrameSink] = []
    try:
        with closing(crew.run(frames_at(source, work), casts, known)) as drawn_frames:
            for drawn in drawn_frames:
                if not sinks:
                    memory = replace(work.memory, recent=known.past)
                    sinks = segments.begin(work.number, memory if work.state else None)
                with crew.clock.stage("write"):
                    for sink, picture in zip(sinks, drawn.pictures, strict=True):
                        sink.write(picture)
                drew.frames += 1
                drew.faces += len(drawn.shot.crops)
        while sinks:
            sinks[0].close()
            sinks.pop(0)
        return_freed_memory()
    except BaseException:
        for sink in sinks:
            abort_quietly(sink)
        raise
    return drew


def frames_at(source: VideoSource, work: SegmentWork) -> Iterator[Frame]:
    """The frames of these times, with their numbers in the whole video.

    Raises:
        SourceError: the file does not give them, as it did before.
    """
    times, number = list(work.times), work.coded.stop - len(work.times)
    if not times:
        return
    with closing(source.stretch(times[0], None)) as frames:
        for index, (time, frame) in enumerate(zip(times, frames, strict=False)):
            if frame.time != time:
                break
            yield replace(frame, index=number + index)
            if index + 1 == len(times):
                return
    raise SourceError(
        f"{source.info.path} has other frames than a moment ago; is another program writing to it?"
    )
