"""What `quality.py` and `quality_base.py` measure on pictures and landmarks: values in, values out.

pictures  (S, S, 3) uint8 RGB
points    (478, 2) landmarks of MediaPipe's face mesh, in widths of the picture
grids     (E, N): E exemplars in the rows, N people in the columns; nan where no face was found
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dsgcli.faces.composite import rgb_to_lab
from dsgcli.types import LEFT_EYE, RIGHT_EYE

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

Array = NDArray[np.float64]

NOSE, SIDES, LIPS = 1, (234, 454), (13, 14)
"""Landmarks: tip of the nose, sides of the face, inner lips."""
CHEEKS = (50, 280)
"""Landmarks on the cheekbones, below the eyes: skin that beards, hair and glasses leave free."""
CHEEK_RADIUS = 0.06
"""Of the skin that is looked at around each, in widths of the face."""
EDGE_BLUR_PX = 1.0
"""Standard deviation of the blur before gradients are taken, at 256 px."""
LUMA = np.array([0.299, 0.587, 0.114])
LEAST_COMMON = 3
"""People in whom a face was found on both sides, below which no correlation is told."""


# ── one face ─────────────────────────────────────────────────────────────────────────────────────


def face_width(points: Points) -> float:
    """Distance of the sides of the face."""
    left, right = points[list(SIDES)]
    return float(np.hypot(*(right - left)))


def yaw(points: Points) -> float:
    """-1 to 1: where the nose lies between the sides of the face; 0 in the middle."""
    left, right = points[list(SIDES)]
    along = (points[NOSE] - left) @ (right - left) / ((right - left) @ (right - left))
    return float(2 * along - 1)


def mouth_opening(points: Points) -> float:
    """Distance of the inner lips in face widths."""
    upper, lower = points[list(LIPS)]
    return float(np.hypot(*(lower - upper))) / face_width(points)


def eye_height(points: Points) -> float:
    """Distance of the lids in face widths, mean of both eyes."""
    heights = [np.hypot(*(points[upper] - points[lower])) for *_, upper, lower in EYES]
    return float(np.mean(heights)) / face_width(points)


def eye_opening(points: Points) -> float:
    """Distance of the lids in widths of the eye, mean of both eyes: falls in a blink, and does not
    change when an eye is drawn larger."""
    openings = [
        np.hypot(*(points[upper] - points[lower])) / np.hypot(*(points[one] - points[other]))
        for one, other, upper, lower in EYES
    ]
    return float(np.mean(openings))


EYES = (LEFT_EYE, RIGHT_EYE)


def cheek_lightness(picture: Pixels, points: Points) -> float:
    """Mean L of Lab (0 to 100) of two disks on the cheeks; nan where they lie outside."""
    side = picture.shape[0]
    y, x = (np.indices((side, side)) + 0.5) / side
    radius = CHEEK_RADIUS * face_width(points)
    near = [np.hypot(x - points[i, 0], y - points[i, 1]) <= radius for i in CHEEKS]
    skin = picture[near[0] | near[1]]
    return float(rgb_to_lab(skin)[:, 0].mean()) if len(skin) else math.nan


# ── one picture beside another ───────────────────────────────────────────────────────────────────


def luma(picture: Pixels) -> Array:
    """(S, S), 0 to 255."""
    grey: Array = picture @ LUMA
    return grey


def edges(picture: Pixels) -> Array:
    """(S, S): magnitude of the gradient of the slightly blurred luma, borders left out."""
    sigma = EDGE_BLUR_PX * picture.shape[0] / 256
    blurred = cv2.GaussianBlur(luma(picture), (0, 0), sigma)
    down, right = np.gradient(blurred)
    return np.hypot(down, right)[2:-2, 2:-2]


def edges_kept(photograph: Pixels, drawn: Pixels) -> float:
    """Correlation of the two maps of edges, over the whole crop."""
    return correlation(edges(photograph).ravel(), edges(drawn).ravel())


def finest(picture: Pixels) -> Array:
    """(S, S): the finest level of the Laplacian pyramid of the luma."""
    grey = luma(picture)
    height, width = grey.shape
    return grey - cv2.pyrUp(cv2.pyrDown(grey), dstsize=(width, height))


def sharpness(photograph: Pixels, drawn: Pixels, mask: NDArray[np.bool_]) -> float:
    """Energy of the finest detail where the mask is, drawn over photographed."""
    energy = [float((finest(picture)[mask] ** 2).mean()) for picture in (drawn, photograph)]
    return energy[0] / energy[1] if energy[1] > 0 else math.nan


def decibels(a: Pixels, b: Pixels, mask: NDArray[np.bool_] | None = None) -> float:
    """PSNR of two pictures, where the mask is."""
    error = (a.astype(np.float64) - b) ** 2
    mean = error.mean() if mask is None else error[mask].mean()
    return 10 * math.log10(255**2 / max(float(mean), 1e-6))


# ── people and exemplars ─────────────────────────────────────────────────────────────────────────


def correlation(a: Array, b: Array) -> float:
    """Pearson's; not a number where either does not vary."""
    a, b = a - a.mean(0), b - b.mean(0)
    spread = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread > 0 else math.nan


def ranks(values: Array) -> Array:
    """0 for the smallest; equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Array = (last - (counts + 1) / 2)[inverse]
    return shared


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's."""
    return correlation(ranks(a), ranks(b))


def over_people(alike: Callable[[Array, Array], float], photographed: Array, drawn: Array) -> float:
    """How alike two measures of people are, for each exemplar; mean over exemplars.

    Args:
        alike: of (M,) and (M,), those people whose face was found.
        photographed: (N,).
        drawn: (E, N), nan where no face was found.
    """
    found = []
    for row in drawn:
        both = np.isfinite(row) & np.isfinite(photographed)
        if both.sum() >= LEAST_COMMON:
            found.append(alike(photographed[both], row[both]))
    return mean(found)


def growth(photographed: Array, drawn: Array) -> float:
    """Mean of what was drawn over mean of what was photographed, of the same people and of all
    exemplars together: a closed eye, whose own ratio means nothing, counts little.

    Args:
        photographed: (N,).
        drawn: (E, N), nan where no face was found.
    """
    both = np.isfinite(drawn) & np.isfinite(photographed)
    if not both.any():
        return math.nan
    return float(drawn[both].sum() / np.broadcast_to(photographed, drawn.shape)[both].sum())


def mean(values: Sequence[float]) -> float:
    """Of the finite ones; not a number if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def differ(drawn: Pixels) -> dict[str, float]:
    """How much the drawings of one person after two exemplars differ, in levels of 255: mean
    absolute difference once each drawing's own mean color is taken away.

    Args:
        drawn: (E, N, S, S, 3).

    Returns:
        The mean over people and pairs of exemplars, and the pair that differs least.
    """
    toned = [row - row.mean(axis=(1, 2), keepdims=True) for row in drawn.astype(np.float32)]
    beyond = [float(np.abs(a - b).mean()) for a, b in combinations(toned, 2)]
    return {
        DIFFER: float(np.mean(beyond)) if beyond else math.nan,
        "  the two that differ least": min(beyond, default=math.nan),
    }


def rises(values: Sequence[float]) -> float:
    """How many values are not smaller than the one before."""
    return float(sum(after >= before for before, after in pairwise(values)))


# ── what is wanted ───────────────────────────────────────────────────────────────────────────────

FOUND = "a face found in the output, %"
MOUTH = "mouth opening follows the person, correlation"
EDGES = "edges of the whole crop kept, correlation"
SKIN = "lightness of skin keeps its order, rank correlation"
EYE = "eye height over face width, output over input"
DIFFER = "two exemplars differ beyond their mean color, levels"
STYLE = "distance to the style's exemplars (photograph = 1)"
OWN = "distance to its own exemplar (photograph = 1)"
UNSEEN = "an exemplar never trained on: the same over a trained one's"
ZERO = "weights 0: PSNR to the photograph, dB"
SLIDER = "slider: steps at which the style distance does not fall"
FLICKER_FACE = "flicker of the face, output over source"
FLICKER_GROUND = "flicker of the ground, output over source"
SHARP = "sharpness of the face over the photograph's"

WANTED: dict[str, tuple[float, float]] = {
    FOUND: (97.0, math.inf),
    MOUTH: (0.9, math.inf),
    EDGES: (0.6, math.inf),
    SKIN: (0.8, math.inf),
    DIFFER: (12.0, math.inf),
    STYLE: (-math.inf, 0.6),
    UNSEEN: (-math.inf, 1.2),
    ZERO: (35.0, math.inf),
    SLIDER: (-math.inf, 0.0),
    FLICKER_FACE: (-math.inf, 1.1),
    FLICKER_GROUND: (-math.inf, 1.1),
    SHARP: (0.7, 1.5),
    "reconstruction: landmarks off, %": (-math.inf, 4.0),
    "reconstruction: PSNR of the face, dB": (21.0, math.inf),
    "reconstruction: PSNR of the crop, dB": (19.0, math.inf),
    "reconstruction: yaw, correlation": (0.8, math.inf),
    "reconstruction: mouth opening, correlation": (0.8, math.inf),
}
"""Least and most by figure."""
WANTED_OF: dict[tuple[str, str], tuple[float, float]] = {(EYE, "toon"): (1.2, math.inf)}
"""By figure and style, where one style alone is held to it."""


def limits(name: str, style: str) -> tuple[float, float]:
    """Least and most that is wanted of a figure; no limits if nothing is."""
    return WANTED_OF.get((name, style), WANTED.get(name, (-math.inf, math.inf)))


def style_of(column: str) -> str:
    """`toon` of `toon, held out` and of `default/toon`."""
    return column.partition(",")[0].rpartition("/")[2]


def passes(value: float, name: str, style: str) -> bool:
    """Whether a figure is as wanted; one that could not be measured is not."""
    least, most = limits(name, style)
    return (math.isinf(least) and math.isinf(most)) or least <= value <= most


def table(report: dict[str, dict[str, float]]) -> str:
    """A row a figure, a column a style (`toon`, or `toon, held out`); what misses the mark is bold,
    and the last column counts the misses."""
    lines = [
        "| | wanted | " + " | ".join(report) + " | verdict |",
        "|---|---:|" + "---:|" * len(report) + "---|",
    ]
    for name in dict.fromkeys(name for figures in report.values() for name in figures):
        cells, judged, missed = [], 0, 0
        for column, figures in report.items():
            style = style_of(column)
            value = figures.get(name)
            held = value is not None and limits(name, style) != (-math.inf, math.inf)
            bad = held and value is not None and not passes(value, name, style)
            judged, missed = judged + held, missed + bad
            cells.append("" if value is None else f"**{shown(value)}**" if bad else shown(value))
        verdict = "" if not judged else "yes" if not missed else f"no: {missed} of {judged}"
        lines.append(f"| {name} | {wanted(name)} | " + " | ".join(cells) + f" | {verdict} |")
    return "\n".join(lines)


def wanted(name: str) -> str:
    """`>= 0.9`, `0.7 to 1.5`, `toon >= 1.2` or nothing."""
    if name in WANTED:
        return _limits_text(*WANTED[name])
    return ", ".join(
        f"{style} {_limits_text(*limit)}" for (of, style), limit in WANTED_OF.items() if of == name
    )


def _limits_text(least: float, most: float) -> str:
    if math.isinf(most):
        return f">= {least:g}"
    return f"<= {most:g}" if math.isinf(least) else f"{least:g} to {most:g}"


def shown(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
