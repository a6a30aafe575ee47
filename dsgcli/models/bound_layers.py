"""The layers of a generator that is bound to one style (`bound.py`): inference only, and exact.

What can be known before the face is known is computed once, when a layer is made:

    folded     the style is known, so modulation, demodulation and gains go into the weights
    modulated  the style comes with the face; scaled input, one shared convolution, scaled output

Gains need no pass of their own: a leaky ReLU commutes with a positive factor, so sqrt(2) goes into
weights, biases and noise. Maps are channels_last, which is what makes low precision fast on a CPU.

Shapes: B batch, C channels, H and W feature map, D style width. `dtype` is that of the maps; styles
and pictures are float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.models import winograd
from dsgcli.models.ops import EPSILON, LEAKY_GAIN, LEAKY_SLOPE, EqualLinear, ModulatedConv2d

WINOGRAD_CHANNELS, WINOGRAD_SIDE_PX = 128, 16
"""From here on Winograd's form wins on a CPU in float32: 2.2 times as fast for 512 channels, 1.7
for 256, 1.2 for 128 (on some CPUs 1.0). Below, its passes over the maps cost more than the saved
products gain."""
INSTANCE_EPSILON = 1e-5
"""Constant that instance normalization adds to a variance."""

# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def _fir_weight(kernel: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """(kh, kw) -> (C, 1, kh, kw), one filter a channel. Symmetric, so there is nothing to flip."""
    return kernel.expand(channels, 1, *kernel.shape).to(dtype).contiguous()


def _channels_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype=dtype, memory_format=torch.channels_last, copy=True)


def _prepared(weight: Tensor, dtype: torch.dtype, side: int) -> Tensor:
    """Weights (out, in, 3, 3) for `_convolve3x3` on maps of this side: Winograd's (36, in, out)
    where those are faster, a copy in channels_last elsewhere."""
    wide = min(weight.shape[:2]) >= WINOGRAD_CHANNELS and side >= WINOGRAD_SIDE_PX
    if wide and dtype == torch.float32 and weight.device.type == "cpu":
        return winograd.transform_weight(weight.float())
    return _channels_last(weight, dtype)


def _convolve3x3(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, in, H, W) -> (B, out, H, W)."""
    if weight.ndim == 3:
        return winograd.convolve(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


def _add_noise(x: Tensor, noise: Tensor) -> Tensor:
    """x (B, C, H, W) += noise (B or 1, 1, H, W).

    Broadcasting along the innermost axis is not vectorized for 16-bit floats on a CPU (5 times
    slower than memory); a matrix product of rank one is.
    """
    if x.dtype == torch.float32 or x.device.type != "cpu":
        return x.add_(noise)
    batch, channels, height, width = x.shape
    flat = x.permute(0, 2, 3, 1).view(batch, height * width, channels)
    column = noise.expand(batch, 1, height, width).reshape(batch, height * width, 1)
    flat.baddbmm_(column, x.new_ones(1, 1, channels).expand(batch, 1, channels))
    return x


def _activate(x: Tensor, noise: Tensor | None) -> Tensor:
    """Noise and leaky ReLU, in place; the gain is in the weights."""
    if noise is not None:
        x = _add_noise(x, noise)
    return F.leaky_relu_(x, LEAKY_SLOPE)


class Modulation(nn.Module):
    """Style to input scales, with the convolution's own gain; and to output scales."""

    weight: Tensor
    bias: Tensor
    energy: Tensor

    def __init__(self, conv: ModulatedConv2d, gain: float) -> None:
        super().__init__()
        linear: EqualLinear = conv.modulation
        self.gain = gain
        self.register_buffer("weight", linear.weight * linear.scale * conv.scale)
        self.register_buffer("bias", linear.bias * conv.scale)
        self.register_buffer("energy", conv.weight[0].square().sum(dim=(2, 3)))

    def forward(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> input scales (B, in), output scales (B, out) with the gain."""
        scales = F.linear(style, self.weight, self.bias)
        return scales, self.gain * torch.rsqrt(F.linear(scales.square(), self.energy) + EPSILON)


# ── convolutions ─────────────────────────────────────────────────────────────────────────────────


class BoundConv(nn.Module):
    """A `StyledConv` with gains folded; its style is known (`style` given) or comes later (None).

    Args:
        conv, bias: of the `StyledConv`.
        style: (1, D), or None.
        side: of the output map.
    """

    weight: Tensor
    bias: Tensor
    fir: Tensor

    def __init__(
        self,
        conv: ModulatedConv2d,
        bias: Tensor,
        style: Tensor | None,
        *,
        side: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.up, self.dtype = conv.up, dtype
        weight = conv.weight[0]  # (out, in, k, k)
        modulation = Modulation(conv, LEAKY_GAIN)
        self.modulation = modulation if style is None else None
        if style is not None:
            scales, gains = modulation(style)
            weight = weight * scales[0, :, None, None] * gains[0, :, None, None, None]
        if self.up:  # (in, out, k, k), as a transposed convolution wants
            weight = _channels_last(weight.transpose(0, 1), dtype)
            self.register_buffer("fir", _fir_weight(conv.blur.kernel, len(bias), dtype))
        else:
            weight = _prepared(weight, dtype, side)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", (bias * LEAKY_GAIN).to(dtype))

    def forward(self, x: Tensor, style: Tensor | None, noise: Tensor | None) -> Tensor:
        """(B, in, H, W), (B, D) or None, (B or 1, 1, H', W') or None -> (B, out, H', W')."""
        if self.modulation is None:
            return _activate(self._convolve(x, self.weight, self.bias), noise)
        assert style is not None, "the style of this layer comes with the face"
        scales, gains = self.modulation(style)
        if self._cheaper_to_scale_weights(x):
            samples = zip(x.split(1), scales, gains, strict=True)
            y = torch.cat(
                [self._convolve(one, self._scaled(s, g), self.bias) for one, s, g in samples]
            )
            return _activate(y, noise)
        y = self._convolve(x * scales[:, :, None, None].to(self.dtype), self.weight, None)
        gains = gains[:, :, None, None].to(self.dtype)
        return _activate(torch.addcmul(self.bias[None, :, None, None], y, gains), noise)

    def _cheaper_to_scale_weights(self, x: Tensor) -> bool:
        """At high resolutions the weights are smaller than one map."""
        small = self.weight.numel() < x.shape[2] * x.shape[3] * len(self.bias)
        return small and self.weight.ndim == 4 and x.device.type == "cpu"

    def _scaled(self, scales: Tensor, gains: Tensor) -> Tensor:
        """Weights for one sample, from (in,) and (out,)."""
        factors = scales[:, None] * gains if self.up else gains[:, None] * scales
        return self.weight * factors[:, :, None, None].to(self.dtype)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.up:
            y = F.conv_transpose2d(x, weight, stride=2)  # 2H + 1
            return F.conv2d(y, self.fir, bias, padding=1, groups=len(self.fir))  # 2H
        return _convolve3x3(x, weight, bias)


class BoundToRGB(nn.Module):
    """A `ToRGB` whose style is known or comes later; adds up pictures in float32."""

    weight: Tensor
    bias: Tensor
    fir: Tensor

    def __init__(
        self,
        conv: ModulatedConv2d,
        bias: Tensor,
        kernel: Tensor | None,
        style: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.modulation = Modulation(conv, 1.0) if style is None else None
        weight = conv.weight[0, :, :, 0, 0]  # (3, in)
        if style is not None:
            weight = weight * Modulation(conv, 1.0)(style)[0]
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", bias.flatten().clone())
        if kernel is not None:
            self.register_buffer("fir", _fir_weight(kernel, len(self.bias), torch.float32))

    def forward(self, x: Tensor, style: Tensor | None, skip: Tensor | None) -> Tensor:
        """(B, in, H, W), (B, D) or None, float32 (B, 3, H/2, W/2) or None -> (B, 3, H, W)."""
        batch, channels, height, width = x.shape
        weight = self.weight
        if self.modulation is not None:
            assert style is not None, "the style of this layer comes with the face"
            weight = weight * self.modulation(style)[0][:, None]  # (B, 3, in)
        flat = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        # rows of weights, not columns: 2.2 times as fast for three of them in float32
        rgb = torch.matmul(flat, weight.to(self.dtype).transpose(-2, -1))  # (B, HW, 3)
        rgb = rgb.view(batch, height, width, -1).permute(0, 3, 1, 2)  # channels_last
        if skip is None:
            return rgb.float() + self.bias[:, None, None]
        enlarged = F.conv_transpose2d(
            skip, self.fir, self.bias, stride=2, padding=1, groups=len(self.bias)
        )
        return enlarged.add_(rgb)


# ── structure ────────────────────────────────────────────────────────────────────────────────────


class BoundModRes(nn.Module):
    """A `ModRes` whose extrinsic code and weight are known.

    Args:
        convs: its two equalized convolutions, as (weight with its scale, bias).
        norms: gamma and beta, (1, C, 1, 1) each, of its two normalizations.
        strength: the weight of the residual.
        side: of the map.
    """

    def __init__(
        self,
        convs: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
        norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
        strength: float,
        *,
        side: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.sign = 1.0 if strength >= 0 else -1.0  # an activation commutes with |strength| only
        factors = (LEAKY_GAIN, LEAKY_GAIN * abs(strength))
        self.stages = nn.ModuleList(
            _NormConv(conv, norm, factor, side, dtype)
            for conv, norm, factor in zip(convs, norms, factors, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, bent."""
        first, second = self.stages
        return x.add(second(first(x)), alpha=self.sign)


class _NormConv(nn.Module):
    """Instance normalization, convolution, leaky ReLU."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor
    beta: Tensor

    def __init__(
        self,
        conv: tuple[Tensor, Tensor],
        norm: tuple[Tensor, Tensor],
        factor: float,
        side: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("weight", _prepared(conv[0] * factor, dtype, side))
        self.register_buffer("bias", (conv[1] * factor).to(dtype))
        self.register_buffer("gamma", norm[0].float())
        self.register_buffer("beta", norm[1].float())

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()  # statistics in float32
        variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0, keepdim=True)
        scale = self.gamma * torch.rsqrt(variance + INSTANCE_EPSILON)
        y = torch.addcmul(self.beta - mean * scale, wide, scale).to(self.dtype)
        return F.leaky_relu_(_convolve3x3(y, self.weight, self.bias), LEAKY_SLOPE)
