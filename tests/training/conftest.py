"""Rule-filled networks for the golden cases of training, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from reference import fill
from torch import nn
from training.double_precision import fast_double  # noqa: F401

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.features import LPIPS, VGG19
from dsgcli.models.irse import IRSE50
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig

Network = TypeVar("Network", bound=nn.Module)


def filled(network: Network, tag: str, family: str) -> Network:
    """Every entry of the state dict that the rule has a value for, in float64. One by one: all at
    once would take as much memory again."""
    network.double()
    for key, value in network.state_dict().items():
        for values in fill.fill_state([(key, value)], tag, family).values():
            value.copy_(torch.from_numpy(values))
    return network.eval()


CONFIG64, CONFIG256 = GeneratorConfig.official(64), GeneratorConfig.official(256)
MAKERS: dict[str, Callable[[], nn.Module]] = {
    "gen64": lambda: filled(Generator(CONFIG64), "gen64c2", "stylegan_nonoise"),
    "gen64_noisy": lambda: filled(Generator(CONFIG64), "gen64c2", "stylegan"),
    "dual64": lambda: filled(DualStyleGAN(CONFIG64), "dual64c2", "stylegan_nonoise"),
    "dual64_noisy": lambda: filled(DualStyleGAN(CONFIG64), "dual64c2", "stylegan"),
    "disc64": lambda: filled(Discriminator(CONFIG64), "disc64c2", "stylegan"),
    "gen256": lambda: filled(Generator(CONFIG256), "gen256c2", "stylegan"),
    "finetuned256": lambda: filled(Generator(CONFIG256), "gprime256", "stylegan"),
    "dual256": lambda: filled(DualStyleGAN(CONFIG256), "dual256c2", "stylegan"),
    "encoder64": lambda: filled(Encoder(EncoderConfig(num_latents=10)), "pspenc", "irse"),
    "encoder256": lambda: filled(Encoder(EncoderConfig(num_latents=14)), "pspenc", "irse"),
    "irse50": lambda: filled(IRSE50(), "irse50", "irse"),
    "vgg19": lambda: filled(VGG19(), "vgg19", "vgg"),
    "lpips": lambda: _lpips(),
}


@pytest.fixture
def made() -> Callable[[str], nn.Module]:
    """made(name): a network of the golden cases, the test's own; in float64 the large ones take
    gigabytes, so none outlives its test."""
    return lambda name: MAKERS[name]()


def _lpips() -> LPIPS:
    lpips = LPIPS()
    filled(lpips.vgg, "vgg16", "vgg")
    filled(lpips.heads, "lpips", "lpips_lin")
    return lpips.double()
