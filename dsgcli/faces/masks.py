"""Soft masks over a portrait's square: which part of it replaces the frame.

    feather   the whole square, fading out towards its edge
    face      inside the outline of the face (landmarks); needs no model
    head      face, hair and ears: segmentation, cut off under the chin
    person    all of the person that the square shows: segmentation

Segmented masks are taken of the input crop and of the stylized one, and united: hair of the
photograph that the drawing has not is covered by the drawing's ground, and new hair shows. Of a
drawing that keeps what its crop shows, the crop's alone is enough, and follows the drawing's edges:
ground and hair go on behind them, so that it may be sharp. Every mask fades out towards the edge of
the square, where the drawing ends.

A cut-out is another thing: nothing goes on behind it. Its edge is the drawing's own, sharp where
that is, and soft where hair is.

Conventions
    mask      (M, M) float32 in [0, 1] over the portrait's square; 1 keeps the portrait
    points    landmarks in sides of the square, (478, 2)
    distance  signed, in sides of the square; positive inside
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dsgcli.errors import UsageError
from dsgcli.faces import warp

if TYPE_CHECKING:
    from dsgcli.types import Mask, Pixels, Points, Portrait

MaskKind = Literal["auto", "feather", "face", "head", "person"]

MASK_PX = 256
"""Side at which masks are made, of larger portraits too: they are soft, and segmentation sees no
more; a mask of 1024 px costs ten times as much and looks the same."""
COARSE_PX = 64
"""Side at which a face's outline is soft enough: a sixteenth of the time."""
CHIN = 152
"""Landmark at the lower end of the chin."""
FACE_GROWTH = 0.02
"""The face's mask is this much larger than its landmarks, which end inside the jaw line."""
NECK = 0.06
"""Length over which a head's mask fades out below the chin."""
USUAL_CHIN_Y = 0.94
"""Height of the chin in an FFHQ crop, for pictures without landmarks."""
KEPT_BLEND = 2.0
"""How much wider the edge of the square is where the frame goes on behind the drawing; the face
itself is drawn all the same, up to `LEAST_EDGE`."""
AROUND_FACE, LEAST_EDGE = 0.06, 0.03
INNER_FACE = 0.04
"""A mask that follows the drawing's edges does so outside of this rim: chins are drawn smaller."""
REFINED_PX, FLATNESS = 6, 1e-4
"""For a mask that follows a picture's edges: radius at `MASK_PX`, and the variance of grays (in
[0, 1]) below which there is no edge."""
SURE_GROUND, SURE_PERSON = 0.2, 0.85
"""Shares that count as none and as all: a segmentation is never quite sure."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Shares of a picture, (S, S) float32 each."""

    person: Mask
    head: Mask | None = None
    """Hair and face; None if the model does not separate them from the rest."""


class Segmenter(Protocol):
    """Finds the person in a face crop. May be shared between threads."""

    @property
    def name(self) -> str: ...

    def segment(self, pixels: Pixels) -> Segmentation:
        """(S, S, 3) uint8 -> shares of the same size."""
        ...

    @property
    def close(self) -> Callable[[], object]:
        """Frees what native code holds."""
        ...


def pick_kind(kind: MaskKind, segmenter: Segmenter | None) -> MaskKind:
    """The kind that `auto` stands for: head where there is a segmentation model, else face.

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
    side, points = min(portrait.pixels.shape[0], MASK_PX), _points(portrait)
    distance = _square_distance(side)
    # (M, M): the square's own soft edge, wider where the frame goes on behind the drawing
    edge = _soft(distance, KEPT_BLEND * blend if portrait.keeps_content else blend)
    if portrait.keeps_content and points is not None:
        face = _soft(_coarse_distance(points, side) + AROUND_FACE, AROUND_FACE)
        face = np.minimum(face, _soft(distance, min(blend, LEAST_EDGE)))
        edge = np.maximum(face, edge)
    if kind == "feather" or (kind == "face" and points is None):
        return edge
    if kind == "face":
        assert points is not None
        grown = hull_distance(points, side) + FACE_GROWTH
        return np.minimum(edge, _soft(grown + 0.5 * blend, blend))
    assert segmenter is not None and kind in ("head", "person"), kind

    def segmented(pixels: Pixels) -> Mask:
        found = segmenter.segment(pixels)
        if kind == "person":
            return found.person
        return found.person * _above_chin(points, side) if found.head is None else found.head

    drawn = warp.resize(portrait.pixels, side, side)
    found = segmented(warp.resize(portrait.crop.pixels, side, side))
    if portrait.keeps_content:
        return np.minimum(edge, _with_face(refined(found, drawn), points, INNER_FACE))
    # hair of the photograph and of the drawing, both
    found = _with_face(np.maximum(found, segmented(drawn)), points)
    return np.minimum(edge, _blurred(found, 0.25 * blend * side))


def make_cutout(
    portrait: Portrait, kind: MaskKind, *, blend: float, segmenter: Segmenter | None = None
) -> Mask:
    """The share of each pixel of the drawing that is the head (or the person), (S, S) for portraits
    of S px; arguments as `make_mask`."""
    side = portrait.pixels.shape[0]
    if segmenter is None or kind in ("feather", "face"):
        mask = make_mask(portrait, kind, blend=blend, segmenter=segmenter)
        return _enlarged(mask, side)
    small, points = min(side, MASK_PX), _points(portrait)
    drawn = warp.resize(portrait.pixels, small, small)
    segmentation = segmenter.segment(drawn)
    person, head = segmentation.person, segmentation.head
    if portrait.keeps_content:
        crop = warp.resize(portrait.crop.pixels, small, small)
        person = 0.5 * (person + segmenter.segment(crop).person)
    found = _with_face(refined(person, portrait.pixels), points, INNER_FACE)
    if kind == "head":  # fading out on the neck; where the model separates hair, it may fall lower
        above = _above_chin(points, small)
        above = above if head is None else np.maximum(above, refined(head, drawn))
        found = found * _enlarged(above, side)
    return np.minimum(_soft(_square_distance(side), blend), found)


def face_share(portrait: Portrait) -> Mask:
    """Where the face is, (m, m); somewhat larger than its outline, and 0 without landmarks."""
    points = _points(portrait)
    if points is None:
        return np.zeros((COARSE_PX, COARSE_PX), np.float32)
    return _soft(hull_distance(points, COARSE_PX) + FACE_GROWTH, FACE_GROWTH)


def refined(mask: Mask, pixels: Pixels) -> Mask:
    """The mask (m, m) with the edges of a picture (S, S, 3), at the picture's size: He, Sun and
    Tang, "Guided Image Filtering", 2013, equations 5 to 8, computed at the mask's size as in "Fast
    Guided Filter", 2015. Where the picture has no edge it stays soft."""
    small, side = mask.shape[0], pixels.shape[0]
    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    gray = gray.astype(np.float32) / np.float32(255.0)
    guide: Any = cv2.resize(gray, (small, small), interpolation=cv2.INTER_AREA)
    window = 2 * max(1, round(REFINED_PX * small / MASK_PX)) + 1

    def mean(picture: Any) -> Any:
        return cv2.blur(picture, (window, window))

    mean_guide, mean_mask = mean(guide), mean(mask)
    # linear model of the mask in each window: mask = slope * gray + offset
    variance = mean(guide * guide) - mean_guide * mean_guide
    slope = (mean(guide * mask) - mean_guide * mean_mask) / (variance + FLATNESS)
    offset = mean(mean_mask - slope * mean_guide)
    drawn = _enlarged(mean(slope), side) * gray + _enlarged(offset, side)
    return _soft(drawn - SURE_GROUND, SURE_PERSON - SURE_GROUND)


# ── parts of masks ───────────────────────────────────────────────────────────────────────────────


def _points(portrait: Portrait) -> Points | None:
    face, transform = portrait.crop.face, portrait.crop.transform
    return None if face is None else warp.to_crop(transform, face.landmarks) / transform.size_px


def _with_face(found: Mask, points: Points | None, inset: float = 0.0) -> Mask:
    """A face, less a rim, is never cut by a segmentation that missed a part of it."""
    if points is None:
        return found
    return np.maximum(found, _soft(_coarse_distance(points, found.shape[0]) - inset, 0.02))


def _above_chin(points: Points | None, side: int) -> Mask:
    """1 above the chin, fading out on the neck, (side, side)."""
    chin_y = USUAL_CHIN_Y if points is None else float(points[CHIN, 1])
    y = (np.arange(side, dtype=np.float32) + 0.5) / side
    above: Mask = np.repeat(_soft(chin_y + NECK - y, NECK)[:, None], side, axis=1)
    return above


def _soft(distance: NDArray[np.float32], width: float) -> Mask:
    """0 at the edge, 1 from `width` inside on, without corners (3t^2 - 2t^3)."""
    t = np.clip(distance / max(width, 1e-3), 0.0, 1.0)
    soft: Mask = (t * t * (3.0 - 2.0 * t)).astype(np.float32)
    return soft


def _square_distance(side: int) -> Mask:
    """Distance to the square's edge, (side, side)."""
    along = (np.arange(side, dtype=np.float32) + 0.5) / side
    edge = np.minimum(along, 1.0 - along)
    distance: Mask = np.minimum(edge[:, None], edge)
    return distance


def hull_distance(points: Points, side: int) -> Mask:
    """(side, side): distance to the convex hull of points given in sides; negative outside, where
    it is a lower bound."""
    # corners in the order in which angles grow (x right, y down)
    corners = cv2.convexHull(points.astype(np.float32), clockwise=False, returnPoints=False)
    hull = points[corners[:, 0]]
    tangent = np.roll(hull, -1, axis=0) - hull
    tangent /= np.hypot(*tangent.T)[:, None]
    inward = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)  # hull runs clockwise on the screen
    offset = (inward * hull).sum(axis=1)
    along = (np.arange(side) + 0.5) / side
    # the distance to a convex hull is the least distance to its edges
    distance = np.full((side, side), np.inf, np.float32)
    for normal, shift in zip(inward, offset, strict=True):
        line = normal[0] * along[None, :] + (normal[1] * along[:, None] - shift)
        np.minimum(distance, line.astype(np.float32), out=distance)
    return distance


def _coarse_distance(points: Points, side: int) -> Mask:
    """`hull_distance` computed at `COARSE_PX`, for masks that are soft there."""
    return _enlarged(hull_distance(points, COARSE_PX), side)


def _enlarged(picture: Mask, side: int) -> Mask:
    resized: Any = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
    enlarged: Mask = resized
    return enlarged


def _blurred(mask: Mask, sigma_px: float) -> Mask:
    """Gaussian blur; on a copy shrunk by whole factors where the blur is wide."""
    if sigma_px < 0.3:
        return mask
    side = mask.shape[0]
    small = max(8, round(side / max(1.0, sigma_px / 2.0)))
    shrunk: Any = warp.resize(mask[:, :, None], small, small)[:, :, 0]
    sigma = sigma_px * small / side
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma)) + 1, sigma)
    shrunk = cv2.sepFilter2D(shrunk, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return warp.resize_mask(shrunk, side)
