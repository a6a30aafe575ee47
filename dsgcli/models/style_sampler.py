"""The sampling network: noise to extrinsic codes of one style (Yang et al., arXiv:2203.13248,
supplement; trained as implicit maximum likelihood, Li and Malik, arXiv:1809.09087).

Structure rows and color rows are drawn apart, so either can be kept while the other changes.

The published script leaves the networks in training mode, so that its batch norm takes the
statistics of the batch: a picture then depends on its neighbors, and a batch of one fails. Call
`.eval()` for codes that depend on their own noise alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.models.bounds import check_widths
from dsgcli.types import LatentLayout

NOISE_DIM = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """All that is needed to rebuild a sampler."""

    layout: LatentLayout
    """Rows of structure and of color."""
    style_dim: int = 512
    """Width of a row."""
    noise_dim: int = NOISE_DIM
    """Numbers that a code is drawn from."""

    def __post_init__(self) -> None:
        check_widths("the width of a style code", self.style_dim)
        check_widths("the noise of a sampling network", self.noise_dim)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file's header."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SamplerConfig:
        """The inverse of `as_json`."""
        return cls(**{**values, "layout": LatentLayout(**values["layout"])})


class SamplingNet(nn.Module):
    """Noise to a flat code, three layers."""

    def __init__(self, noise_dim: int, code_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(noise_dim, noise_dim, bias=False)
        self.bn1 = nn.BatchNorm1d(noise_dim)
        self.lin2 = nn.Linear(noise_dim, noise_dim, bias=False)
        self.bn2 = nn.BatchNorm1d(noise_dim)
        self.lin_out = nn.Linear(noise_dim, code_dim, bias=False)

    def forward(self, noise: Tensor) -> Tensor:
        """(B, noise_dim) -> (B, code_dim)."""
        x = F.relu(self.bn1(self.lin1(noise)))
        code: Tensor = self.lin_out(F.relu(self.bn2(self.lin2(x))))
        return code


class StyleSampler(nn.Module):
    """Two networks: the rows of structure, and those of color."""

    def __init__(self, config: SamplerConfig) -> None:
        super().__init__()
        self.config = config
        layout, width = config.layout, config.style_dim
        self.color = SamplingNet(config.noise_dim, layout.num_color * width)
        self.structure = SamplingNet(config.noise_dim, layout.num_structure * width)

    def forward(self, structure_noise: Tensor, color_noise: Tensor) -> Tensor:
        """N(0, 1) twice, (B, noise_dim) each -> extrinsic codes (B, L, D) in z+."""
        width = self.config.style_dim
        structure = self.structure(structure_noise).unflatten(1, (-1, width))
        color = self.color(color_noise).unflatten(1, (-1, width))
        return torch.cat([structure, color], dim=1)
