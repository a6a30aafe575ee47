"""A generator folded for one style: the same function, as fast as this machine draws it.

The extrinsic path is computed once (T_s, the shifts and scales of its normalizations, T_c); rows
that follow the exemplar wholly become plain convolutions; rows that do not follow it at all lose
their extrinsic part; other rows are blended with the face's code when it comes. A picture smaller
than the model's is drawn by stopping early.

    folded     the style is known, so modulation, demodulation and gains go into the weights
    modulated  the style comes with the face; scaled input, one shared convolution, scaled output

Gains need no pass of their own: a leaky ReLU commutes with a positive factor, so sqrt(2) goes into
weights, biases and noise. Maps are channels_last, which makes low precision fast on a CPU.

Data flow: ws (B, L, D) -> (B, 3, S, S). For inference: nothing here can be differentiated.

Shapes: B batch, C channels, H and W feature map, L rows of a code, D style width. `dtype` is the
number format of the maps; styles and pictures are float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.inference import winograd
from dsgcli.models.dualstylegan import DualStyleGAN, ModRes, Weights, weights_by_row
from dsgcli.models.layers import ToRGB
from dsgcli.models.ops import EPSILON, LEAKY_GAIN, LEAKY_SLOPE, EqualLinear, ModulatedConv2d
from dsgcli.models.stylegan2 import Generator

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


class FoldedStyledConv(nn.Module):
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
        # at high resolutions the weights are smaller than one map, so they are scaled instead
        small = self.weight.numel() < x.shape[2] * x.shape[3] * len(self.bias)
        if small and self.weight.ndim == 4 and x.device.type == "cpu":
            samples = zip(x.split(1), scales, gains, strict=True)
            y = torch.cat(
                [self._convolve(one, self._scaled(s, g), self.bias) for one, s, g in samples]
            )
            return _activate(y, noise)
        y = self._convolve(x * scales[:, :, None, None].to(self.dtype), self.weight, None)
        gains = gains[:, :, None, None].to(self.dtype)
        return _activate(torch.addcmul(self.bias[None, :, None, None], y, gains), noise)

    def _scaled(self, scales: Tensor, gains: Tensor) -> Tensor:
        """Weights for one sample, from (in,) and (out,)."""
        factors = scales[:, None] * gains if self.up else gains[:, None] * scales
        return self.weight * factors[:, :, None, None].to(self.dtype)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.up:
            y = F.conv_transpose2d(x, weight, stride=2)  # 2H + 1
            return F.conv2d(y, self.fir, bias, padding=1, groups=len(self.fir))  # 2H
        return _convolve3x3(x, weight, bias)


class FoldedToRGB(nn.Module):
    """A `ToRGB` whose style is known or comes later; adds up pictures in float32."""

    weight: Tensor
    bias: Tensor
    fir: Tensor

    def __init__(self, layer: ToRGB, style: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        conv, bias = layer.conv, layer.bias
        self.modulation = Modulation(conv, 1.0) if style is None else None
        weight = conv.weight[0, :, :, 0, 0]  # (3, in)
        if style is not None:
            weight = weight * Modulation(conv, 1.0)(style)[0]
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", bias.flatten().clone())
        if hasattr(layer, "upsample"):
            kernel = layer.upsample.kernel
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


class FoldedModRes(nn.Module):
    """A `ModRes` whose extrinsic code (1, D) and weight are known, for maps of one side."""

    def __init__(
        self, block: ModRes, style: Tensor, strength: float, *, side: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        convs = block.conv.scaled(), block.conv2.scaled()
        norms = block.norm.affine(style), block.norm2.affine(style)
        self.sign = 1.0 if strength >= 0 else -1.0  # an activation commutes with |strength| only
        factors = (LEAKY_GAIN, LEAKY_GAIN * abs(strength))
        self.stages = nn.ModuleList(
            _NormConv(conv, norm, factor, side, dtype)
            for conv, norm, factor in zip(convs, norms, factors, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), with the residual added."""
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


# ── the generator ────────────────────────────────────────────────────────────────────────────────


class FoldedGenerator(nn.Module):
    """Codes to pictures, for one style.

    Args:
        generator: the photographic generator; its weights are copied, so it can be dropped.
        residuals: folded residual blocks, by the row of the convolution that they follow.
        codes: by row, the exemplar's code in W (1, D), and how far the face's row moves there, not
            0. Rows that are not named stay intrinsic.
        dtype: number format of the feature maps; pictures are added up in float32.
        size_px: side of the pictures; None is the generator's own.
    """

    start: Tensor

    def __init__(
        self,
        generator: Generator,
        residuals: Mapping[int, FoldedModRes] | None = None,
        codes: Mapping[int, tuple[Tensor, float]] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        size_px: int | None = None,
    ) -> None:
        super().__init__()
        codes = codes or {}
        self.layout, self.dtype = generator.layout, dtype
        self.size_px = size_px or self.layout.size_px
        assert self.size_px in self.layout.resolutions_px, self.size_px
        self.num_blocks = self.layout.blocks_to(self.size_px)
        known = {row: code for row, (code, share) in codes.items() if share == 1.0}
        self._shares: dict[int, float] = {}
        for row, (code, share) in codes.items():
            if share != 1.0:  # blended with the face's row in `_styles`
                self._shares[row] = share
                self.register_buffer(f"code_{row}", code * share)
        convs = generator.styled_convs[: 1 + 2 * self.num_blocks]
        to_rgbs = generator.rgb_layers[: 1 + self.num_blocks]
        self.convs = nn.ModuleList(
            FoldedStyledConv(conv.conv, conv.activate.bias, known.get(row), side=side, dtype=dtype)
            for row, (conv, side) in enumerate(zip(convs, self.layout.noise_sizes_px, strict=False))
        )
        self.to_rgbs = nn.ModuleList(
            FoldedToRGB(layer, known.get(row), dtype)
            for row, layer in zip(self.layout.rgb_rows, to_rgbs, strict=False)
        )
        self.residuals = nn.ModuleDict(
            {str(row): block for row, block in (residuals or {}).items()}
        )
        self.register_buffer("start", generator.input.input.to(dtype, copy=True))  # (1, C, 4, 4)
        # stored maps of noise and their strengths, with the activation's gain
        self._strengths = [conv.noise.weight.item() * LEAKY_GAIN for conv in convs]
        for row, strength in enumerate(self._strengths):
            noise = generator.stored_noise()[row] * strength
            self.register_buffer(f"noise_{row}", noise.to(dtype))

    @torch.no_grad()
    def forward(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """ws (B, L, D) -> (B, 3, S, S) float32, in channels_last memory.

        Args:
            noise: (B or 1, 1, s, s) for each convolution; None takes the stored maps.
        """
        styles = self._styles(ws)
        x = self._convolve(0, self.start.expand(len(ws), -1, -1, -1), styles, noise)
        rgb: Tensor = self.to_rgbs[0](x, styles[1], None)
        for block in range(self.num_blocks):
            first, second, last = self.layout.block_rows(block)
            x = self._convolve(first, x, styles, noise)
            x = self._convolve(second, x, styles, noise)
            rgb = self.to_rgbs[block + 1](x, styles[last], rgb)
        return rgb

    def _styles(self, ws: Tensor) -> list[Tensor]:
        """(B, D) for each row, as it drives its layers; unused where a layer knows its style."""
        rows = list(ws.float().unbind(dim=1))
        for row, share in self._shares.items():
            rows[row] = self.get_buffer(f"code_{row}") + (1.0 - share) * rows[row]
        return rows

    def _convolve(
        self, row: int, x: Tensor, styles: list[Tensor], noise: Sequence[Tensor] | None
    ) -> Tensor:
        strength, maps = self._strengths[row], None
        if strength != 0.0:
            maps = self.get_buffer(f"noise_{row}") if noise is None else noise[row] * strength
            maps = maps.to(self.dtype)
        x = self.convs[row](x, styles[row], maps)
        residual = str(row)
        y: Tensor = self.residuals[residual](x) if residual in self.residuals else x
        return y


@torch.no_grad()
def fold(
    network: Generator | DualStyleGAN,
    exstyle_ws: Tensor | None = None,
    weights: Weights | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    size_px: int | None = None,
) -> FoldedGenerator:
    """Fold a generator for one exemplar; its weights are copied, so it can be dropped.

    Args:
        exstyle_ws: (1, D) or (1, L, D), extrinsic code in W or W+; None for a plain `Generator`,
            or for the photographic generator inside a `DualStyleGAN`.
        weights: (L,), as in `DualStyleGAN.forward`. With color rows at 0, codes that were blended
            by `blend` (colors that depend on the face) can be given as `ws`.
        dtype: number format of the feature maps.
        size_px: side of the pictures, where smaller than the network's; None is the network's.
    """
    if isinstance(network, Generator):
        return FoldedGenerator(network, dtype=dtype, size_px=size_px)
    if exstyle_ws is None:
        return FoldedGenerator(network.generator, dtype=dtype, size_px=size_px)
    assert len(exstyle_ws) == 1, "a generator is folded for one exemplar"
    by_row = [float(weight) for weight in weights_by_row(weights, network.layout)]
    structure = network.structure_codes(exstyle_ws)  # (1, L_structure, D)
    residuals: dict[int, FoldedModRes] = {}
    codes: dict[int, tuple[Tensor, float]] = {}
    for row, weight in enumerate(by_row):
        if weight == 0.0:
            continue
        if row < network.layout.num_structure:
            residuals[row] = FoldedModRes(
                cast(ModRes, network.res[row]),
                structure[:, row],
                weight,
                side=network.layout.noise_sizes_px[row],
                dtype=dtype,
            )
        else:
            codes[row] = network.color_code(row, exstyle_ws), weight
    return FoldedGenerator(network.generator, residuals, codes, dtype=dtype, size_px=size_px)
