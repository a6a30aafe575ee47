"""Tell who is who from frame to frame, and choose whom to draw: what is seen of frames -> shots.

Looking at a frame and following what was seen are apart: a worker far away may have looked, while
one `Watcher` follows all frames in their order (`record.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dsgcli.errors import NoFaceError
from dsgcli.faces.align import crop_side
from dsgcli.faces.detect import Sweep
from dsgcli.faces.track import FaceChoice, FrameDetections, Tracker
from dsgcli.stylize.shots import Shot

if TYPE_CHECKING:
    from dsgcli.faces.detect import Effort
    from dsgcli.stylize.checkpoint import Memory
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.types import Face, Frame

    Look = Callable[[Sequence[Face], Effort], FrameDetections]
    """Hints, and how hard to look -> what is seen of the current frame; may be called twice."""

SEARCHES_PER_S = 2
"""How often a video without a face is searched thoroughly; between, frames get a glance. Where
faces are followed, each frame is searched a little (`search.Sweep`)."""


GROWN = 2.0
"""A track's size is chosen again when its face is so many times as large as when it was chosen
last: so the sharpness of a face jumps rarely, and never back and forth."""


class Watcher:
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
        memory: Memory | None = None,
        source: str = "",
        detector: str = "",
    ) -> None:
        self.options, self.aligned = options, aligned
        self.source, self.detector = source, detector
        self.tracker = Tracker(hold=options.on_missing == "hold")
        self.choice = FaceChoice.parse(options.faces)
        self.last: Shot | None = None
        self.sides: dict[str, float] = {}
        """By track: side of the crop, when it was last chosen."""
        if memory is not None:
            self.tracker.restore({k: v for k, v in memory.tracker.items() if k != "sides"})
            self.sides = dict(memory.tracker.get("sides", {}))
            self.last = memory.recent[-1] if memory.recent else None

    def shot(self, index: int, time_s: float, look: Look, frame: Frame | None = None) -> Shot:
        """The next frame, with the faces to draw.

        Raises:
            NoFaceError: a face is lost that may not be.
        """
        shot = Shot(frame=frame, index=index, time_s=time_s)
        if shot.begins_segment:
            shot.tracker = self.tracker.state() | {"sides": dict(self.sides)}
        if not self.aligned:
            self._follow(shot, look)
        self.last = shot
        return shot

    def _follow(self, shot: Shot, look: Look) -> None:
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

    def _side(self, face: Face) -> float:
        """Side of a face's crop in the frame, held while it has not grown much."""
        side, track = crop_side(face), str(face.track)
        if side > GROWN * self.sides.get(track, 0.0):
            self.sides[track] = side
        return self.sides[track]

    def _sight(self, shot: Shot, look: Look) -> FrameDetections:
        """Looks hard enough: everywhere where a scene begins, at some parts of the frame where
        faces are followed, now and then everywhere where there is none."""
        last, hints = self.last, self.tracker.hints
        if not hints:
            return look(hints, "search" if _is_due(last, shot) else "glance")
        begin_s = shot.time_s if last is None else last.time_s
        sight = look(hints, Sweep(begin_s, shot.time_s))
        return look((), "search") if self.tracker.begins_scene(sight) else sight


def _is_due(last: Shot | None, now: Shot) -> bool:
    """Whether a thorough search falls between the last frame and this one; by the clock of the
    stream alone, so that a run that goes on searches the same frames."""
    return last is None or int(last.time_s * SEARCHES_PER_S) != int(now.time_s * SEARCHES_PER_S)
