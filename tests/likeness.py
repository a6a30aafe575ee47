"""Networks with few channels in which everything matters, and how alike two pictures are."""

from __future__ import annotations

from typing import Any

import torch

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
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


def narrow_encoder_config(num_latents: int, *, head_width: int = 10, **other: Any) -> EncoderConfig:
    """64 px in, few channels, heads on every map."""
    return EncoderConfig(
        num_latents=num_latents,
        style_dim=20,
        input_px=64,
        stem_width=6,
        widths=(6, 8, 8, 16),
        units=(2, 2, 3, 1),
        head_width=head_width,
        **other,
    )


@torch.no_grad()
def settled(encoder: Encoder) -> Encoder:
    """With statistics and slopes that matter, as after training."""
    for name, value in encoder.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(std=0.2)
        elif value.ndim == 1 and value.is_floating_point():
            value.uniform_(0.1, 1.2)
    return encoder.eval()


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
