"""The plain formulation of StyleGAN2's layers: what the benchmarks compare ours with.

Weights are modulated for each sample and convolved in groups (arXiv:1912.04958, equations 1 and 3),
resampling inserts zeros, pads and filters; float32, NCHW. As the papers write it, and as it is
usually programmed. `with formulation("plain")` puts these layers in the place of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgcli.models import ops


def plain_modulated(self: ops.ModulatedConv2d, x: Tensor, style: Tensor) -> Tensor:
    """One weight a sample, one grouped convolution (arXiv:1912.04958, equations 1 and 3)."""
    batch, channels, height, width = x.shape
    out, k = self.weight.shape[1], self.weight.shape[3]
    scales = self.modulation(style).view(batch, 1, channels, 1, 1)
    weight = self.scale * self.weight * scales  # (B, out, in, k, k)
    if self.demodulate:
        norm = torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + ops.EPSILON)
        weight = weight * norm
    x = x.reshape(1, batch * channels, height, width)
    if self.up:
        weight = weight.transpose(1, 2).reshape(batch * channels, out, k, k)
        y = F.conv_transpose2d(x, weight, stride=2, groups=batch)
        return self.blur(y.view(batch, out, *y.shape[2:]))
    weight = weight.view(batch * out, channels, k, k)
    return F.conv2d(x, weight, padding=self.padding, groups=batch).view(batch, out, height, width)


def plain_resampled(
    x: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    pad: tuple[int, ...] = (0, 0),
) -> Tensor:
    """Zeros inserted, padded, filtered as one channel after the other, decimated."""
    batch, channels, height, width = x.shape
    pads = (*pad, *pad) if len(pad) == 2 else pad
    y = x.reshape(batch * channels, 1, height, 1, width, 1)
    y = F.pad(y, (0, up - 1, 0, 0, 0, up - 1)).view(-1, 1, height * up, width * up)
    y = F.conv2d(F.pad(y, pads), kernel.flip((0, 1))[None, None])
    y = y[:, :, ::down, ::down]
    return y.view(batch, channels, *y.shape[2:])


@contextmanager
def formulation(variant: str) -> Iterator[None]:
    """Put the plain layers in the place of ours, for that variant."""
    kept = ops.ModulatedConv2d.forward, ops.upfirdn2d
    if variant == "plain":
        ops.ModulatedConv2d.forward = plain_modulated  # type: ignore[method-assign]
        ops.upfirdn2d = plain_resampled  # type: ignore[assignment]
    try:
        yield
    finally:
        ops.ModulatedConv2d.forward, ops.upfirdn2d = kept  # type: ignore[method-assign]
