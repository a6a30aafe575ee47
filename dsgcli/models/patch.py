"""A discriminator of patches (Isola et al., arXiv:1611.07004, section 3.2).

It looks at every patch of a picture and knows nothing of the whole, so a hundred steps teach it
what is sharp and what is not, where StyleGAN2's needs a hundred times as many. It is for what is
told otherwise what belongs where, as an autoencoder is by what it reconstructs. Groups of channels
are normalized picture by picture: batches are small.

Shapes: B batch, S size, P patches.
"""

from __future__ import annotations

from torch import Tensor, nn

from dsgcli.errors import ModelMismatchError
from dsgcli.models.bounds import check_widths
from dsgcli.models.stylegan2 import Discriminator, GeneratorConfig, maps_of

GROUPS = 4
"""Number of groups of channels; each is normalized by itself."""
SLOPE = 0.2
PATCH_WIDTH = 32
"""Channels of the first layer."""


class PatchDiscriminator(nn.Module):
    """Pictures to a number for each patch of 23 pixels: high for real."""

    def __init__(self, config: GeneratorConfig, width: int = PATCH_WIDTH) -> None:
        super().__init__()
        check_widths("the channels of a discriminator of patches", width)
        if 2 * width % GROUPS:
            raise ModelMismatchError(
                f"the channels of a discriminator of patches must be even, got {width}"
            )
        self.config = config
        self.layers = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.LeakyReLU(SLOPE)),
            _normalized(width, 2 * width, 2),
            _normalized(2 * width, 4 * width, 1),
        )
        self.judge = nn.Conv2d(4 * width, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P)."""
        return self.scores_and_maps(x)[0]

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature map of each layer, S/2, S/4 and S/4."""
        return maps_of(self.layers, x)

    def scores_and_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, P) and the feature maps, from one pass."""
        maps = self.features(x)
        return self.judge(maps[-1]).flatten(1).float(), maps


def _normalized(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1),
        nn.GroupNorm(GROUPS, outside),
        nn.LeakyReLU(SLOPE),
    )


Judge = Discriminator | PatchDiscriminator
"""A discriminator: StyleGAN2's, or the one of patches."""


class StyleDiscriminator(nn.Module):
    """Pictures and codes to a number for each patch of 25 pixels: high for patches of real
    exemplars of that code's style.

    The code enters as a projection of the features (Miyato and Koyama, arXiv:1802.05637): which
    colors, light and strokes are right depends on the exemplar.
    """

    def __init__(self, code_size: int, widths: tuple[int, int, int] = (24, 48, 64)) -> None:
        super().__init__()
        first, second, third = widths
        self.layers = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, first, 5, 2, 2), nn.LeakyReLU(SLOPE)),
            _normalized(first, second, 2),
            _normalized(second, third, 1),
            _normalized(third, third, 1),
        )
        self.judge = nn.Conv2d(third, 1, 1)
        self.project = nn.Linear(code_size, third, bias=False)

    def forward(self, x: Tensor, codes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures (B, 3, S, S), flat codes (B, code_size) -> scores (B, P), the layers' maps."""
        maps = maps_of(self.layers, x)
        top = maps[-1]
        match = (top * self.project(codes)[:, :, None, None]).mean(dim=1, keepdim=True)
        return (self.judge(top) + match).flatten(1).float(), maps
