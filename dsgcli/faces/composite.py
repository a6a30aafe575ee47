"""Paste stylized portraits back into their frames: frame + portraits + masks -> frame.

The inverse of `align.py`: what that module warps out, this one warps back, so the two share one
`CropTransform`. Masks come from `masks.py`.

Conventions
    frame     (H, W, 3) uint8, RGB, full range
    portrait  (S, S, 3) uint8, RGB; S is the generator's resolution
    mask      (M, M) float32 in [0, 1] over the portrait's square, of any size; 1 keeps the
              portrait, 0 keeps the frame, bit for bit

Blending is done in linear light: a feathered edge blended in sRGB darkens against a bright
background. Through tables it costs less than the warp (benchmarks/composite.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dsgcli.faces import warp
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Mask, Pixels, Portrait

Array = NDArray[np.float32]

LINEAR_STEPS = 1 << 14
"""Entries of the table from linear light to sRGB: finer than a level of 8 bits even in the darks,
where sRGB is steepest (12.92 of 255 levels against 64 steps)."""


def _linear_of_srgb(values: NDArray[Any]) -> NDArray[Any]:
    """IEC 61966-2-1, [0, 1] -> [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _srgb_of_linear(values: NDArray[Any]) -> NDArray[Any]:
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


TO_LINEAR = _linear_of_srgb(np.arange(256) / 255.0).astype(np.float32)
FROM_LINEAR = np.rint(_srgb_of_linear(np.arange(LINEAR_STEPS) / (LINEAR_STEPS - 1)) * 255).astype(
    np.uint8
)


def to_linear(pixels: Pixels) -> Array:
    """sRGB bytes -> linear light in [0, 1]."""
    light: Any = cv2.LUT(np.ascontiguousarray(pixels), TO_LINEAR)  # half the time of indexing
    return np.asarray(light, np.float32).reshape(pixels.shape)


def from_linear(light: Array) -> Pixels:
    """Linear light, clipped to [0, 1] -> the nearest sRGB byte."""
    steps = np.clip(light * (LINEAR_STEPS - 1) + 0.5, 0, LINEAR_STEPS - 1).astype(np.uint16)
    pixels: Pixels = FROM_LINEAR[steps]
    return pixels


def composite(
    frame: Frame,
    portraits: Sequence[Portrait],
    masks: Sequence[Mask],
    *,
    color_match: float = 0.0,
) -> Frame:
    """The frame with the portraits in it, the larger ones in front of the smaller ones.

    Args:
        masks: one a portrait.
        color_match: 0 to 1, how far each portrait's colors are moved to its crop's.
    """
    if not portraits:
        return frame
    pixels = frame.pixels.copy()
    height, width = pixels.shape[:2]

    def side_px(i: int) -> float:
        transform = portraits[i].crop.transform
        return warp.scale_of(transform.matrix()) * transform.size_px

    # the largest face is the nearest one, so it is pasted last
    for i in sorted(range(len(portraits)), key=side_px):
        portrait = match_color(portraits[i], masks[i], color_match)
        region = _region(portrait, masks[i], width, height)
        if region is None:
            continue
        rows, columns, matrix, share = region
        share = share[:, :, None]
        below = pixels[rows, columns]
        # (h, w, 3): the portrait in linear light, at the places of the frame's pixels
        above = warp.warp(to_linear(portrait.pixels), matrix, below.shape[1], below.shape[0])
        light = to_linear(below)
        light += share * (above - light)
        # where the mask is 0, the frame's own bytes stay
        pixels[rows, columns] = np.where(share > 0.0, from_linear(light), below)
    return replace(frame, pixels=pixels)


def cut_out(frame: Frame, portraits: Sequence[Portrait], masks: Sequence[Mask]) -> Frame:
    """Only the portraits, on a transparent ground: the frame's pixels do not show anywhere.

    Alpha is the masks' union; where the input was transparent, it stays so.
    """
    height, width = frame.pixels.shape[:2]
    alpha = np.zeros((height, width), np.float32)
    for portrait, mask in zip(portraits, masks, strict=True):
        region = _region(portrait, mask, width, height)
        if region is not None:
            rows, columns, _, share = region
            alpha[rows, columns] = np.maximum(alpha[rows, columns], share)
    opaque = np.rint(alpha * 255).astype(np.uint8)
    # full masks: alpha alone shapes the cut-out, so that its edge has the drawing's colors
    drawn = composite(frame, portraits, [np.ones_like(mask) for mask in masks])
    if frame.alpha is not None:
        opaque = np.minimum(opaque, frame.alpha)
    return replace(drawn, pixels=np.where(opaque[:, :, None] > 0, drawn.pixels, 0), alpha=opaque)


def _region(
    portrait: Portrait, mask: Mask, width: int, height: int
) -> tuple[slice, slice, NDArray[np.float64], Mask] | None:
    """Rows and columns of the frame that the portrait covers, the matrix from there to portrait
    pixels, and the portrait's share of each pixel there; None if it lies outside."""
    size_px = portrait.pixels.shape[0]
    transform = portrait.crop.transform.with_size(size_px)
    low = np.clip(np.floor(transform.quad.min(0)), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(transform.quad.max(0)), 0, [width, height]).astype(int)
    if (high <= low).any():
        return None
    matrix = warp.invert(transform.matrix())
    matrix[:, 2] += matrix[:, :2] @ low
    # frame region -> portrait pixels -> mask pixels
    to_mask = matrix * (mask.shape[0] / size_px)
    share = warp.warp_mask(mask, to_mask, int(high[0] - low[0]), int(high[1] - low[1]))
    share[share < 0.5 / 255] = 0.0  # bicubic ringing must not touch the frame
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    return rows, columns, matrix, portrait.opacity * share


# ── color: a portrait's colors towards those of the photograph ───────────────────────────────────
# Means and spreads of the two faces are matched in Lab (Reinhard et al., "Color Transfer between
# Images", 2001, section 3), inside the mask and weighted by it, so that backgrounds do not count.

MAX_STRETCH = 1.5
"""Contrast is changed by at most this factor: a flat drawing stays one."""
SAMPLED_SIDE = 256
"""Means and spreads are taken over this many rows and columns."""
ROWS_TOGETHER = 32
GAMMA_STEPS = 1 << 14
"""Steps of light: enough that the darkest differ by a fifth of a level."""

_XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_NORMAL = _XYZ_OF_RGB / _XYZ_OF_RGB.sum(axis=1)[:, None]  # X, Y, Z over those of white
_NORMAL_XYZ = _NORMAL.T.astype(np.float32)
_NORMAL_RGB = np.linalg.inv(_NORMAL).T.astype(np.float32)
_LAB_OF_ROOTS = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LAB_OF_ZERO = np.array([-16.0, 0.0, 0.0])
"""Lab is `_LAB_OF_ROOTS` times the roots of X, Y, Z (each over white's), plus this."""
_LINEAR = _linear_of_srgb(np.arange(256, dtype=np.float32) / 255.0)
_GAMMA = np.rint(_srgb_of_linear(np.arange(GAMMA_STEPS + 1) / GAMMA_STEPS) * 255.0).astype(np.uint8)


def _root(xyz: Array) -> Array:
    """CIE's cube root: a line near 0."""
    return np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)


def rgb_to_lab(pixels: Pixels) -> Array:
    """(..., 3) sRGB bytes -> CIE Lab, D65. OpenCV is off by up to 0.4."""
    roots = _root(_LINEAR[pixels] @ _NORMAL_XYZ)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


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
    # rows (and columns) that stand for all: means and spreads need no more
    places = np.arange(side // SAMPLED_SIDE // 2, side, max(1, side // SAMPLED_SIDE))
    weights = mask[np.ix_(*[places * len(mask) // side] * 2)][:, :, None]
    if not weights.any():
        return portrait
    weights = weights / weights.sum()

    def moments(pixels: Pixels) -> tuple[Array, Array]:
        lab = rgb_to_lab(pixels[np.ix_(places, places)])
        mean = (weights * lab).sum(axis=(0, 1))
        return mean, np.sqrt((weights * (lab - mean) ** 2).sum(axis=(0, 1)))

    mean, spread = moments(portrait.pixels)
    wanted_mean, wanted_spread = moments(crop)
    stretch = np.clip(wanted_spread / np.maximum(spread, 1e-3), 1 / MAX_STRETCH, MAX_STRETCH)
    stretch = 1.0 + strength * (stretch - 1.0)
    # the shift moves the mean to the wanted one, after the stretch about 0
    shift = strength * wanted_mean + (1.0 - strength) * mean - stretch * mean
    return replace(portrait, pixels=_moved(portrait.pixels, stretch, shift))


def _moved(pixels: Pixels, stretch: Array, shift: Array) -> Pixels:
    """(S, S, 3) whose Lab values are `stretch * Lab + shift`.

    Lab is linear in the cube roots of X, Y, Z, so that both ways and the move are one matrix; gamma
    is looked up. A few rows at a time stay near the core.
    """
    to_roots = np.linalg.inv(_LAB_OF_ROOTS)
    move = (to_roots @ (_LAB_OF_ROOTS * stretch[:, None])).T.astype(np.float32)
    offset = (to_roots @ (shift + (stretch - 1.0) * _LAB_OF_ZERO)).astype(np.float32)
    moved = np.empty_like(pixels)
    for row in range(0, len(pixels), ROWS_TOGETHER):
        linear = _LINEAR[pixels[row : row + ROWS_TOGETHER].reshape(-1, 3)]
        roots = _root(linear @ _NORMAL_XYZ) @ move + offset
        cubes = np.where(  # the inverse of `_root`
            roots > 6 / 29, roots * roots * roots, (116 * roots - 16) * np.float32(27 / 24389)
        )
        linear = cubes @ _NORMAL_RGB
        gamma = _GAMMA[(linear.clip(0.0, 1.0) * GAMMA_STEPS + 0.5).astype(np.uint16)]
        moved[row : row + ROWS_TOGETHER] = gamma.reshape(-1, pixels.shape[1], 3)
    return moved
