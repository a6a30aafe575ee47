"""A translator folded for one style: plain convolutions, crops -> portraits.

Of `ModConv`, y = conv(x * a) + b with scales a and shifts b that depend on the code and its weights
alone. A convolution is linear, so the scales go into the input channels of its kernel and the
shifts into its bias:

    y = conv'(x)    kernel' = kernel * a over input channels, bias' = bias + b

The weight of a residual block goes into its second convolution, and the gate of the whole residual
into the last one. What is left is a third of the launches of `Translator.forward` and none of its
elementwise products. Activations are done in place and maps are channels_last, as convolutions on a
CPU want them.

Shapes: B crops, H and W of a crop (multiples of 32), L rows of a code, D its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.inference import winograd
from dsgcli.models.translator import (
    SHAPE_ROWS,
    SLOPE,
    ContentBlock,
    ModConv,
    ModResBlock,
    Translator,
    enlarge,
    gate,
    warp,
)

WINOGRAD_CHANNELS = 128
"""From so many channels on, Winograd's form of a 3x3 convolution is the faster one on a CPU in
float32 (benchmarks/results/translator.md)."""


class FoldedConv(nn.Module):
    """A convolution with a kernel that no longer changes.

    Args:
        weight: (O, I, k, k).
        bias: (O,).
        padding: zeros around the input; None is half the kernel.
        activate: apply the leaky ReLU to the result.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        *,
        stride: int = 1,
        padding: int | None = None,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.activate = stride, activate
        self.padding = (weight.shape[-1] - 1) // 2 if padding is None else padding
        self.register_buffer("kernel", weight.to(dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", bias.to(dtype))
        self.quick: Tensor | None = None  # (36, I, O)
        wide = min(weight.shape[:2]) >= WINOGRAD_CHANNELS
        plain = weight.device.type == "cpu" and dtype == torch.float32 and stride == 1
        if wide and plain and weight.shape[-1] == 3:
            self.quick = winograd.transform_weight(weight.float())

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W')."""
        bias, kernel = cast(Tensor, self.bias), cast(Tensor, self.kernel)
        tiled = x.shape[2] % winograd.TILE == x.shape[3] % winograd.TILE == 0
        if self.quick is not None and tiled:
            y = winograd.convolve(x, self.quick, bias)
        elif kernel.shape[-1] == 1:  # a matrix product over pixels, of maps that are channels_last
            y = F.linear(x.permute(0, 2, 3, 1), kernel[:, :, 0, 0], bias).permute(0, 3, 1, 2)
        else:
            y = F.conv2d(x, kernel, bias, self.stride, self.padding)
        return F.leaky_relu_(y, SLOPE) if self.activate else y


class FoldedTranslator(nn.Module):
    """A translator for one code at given weights.

    Args:
        code: (L, D).
        weights: (L,), how far each row goes from the photograph to the exemplar.
        dtype: of the feature maps; the photograph and the sum are float32.
    """

    def __init__(
        self,
        translator: Translator,
        code: Tensor,
        weights: Tensor | Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        amounts = torch.as_tensor(weights, dtype=torch.float32, device=code.device)
        styles = translator.hidden_styles(code[None].float())  # (1, L, hidden)
        strength = gate(amounts[None])  # (1,)
        self.is_identity = not bool(strength)
        """All weights are 0: portraits are the crops."""

        def plain(layer: nn.Conv2d, *, activate: bool = False) -> FoldedConv:
            assert layer.bias is not None
            return FoldedConv(
                layer.weight, layer.bias, dtype, stride=layer.stride[0], activate=activate
            )

        def over_crop(layer: nn.Conv2d, stride: int) -> FoldedConv:
            assert layer.bias is not None
            step = stride // layer.stride[0]
            kernel = over_pixels(layer.weight, step)
            return FoldedConv(kernel, layer.bias, dtype, stride=stride, padding=step, activate=True)

        first = over_crop(translator.stem, 2)

        def styled(
            layer: nn.Module, row: int, *, times: Tensor | float = 1.0, activate: bool = False
        ) -> FoldedConv:
            assert isinstance(layer, ModConv)
            scale, shift = layer.modulation(styles[:, row], amounts[None, row])
            assert layer.conv.bias is not None
            kernel = layer.conv.weight * scale[0, :, None, None]  # scale of each input channel
            return FoldedConv(
                times * kernel, times * (layer.conv.bias + shift[0]), dtype, activate=activate
            )

        def residual(block: nn.Module, first: int, second: int) -> nn.ModuleList:
            assert isinstance(block, ModResBlock)
            last = styled(block.conv2, second, times=amounts[second])
            return nn.ModuleList([styled(block.conv1, first, activate=True), last])

        shape = translator.shape
        self.shape_content = nn.ModuleList(
            [over_crop(shape.stem, 8), plain(shape.down, activate=True)]
        )
        self.shape_blocks = nn.ModuleList(
            [residual(shape.blocks[k], 2 * k, 2 * k + 1) for k in range(2)]
        )
        reach = amounts[:SHAPE_ROWS].mean()  # the field grows with the mean weight
        assert shape.field.bias is not None
        moved = FoldedConv(reach * shape.field.weight, reach * shape.field.bias, dtype)
        self.shape_head = nn.ModuleList([plain(shape.up), plain(shape.merge, activate=True), moved])
        """At an eighth and a sixteenth of the crop's side, blocks there, the field at an eighth."""
        waist, color = translator.waist, translator.color
        assert isinstance(waist, ContentBlock)
        self.content = nn.ModuleList(
            [
                nn.ModuleList([first]),
                nn.ModuleList(
                    [plain(layer, activate=True) for layer in (translator.down2, translator.conv2)]
                ),
                nn.ModuleList(
                    [plain(layer, activate=True) for layer in (translator.down3, translator.conv3)]
                ),
                nn.ModuleList([plain(translator.down4, activate=True)]),
            ]
        )
        """By resolution: a half, a quarter, an eighth, a sixteenth of the crop's side."""
        self.blocks = nn.ModuleList(
            [
                nn.ModuleList([plain(waist.conv1, activate=True), plain(waist.conv2)]),
                *(residual(translator.structure[k], 2 * k, 2 * k + 1) for k in range(3)),
            ]
        )
        """Residual blocks at a sixteenth."""
        self.last_block = residual(translator.structure[3], 6, 6)
        """At an eighth, between the first color convolution and the second."""
        self.narrow = nn.ModuleList([styled(color[2 * k], 7 + 2 * k) for k in range(3)])
        """1x1, before each doubling of the size."""
        self.wide = nn.ModuleList(
            [styled(color[2 * k + 1], 8 + 2 * k, activate=True) for k in range(3)]
        )
        """3x3, after it."""
        both = styled(color[6], 13, times=strength)  # of features and of the crop's own pixels
        kernel, bias = cast(Tensor, both.kernel).float(), cast(Tensor, both.bias)
        width = translator.config.widths[0]
        self.to_rgb = FoldedConv(kernel[:, :width], bias, dtype)
        own = over_pixels(kernel[:, width:])
        self.own_colors = FoldedConv(own, torch.zeros_like(bias), dtype, stride=2)
        """Together the last layer: 12 maps at half the size, which are the residual's pixels."""

    def field(self, crops: Tensor) -> Tensor:
        """Crops (B, 3, H, W) -> (B, 2, H/8, W/8) float32, see `Shape`."""
        x = self.shape_content[0](crops.to(self.dtype, memory_format=torch.channels_last))
        y = self.shape_content[1](x)
        for block in self.shape_blocks:
            y = _with_residual(cast(nn.ModuleList, block), y)
        up, merge, field = self.shape_head
        x = F.leaky_relu_(enlarge(up(y)).add_(x), SLOPE)
        result: Tensor = field(merge(x)).float()
        return result

    def forward(self, crops: Tensor) -> Tensor:
        """Portraits (B, 3, H, W) float32 of crops (B, 3, H, W) in [-1, 1]."""
        if self.is_identity:
            return crops
        crops = warp(crops, self.field(crops))
        x = pixels = crops.to(self.dtype, memory_format=torch.channels_last)
        skips = []
        for stage in self.content:
            for layer in cast(nn.ModuleList, stage):
                x = layer(x)
            skips.append(x)
        x1, x2, x3, x = skips
        for block in self.blocks:
            x = _with_residual(cast(nn.ModuleList, block), x)  # (B, w4, H/16, W/16)
        x = enlarge(self.narrow[0](x)).add_(x3)
        x = _with_residual(self.last_block, x)
        x = self.wide[0](F.leaky_relu_(x, SLOPE))  # (B, w3, H/8, W/8)
        for level, skip in ((1, x2), (2, x1)):
            x = enlarge(self.narrow[level](x)).add_(skip)
            x = self.wide[level](F.leaky_relu_(x, SLOPE))
        residual = self.to_rgb(x).float() + self.own_colors(pixels).float()
        return crops + F.pixel_shuffle(residual, 2)


def over_pixels(kernel: Tensor, step: int = 2) -> Tensor:
    """The kernel (O, C, nk, nk) that does to a picture what a kernel (O, n * n * C, k, k) does to
    the picture with its n x n pixels unshuffled into channels.

    Args:
        step: n.
    """
    outputs, channels, side, _ = kernel.shape
    inside = channels // step**2
    parts = kernel.view(outputs, inside, step, step, side, side)  # row and column within n x n
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(outputs, inside, step * side, step * side)


def _with_residual(block: nn.ModuleList, x: Tensor) -> Tensor:
    """x + f(x), f of two convolutions."""
    y: Tensor = block[1](block[0](x))
    return y.add_(x)


@torch.no_grad()
def fold_translator(
    translator: Translator,
    code: Tensor,
    weights: Tensor | Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> FoldedTranslator:
    """See `FoldedTranslator`; ready to run, without gradients."""
    return FoldedTranslator(translator, code, weights, dtype).eval().requires_grad_(False)
