"""DualStyleGAN: a photographic generator with a second, extrinsic style path
(Yang et al., arXiv:2203.13248, section 3).

The intrinsic path is the StyleGAN2 of `stylegan2.py`, untouched. The extrinsic path changes its
structure layers (up to 32x32) by residual blocks, and swaps the codes of its color layers:

    structure row l   x <- x + weight_l * ModRes_l(x, T_s(exstyle_l))
    color row l       ws_l <- weight_l * T_c,l(exstyle_l) + (1 - weight_l) * ws_l

Spaces: `ws` is the face's code in W+ (the generator's `map`, `map_plus` lead there); `exstyle_ws`
is the exemplar's code, already in W or W+: `generator.map_plus(exstyle)` for the stored z+ codes.

Shapes: B batch, L rows of a code, D style width, C channels, S size in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from dsgcli.models.bounds import check_layers
from dsgcli.models.layers import MappingNetwork
from dsgcli.models.ops import EqualConv2d, EqualLinear, FusedLeakyReLU
from dsgcli.models.stylegan2 import Generator, GeneratorConfig
from dsgcli.types import LatentLayout

INSTANCE_EPSILON = 1e-5
NEAR_ZERO = 0.01
"""Spread of fresh residual weights, and of T_c about the identity: an untrained extrinsic path
leaves the photographic generator nearly as it was."""

Weights = Sequence[float] | Tensor
"""One weight a row, (L,), for the whole batch; or a tensor (B, L), one row of weights a sample."""


@dataclass(frozen=True, kw_only=True)
class DualConfig:
    """All that is needed to rebuild a DualStyleGAN."""

    generator: GeneratorConfig
    last_structure: int = 6
    """Last row with a residual block; even. 6 is the 32x32 block, as published."""
    style_layers: int = 2
    """Linear layers of T_s."""

    def __post_init__(self) -> None:
        check_layers("the layers of T_s", self.style_layers)
        _ = self.layout  # raises for a last structure row that the size does not have

    @property
    def layout(self) -> LatentLayout:
        """Which row of a code drives which layer."""
        return LatentLayout(self.generator.size_px, self.last_structure)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file's header."""
        return {
            "generator": self.generator.as_json(),
            "last_structure": self.last_structure,
            "style_layers": self.style_layers,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DualConfig:
        """The inverse of `as_json`."""
        return cls(
            generator=GeneratorConfig.from_json(values["generator"]),
            last_structure=int(values["last_structure"]),
            style_layers=int(values["style_layers"]),
        )


def instance_norm(x: Tensor) -> Tensor:
    """Each channel of each sample (B, C, H, W) to mean 0 and variance 1, in float32 at least.

    Not torch's own: on CPUs its gradient is wrong for one sample in channels_last (2.13).
    """
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(exact, dim=(2, 3), correction=0, keepdim=True)
    return (exact - mean) * torch.rsqrt(variance + INSTANCE_EPSILON)


class AdaIN(nn.Module):
    """Adaptive instance normalization (Huang and Belongie, arXiv:1703.06868, equation 8)."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_dim, 2 * channels)
        with torch.no_grad():
            self.style.bias[:channels] = 1.0
            self.style.bias[channels:] = 0.0

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, C, H, W), (B or 1, D) -> (B, C, H, W)."""
        gamma, beta = self.affine(style)
        y: Tensor = gamma * instance_norm(x) + beta
        return y.to(x.dtype)

    def affine(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> gamma and beta, (B, C, 1, 1) each."""
        gamma, beta = self.style(style)[:, :, None, None].chunk(2, dim=1)
        return gamma, beta


class ModRes(nn.Module):
    """Modulative residual block: changes structure. Fresh, it is nearly the identity."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv, self.conv2 = NearZeroConv(channels), NearZeroConv(channels)
        self.norm, self.norm2 = AdaIN(channels, style_dim), AdaIN(channels, style_dim)

    def forward(self, x: Tensor, style: Tensor, weight: float | Tensor = 1.0) -> Tensor:
        """(B, C, H, W), (B or 1, D), number or (B, 1, 1, 1) -> (B, C, H, W)."""
        if isinstance(weight, float) and weight == 0.0:
            return x  # plain StyleGAN2: skip the work
        y = self.conv(self.norm(x, style))
        y = self.conv2(self.norm2(y, style))
        z: Tensor = x + weight * y
        return z


class NearZeroConv(nn.Sequential):
    """Convolution, bias and activation that give next to nothing when fresh."""

    def __init__(self, channels: int) -> None:
        conv = EqualConv2d(channels, channels, 3, padding=1, bias=False)
        with torch.no_grad():
            conv.weight.mul_(NEAR_ZERO)
        super().__init__(conv, FusedLeakyReLU(channels))

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Weights as they are used, and bias."""
        conv, activate = cast(EqualConv2d, self[0]), cast(FusedLeakyReLU, self[1])
        return conv.weight * conv.scale, activate.bias


def _color_transform(style_dim: int) -> EqualLinear:
    """T_c of one row, initialized about the identity."""
    layer = EqualLinear(style_dim, style_dim)
    with torch.no_grad():
        layer.weight.mul_(NEAR_ZERO).add_(torch.eye(style_dim) * math.sqrt(style_dim))
    return layer


class DualStyleGAN(nn.Module):
    """A face's code and an exemplar's code to a portrait.

    Args:
        config: of the photographic generator inside.
        last_structure, style_layers: as in `DualConfig`.
    """

    def __init__(
        self, config: GeneratorConfig, last_structure: int = 6, style_layers: int = 2
    ) -> None:
        super().__init__()
        self.config = DualConfig(
            generator=config, last_structure=last_structure, style_layers=style_layers
        )
        self.layout = layout = self.config.layout
        width = config.style_dim
        self.style = MappingNetwork(width, style_layers)  # T_s
        sides = layout.noise_sizes_px[layout.structure]
        self.res = nn.ModuleList([ModRes(config.channels[side], width) for side in sides])
        self.res.extend(_color_transform(width) for _ in range(layout.num_color))
        self.generator = Generator(config)

    @classmethod
    def of(cls, config: DualConfig) -> DualStyleGAN:
        """A fresh network of this configuration."""
        return cls(config.generator, config.last_structure, config.style_layers)

    def forward(
        self,
        ws: Tensor,
        exstyle_ws: Tensor,
        weights: Weights | None = None,
        noise: Sequence[Tensor] | None = None,
        fuse_index: int | None = None,
    ) -> Tensor:
        """Portrait (B, 3, S, S) of a face in the style of an exemplar.

        Args:
            ws: (B, L, D), intrinsic code in W+.
            exstyle_ws: (B or 1, D) or (B or 1, L, D), extrinsic code in W or W+.
            weights: how far each row follows the exemplar, 0 to 1; None is 1 everywhere.
            noise: (B or 1, 1, s, s) for each convolution; None takes the stored maps.
            fuse_index: rows above it stay intrinsic, and 0 turns row 0 off as well; None is all.
        """
        return self._synthesize(ws, exstyle_ws, weights, noise, fuse_index, None)[1]

    def features(
        self,
        ws: Tensor,
        exstyle_ws: Tensor,
        weights: Weights | None = None,
        noise: Sequence[Tensor] | None = None,
        fuse_index: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Feature map (B, C, s, s) and picture (B, 3, s, s) where structure ends: after the block
        of the last structure row (32x32, as published). Arguments as `forward`."""
        side = self.layout.noise_sizes_px[self.config.last_structure]
        return self._synthesize(ws, exstyle_ws, weights, noise, fuse_index, side)

    def plain(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The photographic generator alone: the same as all weights 0."""
        picture: Tensor = self.generator(ws, noise)
        return picture

    def structure_codes(self, exstyle_ws: Tensor) -> Tensor:
        """T_s of the structure rows: (B, D) or (B, L, D) -> (B, L_structure, D)."""
        if exstyle_ws.ndim == 2:
            code: Tensor = self.style(exstyle_ws)
            return code[:, None].expand(-1, self.layout.num_structure, -1)
        return self.style.rows(exstyle_ws[:, self.layout.structure])

    def color_code(self, row: int, exstyle_ws: Tensor) -> Tensor:
        """T_c of one color row: (B, D) or (B, L, D) -> (B, D)."""
        code: Tensor = self.res[row](exstyle_ws if exstyle_ws.ndim == 2 else exstyle_ws[:, row])
        return code

    def blend(self, ws: Tensor, exstyle_ws: Tensor, weights: Sequence[RowWeight]) -> Tensor:
        """(B, L, D) with the color rows moved towards the exemplar's; `weights` one a row."""
        rows = list(ws.unbind(dim=1))
        for row in range(*self.layout.color.indices(len(rows))):
            weight = weights[row]
            if not _is_zero(weight):
                code = self.color_code(row, exstyle_ws)
                rows[row] = (
                    code.expand_as(rows[row])
                    if _is_one(weight)
                    else (weight * code + (1.0 - weight) * rows[row])
                )
        return torch.stack(rows, dim=1)

    def _synthesize(
        self,
        ws: Tensor,
        exstyle_ws: Tensor,
        weights: Weights | None,
        noise: Sequence[Tensor] | None,
        fuse_index: int | None,
        size_px: int | None,
    ) -> tuple[Tensor, Tensor]:
        row_weights = weights_by_row(weights, self.layout, fuse_index)
        structure = row_weights[self.layout.structure]
        codes = None if all(map(_is_zero, structure)) else self.structure_codes(exstyle_ws)

        def residual(row: int, x: Tensor) -> Tensor:
            if codes is None or row >= len(structure):
                return x
            weight = structure[row]
            if isinstance(weight, Tensor):
                weight = weight[:, :, None, None]
            y: Tensor = self.res[row](x, codes[:, row], weight)
            return y

        blended = self.blend(ws, exstyle_ws, row_weights)
        return self.generator.synthesize(blended, noise, residual=residual, size_px=size_px)


RowWeight = float | Tensor
"""The weight of one row: a number, or (B, 1), one a sample."""


def weights_by_row(
    weights: Weights | None, layout: LatentLayout, fuse_index: int | None = None
) -> list[RowWeight]:
    """One weight a row; numbers where the batch shares them, so that 0 and 1 can save work.

    Args:
        fuse_index: rows above it get weight 0, and with 0 row 0 does too; None leaves all.
    """
    last = layout.num_latents if fuse_index is None else fuse_index
    if isinstance(weights, Tensor) and weights.ndim == 2:
        assert weights.shape[1] == layout.num_latents, weights.shape
        rows: list[RowWeight] = list(weights[:, :, None].unbind(dim=1))
    else:
        values = (1.0,) * layout.num_latents if weights is None else tuple(map(float, weights))
        assert len(values) == layout.num_latents, len(values)
        rows = list(values)
    return [weight if row <= last and last > 0 else 0.0 for row, weight in enumerate(rows)]


def _is_zero(weight: RowWeight) -> bool:
    return isinstance(weight, float) and weight == 0.0


def _is_one(weight: RowWeight) -> bool:
    return isinstance(weight, float) and weight == 1.0
