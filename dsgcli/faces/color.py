"""Move a portrait's colors towards those of the photograph it replaces.

Means and spreads of the two faces are matched in Lab (Reinhard et al., "Color Transfer between
Images", 2001, section 3), inside the mask and weighted by it, so that backgrounds do not count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsgcli.faces import warp

if TYPE_CHECKING:
    from dsgcli.types import Mask, Pixels, Portrait

Array = NDArray[np.float32]

_XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _XYZ_OF_RGB.sum(axis=1)
MAX_STRETCH = 1.5
"""Contrast is changed by at most this factor: a flat drawing stays one."""


SAMPLED_SIDE = 256
"""Means and spreads are taken over this many rows and columns."""
ROWS_TOGETHER = 32
GAMMA_STEPS = 1 << 14
"""Steps of light: enough that the darkest differ by a fifth of a level."""

_LAB_OF_ROOTS = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LAB_OF_ZERO = np.array([-16.0, 0.0, 0.0])
"""Lab is the one times the roots of X, Y, Z (each over white's), plus the other."""
_NORMAL_XYZ = (_XYZ_OF_RGB / _WHITE[:, None]).T.astype(np.float32)
_NORMAL_RGB = np.linalg.inv(_XYZ_OF_RGB / _WHITE[:, None]).T.astype(np.float32)


def _linear(gamma: Array) -> Array:
    """sRGB in [0, 1] -> light."""
    return np.where(gamma <= 0.04045, gamma / 12.92, ((gamma + 0.055) / 1.055) ** 2.4)


def _gamma(linear: Array) -> Array:
    """The inverse."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _root(xyz: Array) -> Array:
    """CIE's cube root: a line near 0."""
    return np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)


def _cube(root: Array) -> Array:
    """The inverse."""
    return np.where(root > 6 / 29, root * root * root, (116 * root - 16) * np.float32(27 / 24389))


_LINEAR = _linear(np.arange(256, dtype=np.float32) / 255.0)
_GAMMA = np.rint(_gamma(np.arange(GAMMA_STEPS + 1) / GAMMA_STEPS) * 255.0).astype(np.uint8)


def rgb_to_lab(pixels: Pixels) -> Array:
    """(..., 3) sRGB bytes -> CIE Lab, D65."""
    roots = _root(_LINEAR[pixels] @ _NORMAL_XYZ)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Array) -> Pixels:
    """The inverse, clipped to what sRGB holds."""
    y = (lab[..., 0] + 16) / 116
    roots = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    linear = np.clip(_cube(roots) @ _NORMAL_RGB, 0.0, 1.0)
    pixels: Pixels = np.rint(_gamma(linear) * 255.0).astype(np.uint8)
    return pixels


def match_color(portrait: Portrait, mask: Mask, strength: float) -> Portrait:
    """The portrait with its crop's mean and spread of color inside the mask.

    Args:
        mask: (M, M) weights over the portrait's square.
        strength: 0 leaves the portrait as it is, 1 matches fully.
    """
    if strength == 0.0 or not mask.any():
        return portrait
    side = portrait.pixels.shape[0]
    crop = warp.resize(portrait.crop.pixels, side, side)
    places = _places(side)
    weights = mask[np.ix_(*[places * len(mask) // side] * 2)][:, :, None]
    if not weights.any():
        return portrait
    weights = weights / weights.sum()
    mean, spread = _moments(rgb_to_lab(portrait.pixels[np.ix_(places, places)]), weights)
    wanted_mean, wanted_spread = _moments(rgb_to_lab(crop[np.ix_(places, places)]), weights)
    stretch = np.clip(wanted_spread / np.maximum(spread, 1e-3), 1 / MAX_STRETCH, MAX_STRETCH)
    stretch = 1.0 + strength * (stretch - 1.0)
    shift = strength * wanted_mean + (1.0 - strength) * mean - stretch * mean
    return replace(portrait, pixels=_moved(portrait.pixels, stretch, shift))


def _places(side: int) -> NDArray[np.intp]:
    """Rows (and columns) that stand for all: means and spreads need no more."""
    return np.arange(side // SAMPLED_SIDE // 2, side, max(1, side // SAMPLED_SIDE))


def _moments(lab: Array, weights: Array) -> tuple[Array, Array]:
    mean = (weights * lab).sum(axis=(0, 1))
    return mean, np.sqrt((weights * (lab - mean) ** 2).sum(axis=(0, 1)))


# ── a whole picture through Lab and back ─────────────────────────────────────────────────────────


def _moved(pixels: Pixels, stretch: Array, shift: Array) -> Pixels:
    """lab_to_rgb(stretch * rgb_to_lab(pixels) + shift), (S, S, 3).

    Lab is linear in the cube roots of X, Y, Z, so that both ways and the move are one matrix; gamma
    is looked up. A few rows at a time stay near the core.
    """
    of_roots = _LAB_OF_ROOTS * stretch[:, None]
    to_roots = np.linalg.inv(_LAB_OF_ROOTS)
    move = (to_roots @ of_roots).T.astype(np.float32)
    offset = (to_roots @ (shift + (stretch - 1.0) * _LAB_OF_ZERO)).astype(np.float32)
    moved = np.empty_like(pixels)
    for row in range(0, len(pixels), ROWS_TOGETHER):
        linear = _LINEAR[pixels[row : row + ROWS_TOGETHER].reshape(-1, 3)]
        roots = _root(linear @ _NORMAL_XYZ) @ move + offset
        linear = _cube(roots) @ _NORMAL_RGB
        gamma = _GAMMA[(linear.clip(0.0, 1.0) * GAMMA_STEPS + 0.5).astype(np.uint16)]
        moved[row : row + ROWS_TOGETHER] = gamma.reshape(-1, pixels.shape[1], 3)
    return moved
