"""3x3 convolution with a quarter of the multiplications (Winograd; Lavin and Gray,
arXiv:1509.09308, the algorithm F(4x4, 3x3)).

A tile of 4x4 outputs depends on 6x6 inputs d. With the fixed matrices below

    tile = A' [ (G g G') * (B' d B) ] A

where * multiplies element by element and sums over input channels: 36 products a tile instead of
144. Over all tiles this is one matrix product for each of the 36 elements. Transforming the maps
costs memory traffic, so it wins where channels are many (256 and more, on CPUs, in float32). The
result differs from the direct sum by rounding: some 3e-6 of its norm.

Shapes: B batch, I and O channels, H, W map (multiples of 4). Maps are channels_last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TILE, PATCH = 4, 6
"""Side of a tile of outputs, and of the inputs it depends on."""

_INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
"""B' of the paper."""
_FILTER = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
"""G of the paper."""
_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)
"""A' of the paper."""

_CHUNK = 1 << 22
"""Numbers in one transformed piece of a map: small enough to stay near the cores."""


def _both_axes(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """The matrix that transforms a flattened patch along both axes at once."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix).to(like)


def transform_weight(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (36, I, O), G g G' for each pair of channels."""
    elements = _both_axes(_FILTER, weight) @ weight.permute(2, 3, 1, 0).flatten(0, 1).flatten(1)
    return elements.view(PATCH**2, weight.shape[1], weight.shape[0])


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Padded 3x3 convolution.

    Args:
        x: (B, I, H, W), channels_last.
        weight: (36, I, O), from `transform_weight`.
        bias: (O,), or None.

    Returns:
        (B, O, H, W), channels_last.
    """
    batch, _, height, width = x.shape
    y = x.new_empty(batch, height, width, weight.shape[2])
    bias = x.new_zeros(()) if bias is None else bias
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (B, H + 2, W + 2, I)
    rows = max(1, _CHUNK // (PATCH**2 * (width // TILE) * x.shape[1]))
    for source, target in zip(padded, y, strict=True):
        for row in range(0, height // TILE, rows):
            count = min(rows, height // TILE - row)
            tiles = _tiles(source[TILE * row :], count, weight)
            where = target[TILE * row : TILE * (row + count)].view(
                count, TILE, width // TILE, TILE, -1
            )
            torch.add(tiles.permute(2, 0, 3, 1, 4), bias, out=where)
    return y.permute(0, 3, 1, 2)


def _tiles(source: Tensor, count: int, weight: Tensor) -> Tensor:
    """Padded rows (>= 4 * count + 2, W + 2, I) -> tiles (4, 4, count, W / 4, O)."""
    channels, across = source.shape[2], (source.shape[1] - 2) // TILE
    down, right, _ = source.stride()
    patches = source.as_strided(
        (PATCH, PATCH, count, across, channels), (down, right, TILE * down, TILE * right, 1)
    )
    elements = _both_axes(_INPUT, weight) @ patches.reshape(PATCH**2, -1)
    products = torch.bmm(elements.view(PATCH**2, -1, channels), weight)  # (36, tiles, O)
    tiles = _both_axes(_OUTPUT, weight) @ products.flatten(1)
    return tiles.view(TILE, TILE, count, across, -1)
