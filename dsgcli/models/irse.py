"""IR-SE50: a residual network with squeeze and excitation, twice in use.

As the identity network of the losses (`IRSE50`: ArcFace, Deng et al., arXiv:1801.07698; squeeze
and excitation, Hu et al., arXiv:1709.01507), and as the body of the encoder (`encoder.py`).

Conventions: pictures are (B, 3, S, S), RGB, [-1, 1]. Shapes: B batch, C channels, H, W map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IRSE50_WIDTHS = (64, 128, 256, 512)
IRSE50_UNITS = (3, 4, 14, 3)
"""Residual units by stage; 1 + 2 * 24 + 1 layers with weights make the 50."""
SQUEEZE = 16
"""Channels that one channel of the excitation's bottleneck stands for."""
IDENTITY_PX = 112
"""Input size of the identity network."""
IDENTITY_DIM = 512
FACE_ROWS, FACE_COLUMNS = slice(35, 223), slice(32, 220)
"""The face in a 256 px FFHQ crop, as the identity network was trained to see it."""


class SqueezeExcite(nn.Module):
    """Scale each channel by a number in (0, 1) that all channels together decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // SQUEEZE, 1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.fc2 = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        scales: Tensor = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        return x * scales


class ResidualUnit(nn.Module):
    """Norm, convolution, PReLU, strided convolution, norm, excitation; plus the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = (
            nn.MaxPool2d(1, stride)  # keeps every stride-th pixel
            if in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcite(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H/stride, W/stride)."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


def input_layer(width: int) -> nn.Sequential:
    """From a picture to the first feature map, at full resolution."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
    )


def residual_body(
    first_width: int, widths: Sequence[int] = IRSE50_WIDTHS, units: Sequence[int] = IRSE50_UNITS
) -> nn.Sequential:
    """The stages, one after the other; each halves the resolution in its first unit."""
    body, width = nn.Sequential(), first_width
    for stage_width, stage_units in zip(widths, units, strict=True):
        for unit in range(stage_units):
            body.append(ResidualUnit(width, stage_width, stride=2 if unit == 0 else 1))
            width = stage_width
    return body


class IRSE50(nn.Module):
    """Pictures of faces to points on a sphere, near each other for the same person."""

    def __init__(self) -> None:
        super().__init__()
        width = IRSE50_WIDTHS[-1]
        side = IDENTITY_PX >> len(IRSE50_WIDTHS)
        self.input_layer = input_layer(IRSE50_WIDTHS[0])
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(width * side * side, IDENTITY_DIM),
            nn.BatchNorm1d(IDENTITY_DIM),
        )
        self.body = residual_body(IRSE50_WIDTHS[0])

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, 512) of length one."""
        y: Tensor = self.output_layer(self.body(self.input_layer(x)))
        z: Tensor = y / torch.linalg.vector_norm(y, dim=1, keepdim=True)
        return z

    def of_crop(self, x: Tensor) -> Tensor:
        """(B, 3, 256, 256), an FFHQ crop -> (B, 512) of length one."""
        embedding: Tensor = self(identity_view(x))
        return embedding


def identity_view(x: Tensor) -> Tensor:
    """(B, 3, 256, 256) -> (B, 3, 112, 112): the face of an FFHQ crop."""
    return F.adaptive_avg_pool2d(x[:, :, FACE_ROWS, FACE_COLUMNS], IDENTITY_PX)
