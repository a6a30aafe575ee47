"""A generator that is steered by numbers: one network for all styles, exemplars and weights.

Everything that a style or a face changes is a number a channel: how a modulated convolution scales
what goes in and what comes out, how a residual block normalizes and how far it bends. So

    Steering            codes, style -> numbers (B, N)       small products, in float32
    SteeredGenerator    numbers (B, N) -> (B, 3, S, S)       convolutions with weights that stay

and what is slow to make ready (a graph for OpenVINO or CUDA, compiled code) is made once a model.
`bound.py` folds the numbers into weights instead: faster where making ready costs nothing.

Convolutions are linear in each input channel and each output channel (arXiv:1912.04958, equations
1 and 3), so this is exact; gains of activations are folded as in `bound_layers.py`.

Shapes: B batch, C channels, H and W feature map, D style width, N numbers a picture. For inference:
nothing here can be differentiated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.models.bound_layers import INSTANCE_EPSILON, Modulation
from dsgcli.models.layers import ToRGB
from dsgcli.models.ops import LEAKY_GAIN, LEAKY_SLOPE, ModulatedConv2d
from dsgcli.types import LatentLayout

if TYPE_CHECKING:
    from dsgcli.models.stylegan2 import Generator

Bend = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""The two convolutions of a residual block: weight with its scale, bias."""


@dataclass(frozen=True, slots=True)
class StyleNumbers:
    """Effect of an exemplar and weights on a generator, before a face is known."""

    bends: Mapping[int, Tensor] = field(default_factory=dict)
    """Numbers (1, 4C + 1) of a row's residual block, in the order of `SteeredBend.forward`; rows
    that are not named are not bent."""
    codes: Mapping[int, tuple[Tensor, float]] = field(default_factory=dict)
    """The row's code in W (1, D), and how far the face's row moves there, as in `BoundStyle`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One layer: `conv` and `bend` of a row; `rgb` of a resolution, with the row that drives it."""

    kind: Literal["conv", "bend", "rgb"]
    row: int


def steps(layout: LatentLayout, size_px: int, bent: Sequence[int]) -> Iterator[Step]:
    """The layers in the order in which they run, and in which their numbers stand."""

    def styled(row: int) -> Iterator[Step]:
        yield Step("conv", row)
        if row in bent:
            yield Step("bend", row)

    yield from styled(0)
    yield Step("rgb", 1)
    for block in range(layout.blocks_to(size_px)):
        first, second, last = layout.block_rows(block)
        yield from (*styled(first), *styled(second), Step("rgb", last))


# ── codes -> numbers ─────────────────────────────────────────────────────────────────────────────


class Steering(nn.Module):
    """Codes of faces and a style to the numbers that steer a generator of these weights.

    Args:
        bent: rows with a residual block; a style must bend just these.
        size_px: as `SteeredGenerator`.
    """

    def __init__(
        self, generator: Generator, bent: Sequence[int] = (), *, size_px: int | None = None
    ) -> None:
        super().__init__()
        layout = generator.layout
        self.steps = list(steps(layout, size_px or layout.size_px, bent))
        convs, to_rgbs = generator.styled_convs, generator.rgb_layers
        self.modulations = nn.ModuleDict(
            {
                _name(step): Modulation(convs[step.row].conv, LEAKY_GAIN)
                if step.kind == "conv"
                else Modulation(to_rgbs[step.row // 2].conv, 1.0)
                for step in self.steps
                if step.kind != "bend"
            }
        )

    @torch.no_grad()
    def forward(self, ws: Tensor, style: StyleNumbers) -> Tensor:
        """ws (B, L, D) -> (B, N) float32; the style has one row of numbers, or one a picture."""
        rows = list(ws.float().unbind(dim=1))
        for row, (code, share) in style.codes.items():
            rows[row] = share * code.expand_as(rows[row]) + (1.0 - share) * rows[row]
        numbers: list[Tensor] = []
        for step in self.steps:
            if step.kind == "bend":
                numbers.append(style.bends[step.row].expand(len(ws), -1))
                continue
            scales, gains = self.modulations[_name(step)](rows[step.row])
            numbers += [scales, gains] if step.kind == "conv" else [scales]
        return torch.cat(numbers, dim=1)


def _name(step: Step) -> str:
    return f"{step.kind}_{step.row}"


# ── numbers -> pictures ──────────────────────────────────────────────────────────────────────────


class SteeredGenerator(nn.Module):
    """Numbers to pictures, with the weights that `generator` has now.

    Args:
        bends: residual blocks by row.
        size_px: of the pictures; None is the generator's own.
        dtype: of the feature maps; pictures are added up in float32.
    """

    start: Tensor

    def __init__(
        self,
        generator: Generator,
        bends: Mapping[int, Bend] | None = None,
        *,
        size_px: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        bends = bends or {}
        self.layout, self.dtype = generator.layout, dtype
        self.size_px = size_px or self.layout.size_px
        self.steps = list(steps(self.layout, self.size_px, list(bends)))
        self.layers = nn.ModuleDict(
            {_name(step): _layer(step, generator, bends, dtype) for step in self.steps}
        )
        self.register_buffer("start", _channels_last(generator.input.input, dtype))

    @property
    def sizes(self) -> list[int]:
        """How the numbers are divided; they add up to N."""
        return [size for layer in self.layers.values() for size in cast(Layer, layer).sizes]

    @torch.no_grad()
    def forward(self, numbers: Tensor) -> Tensor:
        """(B, N) float32 -> (B, 3, S, S) float32."""
        parts = iter(numbers[:, :, None, None].split(self.sizes, dim=1))
        x, rgb = self.start, cast(Tensor | None, None)
        for layer in self.layers.values():
            mine = [next(parts) for _ in cast(Layer, layer).sizes]
            if isinstance(layer, SteeredToRGB):
                rgb = layer(x, rgb, *mine)
            else:
                x = layer(x, *mine)
        assert rgb is not None
        return rgb


def _layer(
    step: Step, generator: Generator, bends: Mapping[int, Bend], dtype: torch.dtype
) -> nn.Module:
    if step.kind == "bend":
        return SteeredBend(bends[step.row], dtype)
    if step.kind == "rgb":
        return SteeredToRGB(generator.rgb_layers[step.row // 2], dtype)
    styled = generator.styled_convs[step.row]
    noise = generator.stored_noise()[step.row] * styled.noise.weight * LEAKY_GAIN
    return SteeredConv(styled.conv, styled.activate.bias, noise, dtype)


def _channels_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype=dtype, memory_format=torch.channels_last, copy=True)


class SteeredConv(nn.Module):
    """Scaled input, convolution (and enlargement), scaled output, noise, bias, activation."""

    weight: Tensor
    bias: Tensor
    noise: Tensor
    fir: Tensor

    def __init__(
        self, conv: ModulatedConv2d, bias: Tensor, noise: Tensor, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.up, self.dtype = conv.up, dtype
        weight = conv.weight[0]  # (out, in, 3, 3)
        self.sizes = (weight.shape[1], weight.shape[0])
        if self.up:
            weight = weight.transpose(0, 1)
            fir = conv.blur.kernel.expand(len(bias), 1, -1, -1)
            self.register_buffer("fir", fir.to(dtype).contiguous())
        self.register_buffer("weight", _channels_last(weight, dtype))
        self.register_buffer("bias", (bias.detach() * LEAKY_GAIN).view(1, -1, 1, 1).to(dtype))
        self.register_buffer("noise", noise.detach().to(dtype))

    def forward(self, x: Tensor, scales: Tensor, gains: Tensor) -> Tensor:
        """(B, in, H, W), (B, in, 1, 1), (B, out, 1, 1) -> (B, out, H', W')."""
        x = x * scales.to(self.dtype)
        if self.up:
            y = F.conv_transpose2d(x, self.weight, stride=2)  # 2H + 1
            y = F.conv2d(y, self.fir, padding=1, groups=self.fir.shape[0])  # 2H
        else:
            y = F.conv2d(x, self.weight, padding=1)
        y = y * gains.to(self.dtype) + self.bias + self.noise
        return F.leaky_relu(y, LEAKY_SLOPE)


class SteeredBend(nn.Module):
    """A `ModRes`: twice instance normalization, convolution and activation; added to its input."""

    def __init__(self, convs: Bend, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        for number, (weight, bias) in enumerate(convs):
            self.register_buffer(f"weight_{number}", _channels_last(weight * LEAKY_GAIN, dtype))
            self.register_buffer(f"bias_{number}", (bias.detach() * LEAKY_GAIN).to(dtype))
        channels = len(convs[0][1])
        self.sizes = (channels,) * 4 + (1,)

    def forward(
        self,
        x: Tensor,
        gamma_0: Tensor,
        beta_0: Tensor,
        gamma_1: Tensor,
        beta_1: Tensor,
        strength: Tensor,
    ) -> Tensor:
        """(B, C, H, W), numbers (B, C, 1, 1) and (B, 1, 1, 1) -> (B, C, H, W)."""
        y = self._stage(x, gamma_0, beta_0, 0)
        y = self._stage(y, gamma_1, beta_1, 1)
        return x + strength.to(self.dtype) * y

    def _stage(self, x: Tensor, gamma: Tensor, beta: Tensor, number: int) -> Tensor:
        wide = x.float()  # statistics in float32
        mean = wide.mean(dim=(2, 3), keepdim=True)
        centered = wide - mean
        variance = centered.square().mean(dim=(2, 3), keepdim=True)
        y = centered * (gamma * torch.rsqrt(variance + INSTANCE_EPSILON)) + beta
        weight, bias = self.get_buffer(f"weight_{number}"), self.get_buffer(f"bias_{number}")
        return F.leaky_relu(F.conv2d(y.to(self.dtype), weight, bias, padding=1), LEAKY_SLOPE)


class SteeredToRGB(nn.Module):
    """Feature map to a picture, added to the enlarged picture of the resolution below."""

    weight: Tensor
    bias: Tensor
    fir: Tensor

    def __init__(self, layer: ToRGB, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        weight = layer.conv.weight[0].detach()  # (3, in, 1, 1)
        self.sizes = (weight.shape[1],)
        self.register_buffer("weight", _channels_last(weight, dtype))
        self.register_buffer("bias", layer.bias.detach().clone())
        if hasattr(layer, "upsample"):
            fir = layer.upsample.kernel.expand(len(weight), 1, -1, -1)
            self.register_buffer("fir", fir.contiguous())

    def forward(self, x: Tensor, rgb: Tensor | None, scales: Tensor) -> Tensor:
        """(B, in, H, W), float32 (B, 3, H/2, W/2) or None, (B, in, 1, 1) -> (B, 3, H, W)."""
        y = F.conv2d(x * scales.to(self.dtype), self.weight).float() + self.bias
        if rgb is None:
            return y
        return y + F.conv_transpose2d(
            rgb, self.fir, stride=2, padding=1, groups=self.weight.shape[0]
        )


Layer = SteeredConv | SteeredBend | SteeredToRGB
"""`sizes` says which numbers it takes."""
