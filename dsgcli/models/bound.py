"""A generator bound to one style: the same function, as fast as this machine draws it.

`DualStyleGAN.bind` and `Generator.bind` make it. The extrinsic path is computed once (T_s, the
shifts and scales of its normalizations, T_c); rows that follow the exemplar wholly become plain
convolutions; rows that do not follow it at all lose their extrinsic part; other rows are blended
with the face's code when it comes. A picture smaller than the model's is drawn by stopping early.

Data flow: ws (B, L, D) -> (B, 3, S, S). For inference: nothing here can be differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dsgcli.models.bound_layers import BoundConv, BoundModRes, BoundToRGB
from dsgcli.models.layers import ToRGB
from dsgcli.models.ops import LEAKY_GAIN

if TYPE_CHECKING:
    from dsgcli.models.stylegan2 import Generator


@dataclass(frozen=True, slots=True)
class BoundStyle:
    """Effect of an exemplar on a generator, by row; rows that are not named stay intrinsic."""

    bends: Mapping[int, BoundModRes] = field(default_factory=dict)
    """After the convolution of this row."""
    codes: Mapping[int, tuple[Tensor, float]] = field(default_factory=dict)
    """The row's code in W (1, D), and how far the face's row moves there, not 0."""


class BoundGenerator(nn.Module):
    """Codes to pictures, for one style.

    Args:
        generator: the photographic one; its weights are copied, so it can be dropped.
        style: None for the photographic generator by itself.
        dtype: of the feature maps; pictures are added up in float32.
        size_px: of the pictures; None is the generator's own.
    """

    start: Tensor

    def __init__(
        self,
        generator: Generator,
        style: BoundStyle | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        size_px: int | None = None,
    ) -> None:
        super().__init__()
        style = style or BoundStyle()
        self.layout, self.dtype = generator.layout, dtype
        self.size_px = size_px or self.layout.size_px
        assert self.size_px in self.layout.resolutions_px, self.size_px
        self.num_blocks = self.layout.blocks_to(self.size_px)
        self._shares: dict[int, float] = {}
        with torch.no_grad():
            self._take_codes(style)
            self._take_layers(generator, style)
            self._take_noise(generator)

    def _take_codes(self, style: BoundStyle) -> None:
        """Codes of the rows that are blended, times their share."""
        for row, (code, share) in style.codes.items():
            if share != 1.0:
                self._shares[row] = share
                self.register_buffer(f"code_{row}", code * share)

    def _take_layers(self, generator: Generator, style: BoundStyle) -> None:
        known = {row: code for row, (code, share) in style.codes.items() if share == 1.0}
        convs = generator.styled_convs[: 1 + 2 * self.num_blocks]
        to_rgbs = generator.rgb_layers[: 1 + self.num_blocks]
        self.convs = nn.ModuleList(
            BoundConv(conv.conv, conv.activate.bias, known.get(row), side=side, dtype=self.dtype)
            for row, (conv, side) in enumerate(zip(convs, self.layout.noise_sizes_px, strict=False))
        )
        self.to_rgbs = nn.ModuleList(
            _bound_to_rgb(to_rgb, known.get(row), self.dtype)
            for row, to_rgb in zip(self.layout.rgb_rows, to_rgbs, strict=False)
        )
        self.bends = nn.ModuleDict({str(row): bend for row, bend in style.bends.items()})
        self.register_buffer("start", generator.input.input.to(self.dtype, copy=True))

    def _take_noise(self, generator: Generator) -> None:
        """Stored maps and strengths, with the activation's gain."""
        strengths = [conv.noise.weight.item() for conv in generator.styled_convs]
        self._strengths = [strength * LEAKY_GAIN for strength in strengths[: len(self.convs)]]
        for row, strength in enumerate(self._strengths):
            noise = generator.stored_noise()[row] * strength
            self.register_buffer(f"noise_{row}", noise.to(self.dtype))

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
        x = self.convs[row](x, styles[row], self._noise(row, noise))
        bend = str(row)
        y: Tensor = self.bends[bend](x) if bend in self.bends else x
        return y

    def _noise(self, row: int, noise: Sequence[Tensor] | None) -> Tensor | None:
        if self._strengths[row] == 0.0:
            return None
        if noise is None:
            return self.get_buffer(f"noise_{row}")
        return (noise[row] * self._strengths[row]).to(self.dtype)


def _bound_to_rgb(layer: ToRGB, style: Tensor | None, dtype: torch.dtype) -> BoundToRGB:
    kernel = layer.upsample.kernel if hasattr(layer, "upsample") else None
    return BoundToRGB(layer.conv, layer.bias, kernel, style, dtype)
