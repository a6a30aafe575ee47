"""StyleGAN2 generator and discriminator (Karras et al., arXiv:1912.04958).

The generator is the photographic half of DualStyleGAN (`dualstylegan.py`); the discriminator
judges both while they train. Names of parameters and buffers are the published ones.

Shapes: B batch, L rows of a code (`LatentLayout.num_latents`), D style width, S size in pixels.
Spaces, one method each:

    z   (N, D)     --map-->       w   (N, D)     --broadcast-->  ws (B, L, D)
    z+  (B, L, D)  --map_plus-->  w+  (B, L, D)                  ws (B, L, D)
    z   (N, D)     --spread-->    z+  (N, L, D); spread and map in one: random_ws
    ws, ws         --mix-->       ws             --truncate-->   ws  --forward-->  picture

Pictures are (B, 3, S, S), RGB, about [-1, 1] and not clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from dsgcli.errors import ModelMismatchError
from dsgcli.models.bounds import check_layers, check_widths
from dsgcli.models.layers import CodePrior, ConstantInput, MappingNetwork, StyledConv, ToRGB
from dsgcli.models.ops import (
    EPSILON,
    Blur,
    EqualConv2d,
    EqualLinear,
    FusedLeakyReLU,
    lowered,
)
from dsgcli.types import LatentLayout

OFFICIAL_CHANNELS = {
    4: 512,
    8: 512,
    16: 512,
    32: 512,
    64: 256,
    128: 128,
    256: 64,
    512: 32,
    1024: 16,
}
"""Channels by resolution for multiplier 1; the multiplier acts from 64 px up."""
STDDEV_GROUP = 4
"""Most samples whose spread the discriminator sees as one number."""

# ── configuration ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """All that is needed to rebuild a generator and its discriminator."""

    size_px: int
    """Side of the picture: a power of two from 32 to 1024."""
    style_dim: int = 512
    """Width D of z and w."""
    mapping_layers: int = 8
    """Linear layers from z to w."""
    channels: Mapping[int, int] = field(hash=False)
    """Feature maps by resolution, one entry for each of 4, 8, ..., size_px."""
    prior_axes: int = 0
    """Axes of the prior that turns a random z into z+; 0 has none, and repeats one w, as
    StyleGAN2 does."""

    def __post_init__(self) -> None:
        wanted = self.layout.resolutions_px
        channels = {int(px): int(self.channels[px]) for px in wanted if px in self.channels}
        if set(channels) != set(wanted):
            raise ModelMismatchError(
                f"a {self.size_px} px generator needs channels for each of {wanted} px, "
                f"got {dict(self.channels)}"
            )
        check_widths("the channels of a generator", *channels.values())
        check_widths("the width of a style code", self.style_dim)
        check_layers("the layers of a mapping network", self.mapping_layers)
        if not 0 <= self.prior_axes <= self.style_dim:
            raise ModelMismatchError(
                f"a prior has 0 to {self.style_dim} axes, got {self.prior_axes}"
            )
        object.__setattr__(self, "channels", channels)

    @property
    def layout(self) -> LatentLayout:
        """Which row of a code drives which layer."""
        return LatentLayout(self.size_px)

    @classmethod
    def official(cls, size_px: int, multiplier: int = 2, **other: int) -> GeneratorConfig:
        """The published channel table; every published 1024 px model has multiplier 2."""
        channels = {
            px: base * (multiplier if px >= 64 else 1)
            for px, base in OFFICIAL_CHANNELS.items()
            if px <= size_px
        }
        return cls(size_px=size_px, channels=channels, **other)

    @classmethod
    def compact(cls, size_px: int, *, base: int, most: int, **other: int) -> GeneratorConfig:
        """A smaller table: min(base / resolution, most) channels at each resolution."""
        channels = {px: min(base // px, most) for px in OFFICIAL_CHANNELS if px <= size_px}
        return cls(size_px=size_px, channels=channels, **other)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file's header."""
        return {
            "size_px": self.size_px,
            "style_dim": self.style_dim,
            "mapping_layers": self.mapping_layers,
            "channels": {str(px): count for px, count in self.channels.items()},
            **({"prior_axes": self.prior_axes} if self.prior_axes else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GeneratorConfig:
        """The inverse of `as_json`."""
        return cls(
            size_px=int(values["size_px"]),
            style_dim=int(values["style_dim"]),
            mapping_layers=int(values["mapping_layers"]),
            channels={int(px): int(count) for px, count in values["channels"].items()},
            prior_axes=int(values.get("prior_axes", 0)),
        )


# ── generator ────────────────────────────────────────────────────────────────────────────────────

Residual = Callable[[int, Tensor], Tensor]
"""(row, x) -> x: what the extrinsic path does to a feature map after the convolution of `row`."""


class Generator(nn.Module):
    """Codes to pictures."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = config.layout
        channels, width = config.channels, config.style_dim
        self.style = MappingNetwork(width, config.mapping_layers)
        self.input = ConstantInput(channels[4])
        self.conv1 = StyledConv(channels[4], channels[4], width, up=False)
        self.to_rgb1 = ToRGB(channels[4], width, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for low, high in pairwise(self.layout.resolutions_px):
            self.convs.append(StyledConv(channels[low], channels[high], width, up=True))
            self.convs.append(StyledConv(channels[high], channels[high], width, up=False))
            self.to_rgbs.append(ToRGB(channels[high], width, up=True))
        for i, side in enumerate(self.layout.noise_sizes_px):
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))
        if config.prior_axes:
            self.prior = CodePrior(self.layout.num_latents, width, config.prior_axes)

    @property
    def styled_convs(self) -> list[StyledConv]:
        """The convolutions, in the order of their rows."""
        return [self.conv1, *cast(Iterable[StyledConv], self.convs)]

    @property
    def rgb_layers(self) -> list[ToRGB]:
        """The ToRGB of each resolution."""
        return [self.to_rgb1, *cast(Iterable[ToRGB], self.to_rgbs)]

    # spaces

    def map(self, z: Tensor) -> Tensor:
        """z (N, D) -> w (N, D)."""
        w: Tensor = self.style(z)
        return w

    def map_plus(self, z_plus: Tensor) -> Tensor:
        """z+ (B, L, D) -> w+ (B, L, D), row by row; any number of rows."""
        return self.style.rows(z_plus)

    def spread(self, z: Tensor) -> Tensor:
        """z (N, D) -> z+ (N, L, D): through the prior, or the same row for every layer."""
        if self.config.prior_axes:
            z_plus: Tensor = self.prior(z)
            return z_plus
        return z[:, None].expand(-1, self.layout.num_latents, -1)

    def random_ws(self, z: Tensor) -> Tensor:
        """z (N, D) of N(0, 1) -> ws (N, L, D): codes of the faces that this generator makes."""
        if self.config.prior_axes:
            return self.map_plus(self.spread(z))
        return self.broadcast(self.map(z))  # the same, mapped once

    def broadcast(self, w: Tensor) -> Tensor:
        """w (B, D) -> ws (B, L, D): the same row for every layer."""
        return w[:, None].expand(-1, self.layout.num_latents, -1)

    def mix(self, ws_a: Tensor, ws_b: Tensor, index: int) -> Tensor:
        """Rows below `index` of `ws_a`, the others of `ws_b` (style mixing)."""
        return torch.cat([ws_a[:, :index], ws_b[:, index:]], dim=1)

    def truncate(self, ws: Tensor, psi: float, center: Tensor | float = 0.0) -> Tensor:
        """center + psi * (ws - center), in W; `center` (1, D), or 0 as published."""
        return ws if psi == 1.0 else center + psi * (ws - center)

    def mean_w(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """(1, D): mean w of `count` random z, a center for `truncate`."""
        z = self._random((count, self.config.style_dim), rng)
        return self.map(z).mean(dim=0, keepdim=True)

    # noise

    def make_noise(self, batch: int = 1, rng: torch.Generator | None = None) -> list[Tensor]:
        """Fresh N(0, 1) maps, (batch, 1, s, s) for each convolution."""
        return [self._random((batch, 1, s, s), rng) for s in self.layout.noise_sizes_px]

    def stored_noise(self) -> list[Tensor]:
        """The maps in the checkpoint, (1, 1, s, s) each."""
        return list(self.noises.buffers())

    def _random(self, shape: tuple[int, ...], rng: torch.Generator | None) -> Tensor:
        """N(0, 1) on the generator's device; `rng` may live on another one."""
        like = self.input.input
        device = like.device if rng is None else rng.device
        return torch.randn(shape, generator=rng, device=device, dtype=like.dtype).to(like.device)

    # synthesis

    def forward(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """ws (B, L, D) -> (B, 3, S, S).

        Args:
            noise: (B or 1, 1, s, s) for each convolution; None takes the stored maps.
        """
        return self.synthesize(ws, noise)[1]

    def synthesize(
        self,
        ws: Tensor,
        noise: Sequence[Tensor] | None = None,
        *,
        residual: Residual | None = None,
        size_px: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Feature map and picture after the block of `size_px` (the last, if None).

        Args:
            residual: applied to the feature map after each convolution.

        Returns:
            (B, C, s, s) and (B, 3, s, s).
        """
        assert ws.shape[1:] == (self.layout.num_latents, self.config.style_dim), ws.shape
        noises = self.stored_noise() if noise is None else noise
        assert len(noises) == self.layout.num_noises, len(noises)
        residual = residual or (lambda row, x: x)
        x = residual(0, self.conv1(lowered(self.input(len(ws))), ws[:, 0], noises[0]))
        rgb: Tensor = self.to_rgb1(x, ws[:, 1])
        for block in range(self.layout.blocks_to(size_px or self.config.size_px)):
            first, second, last = self.layout.block_rows(block)
            x = residual(first, self.convs[2 * block](x, ws[:, first], noises[first]))
            x = residual(second, self.convs[2 * block + 1](x, ws[:, second], noises[second]))
            rgb = self.to_rgbs[block](x, ws[:, last], rgb)
        return x, rgb


# ── discriminator ────────────────────────────────────────────────────────────────────────────────


class ActivatedConv(nn.Sequential):
    """Plain or halving convolution with bias and activation: [blur,] convolution, bias and ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, down: bool = False
    ) -> None:
        pad = kernel_size + 1 if down else kernel_size - 1  # of blur and convolution together
        layers: list[nn.Module] = [Blur(((pad + 1) // 2, pad // 2))] if down else []
        conv = EqualConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=2 if down else 1,
            padding=0 if down else pad // 2,
            bias=False,
        )
        super().__init__(*layers, conv, FusedLeakyReLU(out_channels))


class ResBlock(nn.Module):
    """Residual block of the discriminator: half the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ActivatedConv(in_channels, in_channels, 3)
        self.conv2 = ActivatedConv(in_channels, out_channels, 3, down=True)
        self.skip = nn.Sequential(
            Blur((1, 1)), EqualConv2d(in_channels, out_channels, 1, stride=2, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H/2, W/2)."""
        y: Tensor = (self.conv2(self.conv1(x)) + self.skip(x)) * math.sqrt(0.5)
        return y


def maps_of(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Output of each layer, one after the other."""
    maps = []
    for layer in layers:
        x = layer(x)
        maps.append(x)
    return maps


class Discriminator(nn.Module):
    """Pictures to one number each: high for real."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels, sides = config.channels, config.layout.resolutions_px[::-1]
        blocks = [ResBlock(channels[high], channels[low]) for high, low in pairwise(sides)]
        self.convs = nn.Sequential(ActivatedConv(3, channels[config.size_px], 1), *blocks)
        self.final_conv = ActivatedConv(channels[4] + 1, channels[4], 3)
        self.final_linear = nn.Sequential(
            EqualLinear(channels[4] * 4 * 4, channels[4], activation=True),
            EqualLinear(channels[4], 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1)."""
        return self._scores(self.convs(lowered(x)))

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature map of each resolution, S, S/2, ..., 4."""
        return maps_of(self.convs, lowered(x))

    def scores_and_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 1) and the feature maps, from one pass."""
        maps = self.features(x)
        return self._scores(maps[-1]), maps

    def _scores(self, x: Tensor) -> Tensor:
        y = self.final_conv(append_stddev(x))  # (B, C, 4, 4)
        scores: Tensor = self.final_linear(y.flatten(1))
        return scores


def append_stddev(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C + 1, H, W): how much samples differ, as one more channel.

    Samples b, b + B/g, b + 2B/g, ... form a group of g, at most `STDDEV_GROUP`: the spread over
    the group, averaged over all else (arXiv:1710.10196, section 3). The published code wants a
    batch that 4 divides, or one below 4; here g is the largest divisor of the batch up to 4.
    """
    batch = len(x)
    group = next(g for g in range(STDDEV_GROUP, 0, -1) if batch % g == 0)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    grouped = exact.reshape(group, batch // group, *x.shape[1:])  # (g, B/g, C, H, W)
    deviation = torch.sqrt(grouped.var(dim=0, unbiased=False) + EPSILON)
    spread = deviation.mean(dim=(1, 2, 3)).to(x.dtype).repeat(group)
    return torch.cat([x, spread[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)
