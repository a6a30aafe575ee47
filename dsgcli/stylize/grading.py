"""Grade the frames of a stream as their faces were drawn: shots with fits -> shots with grades.

A grade is about a whole frame, so it must neither flicker nor jump when a second face comes or the
only one is lost for a moment. It is the mean of the fits around a frame, by a bell of both sides
(zero phase) and by the area of the faces, and never reaches across a scene cut. Where nobody was
drawn for longer, it fades out, and in again before the next face.

Memory is bounded: a shot waits until the stream is `seconds` ahead of it, or has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dsgcli.faces.grade import IDENTITY, Values, fit_grade
from dsgcli.faces.masks import face_share
from dsgcli.faces.smooth import DEVIATIONS
from dsgcli.faces.warp import scale_of
from dsgcli.stylize.steady import EDGE_S

if TYPE_CHECKING:
    from dsgcli.stylize.shots import Shot
    from dsgcli.types import Portrait

T = TypeVar("T")

GRADE_REACH_S = 0.5
"""Of the past and of the future that count. So much more is drawn at both ends of a segment where
several workers share a video."""
FACE_WEIGHT = 0.1
"""Of the face itself in a fit: what lies around it is what goes on outside of the square."""
SEEN = 0.05
"""A face that has faded below this opacity says nothing about colors any more."""


def fit_frame(
    portraits: Sequence[Portrait], wanted: bool | None, color_match: float
) -> Values | None:
    """What drawing did to the colors of one frame's crops: the mean of its faces by their area.

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
    """The same in the same order, each once the grades of its shot are known.

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
