"""A generator whose style is an input: one network for all exemplars and weights.

Everything that a style or a face changes is a number a channel: how a modulated convolution scales
what goes in and what comes out, how a residual block normalizes and how much of it is added. So

    StyleModulator      codes, style -> modulation (B, N)     small products, in float32
    DynamicGenerator    modulation (B, N) -> (B, 3, S, S)     convolutions with weights that stay

and what is slow to make ready (a graph for OpenVINO, compiled code) is made once a model.
`generator.py` folds a style into weights instead: faster where making ready costs nothing.

Convolutions are linear in each input channel and each output channel (arXiv:1912.04958, equations
1 and 3), so this is exact; gains of activations are folded as in `generator.py`.

Shapes: B batch, C channels, H and W feature map, D style width, N modulation values a picture. For
inference: nothing here can be differentiated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.inference.generator import INSTANCE_EPSILON, Modulation
from dsgcli.models.dualstylegan import DualStyleGAN, ModRes, Weights, weights_by_row
from dsgcli.models.layers import ToRGB
from dsgcli.models.ops import LEAKY_GAIN, LEAKY_SLOPE, ModulatedConv2d
from dsgcli.models.stylegan2 import Generator
from dsgcli.types import LatentLayout


@dataclass(frozen=True, slots=True)
class StyleModulation:
    """Effect of an exemplar and weights on a generator, before a face is known."""

    residuals: Mapping[int, Tensor] = field(default_factory=dict)
    """Values (1, 4C + 1) of a row's residual block, in the order of `DynamicResidual.forward`; rows
    that are not named have none."""
    codes: Mapping[int, tuple[Tensor, float]] = field(default_factory=dict)
    """The row's code in W (1, D), and how far the face's row moves there."""


@dataclass(frozen=True, slots=True)
class Step:
    """One layer: `conv` and `residual` of a row; `rgb` of a resolution, with its row."""

    kind: Literal["conv", "residual", "rgb"]
    row: int


def steps(layout: LatentLayout, size_px: int, rows: Sequence[int]) -> Iterator[Step]:
    """The layers in the order in which they run, and in which their values stand."""

    def styled(row: int) -> Iterator[Step]:
        yield Step("conv", row)
        if row in rows:
            yield Step("residual", row)

    yield from styled(0)
    yield Step("rgb", 1)
    for block in range(layout.blocks_to(size_px)):
        first, second, last = layout.block_rows(block)
        yield from (*styled(first), *styled(second), Step("rgb", last))


# ── codes -> modulation ──────────────────────────────────────────────────────────────────────────


class StyleModulator(nn.Module):
    """Codes of faces and a style to the modulation of a generator of these weights.

    Args:
        rows: rows with a residual block; a style must have just these.
        size_px: as `DynamicGenerator`.
    """

    def __init__(
        self, generator: Generator, rows: Sequence[int] = (), *, size_px: int | None = None
    ) -> None:
        super().__init__()
        layout = generator.layout
        self.steps = list(steps(layout, size_px or layout.size_px, rows))
        convs, to_rgbs = generator.styled_convs, generator.rgb_layers
        self.modulations = nn.ModuleDict(
            {
                _name(step): Modulation(convs[step.row].conv, LEAKY_GAIN)
                if step.kind == "conv"
                else Modulation(to_rgbs[step.row // 2].conv, 1.0)
                for step in self.steps
                if step.kind != "residual"
            }
        )

    @torch.no_grad()
    def forward(self, ws: Tensor, style: StyleModulation) -> Tensor:
        """ws (B, L, D) -> (B, N) float32; the style has one row, or one a picture."""
        ws_rows = list(ws.float().unbind(dim=1))  # (B, D) each
        for row, (code, share) in style.codes.items():
            ws_rows[row] = share * code.expand_as(ws_rows[row]) + (1.0 - share) * ws_rows[row]
        values: list[Tensor] = []
        for step in self.steps:
            if step.kind == "residual":
                values.append(style.residuals[step.row].expand(ws.shape[0], -1))
                continue
            scales, gains = self.modulations[_name(step)](ws_rows[step.row])
            values += [scales, gains] if step.kind == "conv" else [scales]
        return torch.cat(values, dim=1)


def _name(step: Step) -> str:
    return f"{step.kind}_{step.row}"


@torch.no_grad()
def style_modulation(
    network: DualStyleGAN, exstyle_ws: Tensor, weights: Weights | None = None
) -> StyleModulation:
    """Effect of an exemplar (B, D) or (B, L, D) in W or W+, for `StyleModulator`."""
    by_row = [float(weight) for weight in weights_by_row(weights, network.layout)]
    structure = network.structure_codes(exstyle_ws)  # (B, L_structure, D)
    residuals, codes = {}, {}
    for row, weight in enumerate(by_row):
        if weight == 0.0:
            continue
        if row >= network.layout.num_structure:
            codes[row] = network.color_code(row, exstyle_ws), weight
            continue
        block, style = cast(ModRes, network.res[row]), structure[:, row]
        norms = *block.norm.affine(style), *block.norm2.affine(style)  # (B, C, 1, 1) each
        flat = [values.flatten(1) for values in norms]
        strength = flat[0].new_full((len(style), 1), weight)
        residuals[row] = torch.cat([*flat, strength], dim=1)  # (B, 4C + 1)
    return StyleModulation(residuals, codes)


# ── modulation -> pictures ───────────────────────────────────────────────────────────────────────


class DynamicGenerator(nn.Module):
    """Modulation to pictures, with the weights that `generator` has now.

    Args:
        residuals: residual blocks by row.
        size_px: of the pictures; None is the generator's own.
        dtype: of the feature maps; pictures are added up in float32.
    """

    start: Tensor

    def __init__(
        self,
        generator: Generator,
        residuals: Mapping[int, ModRes] | None = None,
        *,
        size_px: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        residuals = residuals or {}
        self.layout, self.dtype = generator.layout, dtype
        self.size_px = size_px or self.layout.size_px
        self.steps = list(steps(self.layout, self.size_px, list(residuals)))
        self.layers = nn.ModuleDict(
            {_name(step): _layer(step, generator, residuals, dtype) for step in self.steps}
        )
        self.register_buffer("start", _channels_last(generator.input.input, dtype))

    @property
    def sizes(self) -> list[int]:
        """How the modulation is divided; they add up to N."""
        return [size for layer in self.layers.values() for size in cast(Layer, layer).sizes]

    @torch.no_grad()
    def forward(self, modulation: Tensor) -> Tensor:
        """(B, N) float32 -> (B, 3, S, S) float32."""
        parts = iter(modulation[:, :, None, None].split(self.sizes, dim=1))
        x, rgb = self.start, cast(Tensor | None, None)
        for layer in self.layers.values():
            mine = [next(parts) for _ in cast(Layer, layer).sizes]
            if isinstance(layer, DynamicToRGB):
                rgb = layer(x, rgb, *mine)
            else:
                x = layer(x, *mine)
        assert rgb is not None
        return rgb


def _layer(
    step: Step, generator: Generator, residuals: Mapping[int, ModRes], dtype: torch.dtype
) -> nn.Module:
    if step.kind == "residual":
        return DynamicResidual(residuals[step.row], dtype)
    if step.kind == "rgb":
        return DynamicToRGB(generator.rgb_layers[step.row // 2], dtype)
    styled = generator.styled_convs[step.row]
    noise = generator.stored_noise()[step.row] * styled.noise.weight * LEAKY_GAIN
    return DynamicConv(styled.conv, styled.activate.bias, noise, dtype)


def _channels_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype=dtype, memory_format=torch.channels_last, copy=True)


class DynamicConv(nn.Module):
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


class DynamicResidual(nn.Module):
    """A `ModRes`: twice instance normalization, convolution and activation; added to its input."""

    def __init__(self, block: ModRes, dtype: torch.dtype) -> None:
        super().__init__()
        convs = block.conv.scaled(), block.conv2.scaled()
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
        """(B, C, H, W), values (B, C, 1, 1) and (B, 1, 1, 1) -> (B, C, H, W)."""
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


class DynamicToRGB(nn.Module):
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


Layer = DynamicConv | DynamicResidual | DynamicToRGB
"""`sizes` are those of the values that it takes."""
