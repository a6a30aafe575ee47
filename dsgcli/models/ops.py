"""The layers of StyleGAN2: equalized, modulated, resampled (Karras et al., arXiv:1912.04958).

Used by every network of `models/`. Parameter and buffer names are those of the published
checkpoints, so `load_state_dict(strict=True)` takes them as they are.

Conventions
    x         (B, C, H, W) feature map, any float type and memory format; the format is kept
    style     (B, D) row of a W+ code
    kernel    (kh, kw) FIR filter; true convolution, so the filter is not flipped by the caller

Everything here can be differentiated twice: R1 and path length regularization need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)
"""The binomial low-pass filter of StyleGAN2; its outer product is the FIR kernel."""
LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2.0)
"""Restores the variance that a leaky ReLU takes away."""
EPSILON = 1e-8
"""Added below every square root of PixelNorm and demodulation, as published."""

Pads = tuple[int, int, int, int]
"""x before, x after, y before, y after; negative numbers crop."""

# ── resampling with a finite impulse response ────────────────────────────────────────────────────


def fir_kernel(taps: Sequence[float] = BLUR_TAPS, gain: float = 1.0) -> Tensor:
    """The separable filter of these taps, (n, n) float32, with sum `gain`."""
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(row, row)
    return kernel / kernel.sum() * gain


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int | tuple[int, int] = 1,
    down: int | tuple[int, int] = 1,
    pad: tuple[int, int] | Pads = (0, 0),
) -> Tensor:
    """Insert zeros, pad, filter, keep every `down`-th sample.

    Args:
        x: (B, C, H, W).
        kernel: (kh, kw), convolved with every channel (true convolution).
        up, down: factors, one for both axes or (x, y); `up - 1` zeros follow each sample.
        pad: zeros (before, after) for both axes, or `Pads`; negative crops.

    Returns:
        (B, C, H', W') with H' = ceil((H * up + pads - kh + 1) / down); W' alike.
    """
    pads: Pads = (*pad, *pad) if len(pad) == 2 else pad
    up_xy = (up, up) if isinstance(up, int) else up
    down_xy = (down, down) if isinstance(down, int) else down
    y: Tensor = _UpFirDn.apply(x, kernel.to(x), up_xy, down_xy, pads)  # type: ignore[no-untyped-call]
    return y


class _UpFirDn(torch.autograd.Function):
    """Resampling whose gradient is resampling again, which is cheaper than autograd's and can be
    differentiated as often as wanted. The filter itself gets no gradient: it is never learnt."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        up: tuple[int, int],
        down: tuple[int, int],
        pads: Pads,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = _resample(x, kernel, up, down, pads)
        ctx.save_for_backward(kernel)
        ctx.geometry = up, down, pads, x.shape[2:], y.shape[2:]
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kernel,) = ctx.saved_tensors
        (up_x, up_y), (down_x, down_y), (x0, _, y0, _), (h_in, w_in), (h, w) = ctx.geometry
        kh, kw = kernel.shape
        pads = (
            kw - 1 - x0,
            w_in * up_x - w * down_x + x0 - up_x + 1,
            kh - 1 - y0,
            h_in * up_y - h * down_y + y0 - up_y + 1,
        )
        grad = _UpFirDn.apply(  # type: ignore[no-untyped-call]
            grads[0], kernel.to(grads[0]).flip((0, 1)), (down_x, down_y), (up_x, up_y), pads
        )
        return grad, None, None, None, None


def _resample(
    x: Tensor, kernel: Tensor, up: tuple[int, int], down: tuple[int, int], pads: Pads
) -> Tensor:
    """The forward of `upfirdn2d`: a depthwise convolution, transposed to insert samples."""
    channels, (kh, kw) = x.shape[1], kernel.shape
    x0, x1, y0, y1 = pads
    if up == (1, 1):
        weight = kernel.flip((0, 1)).expand(channels, 1, kh, kw)
        if x0 == x1 >= 0 and y0 == y1 >= 0:
            return F.conv2d(x, weight, stride=down[::-1], padding=(y0, x0), groups=channels)
        return F.conv2d(F.pad(x, pads), weight, stride=down[::-1], groups=channels)
    weight = kernel.expand(channels, 1, kh, kw)
    edges = (x0 - kw + 1, x1 - kw + up[0], y0 - kh + 1, y1 - kh + up[1])
    crop = -edges[0] if len(set(edges)) == 1 and edges[0] <= 0 else 0
    y = F.conv_transpose2d(x, weight, stride=up[::-1], padding=crop, groups=channels)
    if crop == 0 and any(edges):
        y = F.pad(y, edges)
    return y if down == (1, 1) else y[:, :, :: down[1], :: down[0]]


class Blur(nn.Module):
    """Low-pass filter at one resolution; `up` is the factor of the enlargement before it."""

    kernel: Tensor

    def __init__(self, pad: tuple[int, int], up: int = 1) -> None:
        super().__init__()
        self.pad = pad
        self.register_buffer("kernel", fir_kernel(gain=up**2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + pads - 3, W + pads - 3)."""
        return upfirdn2d(x, self.kernel, pad=self.pad)


class Upsample(nn.Module):
    """Twice the resolution."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return upfirdn2d(x, self.kernel, up=2, pad=(2, 1))


class Downsample(nn.Module):
    """Half the resolution."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        return upfirdn2d(x, self.kernel, down=2, pad=(1, 1))


# ── precision ────────────────────────────────────────────────────────────────────────────────────


def lowered(x: Tensor) -> Tensor:
    """In the number format of the autocast that is on, if one is.

    A network that begins with this keeps its maps in that format: every layer here follows the
    format of its input, and computes scales and norms in that of its parameters. Autocast alone
    would go back to float32 at each addition of a bias.
    """
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


# ── pointwise ────────────────────────────────────────────────────────────────────────────────────


def fused_leaky_relu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """sqrt(2) * leaky_relu(x + bias, 0.2); `bias` (C,) belongs to dim 1 of `x` (B, C, ...)."""
    if bias is not None:
        x = x + bias.to(x.dtype).view(1, -1, *(1,) * (x.ndim - 2))
    return F.leaky_relu(x, LEAKY_SLOPE) * LEAKY_GAIN


class FusedLeakyReLU(nn.Module):
    """Bias and activation of a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return fused_leaky_relu(x, self.bias)


class PixelNorm(nn.Module):
    """Scale each row of (N, D) to a mean square of one. A z+ code is flattened to rows first."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)


# ── layers with an equalized learning rate ───────────────────────────────────────────────────────


class EqualLinear(nn.Module):
    """Linear layer with unit-variance weights that are scaled when used (arXiv:1710.10196, 4.1).

    Args:
        lr_mul: learns this much slower: weights are stored larger by 1/lr_mul, biases too.
        bias_init: the bias's value as used, before `lr_mul`.
        activation: ends in the fused leaky ReLU.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_dim,), bias_init))
        self.scale = lr_mul / math.sqrt(in_dim)
        self.lr_mul = lr_mul
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_dim) -> (N, out_dim)."""
        bias = self.bias if self.lr_mul == 1.0 else self.bias * self.lr_mul
        with torch.autocast(x.device.type, enabled=False):  # codes and scales: cheap, and delicate
            y = F.linear(x.to(bias.dtype), self.weight * self.scale, bias)
        return fused_leaky_relu(y) if self.activation else y


class EqualConv2d(nn.Module):
    """Convolution with unit-variance weights that are scaled when used."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        weight = (self.weight * self.scale).to(x.dtype)
        bias = self.bias if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, weight, bias, stride=self.stride, padding=self.padding)


# ── modulated convolution ────────────────────────────────────────────────────────────────────────


class ModulatedConv2d(nn.Module):
    """Convolution whose weights a style scales, normalized per sample (arXiv:1912.04958, 2.2).

    The paper scales the weights, which makes one weight tensor a sample and a grouped convolution.
    Scaling the input channels before and the output channels after one shared convolution is the
    same function, (w * s) conv x = w conv (s * x), and costs as much as a plain convolution:

        y = (w conv (s * x)) * d,    d_o = 1 / sqrt(sum_ik (s_i * w_oik)^2 + eps)

    Args:
        kernel_size: odd.
        demodulate: normalize the output (d above); off for ToRGB.
        up: twice the resolution, by a transposed convolution and a blur.
        down: half the resolution, by a blur and a strided convolution. Not both.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int,
        *,
        demodulate: bool = True,
        up: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        assert not (up and down), "one resampling at a time"
        self.up, self.down, self.demodulate = up, down, demodulate
        self.weight = nn.Parameter(
            torch.randn(1, out_channels, in_channels, kernel_size, kernel_size)
        )
        self.scale = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        taps = len(BLUR_TAPS)
        if up:  # the transposed convolution gives 2H + kernel_size - 2
            extra = taps - 2 - (kernel_size - 1)
            self.blur = Blur(((extra + 1) // 2 + 1, extra // 2 + 1), up=2)
        elif down:
            extra = taps - 2 + (kernel_size - 1)
            self.blur = Blur(((extra + 1) // 2, extra // 2))
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, in, H, W), (B, D) -> (B, out, H', W')."""
        scales = self.modulation(style) * self.scale  # (B, in): the weight's gain rides along
        y = self._convolve(x * scales.to(x.dtype)[:, :, None, None])
        if not self.demodulate:
            return y
        return y * self._demodulation(scales).to(y.dtype)[:, :, None, None]

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.weight[0].to(x.dtype)  # (out, in, k, k), shared by the whole batch
        if self.up:
            y: Tensor = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
            return y
        if self.down:
            return F.conv2d(self.blur(x), weight, stride=2)
        return F.conv2d(x, weight, padding=self.padding)

    def _demodulation(self, scales: Tensor) -> Tensor:
        """(B, in) -> (B, out): one over the norm of the weights as the style scales them."""
        energy = self.weight[0].square().sum(dim=(2, 3))  # (out, in)
        with torch.autocast(scales.device.type, enabled=False):
            return torch.rsqrt(F.linear(scales.square(), energy) + EPSILON)
