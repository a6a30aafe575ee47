"""The compatibility contract: keys, their order and their shapes are those of published files."""

import json
from pathlib import Path

import pytest
import reference
import torch

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.features import VGG16, VGG19, LPIPSHeads
from dsgcli.models.irse import IRSE50
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.types import LatentLayout

PUBLISHED = json.loads((Path(reference.__file__).parent / "state_dicts.json").read_text("utf-8"))
OFFICIAL = GeneratorConfig.official(1024)
GENERATOR = "Generator(1024,512,8,2)"

NETWORKS = {
    GENERATOR: lambda: Generator(OFFICIAL),
    "Discriminator(1024,2)": lambda: Discriminator(OFFICIAL),
    "DualStyleGAN(1024,512,8,2,res_index=6)": lambda: DualStyleGAN(OFFICIAL),
    "GradualStyleEncoder(50,ir_se,n_styles=18)": lambda: Encoder(EncoderConfig()),
    "Backbone(112,50,ir_se)": IRSE50,
    "sampler.color": lambda: StyleSampler(SamplerConfig(layout=LatentLayout(1024))).color,
    "sampler.structure": lambda: StyleSampler(SamplerConfig(layout=LatentLayout(1024))).structure,
    "lpips_vgg_v0.1": LPIPSHeads,
}


def published(name):
    """Ordered (key, shape); DualStyleGAN's generator is listed under its own name."""
    entries = []
    for key, shape in PUBLISHED[name].items():
        if key == "generator.*":
            entries += [(f"generator.{k}", s) for k, s in PUBLISHED[GENERATOR].items()]
        else:
            entries.append((key, shape))
    return entries


def test_every_published_network_is_here():
    assert set(NETWORKS) == set(PUBLISHED)


@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict_has_the_published_keys_and_shapes(name):
    with torch.device("meta"):
        state = NETWORKS[name]().state_dict()
    assert [(key, list(value.shape)) for key, value in state.items()] == published(name)


@pytest.mark.parametrize(("network", "convolutions", "last"), [(VGG16, 13, 28), (VGG19, 16, 34)])
def test_vgg_has_torchvisions_feature_keys(network, convolutions, last):
    with torch.device("meta"):
        state = network().state_dict()
    assert len(state) == 2 * convolutions
    assert state[f"features.{last}.weight"].shape == (512, 512, 3, 3)
    assert all(key.startswith("features.") for key in state)
