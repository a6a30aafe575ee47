"""What of a portrait replaces the frame: soft masks over its square.

    feather   the whole square, fading out towards its edge
    face      inside the outline of the face (landmarks); needs no model
    head      face, hair and ears: segmentation, cut off under the chin
    person    all of the person that the square shows: segmentation

Segmented masks are taken of the input crop and of the stylized one, and united: hair of the
photograph that the drawing has not is covered by the drawing's ground, and new hair shows. Every
mask fades out towards the edge of the square, where the drawing ends.

Conventions
    mask      (M, M) float32 in [0, 1] over the portrait's square; 1 keeps the portrait
    distance  signed, in sides of the square; positive inside
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dsgcli.errors import UsageError
from dsgcli.faces import warp

if TYPE_CHECKING:
    from dsgcli.types import Crop, Mask, Pixels, Points, Portrait

MaskKind = Literal["auto", "feather", "face", "head", "person"]

MASK_PX = 256
"""Side at which masks are made, of larger portraits too: they are soft, and segmentation sees no
more; a mask of 1024 px costs ten times as much and looks the same."""
CHIN, FOREHEAD, EYES = 152, 10, (33, 263)
"""Landmarks: lower end of the chin, upper end of the mesh, outer corners of the eyes."""
FACE_GROWTH = 0.02
"""The face's mask is this much larger than its landmarks, which end inside the jaw line."""
HAIRLINE = 0.07
"""How far the hairline lies above the landmarks, in sides of an aligned square: without it a strip
of the forehead keeps the photograph's colors."""
NECK = 0.06
"""Length over which a head's mask fades out below the chin."""
USUAL_CHIN_Y = 0.94
"""Of an FFHQ crop, where there are no landmarks to ask."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Shares of a picture, (S, S) float32 each."""

    person: Mask
    head: Mask | None = None
    """Hair and face; None if the model does not tell them from the rest."""


class Segmenter(Protocol):
    """Finds the person in a face crop. May be shared between threads."""

    @property
    def name(self) -> str: ...

    def segment(self, pixels: Pixels) -> Segments:
        """(S, S, 3) uint8 -> shares of the same size."""
        ...

    @property
    def close(self) -> Callable[[], object]:
        """Frees what native code holds."""
        ...


def pick_kind(kind: MaskKind, segmenter: Segmenter | None) -> MaskKind:
    """What `auto` stands for: head where a segmentation model is at hand, else face.

    Raises:
        UsageError: head or person without such a model.
    """
    if kind == "auto":
        return "face" if segmenter is None else "head"
    if kind in ("head", "person") and segmenter is None:
        raise UsageError(
            f"--mask {kind} needs a segmentation model, and none is here; use --mask face, or get "
            f"one with `dsg models pull selfie_multiclass`"
        )
    return kind


def make_mask(
    portrait: Portrait, kind: MaskKind, *, blend: float, segmenter: Segmenter | None = None
) -> Mask:
    """The mask of one portrait (M, M), M at most `MASK_PX`.

    Args:
        kind: as `pick_kind` answers, not "auto".
        blend: width of the soft edge, in sides of the square.
    """
    side = min(portrait.pixels.shape[0], MASK_PX)
    edge = _soft(_square_distance(side), blend)
    if kind == "feather":
        return edge
    face = portrait.crop.face
    points = None if face is None else _unit_points(portrait.crop, face.landmarks)
    if kind == "face":
        if points is None:
            return edge
        distance = hull_distance(up_to_hairline(points), side) + FACE_GROWTH
        return np.minimum(edge, _soft(distance + 0.5 * blend, blend))
    assert segmenter is not None and kind in ("head", "person"), kind
    found = np.maximum(
        _segmented(warp.resize(portrait.pixels, side, side), kind, points, segmenter),
        _segmented(warp.resize(portrait.crop.pixels, side, side), kind, points, segmenter),
    )
    if points is not None:  # a face is never cut by a segmentation that missed a part of it
        found = np.maximum(found, _soft(hull_distance(points, side), 0.02))
    return np.minimum(edge, blurred(found, 0.25 * blend * side))


def _segmented(pixels: Pixels, kind: MaskKind, points: Points | None, segmenter: Segmenter) -> Mask:
    found = segmenter.segment(pixels)
    if kind == "person":
        return found.person
    if found.head is not None:
        return found.head
    chin_y = USUAL_CHIN_Y if points is None else float(points[CHIN, 1])
    y = (np.arange(pixels.shape[0], dtype=np.float32) + 0.5) / pixels.shape[0]
    above: Mask = found.person * _soft(chin_y + NECK - y, NECK)[:, None]
    return above


# ── geometry ─────────────────────────────────────────────────────────────────────────────────────


def _unit_points(crop: Crop, landmarks: Points) -> Points:
    """Landmarks in sides of the square, (478, 2)."""
    unit: Points = warp.to_crop(crop.transform, landmarks) / crop.transform.size_px
    return unit


def up_to_hairline(points: Points) -> Points:
    """Landmarks in sides of the square (478, 2), with those above the eyes moved up: the topmost
    by `HAIRLINE`, the others in proportion to their height."""
    eyes = points[list(EYES)].mean(axis=0)
    forehead = points[FOREHEAD] - eyes
    height = float(np.hypot(*forehead))
    if height == 0:
        return points
    up = forehead / height
    share = np.clip((points - eyes) @ up / height, 0.0, 1.0)
    raised: Points = points + share[:, None] * up * HAIRLINE
    return raised


def _square_distance(side: int) -> Mask:
    """Distance to the square's edge."""
    along = (np.arange(side, dtype=np.float32) + 0.5) / side
    edge = np.minimum(along, 1.0 - along)
    distance: Mask = np.minimum(edge[:, None], edge)
    return distance


def _soft(distance: NDArray[np.float32], width: float) -> Mask:
    """0 at the edge, 1 from `width` inside on, without corners (3t^2 - 2t^3)."""
    t = np.clip(distance / max(width, 1e-3), 0.0, 1.0)
    soft: Mask = (t * t * (3.0 - 2.0 * t)).astype(np.float32)
    return soft


def hull_distance(points: Points, side: int) -> Mask:
    """(side, side): distance to the convex hull of points given in sides; negative outside, where
    it is a lower bound."""
    hull = convex_hull(points)
    following = np.roll(hull, -1, axis=0)
    tangent = following - hull
    tangent /= np.hypot(*tangent.T)[:, None]
    inward = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)  # hull runs clockwise on the screen
    offset = (inward * hull).sum(axis=1)
    along = (np.arange(side) + 0.5) / side
    distance = np.full((side, side), np.inf, np.float32)
    for normal, shift in zip(inward, offset, strict=True):
        line = normal[0] * along[None, :] + (normal[1] * along[:, None] - shift)
        np.minimum(distance, line.astype(np.float32), out=distance)
    return distance


def convex_hull(points: Points) -> Points:
    """Corners of the hull, in the order in which angles grow (x right, y down): Andrew's monotone
    chain."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]

    def chain(row: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        corners: list[NDArray[np.float64]] = []
        for point in row:
            while len(corners) >= 2 and _turn(corners[-2], corners[-1], point) <= 0:
                corners.pop()
            corners.append(point)
        return corners[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))


def _turn(a: Points, b: Points, c: Points) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def blurred(mask: Mask, sigma_px: float) -> Mask:
    """Gaussian blur; on a copy shrunk by whole factors where the blur is wide."""
    if sigma_px < 0.3:
        return mask
    side = mask.shape[0]
    small = max(8, round(side / max(1.0, sigma_px / 2.0)))
    shrunk = warp.resize(mask[:, :, None], small, small)[:, :, 0]
    sigma = sigma_px * small / side
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(shrunk, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis)
        shrunk = (windows @ taps).astype(np.float32)
    return np.clip(warp.resize(shrunk[:, :, None], side, side)[:, :, 0], 0.0, 1.0)
