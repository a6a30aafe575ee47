"""Paste stylized portraits back into the frames they were cut from.

Data flow: Frame + [Portrait] + [mask] -> Frame. The inverse of `align.py`: what that module warps
out, this one warps back, so the two share one `CropTransform`. Masks come from `masks.py`.

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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsgcli.faces import warp
from dsgcli.faces.color import match_color
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Mask, Pixels, Portrait

LINEAR_STEPS = 1 << 14
"""Entries of the table from linear light to sRGB: finer than a level of 8 bits even in the darks,
where sRGB is steepest (12.92 of 255 levels against 64 steps)."""


def _linear_of_srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1, [0, 1] -> [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _srgb_of_linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


TO_LINEAR = _linear_of_srgb(np.arange(256) / 255.0).astype(np.float32)
FROM_LINEAR = np.rint(_srgb_of_linear(np.arange(LINEAR_STEPS) / (LINEAR_STEPS - 1)) * 255).astype(
    np.uint8
)


def to_linear(pixels: Pixels) -> NDArray[np.float32]:
    """sRGB bytes -> linear light in [0, 1]."""
    light: NDArray[np.float32] = TO_LINEAR[pixels]
    return light


def from_linear(light: NDArray[np.float32]) -> Pixels:
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
    order = sorted(range(len(portraits)), key=lambda i: _side_px(portraits[i]))
    for i in order:
        portrait = match_color(portraits[i], masks[i], color_match)
        _paste(pixels, portrait, masks[i])
    return replace(frame, pixels=pixels)


def cut_out(frame: Frame, portraits: Sequence[Portrait], masks: Sequence[Mask]) -> Frame:
    """Only the portraits, on a transparent ground: the frame's pixels do not show anywhere.

    Alpha is the masks' union; where the input was transparent, it stays so.
    """
    height, width = frame.pixels.shape[:2]
    alpha = np.zeros((height, width), np.float32)
    for portrait, mask in zip(portraits, masks, strict=True):
        region = _region(portrait, width, height)
        if region is not None:
            rows, columns, matrix = region
            share = portrait.opacity * _warped_mask(mask, matrix, rows, columns, portrait)
            alpha[rows, columns] = np.maximum(alpha[rows, columns], share)
    opaque = np.rint(alpha * 255).astype(np.uint8)
    drawn = composite(frame, portraits, [np.ones_like(mask) for mask in masks])
    if frame.alpha is not None:
        opaque = np.minimum(opaque, frame.alpha)
    return replace(drawn, pixels=np.where(opaque[:, :, None] > 0, drawn.pixels, 0), alpha=opaque)


def _paste(pixels: Pixels, portrait: Portrait, mask: Mask) -> None:
    """Blend one portrait into a frame, in place."""
    region = _region(portrait, pixels.shape[1], pixels.shape[0])
    if region is None:
        return
    rows, columns, matrix = region
    share = portrait.opacity * _warped_mask(mask, matrix, rows, columns, portrait)[:, :, None]
    below = pixels[rows, columns]
    height, width = below.shape[:2]
    above = warp.warp(to_linear(portrait.pixels), matrix, width, height)
    light = to_linear(below)
    light += share * (above - light)
    pixels[rows, columns] = np.where(share > 0.0, from_linear(light), below)


def _warped_mask(
    mask: Mask, matrix: NDArray[np.float64], rows: slice, columns: slice, portrait: Portrait
) -> Mask:
    """The mask in the frame's region; `matrix` leads to portrait pixels."""
    width, height = columns.stop - columns.start, rows.stop - rows.start
    to_mask = matrix * (mask.shape[0] / portrait.pixels.shape[0])
    warped = warp.warp_mask(mask, to_mask, width, height)
    warped[warped < 0.5 / 255] = 0.0  # bicubic ringing must not touch the frame
    return warped


def _region(
    portrait: Portrait, width: int, height: int
) -> tuple[slice, slice, NDArray[np.float64]] | None:
    """Rows and columns of the frame that the portrait covers, and the map from there to portrait
    pixels; None if it lies outside."""
    transform = portrait.crop.transform.with_size(portrait.pixels.shape[0])
    low = np.clip(np.floor(transform.quad.min(0)), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(transform.quad.max(0)), 0, [width, height]).astype(int)
    if (high <= low).any():
        return None
    matrix = warp.invert(transform.matrix())
    matrix[:, 2] += matrix[:, :2] @ low
    return slice(low[1], high[1]), slice(low[0], high[0]), matrix


def _side_px(portrait: Portrait) -> float:
    return warp.scale_of(portrait.crop.transform.matrix()) * portrait.crop.transform.size_px
