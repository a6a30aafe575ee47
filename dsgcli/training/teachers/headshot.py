"""The headshot teacher: an aligned photograph and an exemplar to a drawn one, without a network.

    landmarks ──▶ shape: warp towards the exemplar's proportions ──▶ strokes: Kuwahara filter
              ──▶ light: local contrast of the exemplar, level by level ──▶ color: means by region

After Shih et al., "Style Transfer for Headshot Portraits" (SIGGRAPH 2014), section 4, with a change
of shape before it. It is slow and looks like a filter; a network that learns from its pairs, and
from real exemplars by a discriminator, is neither.

Conventions
    picture    (S, S, 3) float32 RGB in [0, 1], an FFHQ crop
    landmarks  (478, 2) float32 in pixels of that picture (MediaPipe's face mesh with irises)
    Lab        OpenCV's float Lab: L in [0, 100], a and b about [-128, 127]
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsgcli.errors import TrainingError
from dsgcli.faces.detect import TASK_NAME
from dsgcli.recipe import ExemplarSource
from dsgcli.runtime import parallel_map
from dsgcli.store.files import written_whole
from dsgcli.training.audit import face_detector
from dsgcli.training.data import Pack
from dsgcli.training.teachers.base import PairChunk, random_degrees
from dsgcli.types import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dsgcli.recipe import DistillRecipe
    from dsgcli.training.stage import Pictures, RunContext
    from dsgcli.types import Pixels

Array = NDArray[Any]
"""Float32."""

# ── parts of the face, by numbers of landmarks ───────────────────────────────────────────────────

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline of the face, clockwise from the top of the forehead."""
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398)
RIGHT_IRIS, LEFT_IRIS = (468, 469, 470, 471, 472), (473, 474, 475, 476, 477)
LIPS = (
    0, 11, 12, 13, 14, 15, 16, 17, 37, 38, 39, 40, 41, 42, 61, 62, 72, 73, 74, 76, 77, 78, 80, 81,
    82, 84, 85, 86, 87, 88, 89, 90, 91, 95, 96, 146, 178, 179, 180, 181, 183, 184, 185, 191, 267,
    268, 269, 270, 271, 272, 291, 292, 302, 303, 304, 306, 307, 308, 310, 311, 312, 314, 315, 316,
    317, 318, 319, 320, 321, 324, 325, 402, 403, 404, 405, 407, 408, 409, 415,
)  # fmt: skip
INNER_LIPS = (
    78,
    191,
    80,
    81,
    82,
    13,
    312,
    311,
    310,
    415,
    308,
    324,
    318,
    402,
    317,
    14,
    87,
    178,
    88,
    95,
)
"""The opening of the mouth."""
CHEEKS = (50, 101, 118, 205, 280, 330, 347, 425, 4, 195)
"""Places that are skin in nearly every portrait."""
BROWS_Y = (105, 334)
EYE_HEIGHTS = ((159, 145), (386, 374))
"""Upper and lower lid of each eye."""
SIDES = (234, 454)
"""The face's width."""
CONTROL = tuple(
    sorted({*OVAL, *range(0, 468, 3), *RIGHT_EYE, *LEFT_EYE, 61, 291, 0, 17, 13, 14, 468, 473})
)
"""Landmarks that the warp goes through."""
NUM_BORDER = 5
"""Fixed points along each side of the picture."""

GRID_PX = 8
"""The warp is computed at every so many pixels, and interpolated."""
SMOOTHING = 1e-2
"""Smoothness of the thin-plate spline, so that noise in the landmarks does not fold the picture."""
NUM_LEVELS = 6
"""Levels of the Laplacian pyramid whose contrast is transferred."""
MOUTH_SCALE = (0.82, 1.12)
"""The mouth is scaled as a whole, within these bounds; its shape, the expression, stays."""
TURNED = 0.35
"""Sine of the yaw from which on the shape follows less: the far side of a turned face would be
stretched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadshotLook:
    """How one style is drawn; every number is about the style's own exemplars."""

    own_shape: float = 0.4
    """Share of the exemplar's own proportions; the rest is the mean of its style."""
    eyes: float = 1.0
    """Enlargement of the eyes' difference in shape about their centers; 1.5 exaggerates."""
    strokes: int = 3
    """Radius of the Kuwahara filter in pixels at 256 px; 0 leaves the photograph's texture."""
    least_contrast: float = 0.25
    """Least gain of a level: 0.1 for smooth skin, 0.5 keeps wrinkles."""
    most_contrast: float = 2.6
    """Largest gain of a level."""
    lightness: float = 0.6
    """How far the mean lightness of the face follows the exemplar: 1 makes dark skin light."""
    chroma: float = 0.9
    """How far its mean color does."""
    shading: float = 0.5
    """Share of the exemplar's own coarse light and shadow."""
    ground: float = 0.5
    """How far hair, clothes and ground follow the exemplar's, against skin. 1 follows wholly."""
    lines: float = 0.0
    """Darkness of ink lines along edges, 0 to 1."""
    vivid: float = 1.0
    """Gain of chroma in the end."""


@dataclass(frozen=True, slots=True)
class LandmarkedPortrait:
    """A portrait and its landmarks."""

    pixels: Pixels
    """(S, S, 3) uint8."""
    landmarks: Array
    """(478, 2), pixels."""


@dataclass(frozen=True, slots=True)
class DrawnPair:
    """The drawing of a photograph by the teacher."""

    pixels: Pixels
    """(S, S, 3) uint8."""
    landmarks: Array
    """(478, 2): where the landmarks should be now."""
    folded: bool
    """The warp turns a part of the picture inside out."""


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


def mean_shape(shapes: NDArray[np.float32], rounds: int = 3) -> Array:
    """(478, 2): mean of landmarks (N, 478, 2), each brought to it by an affine map (generalized
    Procrustes analysis)."""
    mean = shapes.mean(axis=0)
    for _ in range(rounds):
        mean = np.mean([apply_affine(affine_between(s, mean), s) for s in shapes], axis=0)
    result: Array = mean.astype(np.float32)
    return result


def affine_between(source: Array, target: Array) -> NDArray[np.float64]:
    """(3, 2): least-squares affine map of points (N, 2)."""
    homogeneous = np.c_[source, np.ones(len(source))]
    matrix: NDArray[np.float64] = np.linalg.lstsq(homogeneous, target, rcond=None)[0]
    return matrix


def apply_affine(matrix: NDArray[np.float64], points: Array) -> Array:
    """Points (N, 2) through an affine map (3, 2)."""
    mapped: Array = points @ matrix[:2] + matrix[2]
    return mapped


def shape_difference(landmarks: Array, mean: Array) -> Array:
    """(478, 2): a face's landmarks, brought to the mean face by rotation, scale and shift, less
    the mean face: its proportions."""
    a, b = landmarks - landmarks.mean(axis=0), mean - mean.mean(axis=0)
    norm = (a**2).sum()
    cosine = (a * b).sum() / norm
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
    turned = a @ np.array([[cosine, sine], [-sine, cosine]])
    difference: Array = (turned + mean.mean(axis=0) - mean).astype(np.float32)
    return difference


def wanted_difference(difference: Array, mean: Array, look: HeadshotLook) -> Array:
    """The difference to draw: the mouth moves and shrinks as a whole, eyes are exaggerated."""
    wanted = difference.copy()
    lips = list(LIPS)
    at, moved = mean[lips], difference[lips]
    shift, scale = moved.mean(axis=0), np.ptp((at + moved)[:, 0]) / np.ptp(at[:, 0])
    wanted[lips] = shift + (np.clip(scale, *MOUTH_SCALE) - 1.0) * (at - at.mean(axis=0))
    for eye in (RIGHT_EYE + RIGHT_IRIS, LEFT_EYE + LEFT_IRIS):
        points = list(eye)
        center = wanted[points].mean(axis=0)
        wanted[points] = center + look.eyes * (wanted[points] - center)
    return wanted


def sine_of_yaw(landmarks: Array) -> float:
    """How far the head is turned: -1 to 1, 0 from the front; from the nose between the cheeks."""
    left, right = (float(np.hypot(*(landmarks[4] - landmarks[side]))) for side in SIDES)
    return float((left - right) / max(left + right, 1e-6)) * 1.6


def eye_openness(landmarks: Array) -> float:
    """Mean height of the eyes over the width of the face."""
    heights = [float(np.hypot(*(landmarks[a] - landmarks[b]))) for a, b in EYE_HEIGHTS]
    width = float(np.hypot(*(landmarks[SIDES[0]] - landmarks[SIDES[1]])))
    return sum(heights) / 2 / max(width, 1e-6)


# ── warps ────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=4)
def _border(side: int) -> Array:
    along = np.linspace(0, side - 1, NUM_BORDER)
    points = [(x, y) for x in along for y in along if x in (0, side - 1) or y in (0, side - 1)]
    return np.array(points, np.float32)


@lru_cache(maxsize=4)
def _grid(side: int) -> tuple[Array, int]:
    """Points (n * n, 2) that lie GRID_PX apart and reach beyond the picture, and n."""
    along = np.arange(0, side + GRID_PX, GRID_PX, dtype=np.float32)
    x, y = np.meshgrid(along, along)
    return np.stack([x.ravel(), y.ravel()], axis=1), len(along)


def _kernel(a: Array, b: Array) -> Array:
    """r^2 log r of all distances: (N, M) of points (N, 2) and (M, 2)."""
    x, y = a[:, :1] - b[None, :, 0], a[:, 1:] - b[None, :, 1]
    squared = x * x + y * y
    kernel: Array = 0.5 * squared * np.log(squared + np.float32(1e-9))
    return kernel


def warp_fields(wanted: Array, sources: Sequence[Array], side: int) -> list[Array]:
    """Backward thin-plate splines (Bookstein, 1989): for each picture whose points are `sources`,
    (side, side, 2): where each pixel of the result is taken from.

    Args:
        wanted: (N, 2) where the points shall be.
        sources: (N, 2) each, where they are; all are solved for together.
    """
    border = _border(side)
    points = np.concatenate([wanted, border])
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(points, points)
    system[np.arange(count), np.arange(count)] += SMOOTHING * count
    system[:count, count : count + 2] = points
    system[:count, count + 2] = 1.0
    system[count:, :count] = system[:count, count:].T
    moves = np.concatenate([np.concatenate([s, border]) - points for s in sources], axis=1)
    solved = np.linalg.solve(system, np.concatenate([moves, np.zeros((3, moves.shape[1]))]))
    grid, n = _grid(side)
    solved = solved.astype(np.float32)
    at_grid = _kernel(grid, points) @ solved[:count]
    at_grid += grid @ solved[count : count + 2] + solved[count + 2]
    fields = []
    for k in range(len(sources)):
        field = at_grid[:, 2 * k : 2 * k + 2].reshape(n, n, 2).astype(np.float32)
        # samples lie at multiples of GRID_PX, and cv2.resize takes them for centers of cells
        x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) / GRID_PX,) * 2)
        fine: Array = cv2.remap(field, x, y, cv2.INTER_LINEAR)
        fine[..., 0] += np.arange(side, dtype=np.float32)
        fine[..., 1] += np.arange(side, dtype=np.float32)[:, None]
        fields.append(fine)
    return fields


def warped(picture: Array, field: Array) -> Array:
    """A picture taken from where the field says, mirrored at its borders."""
    result: Array = cv2.remap(
        picture, field[..., 0], field[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return result


def is_folded(field: Array) -> bool:
    """Whether a backward warp turns some part inside out."""
    dx, dy = np.diff(field[::4], axis=1)[:-1, ::4], np.diff(field[:, ::4], axis=0)[::4, :-1]
    rows, columns = min(dx.shape[0], dy.shape[0]), min(dx.shape[1], dy.shape[1])
    dx, dy = dx[:rows, :columns], dy[:rows, :columns]
    return bool((dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0] <= 0.02).any())


# ── strokes ──────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=8)
def _sectors(radius: int, count: int = 8) -> tuple[Array, ...]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    bell = np.exp(-(x**2 + y**2) / (2 * (radius / 1.8) ** 2))
    angle = np.arctan2(y, x)
    kernels = []
    for k in range(count):
        off = np.abs((angle - 2 * np.pi * k / count + np.pi) % (2 * np.pi) - np.pi)
        kernel = bell * np.clip(1 - off / (2 * np.pi / count), 0, 1)
        kernel[radius, radius] = bell[radius, radius] / count
        kernels.append((kernel / kernel.sum()).astype(np.float32))
    return tuple(kernels)


def kuwahara(picture: Array, radius: int) -> Array:
    """Generalized Kuwahara filter: each pixel is the mean of its calmest sectors (Papari et al.,
    2007): texture goes, edges stay."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    stacked = cv2.merge([*cv2.split(picture), gray * gray])
    total, weights = np.zeros_like(picture), np.zeros(picture.shape[:2], np.float32)
    for kernel in _sectors(radius):
        means = cv2.filter2D(stacked, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        squared = np.ascontiguousarray(means[..., 3])
        means = np.ascontiguousarray(means[..., :3])
        variance = squared - cv2.cvtColor(means, cv2.COLOR_RGB2GRAY) ** 2
        calm = 1.0 / (1e-4 + np.maximum(variance, 0)) ** 3
        total += means * calm[..., None]
        weights += calm
    result: Array = total / weights[..., None]
    return result


# ── light and color ──────────────────────────────────────────────────────────────────────────────


def to_lab(picture: Array) -> Array:
    result: Array = cv2.cvtColor(np.clip(picture, 0, 1), cv2.COLOR_RGB2LAB)
    return result


def to_rgb(lab: Array) -> Array:
    result: Array = np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)
    return result


MOST_COLOR = 1.6
"""Largest gain of a level in a and b."""
FILL = 0.05
"""Weight of a region's mean where nothing of the region is near."""


def _normalized(
    blur: Callable[[Array], Array], picture: Array, mask: Array, mean: Array
) -> tuple[Array, Array]:
    """Blurred means of what lies in the mask (normalized convolution; Knutsson and Westin, 1993)
    and, far from it, the region's mean; and the blurred mask."""
    blurred = blur(cv2.merge([*cv2.split(picture * mask[..., None]), mask]))
    small = np.ascontiguousarray(blurred[..., 3])
    result: Array = (blurred[..., :3] + FILL * mean) / (small[..., None] + FILL)
    return result, small


def _blur(picture: Array) -> Array:
    blurred: Array = cv2.GaussianBlur(picture, (0, 0), 2.0)
    return blurred


def _mean_in(picture: Array, mask: Array) -> Array:
    """(3,): mean of what lies in the mask."""
    mean: Array = np.tensordot(mask, picture, 2) / (mask.sum() + 1e-6)
    return mean


def transfer_light(
    photo: Array,
    exemplar: Array,
    inside: Array,
    exemplar_inside: Array,
    look: HeadshotLook,
    share: float = 1.0,
) -> Array:
    """A region of the photograph in the light and colors of the exemplar's (Shih et al., eq. 3).

    Args:
        photo, exemplar: (S, S, 3) Lab, landmarks over landmarks.
        inside, exemplar_inside: (S, S) in [0, 1], what belongs to the region in each.
        share: how far means and coarse light go, 0 to 1, on top of what the look says.
    """
    # colors may vanish (a gray exemplar) and are not exaggerated as much as light
    least = np.array([look.least_contrast, 0.05, 0.05], np.float32)
    most = np.array([look.most_contrast, MOST_COLOR, MOST_COLOR], np.float32)
    mean_a, mean_b = _mean_in(photo, inside), _mean_in(exemplar, exemplar_inside)
    details: list[Array] = []
    a, b, mask_a, mask_b = photo, exemplar, inside, exemplar_inside
    for _ in range(NUM_LEVELS):
        a2, small_a = _normalized(cv2.pyrDown, a, mask_a, mean_a)
        b2, small_b = _normalized(cv2.pyrDown, b, mask_b, mean_b)
        size = (a.shape[1], a.shape[0])
        detail_a = a - cv2.pyrUp(a2, dstsize=size)
        detail_b = b - cv2.pyrUp(b2, dstsize=size)
        squared_a, squared_b = detail_a**2, detail_b**2
        energy_a, _ = _normalized(_blur, squared_a, mask_a, _mean_in(squared_a, mask_a))
        energy_b, _ = _normalized(_blur, squared_b, mask_b, _mean_in(squared_b, mask_b))
        gain = np.sqrt(energy_b / (energy_a + 0.3))
        details.append(detail_a * np.clip(gain, least, most))
        a, b, mask_a, mask_b = a2, b2, small_a, small_b
    follow = share * np.array([look.lightness, look.chroma, look.chroma], np.float32)
    moved = a + (mean_b - mean_a) * follow
    shaded = b + (1 - follow) * (mean_a - mean_b)
    shading = look.shading * share
    result: Array = (1 - shading) * moved + shading * shaded
    for detail in reversed(details):
        result = cv2.pyrUp(result, dstsize=(detail.shape[1], detail.shape[0])) + detail
    return result


def face_mask(landmarks: Array, side: int, blur: float) -> Array:
    """(side, side) in [0, 1]: the face's outline, softened by `blur` pixels."""
    return polygon_mask(landmarks[list(OVAL)], side, blur)


def polygon_mask(points: Array, side: int, blur: float) -> Array:
    """(side, side) in [0, 1]: a polygon, softened."""
    mask = np.zeros((side, side), np.float32)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], (1.0,), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), blur)


HIGHLIGHT_TINT = 7.0
"""How far, in Lab, a highlight may be off the line from skin to white."""
FOREHEAD, NECK, EARS = 0.45, 0.5, 0.16
"""How far skin is looked for beyond the face's outline, in heights and widths of the face."""


def skin_mask(lab: Array, landmarks: Array, face: Array) -> Array:
    """Share of skin in a portrait: (S, S) in [0, 1].

    The face's outline ends in the middle of the forehead; beyond it, skin is what has the color of
    the cheeks: forehead, ears, neck. Above the brows, what differs from the cheeks is hair, a hat
    or a band.

    Args:
        lab: (S, S, 3), the portrait.
        face: (S, S), the outline (`face_mask`).
    """
    side = lab.shape[0]
    at = np.clip(np.rint(landmarks[list(CHEEKS)]), 2, side - 3).astype(int)
    patches = np.stack([lab[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(0) for x, y in at])
    skin = np.median(patches, axis=0)
    delta = (lab - skin) * np.array([0.45, 1.0, 1.0], np.float32)
    distance = np.sqrt(cv2.transform(delta * delta, np.ones((1, 3), np.float32)))
    # a highlight is brighter than skin and between it and white; the outline ends in the forehead
    forehead = np.ones((round(0.16 * side) | 1, round(0.06 * side) | 1), np.uint8)
    tone = skin[1:] / (np.hypot(*skin[1:]) + 1e-6)
    across = np.abs(lab[..., 1] * tone[1] - lab[..., 2] * tone[0])
    bright = (
        (lab[..., 0] > skin[0]) & (across < HIGHLIGHT_TINT) & (cv2.dilate(face, forehead) > 0.5)
    )
    distance = np.where(bright, np.minimum(distance, 14.0), distance)
    other = np.clip((distance - 14.0) / 12.0, 0.0, 1.0)
    brows = landmarks[list(BROWS_Y), 1].mean()
    above = np.clip((brows - np.arange(side, dtype=np.float32)) / (0.03 * side), 0.0, 1.0)
    inside = face * (1.0 - other * above[:, None])
    oval = landmarks[list(OVAL)]
    middle, extent = oval.mean(axis=0), np.ptp(oval, axis=0)
    reach = oval + np.sign(oval - middle) * extent * np.array([EARS, 0.0], np.float32)
    up = np.where(oval[:, 1] < middle[1], -FOREHEAD, NECK) * extent[1]
    reach[:, 1] += up * np.abs(oval[:, 1] - middle[1]) / (0.5 * extent[1])
    around = polygon_mask(reach, side, 0.012 * side) * (1.0 - other)
    mask = np.maximum(inside, around)
    mask = np.maximum(mask, _without_holes(mask))
    result: Array = cv2.GaussianBlur(mask, (0, 0), 0.008 * side)
    return result


def _without_holes(mask: Array) -> Array:
    """The mask (S, S) with its holes closed: highlights on a forehead are no hair."""
    side = mask.shape[0]
    size = 2 * round(0.03 * side) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = cv2.morphologyEx((mask > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    cv2.drawContours(filled, list(outlines), -1, (1.0,), cv2.FILLED)
    return filled.astype(np.float32)


def ink(picture: Array, edges: Array, strength: float) -> Array:
    """A picture (S, S, 3) in Lab with dark lines along the edges of another: extended differences
    of Gaussians (Winnemoeller et al., 2012, section 2.4)."""
    sigma = picture.shape[0] / 256 * INK_SIGMA
    light = np.ascontiguousarray(edges[..., 0]) / 100
    fine, coarse = (cv2.GaussianBlur(light, (0, 0), sigma * k) for k in (1.0, 1.6))
    response = (1 + INK_SHARPNESS) * fine - INK_SHARPNESS * coarse
    level = response - cv2.GaussianBlur(light, (0, 0), 8 * sigma) * INK_LEVEL
    white = np.where(level >= 0, 1.0, 1.0 + np.tanh(INK_SLOPE * level)).astype(np.float32)
    inked = picture.copy()
    inked[..., 0] *= 1 - strength * (1 - white)
    return inked


INK_SIGMA, INK_SHARPNESS, INK_LEVEL, INK_SLOPE = 1.0, 11.0, 0.72, 8.0
"""Width of lines in pixels at 256 px; how much stronger than the picture edges are; darkness
against its surroundings, below which a line is drawn; softness of its rims."""


# ── the teacher ──────────────────────────────────────────────────────────────────────────────────


class Headshot:
    """Draws pairs for one mean face.

    Args:
        mean: (478, 2) landmarks of the mean face in an aligned crop of `side` pixels.
    """

    def __init__(self, mean: Array, side: int = 256) -> None:
        self.mean, self.side = mean, side

    def draw(
        self,
        photo: LandmarkedPortrait,
        exemplar: LandmarkedPortrait,
        style_shape: Array,
        look: HeadshotLook,
        structure: float = 1.0,
        color: float = 1.0,
    ) -> DrawnPair:
        """The photograph in the exemplar's style.

        Args:
            style_shape: (478, 2), mean of `shape_difference` over the style's exemplars.
            structure, color: degrees in [0, 1]; 0 and 0 give back the photograph.
        """
        side, face = self.side, photo.landmarks
        own = shape_difference(exemplar.landmarks, self.mean)
        difference = (1 - look.own_shape) * style_shape + look.own_shape * own
        difference = wanted_difference(difference, self.mean, look)
        turned = np.clip((abs(sine_of_yaw(face)) - TURNED) / TURNED, 0.0, 1.0)
        to_person = affine_between(self.mean, face)
        wanted = face + structure * (1 - 0.6 * turned) * (difference @ to_person[:2])
        wanted = wanted.astype(np.float32)
        at, from_exemplar = list(CONTROL), exemplar.landmarks
        field, exemplar_field = warp_fields(wanted[at], [face[at], from_exemplar[at]], side)
        shaped = warped(photo.pixels.astype(np.float32) / 255, field)
        drawn = shaped
        if color > 0:
            target = warped(exemplar.pixels.astype(np.float32) / 255, exemplar_field)
            stylized = self._lit(shaped, target, wanted, look)
            drawn = shaped + color * (stylized - shaped)
        pixels = np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8)
        return DrawnPair(pixels, wanted, is_folded(field))

    def _lit(self, photo: Array, exemplar: Array, landmarks: Array, look: HeadshotLook) -> Array:
        side = self.side
        painted = photo
        if look.strokes:
            radius = max(1, round(look.strokes * side / 256))
            painted = 0.1 * photo + 0.9 * kuwahara(photo, radius)
        a, b = to_lab(painted), to_lab(exemplar)
        face = face_mask(landmarks, side, side * 0.024)
        skin_a, skin_b = skin_mask(a, landmarks, face), skin_mask(b, landmarks, face)
        inner = transfer_light(a, b, skin_a, skin_b, look)
        outer = transfer_light(a, b, 1 - skin_a, 1 - skin_b, look, look.ground)
        result = outer + skin_a[..., None] * (inner - outer)
        result = result * np.array([1.0, look.vivid, look.vivid], np.float32)
        if look.lines:
            result = ink(result, a, look.lines)
        # teeth and tongue keep their own color, in the new light
        mouth = polygon_mask(landmarks[list(INNER_LIPS)], side, side * 0.004)[..., None]
        kept = a * np.array([1.0, 0.8, 0.8], np.float32)
        shift = ((result - a) * mouth).sum((0, 1)) / (mouth.sum() + 1e-3)
        kept = kept + shift * np.array([0.5, 0.25, 0.25], np.float32)
        result = result + 0.85 * mouth * (kept - result)
        return to_rgb(result)


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────

LEAST_OPEN = 0.55
"""A pair is thrown away if the eyes are open less than this share of what was meant."""
MOST_OFF = 0.05
"""Or if its landmarks lie this far from where they were meant to be, in face widths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmarked:
    """A pack of portraits with their landmarks on disk; pickles small."""

    pack: Pack
    landmarks: Path
    """(N, 478, 2) float32 in pixels of the pack, NaN where no face was found."""

    def subject(self, index: int) -> LandmarkedPortrait:
        """One portrait."""
        pixels = np.asarray(self.pack.level(self.pack.size_px)[index])
        return LandmarkedPortrait(pixels, np.asarray(_load(self.landmarks)[index]))

    def with_face(self, prefix: str = "") -> list[int]:
        """Positions of the portraits that have a face and whose name begins so."""
        there = np.isfinite(_load(self.landmarks)[:, 0, 0])
        return [i for i, name in enumerate(self.pack.names) if there[i] and name.startswith(prefix)]


@lru_cache(maxsize=4)
def _load(path: Path) -> Array:
    found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemplarGroup:
    """Exemplars that are drawn alike: a style, or a folder of the base."""

    look: HeadshotLook
    share: float
    """Share of the pairs that this style gets."""
    members: tuple[int, ...]
    """Positions in the teacher's exemplars."""
    shape: tuple[tuple[float, float], ...]
    """(478, 2), mean of the members' `shape_difference`."""


@dataclass(frozen=True, kw_only=True)
class HeadshotTeacher:
    """Photographs of one pack in the styles of another's portraits (`Teacher`).

    Exemplars are those of `styles`, then those of `base`, in the packs' orders.
    """

    base: Landmarked
    styles: Landmarked
    photos: tuple[int, ...]
    """Positions in `base` that are drawn."""
    photo_weights: tuple[float, ...]
    groups: tuple[ExemplarGroup, ...]
    mean: tuple[tuple[float, float], ...]
    task_file: Path | None = None

    @property
    def exemplars(self) -> Pictures:
        return JoinedPictures((self.styles.pack, self.base.pack))

    @property
    def shipped(self) -> Sequence[int]:
        return tuple(i for group in self.groups for i in group.members if i < len(self.styles.pack))

    def draw(self, key: str, count: int) -> PairChunk:
        """About `count` pairs; see `Teacher`."""
        cv2.setNumThreads(1)
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        size = self.base.pack.size_px
        artist = Headshot(np.array(self.mean, np.float32), size)
        shares = np.array([g.share for g in self.groups])
        weights = np.array(self.photo_weights)
        pixels, exemplars, structure, color = [], [], [], []
        rejected: Counter[str] = Counter()
        for _ in range(count):
            group = self.groups[rng.choice(len(shares), p=shares / shares.sum())]
            number = int(rng.choice(group.members))
            photo = self.base.subject(int(rng.choice(self.photos, p=weights / weights.sum())))
            degrees = random_degrees(rng)
            style_shape = np.array(group.shape, np.float32)
            drawn = artist.draw(photo, self._exemplar(number), style_shape, group.look, *degrees)
            problem = self._problem(drawn)
            if problem:
                rejected[problem] += 1
                continue
            pixels.append(np.stack([photo.pixels, drawn.pixels]))
            exemplars.append(number)
            structure.append(degrees[0])
            color.append(degrees[1])
        stacked = np.stack(pixels) if pixels else np.zeros((0, 2, size, size, 3), np.uint8)
        return PairChunk(
            pixels=stacked, exemplars=exemplars, structure=structure, color=color, rejected=rejected
        )

    def _exemplar(self, number: int) -> LandmarkedPortrait:
        first = len(self.styles.pack)
        return self.styles.subject(number) if number < first else self.base.subject(number - first)

    def _problem(self, drawn: DrawnPair) -> str:
        """Why a pair is thrown away; empty if it is not."""
        if drawn.folded:
            return "folded"
        meshes = face_detector(self.task_file).finder.find(drawn.pixels)
        if not meshes:
            return "no face"
        width = float(np.hypot(*(drawn.landmarks[SIDES[0]] - drawn.landmarks[SIDES[1]])))
        off = min(float(np.hypot(*(mesh - drawn.landmarks).T).mean()) for mesh in meshes) / width
        if off > MOST_OFF:
            return "misplaced"
        if eye_openness(meshes[0]) < LEAST_OPEN * eye_openness(drawn.landmarks):
            return "eyes closed"
        return ""


@dataclass(frozen=True)
class JoinedPictures:
    """Several packs as one (`Pictures`)."""

    packs: tuple[Pack, ...]

    @property
    def names(self) -> Sequence[str]:
        return [name for pack in self.packs for name in pack.names]

    @property
    def weights(self) -> Sequence[float]:
        return [1.0] * len(self)

    def __len__(self) -> int:
        return sum(len(pack) for pack in self.packs)

    def get(self, indices: Sequence[int], size_px: int) -> Tensor:
        """(N, 3, S, S) in [-1, 1]."""
        starts = np.cumsum([0, *(len(pack) for pack in self.packs)])
        pictures = []
        for index in indices:
            k = int(np.searchsorted(starts, index, side="right")) - 1
            pictures.append(self.packs[k].get([index - int(starts[k])], size_px))
        return torch.cat(pictures)


def write_landmarks(
    pack: Pack, path: Path, task_file: Path | None, advance: Callable[[int, int], None]
) -> Landmarked:
    """Find the landmarks of every portrait of a pack, in worker processes; a file that is there is
    read."""
    if not path.is_file():
        found: list[Array] = []
        ranges = [range(k, min(k + 64, len(pack))) for k in range(0, len(pack), 64)]
        for part in parallel_map(partial(_landmarks_of, pack, task_file), ranges):
            found.append(part)
            advance(sum(map(len, found)), len(pack))
        with written_whole(path) as partly, partly.open("wb") as file:
            np.save(file, np.concatenate(found))
    return Landmarked(pack=pack, landmarks=path)


def _landmarks_of(pack: Pack, task_file: Path | None, indices: Sequence[int]) -> Array:
    """(n, 478, 2): NaN where no face is found."""
    found = np.full((len(indices), 478, 2), np.nan, np.float32)
    for row, index in enumerate(indices):
        pixels = np.asarray(pack.level(pack.size_px)[index])
        faces = face_detector(task_file).detect(Frame(pixels=pixels), effort="glance")
        if faces:
            found[row] = max(faces, key=lambda face: face.height_px).landmarks
    return found


def headshot_teacher(context: RunContext, recipe: DistillRecipe) -> HeadshotTeacher:
    """The teacher of a recipe: landmarks are found first.

    Raises:
        TrainingError: a folder of exemplars in which no face is found.
    """
    task_file = context.store.file(TASK_NAME)
    found = {}
    for name in ("base", "style"):
        pack = context.pictures(name)
        assert isinstance(pack, Pack)

        def advance(done: int, total: int, name: str = name) -> None:
            context.advance(done, total, f"landmarks of {name}")

        path = context.folder / f"landmarks-{name}.npy"
        found[name] = write_landmarks(pack, path, task_file, advance)
    base, styles = found["base"], found["style"]
    photos = [i for i in base.with_face() if base.pack.weights[i] > 0]
    measured = _load(base.landmarks)
    mean = mean_shape(np.asarray(measured[photos[:: max(1, len(photos) // 1000)]]))
    groups = []
    for source in recipe.exemplars or (ExemplarSource(folder=""),):
        members = styles.with_face(source.prefix)[: source.count or None]
        subjects = [_load(styles.landmarks)[i] for i in members]
        if not members and source.folder:
            held = len(styles.pack)
            inside = [i for i in base.with_face(source.prefix) if base.pack.weights[i] > 0]
            inside = inside[: source.count or None]
            members = [held + i for i in inside]
            subjects = [measured[i] for i in inside[:: max(1, len(inside) // 500)]]
        if not members:
            where = repr(source.folder) if source.folder else "the style's folder"
            raise TrainingError(f"[distill] exemplars: no face is found in {where}")
        shape = np.mean([shape_difference(np.asarray(s), mean) for s in subjects], axis=0)
        groups.append(
            ExemplarGroup(
                look=look_of(source),
                share=source.share,
                members=tuple(members),
                shape=tuple(map(tuple, shape.tolist())),
            )
        )
    return HeadshotTeacher(
        base=base,
        styles=styles,
        photos=tuple(photos),
        photo_weights=tuple(base.pack.weights[i] for i in photos),
        groups=tuple(groups),
        mean=tuple(map(tuple, mean.tolist())),
        task_file=task_file,
    )


def look_of(source: ExemplarSource) -> HeadshotLook:
    """How the exemplars of one entry of the recipe are drawn."""
    return HeadshotLook(**{f.name: getattr(source, f.name) for f in fields(HeadshotLook)})
