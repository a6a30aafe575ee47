"""Tell who is who from frame to frame, and choose whom to draw: what is seen of frames -> shots.

Looking at a frame and following what was seen are apart: a worker far away may have looked, while
one `Watcher` follows all frames in their order (`record.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dsgcli.errors import NoFaceError
from dsgcli.faces.track import FaceChoice, Sight, Tracker
from dsgcli.stylize.shots import Shot

if TYPE_CHECKING:
    from dsgcli.faces.search import Effort
    from dsgcli.stylize.memory import Memory
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.types import Face, Frame

    Look = Callable[[Sequence[Face], Effort], Sight]
    """Hints, and how hard to look -> what is seen of the frame at hand."""

SEARCHES_PER_S = 2
"""How often a video without a face is searched thoroughly; between, frames get a glance."""


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
        if memory is not None:
            self.tracker.restore(memory.tracker)
            self.last = memory.recent[-1] if memory.recent else None

    def shot(self, index: int, time_s: float, look: Look, frame: Frame | None = None) -> Shot:
        """The next frame, with the faces to draw.

        Raises:
            NoFaceError: a face is lost that may not be.
        """
        shot = Shot(frame=frame, index=index, time_s=time_s)
        if shot.begins_segment:
            shot.tracker = self.tracker.state()
        if not self.aligned:
            self._follow(shot, look)
        self.last = shot
        return shot

    def _follow(self, shot: Shot, look: Look) -> None:
        tracker, last = self.tracker, self.last
        thorough = not tracker.hints and _is_due(last, shot)
        faces = tracker.follow(look(tracker.hints, "search" if thorough else "glance"))
        shot.scene = tracker.scene
        drawn = set() if last is None else {face.track for face in last.seen}
        shot.seen = self.choice.choose(faces, drawn)
        shot.opacity = [tracker.opacity(face.track) for face in shot.seen]
        lost = drawn.intersection(hint.track for hint in tracker.hints)
        if self.options.on_missing == "fail" and lost.difference(face.track for face in faces):
            raise NoFaceError(f"{self.source} at {shot.time_s:.2f} s", detector=self.detector)


def _is_due(last: Shot | None, now: Shot) -> bool:
    """Whether a thorough search falls between the last frame and this one; by the clock of the
    stream alone, so that a run that goes on searches the same frames."""
    return last is None or int(last.time_s * SEARCHES_PER_S) != int(now.time_s * SEARCHES_PER_S)
