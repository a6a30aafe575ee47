"""Give the rest of a frame the change of light and color that its drawn part got.

crop + portrait -> values; values + frame -> frame. A grade is fitted to the change of color from a
crop to its portrait, and then applied to any picture, so that the frame around the drawn square
matches it.

The map is a tone curve and a matrix, in sRGB values from 0 to 1. A pixel with luma l (BT.601) gets

    y = tones(l) + chroma (R - l, B - l)

where `tones` maps each gray to a color (shadows may turn blue and lights orange) and `chroma` maps
the two color differences. The map is linear in its numbers: a fit is least squares, and means over
faces and over moments are means of the numbers.

Conventions
    values   (KNOTS + 2, 3) float64, RGB: the colors of KNOTS grays from black to white, then the
             colors that R - l and B - l of 1 add
    pixels   (H, W, 3) uint8 RGB
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dsgcli.types import Mask, Pixels

Values = NDArray[np.float64]

KNOTS = 9
FITTED_PX = 48
"""Crops are shrunk to this side first: strokes and small changes of shape do not count."""
ROUNDS = 3
"""Solutions, each with less weight on what the one before did not explain."""
USUAL_ERROR = 0.04
"""Pixels farther than this from the map count less (Cauchy's weights)."""
BEND, COLOR_BEND = 2e-4, 4e-3
"""Costs of a bend of the tones' luma, and of their color: tones without pixels continue straight,
and gray walls get no colored bands."""
SLOPE, COLOR_SLOPE = 1e-4, 2e-3
"""Costs of another slope of the tones' luma than the photograph's, and of any of their color."""
STRAY = 2e-3
"""Cost of a change of hue: colors that are not in the crop get the saturation of the others, so
that they are gray where the style is gray."""
LEAST_LIGHT = 0.3
"""Shadows keep this part of their luma, and lights of their distance to white; else dark places
beside the crop would turn black."""
DULL = 0.2
"""A style that leaves less of the colors than this leaves none."""
MOST_SLOPE, MOST_CHROMA = 1.8, 1.25
"""Contrast and saturation grow by at most these factors: more shows a codec's blocks."""

LUMA = np.array([0.299, 0.587, 0.114])
_TO_YCC = np.vstack([LUMA, np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) - LUMA])
"""(3, 3): takes a column RGB to l, R - l and B - l."""
_TO_RGB = np.linalg.inv(_TO_YCC)
_STEPS = np.linspace(0.0, 1.0, KNOTS)
IDENTITY: Values = np.vstack([np.repeat(_STEPS[:, None], 3, 1), _TO_RGB[:, 1:].T])
"""Changes nothing."""
_SLOPES = np.diff(np.eye(KNOTS), axis=0) * (KNOTS - 1)
_BENDS = np.diff(_SLOPES, axis=0)


def fit_grade(crop: Pixels, drawn: Pixels, weights: Mask) -> Values:
    """Fit the map of colors from a crop to its portrait.

    Args:
        crop: (S, S, 3), the photograph's.
        drawn: the portrait, of any size.
        weights: (M, M), how much each place counts; all 0 counts all places alike.
    """

    def shrunk(picture: Any) -> Values:
        """(FITTED_PX ** 2, channels)"""
        small = cv2.resize(picture, (FITTED_PX, FITTED_PX), interpolation=cv2.INTER_AREA)
        values: Values = small.astype(np.float64).reshape(FITTED_PX**2, -1)
        return values

    # (n, 3): l, R - l, B - l of each pixel, n = FITTED_PX ** 2
    before, after = (shrunk(pixels) @ (_TO_YCC.T / 255.0) for pixels in (crop, drawn))
    weight = shrunk(weights)[:, 0]
    weight = weight if weight.any() else np.ones(len(weight))
    # hats (n, KNOTS): how near each luma is to each knot, linearly; rows sum to 1
    place = np.clip(before[:, :1], 0.0, 1.0) * (KNOTS - 1)
    hats = np.maximum(0.0, 1.0 - np.abs(place - np.arange(KNOTS)))
    features = np.hstack([hats, before[:, 1:]])
    trust = np.ones(len(weight))
    # robust least squares: pixels that the last map did not explain count less
    for _ in range(ROUNDS):
        values = _solved(features, after, weight * trust / (weight * trust).sum())
        error = np.square(features @ values - after).sum(axis=1)
        trust = 1.0 / (1.0 + error / USUAL_ERROR**2)
    return _tamed(values) @ _TO_RGB.T


def _solved(features: Values, wanted: Values, weight: Values) -> Values:
    """Weighted least squares with the costs above; everything in l, R - l, B - l."""
    weighted = features * weight[:, None]
    normal, right = weighted.T @ features, weighted.T @ wanted
    colors, drawn_colors = features[:, KNOTS:], wanted[:, 1:]
    colors = colors - weight @ colors
    # ratio of the drawing's colors to the crop's, along the crop's: below 1 is duller
    liveliness = (weight @ (colors * (drawn_colors - weight @ drawn_colors))).sum()
    liveliness /= max((weight @ colors**2).sum(), 1e-9)
    prior = np.zeros_like(right)
    prior[KNOTS:, 1:] = STRAY * np.clip(liveliness, 0.0, MOST_CHROMA) * np.eye(2)
    prior[:KNOTS, 0] = SLOPE * _SLOPES.sum(axis=0)
    solved = np.empty_like(right)
    kinds = ((BEND, SLOPE), (COLOR_BEND, COLOR_SLOPE), (COLOR_BEND, COLOR_SLOPE))
    for column, (bend, slope) in enumerate(kinds):
        costs = np.diag(np.full(KNOTS + 2, STRAY))
        costs[:KNOTS, :KNOTS] = bend * _BENDS.T @ _BENDS / KNOTS**2 + slope * _SLOPES.T @ _SLOPES
        solved[:, column] = np.linalg.solve(normal + costs, right[:, column] + prior[:, column])
    return solved


def _tamed(values: Values) -> Values:
    """Limit the map, in l, R - l, B - l: shadows and lights keep their contrast, and neither
    contrast nor saturation grows beyond the limits above."""
    tamed = values.copy()
    least, most = LEAST_LIGHT * _STEPS, 1.0 - LEAST_LIGHT * (1.0 - _STEPS)
    luma = np.clip(values[:KNOTS, 0], least, most)
    # the middle gray stays, and contrast is limited on both sides of it
    middle = KNOTS // 2
    slopes = np.clip(np.diff(luma), 0.1 / (KNOTS - 1), MOST_SLOPE / (KNOTS - 1))
    rise = np.concatenate([[0.0], np.cumsum(slopes)])
    tamed[:KNOTS, 0] = np.clip(luma[middle] + rise - rise[middle], least, most)
    left, gains, right = np.linalg.svd(values[KNOTS:, 1:])
    gains = np.minimum(gains, MOST_CHROMA) * np.clip((gains[0] - DULL) / DULL, 0.0, 1.0)
    tamed[KNOTS:, 1:] = left @ np.diag(gains) @ right
    return tamed


def graded(pixels: Pixels, values: Values) -> Pixels:
    """The picture in its new colors, in a few milliseconds a megapixel.

    The matrix runs on bytes, for which OpenCV has SIMD: halves, about 128.
    """
    grays = np.arange(256) / 255.0
    tones = np.stack([np.interp(grays, _STEPS, values[:KNOTS, channel]) for channel in range(3)])
    table = np.rint(np.clip(tones, 0.0, 1.0) * 255.0).astype(np.uint8)
    matrix = np.hstack([0.5 * values[KNOTS:].T @ _TO_YCC[1:], np.full((3, 1), 128.0)])
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    toned = cv2.merge([cv2.LUT(luma, row) for row in table])
    added: Any = cv2.addWeighted(cv2.transform(pixels, matrix), 2.0, toned, 1.0, -256.0)
    moved: Pixels = added
    return moved
