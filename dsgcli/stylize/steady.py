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
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dsgcli.faces.grade import IDENTITY, Values, fit_grade
from dsgcli.faces.masks import face_share
from dsgcli.faces.smooth import zero_phase
from dsgcli.faces.temporal import CropMotion, MotionAverage
from dsgcli.faces.warp import scale_of
from dsgcli.stylize.frame_state import FrameState, GradeReference

if TYPE_CHECKING:
    from dsgcli.types import Portrait

Reader = Callable[[FrameState], Mapping[int, Values]]
"""Shot -> what is to be steadied, by a key that is a track's own."""
Writer = Callable[[FrameState, Mapping[int, Values]], None]
"""Put the steadied values, by key, into the shot."""

EDGE_S = 1e-6
"""Moments this far beyond the reach still count, as `zero_phase` has it: or rounding would let a
frame on the very edge count on one side only."""
GUESS_TRUST = 0.02
"""Weight of a face that was carried over, not seen: it counts where nothing was seen."""


N = TypeVar("N")
"""The note that a frame leaves for its neighbors."""


def with_neighbors(
    shots: Iterable[FrameState], note: Callable[[FrameState], N], *, seconds: float, ahead: bool
) -> Iterator[tuple[FrameState, N, list[tuple[float, N]]]]:
    """Yield the frames in order, each once its neighbors in time are known, with its own note and
    with times and notes of all frames within `seconds` of it, itself included.

    Args:
        ahead: wait for the future; else the past alone counts.
    """
    around: deque[tuple[float, N]] = deque()  # without pictures, which may be large
    waiting: deque[tuple[FrameState, N]] = deque()

    def next_one() -> tuple[FrameState, N, list[tuple[float, N]]]:
        now, own = waiting.popleft()
        while around[0][0] < now.time_s - seconds - EDGE_S:
            around.popleft()
        return now, own, [item for item in around if item[0] - now.time_s <= seconds + EDGE_S]

    wait_s = seconds if ahead else 0.0
    for shot in shots:
        noted = note(shot)
        around.append((shot.time_s, noted))
        waiting.append((shot, noted))
        while waiting and waiting[0][0].time_s <= shot.time_s - wait_s + EDGE_S:
            yield next_one()
    while waiting:
        yield next_one()


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

    def note(shot: FrameState) -> tuple[Mapping[int, Values], frozenset[int]]:
        return read(shot), guessed(shot)

    for now, (own, _), around in with_neighbors(shots, note, seconds=seconds, ahead=ahead):
        smooth: dict[int, Values] = {}
        for key in own:
            near = [
                (time_s, values[key], GUESS_TRUST if key in guesses else 1.0)
                for time_s, (values, guesses) in around
                if key in values
            ]
            times_s, points, trust = zip(*near, strict=True)
            smooth[key] = zero_phase(
                np.array(times_s),
                np.stack(points),
                at=now.time_s,
                seconds=seconds,
                trust=np.array(trust),
            )
        write(now, smooth)
        yield now


class PortraitAverages:
    """Averages the portraits of each track over the last frames (`faces/temporal.py`); those that
    keep what their crop shows, since others do not move as the photograph does.

    Each track, scene and segment begins an average of its own: a run that goes on, or a worker
    that draws one segment, needs none of the frames before.
    """

    def __init__(self) -> None:
        self._motions: dict[int, CropMotion] = {}
        """By track."""
        self._averages: dict[tuple[int, int], MotionAverage] = {}
        """By cast and track."""
        self._scene = 0

    def add(self, shot: FrameState, by_cast: Sequence[Sequence[Portrait]]) -> list[list[Portrait]]:
        """The next frame's portraits, averaged; by cast, then one a crop."""
        motions, averages = self._motions, self._averages
        if shot.begins_segment or shot.scene != self._scene:
            motions, averages, self._scene = {}, {}, shot.scene
        crops = {
            track: portrait.crop.pixels
            for portraits in by_cast
            for track, portrait in zip(shot.tracks, portraits, strict=True)
            if portrait.keeps_content
        }
        # of this frame: who is not in it begins anew
        self._motions = {track: motions.get(track) or CropMotion() for track in crops}
        moved = {track: self._motions[track].add(crop) for track, crop in crops.items()}
        self._averages = {}

        def averaged(cast: int, track: int, portrait: Portrait) -> Portrait:
            if not portrait.keeps_content:
                return portrait
            average = averages.get((cast, track)) or MotionAverage()
            self._averages[cast, track] = average
            return replace(portrait, pixels=average.add(moved[track], portrait.pixels))

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

    def note(shot: FrameState) -> tuple[int, GradeReference | None] | None:
        """Scene and reference of a frame with a face."""
        return (shot.scene, shot.reference) if shot.seen else None

    for now, _, around in with_neighbors(shots, note, seconds=seconds, ahead=ahead):
        near = [(at_s, seen[1]) for at_s, seen in around if seen and seen[0] == now.scene]
        if near:
            offset_s = min(abs(at_s - now.time_s) for at_s, _ in near)
            fading = 2.0 - 2.0 * offset_s / seconds if seconds > 0.0 else 1.0
            now.strength = min(1.0, max(0.0, fading))
            now.reference = now.reference or near[0][1]  # before the first face: what comes
        yield now
