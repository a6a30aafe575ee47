"""One segment of a video whose faces are known: shots without pictures -> its encoded frames.

Flow: SegmentWork -> (any worker) the segment's file, and the state where it begins.

What smoothing and batches make of a frame depends on frames around it, so those are cut out and
encoded too, by the same batches as in a run through the whole video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from dsgcli.errors import SourceError
from dsgcli.media.base import abort_quietly
from dsgcli.stylize.frame_state import TrackedSegment

if TYPE_CHECKING:
    from dsgcli.media.base import FrameSink
    from dsgcli.media.video_reader import VideoSource
    from dsgcli.stylize.checkpoint import LoopState, Segments
    from dsgcli.stylize.flow import Crew
    from dsgcli.stylize.frame_state import FrameState
    from dsgcli.stylize.output_styles import OutputStyle
    from dsgcli.types import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWork:
    """All that is needed to draw one segment."""

    number: int
    shots: Sequence[FrameState]
    coded: range
    drawn: range
    times: Sequence[Fraction]
    """Exact times of the frames to read."""
    memory: LoopState
    """State of the loop at its beginning, without the recent frames."""
    state: bool = True
    """Write the state where it begins, too."""
    faces: int = 0
    """How many there are to draw."""


@dataclass(slots=True)
class SegmentResult:
    """A segment that is on the disk."""

    frames: int = 0
    faces: int = 0


def draw_segment(
    work: SegmentWork,
    source: VideoSource,
    crew: Crew,
    segments: Segments,
    casts: Sequence[OutputStyle],
) -> SegmentResult:
    """Draw a segment and write it where `Segments` wants it.

    Raises:
        SourceError, SinkError: it cannot be read or written.
    """
    known, drew = TrackedSegment(work.shots, work.coded, work.drawn), SegmentResult()
    crew.paster.place = work.memory.place
    crew.read_frame = lambda reference: next(source.stretch(reference.time, None))
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
