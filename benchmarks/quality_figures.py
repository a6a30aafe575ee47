"""What `quality.py` measures on pictures and landmarks: values in, values out.

pictures  (S, S, 3) uint8 RGB
points    (478, 2) landmarks of MediaPipe's face mesh, in widths of the picture
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsgcli.faces.color import rgb_to_lab
from dsgcli.types import Face

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

Array = NDArray[np.float64]

NEAR = 6.0
"""How far eyes and mouth may move, in percent of the crop's width."""
NOSE, SIDES = 1, (234, 454)
LIPS, UPRIGHT = (13, 14), (10, 152)
"""Landmarks: tip of the nose, sides of the face; inner lips, forehead and chin."""

WANTED: dict[str, tuple[str, float]] = {
    "reconstruction: landmarks off, %": ("<=", 4.0),
    "reconstruction: PSNR of the face, dB": (">=", 21.0),
    "reconstruction: PSNR of the crop, dB": (">=", 19.0),
    "reconstruction: yaw, correlation": (">=", 0.8),
    "reconstruction: mouth opening, correlation": (">=", 0.8),
    "default weights: faces found, %": (">=", 95.0),
    "structure 0.5: eyes and mouth off, %": ("<=", NEAR),
    "color against the exemplar's, correlation": (">=", 0.8),
    "weights 0 against plain, levels of 255": ("<=", 0.0),
}


def correlation(a: Array, b: Array) -> float:
    """Pearson's; not a number where either does not vary."""
    a, b = a - a.mean(0), b - b.mean(0)
    spread = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread > 0 else math.nan


def yaw(points: Points) -> float:
    """-1 to 1: where the nose lies between the sides of the face; 0 in the middle."""
    left, right = points[list(SIDES)]
    along = (points[NOSE] - left) @ (right - left) / ((right - left) @ (right - left))
    return float(2 * along - 1)


def mouth_opening(points: Points) -> float:
    """Distance of the inner lips in face heights."""
    upper, lower = points[list(LIPS)]
    top, chin = points[list(UPRIGHT)]
    return float(np.hypot(*(lower - upper)) / np.hypot(*(chin - top)))


def features_off(a: Points, b: Points) -> float:
    """Mean distance of both eyes and the mouth, in percent of the width."""
    places = [np.vstack([f.eyes, f.mouth.mean(0)]) for f in (Face(landmarks=a), Face(landmarks=b))]
    return float(100 * np.hypot(*(places[0] - places[1]).T).mean())


def decibels(a: Pixels, b: Pixels, mask: NDArray[np.bool_] | None = None) -> float:
    """PSNR of two pictures, where the mask is."""
    error = (a.astype(np.float64) - b) ** 2
    mean = error.mean() if mask is None else error[mask].mean()
    return 10 * math.log10(255**2 / max(float(mean), 1e-6))


def mean_lab(pictures: Sequence[Pixels]) -> Array:
    """(3,): of all pixels."""
    means = [rgb_to_lab(picture).mean(axis=(0, 1)) for picture in pictures]
    return np.mean(means, axis=0, dtype=np.float64)


def differ(drawn: Pixels) -> dict[str, float]:
    """Mean absolute difference of the outputs of two exemplars for the same photograph."""
    pictures = drawn.astype(np.float32)
    toned = pictures - pictures.mean(axis=(2, 3), keepdims=True)
    pairs = list(combinations(range(len(drawn)), 2))
    whole = [float(np.abs(pictures[a] - pictures[b]).mean()) for a, b in pairs]
    beyond = [float(np.abs(toned[a] - toned[b]).mean()) for a, b in pairs]
    return {
        "exemplars differ by, levels of 255": float(np.mean(whole)) if pairs else math.nan,
        "  the two that differ least": min(whole, default=math.nan),
        "  beyond their mean colors": float(np.mean(beyond)) if pairs else math.nan,
    }


def table(report: dict[str, dict[str, float]]) -> str:
    """A row a figure, a column a style; what misses the mark is bold."""
    lines = [
        "| | wanted | " + " | ".join(report) + " |",
        "|---|---:|" + "---:|" * len(report),
    ]
    for name in dict.fromkeys(name for figures in report.values() for name in figures):
        sense, limit = WANTED.get(name, ("", math.nan))
        cells = [cell(figures.get(name), sense, limit) for figures in report.values()]
        wanted = f"{sense} {limit:g}" if sense else ""
        lines.append(f"| {name} | {wanted} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: float | None, sense: str, limit: float) -> str:
    if value is None:
        return ""
    text = f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"
    good = not sense or (value >= limit if sense == ">=" else value <= limit)
    return text if good else f"**{text}**"
