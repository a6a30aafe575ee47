"""Tell who is who from frame to frame, and choose whom to draw: what is seen of frames -> shots.

Looking at a frame and following what was seen are apart: a worker far away may have looked, while
one `FaceTracking` follows all frames in their order (`detection_log.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import NoFaceError
from dsgcli.faces.align import crop_side
from dsgcli.faces.detect import Sweep
from dsgcli.faces.track import FaceChoice, FrameDetections, Tracker
from dsgcli.stylize.frame_state import FrameState, GradeReference
from dsgcli.types import Face

if TYPE_CHECKING:
    from dsgcli.faces.detect import Effort
    from dsgcli.stylize.checkpoint import LoopState
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.types import Frame

    Look = Callable[[Sequence[Face], Effort], FrameDetections]
    """Hints, and how hard to look -> what is seen of the current frame; may be called twice."""

SEARCHES_PER_S = 2
"""How often a video without a face is searched thoroughly; between, frames get a glance. Where
faces are followed, each frame is searched a little (`search.Sweep`)."""


GROWN = 2.0
"""A track's size is chosen again when its face is so many times as large as when it was chosen
last: so the sharpness of a face jumps rarely, and never back and forth."""


class FaceTracking:
    """Follows the faces of one stream, a frame after the other.

    Args:
        aligned: frames are FFHQ crops themselves; nothing is looked for.
        memory: the past of a run that goes on.
        source, detector: names, for messages.
    """

    def __init__(
        self,
        options: StylizeOptions,
        *,
        aligned: bool = False,
        memory: LoopState | None = None,
        source: str = "",
        detector: str = "",
    ) -> None:
        self.options, self.aligned = options, aligned
        self.source, self.detector = source, detector
        self.tracker = Tracker(hold=options.on_missing == "hold")
        self.choice = FaceChoice.parse(options.faces)
        self.last: FrameState | None = None
        self.sides: dict[str, float] = {}
        """By track: side of the crop, when it was last chosen."""
        self.reference: GradeReference | None = None
        """That of the scene, or of one before it."""
        if memory is not None:
            ours = ("sides", "reference")
            self.tracker.restore({k: v for k, v in memory.tracker.items() if k not in ours})
            self.sides = dict(memory.tracker["sides"])
            self.reference = restored_reference(memory.tracker["reference"])
            self.last = memory.recent[-1] if memory.recent else None

    def shot(
        self, index: int, time: Fraction, look: Look, frame: Frame | None = None
    ) -> FrameState:
        """The next frame, with the faces to draw.

        Raises:
            NoFaceError: a face is lost that may not be.
        """
        shot = FrameState(frame=frame, index=index, time_s=float(time))
        if shot.begins_segment:
            state = {"sides": dict(self.sides), "reference": reference_state(self.reference)}
            shot.tracker = self.tracker.state() | state
        if not self.aligned:
            self._follow(shot, look)
            shot.reference = self._reference_of(shot, time)
        self.last = shot
        return shot

    def _follow(self, shot: FrameState, look: Look) -> None:
        tracker, last = self.tracker, self.last
        faces = tracker.update(self._sight(shot, look))
        shot.scene = tracker.scene
        shot.num_tracks = tracker.num_tracks
        shot.found = sum(not face.held for face in faces)
        drawn = set() if last is None else {face.track for face in last.seen}
        shot.seen = self.choice.choose(faces, drawn)
        shot.opacity = [tracker.opacity(face.track) for face in shot.seen]
        shot.sides = [self._side(face) for face in shot.seen]
        lost = drawn.intersection(hint.track for hint in tracker.hints)
        if self.options.on_missing == "fail" and lost.difference(face.track for face in faces):
            raise NoFaceError(f"{self.source} at {shot.time_s:.2f} s", detector=self.detector)

    def _reference_of(self, shot: FrameState, time: Fraction) -> GradeReference | None:
        """The reference of the frame's scene, as far as it is known yet."""
        if shot.seen and (self.reference is None or self.reference.scene != shot.scene):
            self.reference = GradeReference(
                index=shot.index,
                time=time,
                scene=shot.scene,
                faces=shot.seen,
                sides=shot.sides,
                frame=shot.frame,
            )
        known = self.reference is not None and self.reference.scene == shot.scene
        return self.reference if known else None

    def _side(self, face: Face) -> float:
        """Side of a face's crop in the frame, held while it has not grown much."""
        side, track = crop_side(face), str(face.track)
        if side > GROWN * self.sides.get(track, 0.0):
            self.sides[track] = side
        return self.sides[track]

    def _sight(self, shot: FrameState, look: Look) -> FrameDetections:
        """Looks hard enough: everywhere where a scene begins, at some parts of the frame where
        faces are followed, now and then everywhere where there is none."""
        last, hints = self.last, self.tracker.hints
        if not hints:
            return look(hints, "search" if _is_due(last, shot) else "glance")
        begin_s = shot.time_s if last is None else last.time_s
        sight = look(hints, Sweep(begin_s, shot.time_s))
        return look((), "search") if self.tracker.begins_scene(sight) else sight


def reference_state(reference: GradeReference | None) -> dict[str, Any] | None:
    """Plain values and arrays of a reference, without its frame."""
    if reference is None:
        return None
    return {
        "index": reference.index,
        "time": str(reference.time),
        "scene": reference.scene,
        "sides": list(reference.sides),
        "landmarks": np.stack([face.landmarks for face in reference.faces]),
        "faces": [[face.score, face.track, face.held] for face in reference.faces],
    }


def restored_reference(state: Mapping[str, Any] | None) -> GradeReference | None:
    """The reference of `reference_state`."""
    if state is None:
        return None
    pairs = zip(state["landmarks"], state["faces"], strict=True)
    return GradeReference(
        index=state["index"],
        time=Fraction(state["time"]),
        scene=state["scene"],
        sides=state["sides"],
        faces=[
            Face(landmarks=landmarks, score=score, track=track, held=held)
            for landmarks, (score, track, held) in pairs
        ],
    )


def _is_due(last: FrameState | None, now: FrameState) -> bool:
    """Whether a thorough search falls between the last frame and this one; by the clock of the
    stream alone, so that a run that goes on searches the same frames."""
    return last is None or int(last.time_s * SEARCHES_PER_S) != int(now.time_s * SEARCHES_PER_S)
