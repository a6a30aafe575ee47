"""Perceptual features of networks that were trained on photographs: VGG and LPIPS.

The losses of training and destylization compare pictures by these maps. Layers carry torchvision's
names (`features.N.weight`), so its ImageNet weights load as they are, without the classifier.

Conventions: pictures are (B, 3, H, W), RGB, [-1, 1]; H and W from 16 px up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

POOL = 0
"""In a plan of layers: halve the resolution. Any other number: a 3x3 convolution to so many."""
VGG16_PLAN = (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL)
VGG19_PLAN = (64, 64, POOL, 128, 128, POOL, *(256,) * 4, POOL, *(512,) * 4, POOL, *(512,) * 4, POOL)
VGG16_TAPS = (3, 8, 15, 22, 29)
"""relu1_2, relu2_2, relu3_3, relu4_3, relu5_3: what LPIPS looks at."""
VGG19_TAPS = (1, 6, 11, 20, 29)
"""relu1_1, relu2_1, relu3_1, relu4_1, relu5_1: what the style losses look at."""
VGG_WIDTHS = (64, 128, 256, 512, 512)
"""Channels at the five taps of either network."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LPIPS_SHIFT = (-0.030, -0.088, -0.188)
"""LPIPS's own, rounded, form of ImageNet's mean for pictures in [-1, 1]."""
LPIPS_SCALE = (0.458, 0.448, 0.450)
LPIPS_EPSILON = 1e-10


class Standardize(nn.Module):
    """(x - shift) / scale per color; constants, so no part of the state dict."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    @classmethod
    def imagenet(cls) -> Standardize:
        """From [-1, 1] to what torchvision's networks were trained on."""
        return cls(
            [2.0 * mean - 1.0 for mean in IMAGENET_MEAN], [2.0 * std for std in IMAGENET_STD]
        )


class VGG(nn.Module):
    """The convolutions of a VGG network (Simonyan and Zisserman, arXiv:1409.1556).

    All of torchvision's `features` are there, so a strict load works; only those up to the last
    tap that is asked for are run.
    """

    def __init__(self, plan: Sequence[int], taps: Sequence[int], standardize: Standardize) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.standardize = standardize
        self.features = nn.Sequential()
        width = 3
        for out_width in plan:
            if out_width == POOL:
                self.features.append(nn.MaxPool2d(2))
                continue
            self.features.append(nn.Conv2d(width, out_width, 3, padding=1))
            self.features.append(nn.ReLU())
            width = out_width

    def forward(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """(B, 3, H, W) -> maps at the first `count` taps (all of them if None), (B, C, H/k, W/k)
        for k = 1, 2, 4, 8, 16."""
        x = self.standardize(x)
        taps = self.taps[:count]
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in taps:
                maps.append(x)
            if index == taps[-1]:
                break
        return maps


class VGG16(VGG):
    """relu1_2 to relu5_3, standardized as LPIPS does."""

    def __init__(self) -> None:
        super().__init__(VGG16_PLAN, VGG16_TAPS, Standardize(LPIPS_SHIFT, LPIPS_SCALE))


class VGG19(VGG):
    """relu1_1 to relu5_1, standardized by ImageNet's mean and deviation."""

    def __init__(self) -> None:
        super().__init__(VGG19_PLAN, VGG19_TAPS, Standardize.imagenet())


class LPIPSHeads(nn.Module):
    """The learnt weights of LPIPS: how much each channel of each tap counts, never negative."""

    def __init__(self) -> None:
        super().__init__()
        for index, width in enumerate(VGG_WIDTHS):
            self.add_module(f"lin{index}", LPIPSHead(width))

    def forward(self, distances: Sequence[Tensor]) -> Tensor:
        """Squared distances (B, C, h, w), one a tap -> (B, 1, 1, 1)."""
        heads = zip(self.children(), distances, strict=True)
        terms = [head(d).mean(dim=(2, 3), keepdim=True) for head, d in heads]
        return torch.stack(terms).sum(dim=0)


class LPIPSHead(nn.Module):
    """One tap's channel weights; dropout acts only when heads are trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h, w)."""
        y: Tensor = self.model(x)
        return y


class LPIPS(nn.Module):
    """Perceptual distance (Zhang et al., arXiv:1801.03924, equation 1; "vgg", version 0.1).

    `vgg` and `heads` are loaded each from its own file: torchvision's VGG16 (`features.*`) and the
    published heads (`lin0.model.1.weight`, ...).
    """

    def __init__(self) -> None:
        super().__init__()
        self.vgg = VGG16()
        self.heads = LPIPSHeads()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two batches of pictures (B, 3, H, W) -> (B, 1, 1, 1), 0 where they are the same."""
        return self.between(self.look(a), self.look(b))

    def look(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> what is compared of pictures: five maps, each pixel of length one."""
        return [_unit(x) for x in self.vgg(images)]

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Distances (B, 1, 1, 1) of what `look` found."""
        pairs = zip(a, b, strict=True)
        distance: Tensor = self.heads([(x - y).square() for x, y in pairs])
        return distance


def _unit(x: Tensor) -> Tensor:
    """Each pixel's vector of channels at length one; its gradient at 0 is 0, not NaN."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (norm + LPIPS_EPSILON)
