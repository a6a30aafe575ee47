"""Move pictures through an affine map, in both directions, without aliasing.

Used by `align.py` (frame -> crop) and `composite.py` (portrait -> frame).

Conventions
    points    (x, y); (0, 0) is the corner of the upper left pixel, (0.5, 0.5) its center
    matrix    (2, 3): takes (x, y, 1) in the *output* to (x, y) in the source
    pictures  (H, W, C) uint8 or float32

A map that shrinks is done in two steps: an isotropic shrink with a filter as wide as the shrink
asks for, then a bicubic lookup at about unit scale. One bilinear lookup, the usual way, skips
source pixels and turns fine texture into moiré that crawls from frame to frame.
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
Outside = Literal["border", "zeros"]

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


def to_frame(transform: CropTransform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Crop pixels -> frame pixels, (N, 2)."""
    return apply(transform.matrix(), points)


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Resize with a filter that suits the size, both ways; dtype and channels stay.

    uint8 runs in the fixed-point kernel of torch, some five times as fast as float32.
    """
    if picture.shape[:2] == (height, width):
        return picture
    planes = _planes(picture)
    resized = F.interpolate(planes, size=(height, width), mode="bicubic", antialias=True)
    return _picture(resized)


def warp(
    picture: Picture, matrix: Matrix, width: int, height: int, outside: Outside = "border"
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
    picture, matrix = _part_needed(picture, matrix, width, height)
    picture, matrix = _shrink_to_unit_scale(picture, matrix)
    planes = _planes(picture).to(torch.float32)
    grid = _grid(matrix, picture.shape[1], picture.shape[0], width, height)
    sampled = F.grid_sample(planes, grid, mode="bicubic", padding_mode=outside, align_corners=False)
    looked_up: NDArray[np.float32] = _picture(sampled)
    return looked_up


def to_uint8(picture: NDArray[np.float32]) -> Pixels:
    """Round to the nearest level."""
    rounded: Pixels = np.clip(picture + 0.5, 0, 255.99).astype(np.uint8)
    return rounded


def warp_mask(mask: Mask, matrix: Matrix, width: int, height: int) -> Mask:
    """`warp` for (H, W) masks; zero outside, and kept in [0, 1]."""
    warped = warp(mask[:, :, None], matrix, width, height, outside="zeros")[:, :, 0]
    return np.clip(warped, 0.0, 1.0)


def _part_needed(
    picture: Picture, matrix: Matrix, width: int, height: int
) -> tuple[Picture, Matrix]:
    """The part of the source that the output can see, filters included."""
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], np.float64)
    seen = apply(matrix, corners)
    margin = MARGIN_PX * max(1.0, scale_of(matrix))
    size = np.array([picture.shape[1], picture.shape[0]])
    low = np.clip(np.floor(seen.min(0) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(seen.max(0) + margin), low + 1, size).astype(int)
    part = picture[low[1] : high[1], low[0] : high[0]]
    return part, matrix - np.array([[0.0, 0.0, low[0]], [0.0, 0.0, low[1]]])


def _shrink_to_unit_scale(picture: Picture, matrix: Matrix) -> tuple[Picture, Matrix]:
    """Shrink the source so that what is left of the map neither grows nor shrinks much."""
    scale = scale_of(matrix)
    if scale <= 1.0:
        return picture, matrix
    height, width = picture.shape[:2]
    small_width, small_height = max(1, round(width / scale)), max(1, round(height / scale))
    small = resize(picture, small_width, small_height)
    ratio = np.array([[small_width / width], [small_height / height]])
    return small, matrix * ratio


def _grid(
    matrix: Matrix, source_width: int, source_height: int, width: int, height: int
) -> torch.Tensor:
    """(1, height, width, 2) float32: where to look, in grid_sample's [-1, 1] over the source."""
    to_unit = np.array([[2.0 / source_width], [2.0 / source_height]])
    a = matrix * to_unit
    x = torch.arange(width, dtype=torch.float32) + 0.5
    y = torch.arange(height, dtype=torch.float32)[:, None] + 0.5
    columns = [x * float(a[i, 0]) + (y * float(a[i, 1]) + float(a[i, 2] - 1.0)) for i in (0, 1)]
    return torch.stack(columns, dim=-1)[None]


def _planes(picture: Picture) -> torch.Tensor:
    """(H, W, C) -> (1, C, H, W), stored channels last as it came."""
    if not picture.flags.writeable or min(picture.strides) < 0:
        picture = picture.copy()  # torch takes no read-only and no mirrored memory
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def _picture(planes: torch.Tensor) -> Picture:
    """(1, C, H, W) -> (H, W, C)."""
    return planes[0].permute(1, 2, 0).contiguous().numpy()
