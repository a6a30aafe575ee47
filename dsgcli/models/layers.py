"""The layers of the generator: mapping, constant input, noise, styled convolution, ToRGB
(Karras et al., arXiv:1912.04958).

`stylegan2.py` puts them together; names of parameters are the published ones.

Shapes: B batch, C channels, H and W feature map, L rows of a code, D style width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsgcli.models.ops import EqualLinear, FusedLeakyReLU, ModulatedConv2d, PixelNorm, Upsample

MAPPING_LR_MUL = 0.01
"""The mapping network learns a hundred times slower than the rest."""


class MappingNetwork(nn.Sequential):
    """PixelNorm and slow linear layers: z to w, and (two layers) DualStyleGAN's T_s."""

    def __init__(self, style_dim: int, num_layers: int) -> None:
        layers = [
            EqualLinear(style_dim, style_dim, lr_mul=MAPPING_LR_MUL, activation=True)
            for _ in range(num_layers)
        ]
        super().__init__(PixelNorm(), *layers)

    def rows(self, code: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D): every row by itself, as PixelNorm wants it."""
        mapped: Tensor = self(code.flatten(0, 1))  # (B*L, D)
        return mapped.view(code.shape)


class CodePrior(nn.Module):
    """Where codes of faces lie in z+: a Gaussian with the principal axes of the encoder's codes.

    A generator that was learnt from its encoder's codes knows no others: one z in all rows is far
    from any of them, and its picture is mud. Through the prior a random z becomes a likely z+.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, num_latents: int, style_dim: int, num_axes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_latents, style_dim))
        self.register_buffer("axes", torch.zeros(num_axes, num_latents, style_dim))

    def forward(self, z: Tensor) -> Tensor:
        """z (N, D) of N(0, 1) -> z+ (N, L, D)."""
        used = z[:, : len(self.axes)]
        return self.mean + torch.einsum("nk,kld->nld", used, self.axes)

    @torch.no_grad()
    def fit(self, codes: Tensor) -> None:
        """Take mean and axes, each as long as the codes (N, L, D) spread along it.

        Raises:
            AssertionError: not more codes than axes.
        """
        assert len(codes) > len(self.axes), f"{len(codes)} codes for {len(self.axes)} axes"
        flat = codes.flatten(1).double()
        mean = flat.mean(dim=0)
        _, spread, axes = torch.linalg.svd(flat - mean, full_matrices=False)
        spread = spread[: len(self.axes), None] / (len(codes) - 1) ** 0.5
        self.mean.copy_(mean.view_as(self.mean))
        self.axes.copy_((spread * axes[: len(self.axes)]).view_as(self.axes))


class ConstantInput(nn.Module):
    """The learnt 4x4 map that every picture starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        """(batch, C, 4, 4)."""
        return self.input.expand(batch, -1, -1, -1)


class NoiseInjection(nn.Module):
    """Adds one noise map to every channel, with a learnt strength that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """(B, C, H, W), (B or 1, 1, H, W) -> (B, C, H, W)."""
        return x + (self.weight * noise).to(x.dtype)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, up=up)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """(B, in, H, W), (B, D), (B or 1, 1, H', W') -> (B, out, H', W')."""
        y: Tensor = self.activate(self.noise(self.conv(x, style), noise))
        return y


class ToRGB(nn.Module):
    """Feature map to a picture, added to the enlarged picture of the resolution below."""

    def __init__(self, in_channels: int, style_dim: int, *, up: bool) -> None:
        super().__init__()
        if up:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(in_channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, in, H, W), (B, D), (B, 3, H/2, W/2) or None -> (B, 3, H, W)."""
        rgb: Tensor = self.conv(x, style).to(self.bias.dtype) + self.bias  # sums in full precision
        return rgb if skip is None else rgb + self.upsample(skip)
