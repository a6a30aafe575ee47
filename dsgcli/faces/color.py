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


def rgb_to_lab(pixels: Pixels) -> Array:
    """(..., 3) sRGB bytes -> CIE Lab, D65."""
    rgb = pixels.astype(np.float32) / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_XYZ_OF_RGB / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Array) -> Pixels:
    """The inverse, clipped to what sRGB holds."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389)
    linear = xyz @ np.linalg.inv(_XYZ_OF_RGB / _WHITE[:, None]).T.astype(np.float32)
    linear = np.clip(linear, 0.0, 1.0)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: Pixels = np.rint(rgb * 255.0).astype(np.uint8)
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
    weights = (mask / mask.sum())[:, :, None]
    ours, theirs = rgb_to_lab(portrait.pixels), rgb_to_lab(crop)
    (mean, spread), (wanted_mean, wanted_spread) = (
        _moments(ours, weights),
        _moments(theirs, weights),
    )
    stretch = np.clip(wanted_spread / np.maximum(spread, 1e-3), 1 / MAX_STRETCH, MAX_STRETCH)
    moved = (ours - mean) * stretch + wanted_mean
    return replace(portrait, pixels=lab_to_rgb(ours + strength * (moved - ours)))


def _moments(lab: Array, weights: Array) -> tuple[Array, Array]:
    mean = (weights * lab).sum(axis=(0, 1))
    return mean, np.sqrt((weights * (lab - mean) ** 2).sum(axis=(0, 1)))
