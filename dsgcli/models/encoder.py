"""The pSp encoder: an aligned face to its intrinsic style code (Richardson et al.,
arXiv:2008.00951, section 3).

An IR-SE body gives feature maps at three resolutions; a small pyramid merges them from coarse to
fine; each row of the code has its own head on one of the three. Whether the code is in z+ or w+
is what an encoder was trained for, and is part of its configuration.

Shapes: B batch, L rows of the code, D style width, C channels, H, W map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.errors import ModelMismatchError
from dsgcli.models.bounds import check_layers, check_widths
from dsgcli.models.irse import IRSE50_UNITS, IRSE50_WIDTHS, input_layer, residual_body
from dsgcli.models.ops import EqualLinear
from dsgcli.types import LatentLayout

CodeSpace = Literal["z+", "w+"]
HEAD_SLOPE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """All that is needed to rebuild an encoder; the defaults are the published one."""

    num_latents: int = LatentLayout(1024).num_latents
    """Rows L of the code: `LatentLayout.num_latents` of the generator."""
    style_dim: int = 512
    """Width D of the code."""
    latent_space: CodeSpace = "z+"
    """Space of the code: z+ is mapped by the generator, w+ is used unchanged."""
    input_px: int = 256
    """Side of the face; a multiple of 32 and a power of two."""
    stem_width: int = 64
    """Channels of the first layer."""
    widths: tuple[int, int, int, int] = IRSE50_WIDTHS
    """Channels of the four stages of the body, at 1/2, 1/4, 1/8 and 1/16 of the input."""
    units: tuple[int, int, int, int] = IRSE50_UNITS
    """Residual units of the four stages."""
    head_width: int = 512
    """Channels inside a head."""
    coarse_rows: int = 3
    """Rows with a head at 1/16 of the input."""
    middle_rows: int = 4
    """Rows with a head at 1/8; all later ones are at 1/4."""
    latent_avg: bool = False
    """Adds a stored mean code to what the heads say (`start_from_latent_avg`)."""

    def __post_init__(self) -> None:
        if not 32 <= self.input_px <= 1024 or self.input_px & (self.input_px - 1):
            raise ModelMismatchError(
                f"an encoder takes pictures of a power of two from 32 to 1024 px, "
                f"got {self.input_px}"
            )
        check_layers("the rows of an encoder's code", self.num_latents, least=1)
        check_layers("the rows with a coarse or middle head", self.coarse_rows, self.middle_rows)
        check_layers("the residual units of an encoder's stages", *self.units, least=1)
        check_widths("the width of a style code", self.style_dim)
        check_widths("the channels of an encoder", self.stem_width, self.head_width, *self.widths)
        if len(self.widths) != 4 or len(self.units) != 4:
            raise ModelMismatchError("an encoder has four stages of residual units")
        if self.latent_space not in ("z+", "w+"):
            raise ModelMismatchError(
                f"an encoder's codes are in z+ or w+, got {self.latent_space!r}"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file's header."""
        return asdict(self) | {"widths": list(self.widths), "units": list(self.units)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderConfig:
        """The inverse of `as_json`."""
        four = {key: tuple(int(n) for n in values[key]) for key in ("widths", "units")}
        return cls(**{**values, **four})

    @property
    def taps(self) -> tuple[int, int, int]:
        """Units of the body that end the second, third and fourth stage."""
        _, two, three, four = self.units
        first = self.units[0] + two - 1
        return first, first + three, first + three + four


class Head(nn.Module):
    """One row of the code: halve the map until one pixel is left, then a linear layer."""

    def __init__(self, in_channels: int, width: int, style_dim: int, side: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for _ in range(side.bit_length() - 1):
            self.convs.append(nn.Conv2d(in_channels, width, 3, stride=2, padding=1))
            self.convs.append(nn.LeakyReLU(HEAD_SLOPE))
            in_channels = width
        self.linear = EqualLinear(width, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, side, side) -> (B, D)."""
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code


class Encoder(nn.Module):
    """Aligned faces to codes, in the space that `config.latent_space` says."""

    latent_avg: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, coarse = config.widths[1:]
        if config.latent_avg:
            self.register_buffer("latent_avg", torch.zeros(config.num_latents, config.style_dim))
        self.input_layer = input_layer(config.stem_width)
        self.body = residual_body(config.stem_width, config.widths, config.units)
        self.styles = nn.ModuleList(
            Head(coarse, config.head_width, config.style_dim, self._head_side(row))
            for row in range(config.num_latents)
        )
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    def _level(self, row: int) -> int:
        """0 for the coarse map of the pyramid, 1 for the middle, 2 for the fine one."""
        coarse, middle = self.config.coarse_rows, self.config.middle_rows
        return 0 if row < coarse else 1 if row < coarse + middle else 2

    def _head_side(self, row: int) -> int:
        """Side of the map that the head of this row looks at."""
        return self.config.input_px >> 4 - self._level(row)

    def heads_by_level(self, rows: int | None = None) -> dict[int, list[Head]]:
        """The heads on each map of the pyramid that has some, in the order of their rows.

        Args:
            rows: how many of them, from the first; None is all.
        """
        levels: dict[int, list[Head]] = {}
        for row, head in enumerate(islice(cast(Iterable[Head], self.styles), rows)):
            levels.setdefault(self._level(row), []).append(head)
        return levels

    def forward(self, x: Tensor) -> Tensor:
        """Faces (B, 3, input_px, input_px) in [-1, 1] -> codes (B, L, D)."""
        px = self.config.input_px
        assert x.shape[1:] == (3, px, px), x.shape
        levels = self.pyramid(self.taps(x))
        codes = torch.stack(
            [head(levels[self._level(row)]) for row, head in enumerate(self.styles)], dim=1
        )
        return codes + self.latent_avg if self.config.latent_avg else codes

    def taps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, P, P) -> the body's maps c1 at P/4, c2 at P/8, c3 at P/16."""
        x = self.input_layer(x)
        maps = []
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in self.config.taps:
                maps.append(x)
        c1, c2, c3 = maps
        return c1, c2, c3

    def pyramid(self, taps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """c1, c2, c3 -> c3 at P/16, p2 at P/8, p1 at P/4, all with the channels of c3."""
        c1, c2, c3 = taps
        p2 = enlarge_to(c3, c2) + self.latlayer1(c2)
        p1 = enlarge_to(p2, c1) + self.latlayer2(c1)
        return c3, p2, p1


def enlarge_to(x: Tensor, like: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, H, W) of `like`, bilinear between the corners."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
