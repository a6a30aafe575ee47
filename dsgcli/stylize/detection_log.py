"""Look ahead: what workers saw of a video, each of its own part, and the one who follows it all.

Flow: WatchPiece -> (any worker) Watched -> Follower -> shots, those of a run in one process.

Finding faces takes most of the time before drawing, and what is found depends on where faces were a
moment ago. So each worker begins LEAD_S early, without a past: by its own first frame everyone who
may still be there has been found. It notes what it was asked, frame by frame (where faces were, how
hard to look), and what it saw. The follower then goes through all frames in order. Where it would
have asked the same, it takes the answer, which depends on nothing else (`FaceDetector`); where it
would have asked otherwise, it looks for itself. So what comes out never depends on the parts.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsgcli.faces.track import GAP_S, describe, thumbnail_of
from dsgcli.media.read import open_source
from dsgcli.media.video_reader import VideoSource
from dsgcli.runtime import prefetch

if TYPE_CHECKING:
    from dsgcli.faces.detect import Effort
    from dsgcli.faces.track import FrameDetections
    from dsgcli.stylize.flow import Crew
    from dsgcli.stylize.frame_state import FrameState
    from dsgcli.types import Face, Frame

LEAD_S = Fraction(GAP_S) + Fraction(1, 2)
"""A lost face is looked for this long at its last place; and half a second more, for the clock."""
SeenFrame = tuple[float, NDArray[np.float32] | None]
"""Time of a frame that was followed, and its thumbnail, if this run saw it."""
FAR_S = Fraction(5)
"""Frames this far ahead are sought, not read up to."""


@dataclass(frozen=True, slots=True)
class Note:
    """One frame, as a worker saw it."""

    time: Fraction
    thumbnail: NDArray[np.float32]
    """Thumbnail of the whole frame, see `track.thumbnail_of`."""
    answers: dict[bytes, FrameDetections] = field(default_factory=dict)
    """By a digest of the hints and the effort; empty if no detection was needed."""


@dataclass(slots=True)
class DetectionLog:
    """A part of a video, looked over."""

    begin: Fraction
    """Notes before this time are the lead-in."""
    notes: list[Note] = field(default_factory=list)
    irregular: bool = False
    """It cannot be relied on that its frames are those of a run through all of the file."""
    warnings: list[str] = field(default_factory=list)
    truncated: bool = False


class UnreliableError(Exception):
    """Parts of a video do not fit together: its frames cannot be found by seeking."""


def open_stretches(
    path: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> VideoSource | None:
    """A source that parts can be read of; None for what is read from the beginning only."""
    source = open_source(path, start=start, end=end)
    if isinstance(source, VideoSource):
        return source
    source.close()
    return None


def look_over(
    source: VideoSource, crew: Crew, begin: Fraction, end: Fraction | None
) -> DetectionLog:
    """See the frames of `begin` <= time < `end`, and some before them."""
    watched, watcher = DetectionLog(begin), crew.watcher()
    frames = source.stretch(max(begin - LEAD_S, Fraction(0)), end)
    with closing(prefetch(frames)) as ahead:
        for frame in ahead:
            note = Note(frame.time, thumbnail_of(frame.pixels))
            with crew.clock.stage("find"):
                watcher.shot(frame.index, frame.time, partial(_noted, note, crew, frame))
            watched.notes.append(note)
    watched.irregular = source.irregular
    watched.warnings, watched.truncated = source.info.warnings, source.info.truncated
    return watched


def _noted(
    note: Note, crew: Crew, frame: Frame, hints: Sequence[Face], effort: Effort
) -> FrameDetections:
    sight = describe(frame, crew.detector.detect(frame, hints=hints, effort=effort))
    note.answers[_digest(hints, effort)] = sight
    return sight


def _digest(hints: Sequence[Face], effort: Effort) -> bytes:
    """Digest of the inputs of a detector besides the picture."""
    digest = hashlib.blake2b(repr(effort).encode(), digest_size=16)
    for hint in hints:
        digest.update(np.ascontiguousarray(hint.landmarks).tobytes())
    return digest.digest()


class TrackReplay:
    """Goes through what the workers saw, in order.

    Args:
        source: of its own, for what has to be looked at again.
        crew: with the memory of the run that goes on, if one does.
        first: number of the first frame.
    """

    def __init__(self, source: VideoSource, crew: Crew, first: int) -> None:
        self.source, self.crew, self.index = source, crew, first
        self.watcher = crew.watcher()
        self.looked_again = 0
        """Frames that workers had been asked otherwise."""
        recent = crew.memory.recent if crew.memory is not None else []
        self._tail: deque[SeenFrame] = deque((shot.time_s, None) for shot in recent)
        self._frames: Iterator[Frame] = iter(())
        self._read: Frame | None = None

    def follow(self, watched: DetectionLog) -> list[tuple[Fraction, FrameState]]:
        """The shots of the next part, with their exact times.

        Raises:
            UnreliableError: its frames are not those that should come next.
            NoFaceError: a face is lost that may not be.
        """
        if watched.irregular:
            raise UnreliableError
        lead = [note for note in watched.notes if self._is_past(note, watched)]
        self._check(lead)
        shots = []
        for note in watched.notes[len(lead) :]:
            look = partial(self._answer, note)
            shots.append((note.time, self.watcher.shot(self.index, note.time, look)))
            self.index += 1
            self._remember(note)
        return shots

    def _is_past(self, note: Note, watched: DetectionLog) -> bool:
        last_s = self._tail[-1][0] if self._tail else -1.0
        return note.time < watched.begin or float(note.time) <= last_s

    def _check(self, lead: Sequence[Note]) -> None:
        """Make sure that the lead-in shows what the part before showed last."""
        if not lead:
            return
        expected = [known for known in self._tail if known[0] >= float(lead[0].time)]
        whole = bool(self._tail) and self._tail[0][0] <= float(lead[0].time)
        seen = lead[max(len(lead) - len(expected), 0) :]
        same = len(seen) == len(expected) and (not whole or len(lead) == len(expected))
        if not same or not all(map(_agree, expected, seen)):
            raise UnreliableError

    def _remember(self, note: Note) -> None:
        time_s = float(note.time)
        self._tail.append((time_s, note.thumbnail))
        while self._tail[0][0] < time_s - float(LEAD_S) - 1.0:
            self._tail.popleft()

    def _answer(self, note: Note, hints: Sequence[Face], effort: Effort) -> FrameDetections:
        answer = note.answers.get(_digest(hints, effort))
        if answer is not None:
            return answer
        self.looked_again += 1
        frame = self._frame(note.time)
        return describe(frame, self.crew.detector.detect(frame, hints=hints, effort=effort))

    def _frame(self, time: Fraction) -> Frame:
        read = self._read
        if read is None or not read.time <= time < read.time + FAR_S:
            self._frames = self.source.stretch(time, None)
        while read is None or read.time != time:
            read = self._read = next(self._frames, None)
            if read is None or read.time > time:
                raise UnreliableError
        return read


def _agree(known: SeenFrame, note: Note) -> bool:
    time_s, thumbnail = known
    same = thumbnail is None or np.array_equal(thumbnail, note.thumbnail)
    return time_s == float(note.time) and same
