"""A frame on its way through the loop, and what is known of it so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
class Shot:
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
    fits: list[Values | None] = field(default_factory=list)
    """By cast: what drawing did to the colors of the crops (`faces/grade.py`), as it was found;
    None where that is not asked for. Empty without a face."""
    grades: list[Values | None] = field(default_factory=list)
    """By cast: what is to be done to the colors of the frame, steadied; None leaves them."""

    @property
    def begins_segment(self) -> bool:
        return self.index % SEGMENT_FRAMES == 0

    @property
    def tracks(self) -> list[int]:
        """One a code; a frame that is a crop itself has track 0."""
        return [face.track for face in self.seen] or list(range(len(self.encoded[0])))

    def without_pictures(self) -> Shot:
        """The parts of this frame that later frames need."""
        return Shot(
            frame=None,
            index=self.index,
            time_s=self.time_s,
            scene=self.scene,
            seen=self.seen,
            encoded=self.encoded,
            fits=self.fits,
        )


def batched_shots(shots: Iterable[Shot], size: int) -> Iterator[list[Shot]]:
    """Lists of up to `size` shots that never cross a segment, so that a run that goes on at one
    computes the same batches as one that came there without stopping."""
    batch: list[Shot] = []
    for shot in shots:
        if batch and (len(batch) == size or shot.begins_segment):
            yield batch
            batch = []
        batch.append(shot)
    if batch:
        yield batch


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
