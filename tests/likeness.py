"""A generator with few channels in which everything matters, and how alike two pictures are."""

from __future__ import annotations

import torch

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.stylegan2 import GeneratorConfig

WEIGHTS = {
    "published": [0.75] * 7 + [1.0] * 3,
    "between": [0.3] * 10,
    "ones": [1.0] * 10,
    "zeros": [0.0] * 10,
    "structure": [1.0] * 7 + [0.0] * 3,
    "color": [0.0] * 7 + [1.0] * 3,
    "every kind": [0.0, 1.0, -0.5, 1.5, 0.0, 0.2, 1.0, 1.0, 0.5, 0.0],
}
"""Every kind of weights, of the ten rows of 64 px."""


@torch.no_grad()
def narrow_dual() -> DualStyleGAN:
    """64 px with few channels; noise, biases and the extrinsic path all matter."""
    network = DualStyleGAN(GeneratorConfig.compact(64, base=1024, most=24, style_dim=20)).eval()
    for name, value in network.named_parameters():
        if name.endswith(("noise.weight", "bias")):
            value.add_(0.3 * torch.randn_like(value))
        if ".conv.0." in name or ".conv2.0." in name:
            value.normal_()
    return network


def codes(network, batch=3):
    shape = network.layout.num_latents, network.config.generator.style_dim
    return torch.randn(batch, *shape), torch.randn(1, *shape)


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def psnr(a, b):
    """In dB, on 8 bits, of pictures as spread as photographs are."""
    gain = 0.5 / b.std()
    a, b = (((x * gain).clamp(-1, 1) * 127.5 + 127.5).round() for x in (a, b))
    return (10 * torch.log10(255**2 / (a - b).square().mean())).item()
