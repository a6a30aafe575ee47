"""An encoder folded for speed: the same codes from the same faces, for inference only.

Batch norms are folded into the convolution before them (the one before a
zero-padded convolution cannot be: beyond the border it must not act), maps are channels_last, and
the heads that look at one resolution run as one batch. Heads of rows that are not used are left
out, with the maps that only they look at: in the published encoder those of the colors are half of
all work.

Data flow: faces (B, 3, P, P) in [-1, 1] -> codes (B, L, D) float32.

Shapes: B batch, n heads of one resolution, C channels, H, W map, L rows, D style width. `dtype` is
that of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.models.encoder import HEAD_SLOPE, Encoder, Head, enlarge_to
from dsgcli.models.irse import ResidualUnit, SqueezeExcite


class FoldedEncoder(nn.Module):
    """Aligned faces to codes, with the weights that `encoder` has now.

    Args:
        dtype: of the feature maps; codes are float32.
        rows: how many rows of the codes are wanted, from the first; None is all.
    """

    latent_avg: Tensor

    def __init__(
        self, encoder: Encoder, dtype: torch.dtype = torch.float32, rows: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.dtype = encoder.config, dtype
        with torch.no_grad():
            conv, norm, relu = encoder.input_layer
            self.stem = ConvNorm(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm), dtype)
            self.relu = FrozenPReLU(cast(nn.PReLU, relu), dtype)
            units = (cast(ResidualUnit, unit) for unit in encoder.body)
            self.body = nn.ModuleList(FoldedUnit(unit, dtype) for unit in units)
            by_level = encoder.heads_by_level(rows)
            self.levels = list(by_level)
            finest = max(self.levels, default=0)
            pairs = (encoder.latlayer1, encoder.latlayer2)[:finest]
            self.laterals = nn.ModuleList(ConvNorm(conv, None, dtype) for conv in pairs)
            self.heads = nn.ModuleList(HeadBatch(heads, dtype) for heads in by_level.values())
        self.missing = encoder.config.num_latents - sum(map(len, by_level.values()))
        """Rows at the end that are not computed."""
        average = encoder.latent_avg.clone() if encoder.config.latent_avg else torch.zeros(())
        self.register_buffer("latent_avg", average)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Faces (B, 3, P, P) in [-1, 1] -> codes (B, L, D) float32."""
        x = x.to(dtype=self.dtype, memory_format=torch.channels_last)
        x = self.relu(self.stem(x))
        taps = []  # c1 at P/4, c2 at P/8, c3 at P/16
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in self.config.taps:
                taps.append(x)
        *larger, coarsest = taps
        pyramid = [coarsest]
        for lateral, tap in zip(self.laterals, reversed(larger), strict=False):
            pyramid.append(enlarge_to(pyramid[-1], tap).add_(lateral(tap)))
        codes = [
            heads(pyramid[level]) for level, heads in zip(self.levels, self.heads, strict=True)
        ]
        found = F.pad(torch.cat(codes, dim=1).float(), (0, 0, 0, self.missing))
        return found + self.latent_avg


class ConvNorm(nn.Module):
    """A convolution with the batch norm after it, if there is one, in its weights."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride, cast(tuple[int, ...], conv.padding)
        weight = conv.weight
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias
        if norm is not None:
            scale, shift = _affine(norm)
            weight, bias = weight * scale[:, None, None, None], bias * scale + shift
        copied = weight.to(dtype=dtype, memory_format=torch.channels_last, copy=True)
        self.register_buffer("weight", copied)
        self.register_buffer("bias", bias.to(dtype=dtype, copy=True))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in eval mode, (C,) each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class FrozenPReLU(nn.Module):
    """A leaky ReLU with a slope for each channel."""

    slopes: Tensor

    def __init__(self, relu: nn.PReLU, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("slopes", relu.weight.to(dtype=dtype, copy=True))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slopes)


class FoldedUnit(nn.Module):
    """A `ResidualUnit` with what can be folded folded."""

    scale: Tensor
    shift: Tensor

    def __init__(self, unit: ResidualUnit, dtype: torch.dtype) -> None:
        super().__init__()
        norm, conv1, relu, conv2, norm2, excite = unit.res_layer
        scale, shift = _affine(cast(nn.BatchNorm2d, norm))
        self.register_buffer("scale", scale[None, :, None, None].to(dtype))
        self.register_buffer("shift", shift[None, :, None, None].to(dtype))
        self.conv1 = ConvNorm(cast(nn.Conv2d, conv1), None, dtype)
        self.relu = FrozenPReLU(cast(nn.PReLU, relu), dtype)
        self.conv2 = ConvNorm(cast(nn.Conv2d, conv2), cast(nn.BatchNorm2d, norm2), dtype)
        self.excite = FoldedExcite(cast(SqueezeExcite, excite), dtype)
        self.stride = self.conv2.stride[0]
        self.shortcut: nn.Module | None = None
        if isinstance(unit.shortcut_layer, nn.Sequential):
            conv, norm = unit.shortcut_layer
            self.shortcut = ConvNorm(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H/stride, W/stride)."""
        y = self.relu(self.conv1(torch.addcmul(self.shift, x, self.scale)))
        y = self.conv2(y)
        kept = (
            x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        )
        return torch.addcmul(kept, y, self.excite(y))


class FoldedExcite(nn.Module):
    """The scales of a `SqueezeExcite`."""

    squeeze: Tensor
    widen: Tensor

    def __init__(self, excite: SqueezeExcite, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("squeeze", excite.fc1.weight[:, :, 0, 0].clone())
        self.register_buffer("widen", excite.fc2.weight[:, :, 0, 0].clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        means = x.mean(dim=(2, 3), dtype=torch.float32)
        scales = F.linear(F.relu(F.linear(means, self.squeeze)), self.widen).sigmoid()
        return scales[:, :, None, None].to(self.dtype)


class HeadBatch(nn.Module):
    """All heads of one resolution: one convolution for their first layers, which share their input,
    then one batched matrix product a layer, over patches."""

    bias: Tensor
    linear: Tensor

    def __init__(self, heads: Sequence[Head], dtype: torch.dtype) -> None:
        super().__init__()
        self.count = len(heads)
        convs = [[cast(nn.Conv2d, c) for c in head.convs if hasattr(c, "weight")] for head in heads]
        firsts, laters = [c[0] for c in convs], list(zip(*(c[1:] for c in convs), strict=True))
        self.first = ConvNorm(_side_by_side(firsts), None, dtype)
        self.laters = nn.ModuleList(PatchProduct(layer, dtype) for layer in laters)
        linears = [head.linear for head in heads]
        weights = [(linear.weight * linear.scale).t() for linear in linears]
        self.register_buffer("linear", torch.stack(weights).to(dtype))
        self.register_buffer("bias", torch.stack([x.bias for x in linears])[:, None].to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, n, D)."""
        y = F.leaky_relu_(self.first(x), HEAD_SLOPE)
        y = y.permute(0, 2, 3, 1).unflatten(3, (self.count, -1)).permute(3, 0, 1, 2, 4)
        for later in self.laters:
            y = later(y)  # (n, B, H, W, C)
        codes = torch.baddbmm(self.bias, y.flatten(1, 3), self.linear)  # (n, B, D)
        return codes.transpose(0, 1)


def _side_by_side(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """One convolution with the outputs of several."""
    first = convs[0]
    with torch.device("meta"):
        outputs = first.out_channels * len(convs)
        whole = nn.Conv2d(first.in_channels, outputs, 3, stride=2, padding=1)
    whole.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]), requires_grad=False)
    biases = [cast(Tensor, conv.bias) for conv in convs]
    whole.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return whole


class PatchProduct(nn.Module):
    """3x3 convolutions of stride 2 with their own weights for each of n maps; leaky ReLU."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convs: Sequence[nn.Conv2d], dtype: torch.dtype) -> None:
        super().__init__()
        weights = [conv.weight.to(dtype).flatten(1) for conv in convs]  # (out, in * 9)
        biases = [cast(Tensor, conv.bias) for conv in convs]
        self.register_buffer("weight", torch.stack(weights))
        self.register_buffer("bias", torch.stack(biases)[:, None].to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(n, B, H, W, C) -> (n, B, H/2, W/2, C')."""
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        patches = padded.unfold(2, 3, 2).unfold(3, 3, 2)  # (n, B, H/2, W/2, C, 3, 3)
        heads, batch, height, width = patches.shape[:4]
        patches = patches.reshape(heads, batch * height * width, -1)
        y = torch.baddbmm(self.bias, patches, self.weight.transpose(1, 2))
        y = F.leaky_relu_(y, HEAD_SLOPE)
        return y.view(heads, batch, height, width, -1)
