"""Convolutions in float64 in a fraction of the time.

There is no fast convolution in float64, and the golden loops spend nearly all their time in those
of frozen networks and of blurs. The first are done by Winograd's algorithm here, the second as
columns, then rows; those of what is trained are left as they are.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsgcli.inference.winograd import TILE, convolve, transform_weight

LEAST_CHANNELS = 48
Side = int | tuple[int, int]
direct = F.conv2d


class FrozenConvolution(torch.autograd.Function):
    """Padded 3x3, with gradients for the map alone, of any order."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return convolve(_rows(x), transform_weight(weight), bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        turned = weight.flip(2, 3).transpose(0, 1)
        return FrozenConvolution.apply(gradient, turned, None), None, None


def _rows(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def blurred(x: Tensor, kernel: Tensor, stride: Side, padding: Side) -> Tensor:
    """All channels with one kernel of rank one: columns, then rows."""
    column, row = kernel.sum(dim=1), kernel.sum(dim=0) / kernel.sum()
    torch.testing.assert_close(torch.outer(column, row), kernel)
    (down, right), (high, wide) = _both(stride), _both(padding)
    x = F.pad(x, (wide, wide, high, high))
    height, width = (x.shape[axis] - len(kernel) + 1 for axis in (2, 3))
    x = torch.stack([c * x[:, :, i : i + height] for i, c in enumerate(column)]).sum(dim=0)
    x = torch.stack([c * x[..., i : i + width] for i, c in enumerate(row)]).sum(dim=0)
    return x[..., ::down, ::right]


def _both(side: Side) -> tuple[int, int]:
    return side if isinstance(side, tuple) else (side, side)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Side = 1,
    padding: Side = 0,
    dilation: Side = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`, or the same by other sums."""
    if groups == len(weight) > 1 and torch.equal(weight[0], weight[-1]):  # a blur
        return blurred(x, weight[0, 0], stride, padding)
    trained = torch.is_grad_enabled() and (
        weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    fits = (
        x.dtype == torch.float64
        and weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and all(side in (1, (1, 1)) for side in (stride, padding, dilation, groups))
        and x.shape[2] % TILE == x.shape[3] % TILE == 0
    )
    if trained or not fits:
        return direct(x, weight, bias, stride, padding, dilation, groups)
    y: Tensor = FrozenConvolution.apply(x, weight, bias)
    return y


@pytest.fixture
def fast_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen networks in float64 take a third of the time; sums differ by some 1e-14."""
    monkeypatch.setattr(F, "conv2d", conv2d)
