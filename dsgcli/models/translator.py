"""The translator: a photograph's crop and an exemplar's code to a portrait, in one pass.

    crop ──▶ shape (structure rows) ──▶ warped crop
    warped crop ──▶ content encoder ──▶ ModRes blocks (structure rows) ──▶ decoder (color rows)
                ──▶ warped crop + residual
    exemplar ──▶ style encoder ──▶ code (L, D) ──▶ T_s, T_c

The two style paths are DualStyleGAN's (Yang et al., arXiv:2203.13248, section 3.1): structure rows
drive modulative residual blocks at the inner resolutions, color rows modulate the outer layers, and
each row has a weight. The content comes from the crop itself, through skips at every scale, so that
glasses, hats and hands stay, as in VToonify (Yang et al., arXiv:2209.11224, section 4). What moves
(larger eyes, a smaller chin) is warped first, by a coarse field that the structure rows drive: it
stays as sharp as it was, at every size. With all weights 0 the portrait is the photograph.

Every style-dependent number is a scale of a convolution's input or a shift of its output, so that
one style folds into plain convolutions (`inference/`).

Shapes: B batch, C channels, H and W of the crop (multiples of 32), L rows of a code, D its width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.types import LatentLayout

SLOPE = 0.2
"""Slope of the leaky ReLU after each convolution."""
STRIDE_PX = 32
"""Sides of crops are multiples of this: the innermost feature map is a sixteenth of the crop, and
an even number of pixels."""
STYLE_PX = 128
"""Side of the exemplar that the style encoder sees."""
PALETTE = 8
"""The style encoder is given the exemplar's mean colors on a grid of this side, too."""
GATE_SHARPNESS = 8
"""The residual reaches its full size at a mean weight of about a quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatorConfig:
    """Sizes of a translator."""

    widths: tuple[int, int, int, int] = (32, 48, 96, 160)
    """Channels at a half, a quarter, an eighth and a sixteenth of the crop's side."""
    code_dim: int = 32
    """Width D of a row of the code."""
    style_hidden: int = 128
    """Hidden units of T_s and T_c."""
    style_widths: tuple[int, ...] = (24, 48, 96, 160, 192)
    """Channels of the style encoder, each at half the resolution of the one before."""

    @property
    def layout(self) -> LatentLayout:
        """Rows of a code: seven of structure, seven of color, as of a 256 px generator. Crops of
        every size share them."""
        return LatentLayout(256, 6)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TranslatorConfig:
        """The inverse of `as_json`; KeyError, TypeError or ValueError for what is not one."""
        return cls(
            widths=tuple(int(v) for v in values["widths"]),  # type: ignore[arg-type]
            code_dim=int(values["code_dim"]),
            style_hidden=int(values["style_hidden"]),
            style_widths=tuple(int(v) for v in values["style_widths"]),
        )


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


class ModConv(nn.Module):
    """A convolution whose inputs a style scales and whose outputs it shifts.

    y = conv(x * (1 + w a(s))) + w b(s), s the hidden style of the row and w its weight: at weight 0
    it is a plain convolution.
    """

    def __init__(self, inside: int, outside: int, kernel: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2)
        self.style = nn.Linear(hidden, inside + outside)
        nn.init.kaiming_normal_(self.conv.weight, SLOPE)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.style.weight, std=0.5 / hidden**0.5)
        nn.init.zeros_(self.style.bias)

    def modulation(self, style: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Style (B, hidden) and weight (B,) -> scales (B, in) and shifts (B, out)."""
        scale, shift = (weight[:, None] * self.style(style)).split(
            [self.conv.in_channels, self.conv.out_channels], dim=1
        )
        return 1.0 + scale, shift

    def forward(self, x: Tensor, style: Tensor, weight: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        scale, shift = self.modulation(style, weight)
        y: Tensor = self.conv(x * scale[:, :, None, None]) + shift[:, :, None, None]
        return y


class ModResBlock(nn.Module):
    """x + w f(x, s): DualStyleGAN's modulative residual block, over two rows of the code."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = ModConv(channels, channels, 3, hidden)
        self.conv2 = ModConv(channels, channels, 3, hidden)
        with torch.no_grad():
            self.conv2.conv.weight.mul_(0.1)  # the block begins near the identity

    def forward(
        self, x: Tensor, styles: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(B, C, H, W), hidden styles (B, hidden) and weights (B,) of both rows."""
        y = F.leaky_relu(self.conv1(x, styles[0], weights[0]), SLOPE)
        result: Tensor = x + weights[1][:, None, None, None] * self.conv2(y, styles[1], weights[1])
        return result


class ContentBlock(nn.Module):
    """x + f(x), without a style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        result: Tensor = x + self.conv2(F.leaky_relu(self.conv1(x), SLOPE))
        return result


def conv(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution, with weights for a leaky ReLU behind it."""
    layer = nn.Conv2d(inside, outside, 3, stride, 1)
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def enlarge(x: Tensor) -> Tensor:
    """Twice the size, bilinear: no checkerboards."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


# ── the network ──────────────────────────────────────────────────────────────────────────────────


class StyleMapping(nn.Module):
    """T_s or T_c: each row of a code by itself to the hidden style of its layer."""

    def __init__(self, code_dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_dim, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """(B, R, D) -> (B, R, hidden)."""
        result: Tensor = self.layers(rows)
        return result


class Shape(nn.Module):
    """Where each pixel of the portrait is taken from: a coarse field that the structure rows drive.

    Two blocks see an area of a third of the crop about each place, which is enough to tell an eye
    from a mouth.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        narrow, wide = SHAPE_WIDTHS
        self.stem, self.down = conv(48, narrow, 2), conv(narrow, wide, 2)
        self.blocks = nn.ModuleList([ModResBlock(wide, hidden) for _ in range(2)])
        self.up, self.merge = nn.Conv2d(wide, narrow, 1), conv(narrow, narrow)
        self.field = conv(narrow, 2)
        nn.init.normal_(self.field.weight, std=1e-3)  # begins without a warp

    def forward(self, crops: Tensor, styles: Tensor, weights: Tensor) -> Tensor:
        """Crops (B, 3, H, W) -> (B, 2, H/8, W/8): x and y of the displacement, in pixels of that
        coarse field, at weights of 1 or less.

        Args:
            styles: (B, 4, hidden) of the rows of the two blocks.
            weights: (B, 4); their mean scales the field.
        """
        x = F.leaky_relu(self.stem(F.pixel_unshuffle(crops, 4)), SLOPE)  # (B, 48, H/8, W/8)
        y = F.leaky_relu(self.down(x), SLOPE)  # (B, 64, H/16, W/16)
        for k, block in enumerate(self.blocks):
            rows = slice(2 * k, 2 * k + 2)
            y = block(y, tuple(styles[:, rows].unbind(1)), tuple(weights[:, rows].unbind(1)))
        x = F.leaky_relu(enlarge(self.up(y)) + x, SLOPE)
        field: Tensor = self.field(F.leaky_relu(self.merge(x), SLOPE))
        return weights.mean(dim=1)[:, None, None, None] * field


SHAPE_WIDTHS, SHAPE_ROWS, SHAPE_STRIDE = (48, 64), 4, 8
"""Channels at an eighth and a sixteenth of the crop's side; rows of the code that drive the shape;
pixels of the crop from one value of its field to the next."""


def warp(crops: Tensor, field: Tensor) -> Tensor:
    """Crops (B, C, H, W), each pixel taken from where a coarse field (B, 2, H/8, W/8) says."""
    height, width = crops.shape[2:]
    fine = F.interpolate(field, (height, width), mode="bilinear", align_corners=False)
    # a displacement of one coarse pixel is 8 pixels, 16 / W of grid_sample's -1 to 1
    x = base_grid(width, crops).view(1, 1, width) + fine[:, 0] * (2 * SHAPE_STRIDE / width)
    y = base_grid(height, crops).view(1, height, 1) + fine[:, 1] * (2 * SHAPE_STRIDE / height)
    grid = torch.stack([x, y], dim=3)  # (B, H, W, 2)
    return F.grid_sample(crops, grid, padding_mode="border", align_corners=False)


def base_grid(count: int, like: Tensor) -> Tensor:
    """(count,): centers of pixels in -1 to 1."""
    return (torch.arange(count, device=like.device, dtype=like.dtype) * 2 + 1) / count - 1


class StyleEncoder(nn.Module):
    """An exemplar's picture to the rows of its code, all in one pass."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        rows = config.layout.num_latents
        widths = (3, *config.style_widths)
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            layers += [conv(inside, outside, 2), nn.LeakyReLU(SLOPE)]
            layers += [conv(outside, outside), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)
        side = STYLE_PX >> len(config.style_widths)
        self.head = nn.Sequential(
            nn.Linear(widths[-1] * side * side + 3 * PALETTE * PALETTE, 256),
            nn.LeakyReLU(SLOPE),
            nn.Linear(256, rows * config.code_dim),
        )
        self.rows, self.code_dim = rows, config.code_dim

    def forward(self, exemplars: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] of any size -> (B, L, D)."""
        if exemplars.shape[-1] != STYLE_PX:
            exemplars = F.interpolate(
                exemplars, (STYLE_PX, STYLE_PX), mode="bilinear", antialias=True
            )
        palette = F.adaptive_avg_pool2d(exemplars, PALETTE)  # (B, 3, 8, 8)
        features = torch.cat([self.body(exemplars).flatten(1), palette.flatten(1)], dim=1)
        code: Tensor = self.head(features)
        return code.view(-1, self.rows, self.code_dim)


class Translator(nn.Module):
    """Crops and codes to portraits; the style encoder is a part of it (`encode_style`)."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        w1, w2, w3, w4 = config.widths
        hidden = config.style_hidden
        self.shape = Shape(hidden)
        # content: crop -> 1/2 -> 1/4 -> 1/8 -> 1/16
        self.stem = conv(12, w1)
        self.down2, self.conv2 = conv(w1, w2, 2), conv(w2, w2)
        self.down3, self.conv3 = conv(w2, w3, 2), conv(w3, w3)
        self.down4, self.waist = conv(w3, w4, 2), ContentBlock(w4)
        # structure: rows 0 to 6; the last block's two convolutions share row 6
        self.structure = nn.ModuleList(
            [ModResBlock(w4, hidden) for _ in range(3)] + [ModResBlock(w3, hidden)]
        )
        # color: rows 7 to 13
        last = ModConv(w1 + 12, 12, 3, hidden)  # sees the crop's own colors
        nn.init.normal_(last.conv.weight, std=1e-3)  # begins with the photograph
        self.color = nn.ModuleList(
            [
                *(ModConv(w4, w3, 1, hidden), ModConv(w3, w3, 3, hidden)),
                *(ModConv(w3, w2, 1, hidden), ModConv(w2, w2, 3, hidden)),
                *(ModConv(w2, w1, 1, hidden), ModConv(w1, w1, 3, hidden)),
                last,
            ]
        )
        self.t_structure = StyleMapping(config.code_dim, hidden)
        self.t_color = StyleMapping(config.code_dim, hidden)
        self.style_encoder = StyleEncoder(config)

    @property
    def layout(self) -> LatentLayout:
        return self.config.layout

    def encode_style(self, exemplars: Tensor) -> Tensor:
        """Exemplars (B, 3, H, W) in [-1, 1] -> codes (B, L, D)."""
        code: Tensor = self.style_encoder(exemplars)
        return code

    def hidden_styles(self, code: Tensor) -> Tensor:
        """Code (B, L, D) -> hidden styles (B, L, hidden): T_s of the structure rows, T_c of the
        color rows."""
        structure = self.t_structure(code[:, self.layout.structure])
        return torch.cat([structure, self.t_color(code[:, self.layout.color])], dim=1)

    def forward(self, crops: Tensor, code: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
        """Portraits (B, 3, H, W) of crops (B, 3, H, W) in [-1, 1], H and W multiples of 32.

        Args:
            code: (B, L, D).
            weights: (B, L) or (L,), how far each row goes from the photograph to the exemplar.

        Returns:
            In about [-1, 1], not clamped.
        """
        weights = torch.as_tensor(weights, dtype=code.dtype, device=code.device).expand(
            crops.shape[0], -1
        )
        styles = self.hidden_styles(code)

        def row(index: int) -> tuple[Tensor, Tensor]:
            return styles[:, index], weights[:, index]

        # shape
        crops = warp(crops, self.shape(crops, styles[:, :SHAPE_ROWS], weights[:, :SHAPE_ROWS]))
        # content
        pixels = F.pixel_unshuffle(crops, 2)  # (B, 12, H/2, W/2)
        x1 = F.leaky_relu(self.stem(pixels), SLOPE)  # (B, w1, H/2, W/2)
        x2 = F.leaky_relu(self.down2(x1), SLOPE)
        x2 = F.leaky_relu(self.conv2(x2), SLOPE)  # (B, w2, H/4, W/4)
        x3 = F.leaky_relu(self.down3(x2), SLOPE)
        x3 = F.leaky_relu(self.conv3(x3), SLOPE)  # (B, w3, H/8, W/8)
        x = F.leaky_relu(self.down4(x3), SLOPE)
        x = self.waist(x)  # (B, w4, H/16, W/16)
        # structure
        for block in range(3):
            (s1, a1), (s2, a2) = row(2 * block), row(2 * block + 1)
            x = self.structure[block](x, (s1, s2), (a1, a2))
        # color
        color = [lambda y, k=k: self.color[k](y, *row(7 + k)) for k in range(7)]
        x = enlarge(color[0](x)) + x3
        (s, a) = row(6)
        x = self.structure[3](x, (s, s), (a, a))
        x = F.leaky_relu(color[1](F.leaky_relu(x, SLOPE)), SLOPE)
        x = F.leaky_relu(enlarge(color[2](x)) + x2, SLOPE)
        x = F.leaky_relu(color[3](x), SLOPE)
        x = F.leaky_relu(enlarge(color[4](x)) + x1, SLOPE)
        x = F.leaky_relu(color[5](x), SLOPE)
        x = torch.cat([x, pixels], dim=1)
        residual = F.pixel_shuffle(color[6](x), 2)  # (B, 3, H, W)
        return crops + gate(weights)[:, None, None, None] * residual


def gate(weights: Tensor) -> Tensor:
    """(B, L) -> (B,): 0 where all weights are 0, and close to 1 from a mean of a quarter on.
    Weights outside 0 to 1 count as the nearest of them."""
    mean = weights.clamp(0.0, 1.0).mean(dim=1)
    return 1.0 - (1.0 - mean) ** GATE_SHARPNESS
