"""Steady what trembles: shots -> shots, a moment later, with faces or codes smoothed over time,
portraits averaged, and colors that do not jump.

Each track is smoothed by itself, over the moments on both sides of a frame (zero phase: no lag), as
far as the track reaches and never across its beginning or end; so a scene cut, which begins new
tracks, is never smoothed over. Work is done in seconds, so a variable frame rate is right.

Memory is bounded: a shot waits until the stream is `seconds` ahead of it, or has ended.

The grade of a frame, which is what drawing did to its colors, must neither flicker nor jump when a
second face comes or the only one is lost for a moment. It is the same throughout a scene (see
`GradeReference`); where no face is near in time, it fades out, and in again before the next face.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dsgcli.faces.grade import IDENTITY, Values, fit_grade
from dsgcli.faces.masks import face_share
from dsgcli.faces.smooth import zero_phase
from dsgcli.faces.temporal import MotionAverage
from dsgcli.faces.warp import scale_of
from dsgcli.stylize.frame_state import FrameState

if TYPE_CHECKING:
    from dsgcli.types import Portrait

T = TypeVar("T")
Reader = Callable[[FrameState], Mapping[int, Values]]
"""Shot -> what is to be steadied, by a key that is a track's own."""
Writer = Callable[[FrameState, Mapping[int, Values]], None]
"""Put the steadied values, by key, into the shot."""

EDGE_S = 1e-6
"""Moments this far beyond the reach still count, as `zero_phase` has it: or rounding would let a
frame on the very edge count on one side only."""
GUESS_TRUST = 0.02
"""Weight of a face that was carried over, not seen: it counts where nothing was seen."""


@dataclass(frozen=True, slots=True)
class _Moment:
    shot: FrameState
    values: Mapping[int, Values]
    guessed: frozenset[int] = field(default_factory=frozenset)


def steadied(
    shots: Iterable[FrameState],
    read: Reader,
    write: Writer,
    *,
    seconds: float,
    ahead: bool = True,
    guessed: Callable[[FrameState], frozenset[int]] = lambda shot: frozenset(),
) -> Iterator[FrameState]:
    """Yield the frames in order, each smoothed once its neighbors in time are known.

    Args:
        seconds: of the past and of the future that count; 0 only copies.
        ahead: wait for the future; else the past alone counts.
        guessed: keys whose values were carried over from the past.
    """
    around: deque[_Moment] = deque()
    waiting: deque[_Moment] = deque()
    for shot in shots:
        moment = _Moment(shot, read(shot), guessed(shot))
        around.append(moment)
        waiting.append(moment)
        wait_s = seconds if ahead else 0.0
        while waiting and waiting[0].shot.time_s <= shot.time_s - wait_s + EDGE_S:
            yield _written(waiting.popleft(), around, write, seconds)
    while waiting:
        yield _written(waiting.popleft(), around, write, seconds)


def _written(now: _Moment, around: deque[_Moment], write: Writer, seconds: float) -> FrameState:
    time_s = now.shot.time_s
    while around[0].shot.time_s < time_s - seconds - EDGE_S:
        around.popleft()
    smooth = {key: _steady(key, time_s, around, seconds) for key in now.values}
    write(now.shot, smooth)
    return now.shot


def _steady(key: int, time_s: float, around: Iterable[_Moment], seconds: float) -> Values:
    near = [
        moment
        for moment in around
        if key in moment.values and moment.shot.time_s - time_s <= seconds + EDGE_S
    ]
    return zero_phase(
        np.array([moment.shot.time_s for moment in near]),
        np.stack([moment.values[key] for moment in near]),
        at=time_s,
        seconds=seconds,
        trust=np.array([GUESS_TRUST if key in moment.guessed else 1.0 for moment in near]),
    )


class PortraitAverages:
    """Averages the portraits of each track over the last frames (`faces/temporal.py`); those that
    keep what their crop shows, since others do not move as the photograph does.

    Each track, scene and segment begins an average of its own: a run that goes on, or a worker
    that draws one segment, needs none of the frames before.
    """

    def __init__(self) -> None:
        self._averages: dict[tuple[int, int], MotionAverage] = {}
        self._scene = 0

    def add(self, shot: FrameState, by_cast: Sequence[Sequence[Portrait]]) -> list[list[Portrait]]:
        """The next frame's portraits, averaged; by cast, then one a crop."""
        before = self._averages
        if shot.begins_segment or shot.scene != self._scene:
            before, self._scene = {}, shot.scene
        self._averages = {}  # of this frame: who is not in it begins anew

        def averaged(cast: int, track: int, portrait: Portrait) -> Portrait:
            if not portrait.keeps_content:
                return portrait
            average = before.get((cast, track)) or MotionAverage()
            self._averages[cast, track] = average
            pixels = average.add(portrait.crop.pixels, portrait.pixels)
            return replace(portrait, pixels=pixels)

        return [
            [averaged(cast, *pair) for pair in zip(shot.tracks, portraits, strict=True)]
            for cast, portraits in enumerate(by_cast)
        ]


GRADE_REACH_S = 0.5
"""How far from a frame with a face, in seconds, frames are graded."""
FACE_WEIGHT = 0.1
"""Weight of the face itself in a fit: its surroundings continue outside of the square."""


def fit_frame(
    portraits: Sequence[Portrait], wanted: bool | None, color_match: float
) -> Values | None:
    """Change of the colors of one frame's crops by drawing: the mean of its faces by their area.

    Args:
        wanted: whether to fit; None fits those portraits that keep what their crop shows.
        color_match: how far the portraits' colors are moved back to the photograph's.
    """
    fits, weights = [], []
    for portrait in portraits:
        asked = portrait.keeps_content if wanted is None else wanted
        if asked:
            transform = portrait.crop.transform
            side_px = scale_of(transform.matrix()) * transform.size_px
            fits.append(_fit(portrait))
            weights.append(side_px**2)
    if not fits:
        return None
    mean: Values = np.average(fits, axis=0, weights=weights)
    return mean + color_match * (IDENTITY - mean)


def _fit(portrait: Portrait) -> Values:
    face = face_share(portrait)
    weights = 1.0 - (1.0 - FACE_WEIGHT) * face if portrait.keeps_content else face
    return fit_grade(portrait.crop.pixels, portrait.pixels, weights)


def graded_by_nearest_face(
    shots: Iterable[FrameState], *, seconds: float, ahead: bool = True
) -> Iterator[FrameState]:
    """Yield the frames in order, each with how far it is graded, and by what.

    Args:
        seconds: a frame this far from all frames with a face is not graded, one within half of it
            wholly; 0 grades frames with a face alone.
        ahead: wait for faces to come; else those of the past alone count.
    """
    around: deque[FrameState] = deque()
    waiting: deque[FrameState] = deque()
    for shot in shots:
        around.append(shot.without_pictures())
        waiting.append(shot)
        wait_s = seconds if ahead else 0.0
        while waiting and waiting[0].time_s <= shot.time_s - wait_s + EDGE_S:
            yield _with_strength(waiting.popleft(), around, seconds)
    while waiting:
        yield _with_strength(waiting.popleft(), around, seconds)


def _with_strength(now: FrameState, around: deque[FrameState], seconds: float) -> FrameState:
    while around[0].time_s < now.time_s - seconds - EDGE_S:
        around.popleft()
    near = [
        shot
        for shot in around
        if shot.seen
        and shot.scene == now.scene
        and abs(shot.time_s - now.time_s) <= seconds + EDGE_S
    ]
    if near:
        offset_s = min(abs(shot.time_s - now.time_s) for shot in near)
        now.strength = min(1.0, max(0.0, 2.0 - 2.0 * offset_s / seconds)) if seconds > 0.0 else 1.0
        now.reference = now.reference or near[0].reference  # before the first face: what comes
    return now
