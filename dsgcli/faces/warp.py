"""Move pictures through an affine map, in both directions, without aliasing.

Used by `align.py` (frame -> crop) and `composite.py` (portrait -> frame).

Conventions
    points    (x, y); (0, 0) is the corner of the upper left pixel, (0.5, 0.5) its center
    matrix    (2, 3): takes (x, y, 1) in the *output* to (x, y) in the source
    pictures  (H, W, C) uint8 or float32

A map that shrinks is done in two steps: an isotropic shrink with a filter as wide as the shrink
asks for, then a bicubic lookup at about unit scale. One bilinear lookup, the usual way, skips
source pixels and turns fine texture into moiré that crawls from frame to frame. torch does both:
OpenCV has no bicubic shrink with a filter, and its lookup rounds places to 1/32 pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dsgcli.types import CropTransform, Mask, Pixels

Matrix = NDArray[np.float64]
Picture = NDArray[Any]

MARGIN_PX = 8
"""Source pixels, at the output's scale, kept around what the output sees: filters reach 4."""


def scale_of(matrix: Matrix) -> float:
    """Source pixels that one output pixel is wide."""
    return float(abs(np.linalg.det(matrix[:, :2])) ** 0.5)


def invert(matrix: Matrix) -> Matrix:
    """The map back: (2, 3) -> (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def apply(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map (N, 2) points."""
    moved: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def to_crop(transform: CropTransform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frame pixels -> crop pixels, (N, 2)."""
    return apply(invert(transform.matrix()), points)


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Resize (H, W, C) with a filter that suits the size, both ways; dtype and channels stay.

    uint8 runs in the fixed-point kernel of torch, some five times as fast as float32.
    """
    if picture.shape[:2] == (height, width):
        return picture
    planes = _planes(picture)
    return _picture(F.interpolate(planes, size=(height, width), mode="bicubic", antialias=True))


def resize_mask(mask: Mask, side: int) -> Mask:
    """`resize` for square masks (M, M), kept in [0, 1]."""
    return np.clip(resize(mask[:, :, None], side, side)[:, :, 0], 0.0, 1.0)


def warp(
    picture: Picture,
    matrix: Matrix,
    width: int,
    height: int,
    outside: Literal["border", "zeros"] = "border",
) -> NDArray[np.float32]:
    """Look the source up at every output pixel.

    Args:
        picture: (H, W, C) uint8 or float32.
        matrix: (2, 3), output -> source; its scale must be the same in both directions.
        outside: what lies beyond the source: its border pixels, or zeros.

    Returns:
        (height, width, C) float32 in the source's units; may overshoot its range by a little, as
        bicubic filters do.
    """
    scale = max(1.0, scale_of(matrix))
    # only the part of the source that the output can see, filters included
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], np.float64)
    seen = apply(matrix, corners)
    size = np.array([picture.shape[1], picture.shape[0]])
    low = np.clip(np.floor(seen.min(0) - MARGIN_PX * scale), 0, size - 1).astype(int)
    high = np.clip(np.ceil(seen.max(0) + MARGIN_PX * scale), low + 1, size).astype(int)
    picture = picture[low[1] : high[1], low[0] : high[0]]
    matrix = matrix - np.array([[0.0, 0.0, low[0]], [0.0, 0.0, low[1]]])
    if scale > 1.0:  # shrink, so that the rest of the map neither grows nor shrinks much
        height_px, width_px = picture.shape[:2]
        small_width, small_height = (
            max(1, round(width_px / scale)),
            max(1, round(height_px / scale)),
        )
        picture = resize(picture, small_width, small_height)
        matrix = matrix * np.array([[small_width / width_px], [small_height / height_px]])
    # (1, height, width, 2) float32: places to look at, in grid_sample's [-1, 1] over the source
    a = matrix * np.array([[2.0 / picture.shape[1]], [2.0 / picture.shape[0]]])
    x = torch.arange(width, dtype=torch.float32) + 0.5
    y = torch.arange(height, dtype=torch.float32)[:, None] + 0.5
    columns = [x * float(a[i, 0]) + (y * float(a[i, 1]) + float(a[i, 2] - 1.0)) for i in (0, 1)]
    grid = torch.stack(columns, dim=-1)[None]
    planes = _planes(picture).to(torch.float32)
    sampled = F.grid_sample(planes, grid, mode="bicubic", padding_mode=outside, align_corners=False)
    looked_up: NDArray[np.float32] = _picture(sampled)
    return looked_up


def warp_mask(mask: Mask, matrix: Matrix, width: int, height: int) -> Mask:
    """`warp` for (H, W) masks; zero outside, and kept in [0, 1]."""
    warped = warp(mask[:, :, None], matrix, width, height, outside="zeros")[:, :, 0]
    return np.clip(warped, 0.0, 1.0)


def to_uint8(picture: NDArray[np.float32]) -> Pixels:
    """Round to the nearest level."""
    rounded: Pixels = np.clip(picture + 0.5, 0, 255.99).astype(np.uint8)
    return rounded


def _planes(picture: Picture) -> torch.Tensor:
    """(H, W, C) -> (1, C, H, W), stored channels last as it came."""
    if not picture.flags.writeable or min(picture.strides) < 0:
        picture = picture.copy()  # torch takes no read-only and no mirrored memory
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def _picture(planes: torch.Tensor) -> Picture:
    """(1, C, H, W) -> (H, W, C)."""
    return planes[0].permute(1, 2, 0).contiguous().numpy()
