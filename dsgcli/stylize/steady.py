"""Steady what trembles: shots -> shots, a moment later, with faces or codes smoothed over time.

Each track is smoothed by itself, over the moments on both sides of a frame (zero phase: no lag), as
far as the track reaches and never across its beginning or end; so a scene cut, which begins new
tracks, is never smoothed over. Work is done in seconds, so a variable frame rate is right.

Memory is bounded: a shot waits until the stream is `seconds` ahead of it, or has ended.

The grade of a frame, which is what drawing did to its colors, must neither flicker nor jump when a
second face comes or the only one is lost for a moment. It is the mean of the fits around the
frame, by a bell of both sides and by the area of the faces, and never reaches across a scene cut.
Where no face was drawn for longer, it fades out, and in again before the next face.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dsgcli.faces.grade import IDENTITY, Values, fit_grade
from dsgcli.faces.masks import face_share
from dsgcli.faces.smooth import DEVIATIONS, zero_phase
from dsgcli.faces.warp import scale_of
from dsgcli.stylize.shots import Shot

if TYPE_CHECKING:
    from dsgcli.types import Portrait

T = TypeVar("T")
Reader = Callable[[Shot], Mapping[int, Values]]
"""Shot -> what is to be steadied, by a key that is a track's own."""
Writer = Callable[[Shot, Mapping[int, Values]], None]
"""Put the steadied values, by key, into the shot."""

EDGE_S = 1e-6
"""Moments this far beyond the reach still count, as `zero_phase` has it: or rounding would let a
frame on the very edge count on one side only."""
GUESS_TRUST = 0.02
"""Weight of a face that was carried over, not seen: it counts where nothing was seen."""


@dataclass(frozen=True, slots=True)
class _Moment:
    shot: Shot
    values: Mapping[int, Values]
    guessed: frozenset[int] = field(default_factory=frozenset)


def steadied(
    shots: Iterable[Shot],
    read: Reader,
    write: Writer,
    *,
    seconds: float,
    guessed: Callable[[Shot], frozenset[int]] = lambda shot: frozenset(),
) -> Iterator[Shot]:
    """Yield the frames in order, each smoothed once its neighbors in time are known.

    Args:
        seconds: of the past and of the future that count; 0 only copies.
        guessed: keys whose values were carried over from the past.
    """
    around: deque[_Moment] = deque()
    waiting: deque[_Moment] = deque()
    for shot in shots:
        moment = _Moment(shot, read(shot), guessed(shot))
        around.append(moment)
        waiting.append(moment)
        while waiting and waiting[0].shot.time_s <= shot.time_s - seconds + EDGE_S:
            yield _written(waiting.popleft(), around, write, seconds)
    while waiting:
        yield _written(waiting.popleft(), around, write, seconds)


def _written(now: _Moment, around: deque[_Moment], write: Writer, seconds: float) -> Shot:
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


GRADE_REACH_S = 0.5
"""Seconds of the past and of the future that count. So much more is drawn at both ends of a segment
if several workers share a video."""
FACE_WEIGHT = 0.1
"""Weight of the face itself in a fit: its surroundings continue outside of the square."""
SEEN = 0.05
"""A face that has faded below this opacity says nothing about colors any more."""


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
        if asked and portrait.opacity >= SEEN:
            transform = portrait.crop.transform
            side_px = scale_of(transform.matrix()) * transform.size_px
            fits.append(_fit(portrait))
            weights.append(portrait.opacity * side_px**2)
    if not fits:
        return None
    mean: Values = np.average(fits, axis=0, weights=weights)
    return mean + color_match * (IDENTITY - mean)


def _fit(portrait: Portrait) -> Values:
    face = face_share(portrait)
    weights = 1.0 - (1.0 - FACE_WEIGHT) * face if portrait.keeps_content else face
    return fit_grade(portrait.crop.pixels, portrait.pixels, weights)


def graded_shots(drawn: Iterable[tuple[Shot, T]], *, seconds: float) -> Iterator[tuple[Shot, T]]:
    """Yield the frames in order, each once its grade is known.

    Args:
        seconds: reach to both sides; 0 takes each frame's own fit.
    """
    around: deque[Shot] = deque()
    waiting: deque[tuple[Shot, T]] = deque()
    for shot, rest in drawn:
        around.append(shot.without_pictures())
        waiting.append((shot, rest))
        while waiting and waiting[0][0].time_s <= shot.time_s - seconds + EDGE_S:
            yield _graded(waiting.popleft(), around, seconds)
    while waiting:
        yield _graded(waiting.popleft(), around, seconds)


def _graded(item: tuple[Shot, T], around: deque[Shot], seconds: float) -> tuple[Shot, T]:
    shot = item[0]
    while around[0].time_s < shot.time_s - seconds - EDGE_S:
        around.popleft()
    shot.grades = shot.fits if seconds <= 0.0 else steady_grades(shot, around, seconds)
    return item


def steady_grades(now: Shot, around: Iterable[Shot], seconds: float) -> list[Values | None]:
    """The grades of one moment, by cast; [] if nothing around it in its scene was fitted."""
    near = [
        shot
        for shot in around
        if shot.fits
        and shot.scene == now.scene
        and abs(shot.time_s - now.time_s) <= seconds + EDGE_S
    ]
    casts = range(len(near[0].fits)) if near else range(0)
    return [_mean([(s.time_s - now.time_s, s.fits[cast]) for s in near], seconds) for cast in casts]


def _mean(fits: Sequence[tuple[float, Values | None]], seconds: float) -> Values | None:
    """The mean of fits by how near in time they are; as good as none if all are far."""
    found = [(offset_s, fit) for offset_s, fit in fits if fit is not None]
    if not found:
        return None
    offset = np.array([offset_s for offset_s, _ in found])
    weight = np.exp(-0.5 * (offset * DEVIATIONS / seconds) ** 2)
    mean = np.average([fit for _, fit in found], axis=0, weights=weight)
    strength = np.clip(2.0 - 2.0 * np.abs(offset).min() / seconds, 0.0, 1.0)
    steadied: Values = IDENTITY + strength * (mean - IDENTITY)
    return steadied
