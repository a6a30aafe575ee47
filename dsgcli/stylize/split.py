"""One long video for many workers: its parts are looked over, followed, drawn, and joined.

    parts ──look over──▶ follow ──▶ segments ──draw──▶ join
            workers      here, in order        workers  here

Segments are those that `--resume` uses, so an interrupted run continues with any number of workers.
The frames are those of a run in one process, bit for bit, if the workers compute as it would (the
same hardware, and the same number of threads).
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from dsgcli.faces.align import face_transform
from dsgcli.stylize import frame_state as sizes
from dsgcli.stylize.checkpoint import LoopState, Segments
from dsgcli.stylize.detection_log import DetectionLog, TrackReplay
from dsgcli.stylize.draw_segment import SegmentResult, SegmentWork
from dsgcli.stylize.file import (
    check_target,
    faces_note,
    missing_faces_note,
    nothing_drawn,
    sink_options,
)
from dsgcli.stylize.paste import largest
from dsgcli.stylize.steady import EDGE_S
from dsgcli.stylize.summary import FileResult

if TYPE_CHECKING:
    from dsgcli.media.video_reader import VideoSource
    from dsgcli.progress import Progress, Task
    from dsgcli.stylize.frame_state import FrameState
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.studio import Studio
    from dsgcli.types import CropTransform

MAX_PART_SEGMENTS = 4
"""Segments that one worker looks over at a time: the lead-in then costs a sixteenth at most."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Seconds of a video to look over; the end None is its own."""

    begin: Fraction
    end: Fraction | None


class SplitVideo:
    """A video that several workers draw: what is to be done next, and what was done.

    Args:
        source: of the whole video; `held` closes it, and lets go of the locks on the outputs.
        workers: how many there are, about.

    Raises:
        SinkError, UsageError: its outputs cannot be written.
    """

    def __init__(
        self,
        job: Job,
        keys: Sequence[str],
        source: VideoSource,
        studio: Studio,
        progress: Progress,
        *,
        workers: int,
    ) -> None:
        self.job, self.keys, self.source, self.studio = job, tuple(keys), source, studio
        self.held = ExitStack()
        self.started = time.monotonic()
        options = sink_options(studio, keys, job.outputs, source.info)
        for path, sink in zip(job.outputs, options, strict=True):
            check_target(path, sink, source.info)
        self.aligned = studio.is_aligned(source)
        self.crew = studio.crew(job, source.info, aligned=self.aligned)
        self.segments = Segments(
            job.outputs,
            options,
            source.info,
            {"keys": list(keys)},
            fresh=not studio.options.resume,
        )
        self.point = self.segments.resume_point()
        self.crew.memory = self.point.memory
        self.result = FileResult(source=job.source.path, outputs=list(job.outputs))
        self._task = progress.task(job.source.path.name, source.info.expected_frames, "frames")
        self.task: Task = self._task.__enter__()
        self._go_on()
        self._plan_parts(workers)

    def _go_on(self) -> None:
        point = self.point
        self.follower = TrackReplay(self.source, self.crew, point.frame)
        self.shots = _Window(list(point.memory.recent) if point.memory else [], point.frame)
        self.place: CropTransform | None = point.memory.place if point.memory else None
        self.next_segment, self.ended = point.segment, False
        self.drawing: set[int] = set()
        if point.memory is not None:
            self.result.frames, self.result.faces = point.frame, int(point.memory.faces)
            self.result.notes.append(f"went on from frame {point.frame} of an interrupted run")
            self.task.advance(point.frame)
        self.faces_before = self.result.faces

    def _plan_parts(self, workers: int) -> None:
        info = self.source.info
        assert info.rate is not None and info.duration is not None
        begin = Fraction(self.shots.last_s) if self.point.segment else Fraction(0)
        segment_s = sizes.SEGMENT_FRAMES / info.rate
        share_s = (info.duration - begin) / (2 * workers)
        part_s = min(max(share_s, segment_s), MAX_PART_SEGMENTS * segment_s)
        count = max(1, int((info.duration - begin) / part_s))
        bounds = [begin + i * part_s for i in range(count)]
        self.parts = [TimeRange(b, e) for b, e in zip(bounds, [*bounds[1:], None], strict=True)]
        self._to_look = deque(self.parts)
        self._to_follow = deque(self.parts)
        self._watched: dict[TimeRange, DetectionLog] = {}
        self._to_draw: deque[SegmentWork] = deque()

    # ── what is to be done, and what was done ────────────────────────────────────────────────────

    def next_work(self) -> TimeRange | SegmentWork | None:
        """The next task for a worker; drawing first, so that little is kept in memory."""
        if self._to_draw:
            work = self._to_draw.popleft()
            self.drawing.add(work.number)
            return work
        return self._to_look.popleft() if self._to_look else None

    @property
    def is_done(self) -> bool:
        """Whether all segments are drawn."""
        return self.ended and not self._to_draw and not self.drawing

    def take_watched(self, part: TimeRange, watched: DetectionLog) -> None:
        """A part was looked over.

        Raises:
            UnreliableError: parts do not fit together.
            NoFaceError: a face is lost that may not be.
        """
        self._watched[part] = watched
        while self._to_follow and self._to_follow[0] in self._watched:
            now = self._watched.pop(self._to_follow.popleft())
            shots = self.follower.follow(now)
            self.shots.add(shots)
            found = [self.result.faces_found, *(shot.found for _, shot in shots)]
            self.result.faces_found = max(found)
            people = [self.result.num_tracks, *(shot.num_tracks for _, shot in shots)]
            self.result.num_tracks = max(people)
            info = self.source.info
            info.warnings += now.warnings
            info.truncated |= now.truncated
            self.ended = not self._to_follow
        while (work := self._next_segment()) is not None:
            if self.segments.is_drawn(work.number, len(work.drawn)):
                self._count(len(work.drawn), work.faces)
            else:
                self._to_draw.append(work)

    def take_drawn(self, work: SegmentWork, drew: SegmentResult) -> None:
        """A segment was drawn."""
        self.drawing.discard(work.number)
        self._count(drew.frames, drew.faces)

    def _count(self, frames: int, faces: int) -> None:
        self.result.frames += frames
        self.result.faces += faces
        self.task.advance(frames, faces=self.result.faces)

    def finish(self) -> FileResult:
        """Join the segments.

        Raises:
            NoFaceError: there is nothing to draw in it.
            SinkError: the output cannot be written.
        """
        assert self.is_done, "some segments are not drawn yet"
        result = self.result
        if not result.faces:
            self.segments.discard()
            raise nothing_drawn(self.result, self.studio)
        with self.studio.clock.stage("write"):
            result.notes += self.segments.join(self.next_segment)
        info = self.source.info
        result.notes += missing_faces_note(result, self.studio.options)
        result.notes += [*faces_note(result, info), *dict.fromkeys(info.warnings)]
        result.truncated = self.source.info.truncated
        result.seconds = time.monotonic() - self.started
        return result

    def close(self) -> int:
        """Let go of everything; the number of the first frame that a later run draws."""
        with suppress(AttributeError):
            self._task.__exit__(None, None, None)
        with self.held:
            return self.segments.stop() if self.segments.folder.is_dir() else 0

    # ── segments ─────────────────────────────────────────────────────────────────────────────────

    def _next_segment(self) -> SegmentWork | None:
        """The next segment, once all that its frames depend on is known."""
        shots, number = self.shots, self.next_segment
        first, reach_s = number * sizes.SEGMENT_FRAMES, self.crew.smooth_s + EDGE_S
        stop = min(first + sizes.SEGMENT_FRAMES, shots.stop)
        if stop <= first or (stop < first + sizes.SEGMENT_FRAMES and not self.ended):
            return None
        coded = self._around(first, stop, max(reach_s, self.crew.grade_s + EDGE_S))
        last_s = shots.at(min(coded.stop, shots.stop) - 1).time_s + reach_s
        if not self.ended and (coded.stop > shots.stop or shots.last_s <= last_s):
            return None
        coded = range(coded.start, min(coded.stop, shots.stop))
        low = shots.since(shots.at(coded.start).time_s - reach_s)
        around = shots.between(low, shots.until(last_s))
        drawn = shots.between(first, stop)
        work = SegmentWork(
            number=number,
            shots=around,
            coded=coded,
            drawn=range(first, stop),
            times=shots.times(max(coded.start, self.point.frame), coded.stop),
            memory=LoopState(
                tracker=drawn[0].tracker or {}, faces=self.faces_before, place=self.place
            ),
            state=number > self.point.segment,
            faces=sum(len(shot.seen) for shot in drawn) if not self.aligned else len(drawn),
        )
        self._move_on(work, drawn, low)
        return work

    def _around(self, first: int, stop: int, reach_s: float) -> range:
        """Frames that matter to frames `first` to `stop`, in whole batches."""
        shots = self.shots
        begin = shots.since(shots.at(first).time_s - reach_s)
        end = shots.until(shots.at(stop - 1).time_s + reach_s)
        return range(self._batch_start(begin), self._batch_stop(end))

    def _batch_start(self, index: int) -> int:
        """Where the batch begins that holds this frame."""
        if index < self.point.frame:
            return index  # encoded by the run before
        begin = index - index % sizes.SEGMENT_FRAMES
        return begin + (index - begin) // self.studio.batches.size * self.studio.batches.size

    def _batch_stop(self, stop: int) -> int:
        """Where the batch ends that holds the frame before this one."""
        begin = self._batch_start(stop - 1)
        segment_stop = (begin // sizes.SEGMENT_FRAMES + 1) * sizes.SEGMENT_FRAMES
        return min(begin + self.studio.batches.size, segment_stop)

    def _move_on(self, work: SegmentWork, drawn: Sequence[FrameState], low: int) -> None:
        self.next_segment += 1
        self.faces_before += work.faces
        if self.studio.options.crop and not self.aligned:
            self.place = self._place_after(work) or self.place
        self.shots.forget(low)

    def _place_after(self, work: SegmentWork) -> CropTransform | None:
        """Where the last portrait of a segment is: the largest face of its last frame with one."""
        last = next((i for i in reversed(work.drawn) if self.shots.at(i).seen), None)
        if last is None:
            return None
        at_s, reach_s = self.shots.at(last).time_s, self.crew.smooth_s + EDGE_S
        low, high = self.shots.since(at_s - reach_s), self.shots.until(at_s + reach_s)
        steadied = self.crew.steady_faces(self.shots.between(low, high))
        faces = next(shot.faces for shot in steadied if shot.index == last)
        size_px = max(pipeline.size_px for pipeline in self.crew.encoders)
        return largest([face_transform(face, size_px) for face in faces])


class _Window:
    """Shots in a row, by number and by time; the oldest are forgotten."""

    def __init__(self, recent: list[FrameState], stop: int) -> None:
        self._shots, self._exact = recent, [Fraction(0)] * len(recent)
        self._times_s = [shot.time_s for shot in recent]
        self._first = stop - len(recent)

    @property
    def stop(self) -> int:
        return self._first + len(self._shots)

    @property
    def last_s(self) -> float:
        return self._times_s[-1] if self._times_s else -1.0

    def add(self, shots: Sequence[tuple[Fraction, FrameState]]) -> None:
        self._shots += [shot for _, shot in shots]
        self._exact += [exact for exact, _ in shots]
        self._times_s += [shot.time_s for _, shot in shots]

    def at(self, index: int) -> FrameState:
        return self._shots[index - self._first]

    def between(self, start: int, stop: int) -> list[FrameState]:
        return self._shots[start - self._first : stop - self._first]

    def times(self, start: int, stop: int) -> list[Fraction]:
        return self._exact[start - self._first : stop - self._first]

    def since(self, time_s: float) -> int:
        """Number of the first shot at this time or later."""
        return self._first + bisect_left(self._times_s, time_s)

    def until(self, time_s: float) -> int:
        """Number after the last shot at this time or earlier."""
        return self._first + bisect_right(self._times_s, time_s)

    def forget(self, before: int) -> None:
        """Let go of shots with a lower number."""
        count = before - self._first
        del self._shots[:count], self._exact[:count], self._times_s[:count]
        self._first = before
