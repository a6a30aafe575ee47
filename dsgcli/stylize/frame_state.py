"""A frame on its way through the loop, and what is known of it so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.faces.grade import Values
    from dsgcli.types import Crop, Face, Frame

T = TypeVar("T")

SEGMENT_FRAMES = 250
"""Frames of a segment: x264's own distance between key frames, so that segments cost no size; at
ten frames a second an interruption loses less than half a minute. Read through the module, so that
tests can make it small."""


@dataclass(slots=True, kw_only=True)
class GradeReference:
    """The first frame of a scene in which a face is drawn. What drawing does to its colors is what
    all frames of the scene are graded by: as a film is graded shot by shot, so that a wall
    does not change its color when the person before it moves."""

    index: int
    """Position of the frame in the stream."""
    time: Fraction
    scene: int
    faces: Sequence[Face]
    """Faces to draw in that frame, as they were found."""
    sides: Sequence[float]
    """One a face, as in `FrameState`."""
    frame: Frame | None = None
    """Let go once the grade is known; a run that goes on, or another worker, reads it again."""


@dataclass(slots=True, kw_only=True)
class FrameState:
    """One frame; each step of the loop adds what it finds."""

    frame: Frame | None
    """None for a frame that an earlier run has written: it only steadies those after it."""
    index: int
    """Position in the stream, from 0."""
    time_s: float
    scene: int = 0
    """Grows by one at every cut."""
    tracker: dict[str, Any] | None = None
    """State of the tracks before this frame, where a segment begins."""
    found: int = 0
    """Number of faces that were found, whether they are to be drawn or not."""
    num_tracks: int = 0
    """Faces told apart in the stream so far; their numbers are 0 to this, less one."""
    seen: list[Face] = field(default_factory=list)
    """Faces to draw, as they were found."""
    opacity: list[float] = field(default_factory=list)
    """One a face: below 1 while it fades in or out."""
    sides: list[float] = field(default_factory=list)
    """One a face: about the side of its crop in frame pixels, the same over most of a track; what
    the size of its portrait is chosen by."""
    faces: list[Face] = field(default_factory=list)
    """The faces of `seen`, smoothed."""
    crops: list[Crop] = field(default_factory=list)
    """One a face; one without a face where the frame is a crop itself."""
    encoded: list[list[Tensor]] = field(default_factory=list)
    """By encoder, then one a crop: codes (L, D) as they were encoded; (0, D) without an encoder,
    where the crops themselves are the content."""
    codes: list[list[Tensor]] = field(default_factory=list)
    """The codes, smoothed."""
    reference: GradeReference | None = None
    """The frame by which the rest of this one is graded; None where no face is near."""
    strength: float = 0.0
    """How far the frame is graded, 0 to 1."""
    grades: list[Values | None] = field(default_factory=list)
    """By cast: what is to be done to the colors of the frame (`faces/grade.py`); None leaves
    them."""

    @property
    def begins_segment(self) -> bool:
        return self.index % SEGMENT_FRAMES == 0

    @property
    def tracks(self) -> list[int]:
        """One a code; a frame that is a crop itself has track 0."""
        return [face.track for face in self.seen] or list(range(len(self.encoded[0])))

    def without_pictures(self) -> FrameState:
        """The parts of this frame that later frames need."""
        return FrameState(
            frame=None,
            index=self.index,
            time_s=self.time_s,
            scene=self.scene,
            seen=self.seen,
            encoded=self.encoded,
        )


def batched_shots(shots: Iterable[FrameState], size: int) -> Iterator[list[FrameState]]:
    """Lists of up to `size` shots that never cross a segment, so that a run that goes on at one
    computes the same batches as one that came there without stopping."""
    batch: list[FrameState] = []
    for shot in shots:
        if batch and (len(batch) == size or shot.begins_segment):
            yield batch
            batch = []
        batch.append(shot)
    if batch:
        yield batch


@dataclass(slots=True)
class TrackedSegment:
    """Shots whose faces are known already, and what to do with each."""

    shots: Sequence[FrameState]
    """In order, without pictures."""
    coded: range
    """Numbers of the frames to cut out and encode; those before that are encoded already, by an
    earlier run, count too."""
    drawn: range
    """Numbers of the frames to write."""
    past: list[FrameState] = field(default_factory=list)
    """Filled on the way: the encoded ones before those that are written."""

    def with_pictures(self, frames: Iterable[Frame]) -> Iterator[FrameState]:
        """All shots, those to be encoded with their frames."""
        pictures = iter(frames)
        for shot in self.shots:
            wanted = shot.index in self.coded and not shot.encoded
            yield replace(shot, frame=next(pictures)) if wanted else shot

    def placed(self, shots: Iterable[FrameState]) -> Iterator[FrameState]:
        """Without those that only steadied the faces of others."""
        return (shot for shot in shots if shot.frame is not None or shot.encoded)

    def to_draw(self, shots: Iterable[FrameState]) -> Iterator[FrameState]:
        """Those to write; those before them are put aside, for the state of the loop."""
        for shot in shots:
            if shot.index in self.drawn:
                yield shot
            elif shot.index < self.drawn.start:
                self.past.append(shot.without_pictures())
