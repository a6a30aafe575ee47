"""The sampling network: its golden case, and how its halves come together."""

import pytest
import torch

from dsgcli.models.style_sampler import SamplerConfig, SamplingNet, StyleSampler
from dsgcli.types import LatentLayout


@pytest.mark.golden("sampler.net")
@torch.no_grad()
def test_both_halves_agree_in_both_modes(case_inputs, agree, fill_network):
    """Training mode moves the running statistics, so each mode gets a fresh network."""
    for name, tag, width in (("structure", "samplerS", 3584), ("color", "samplerC", 5632)):
        for mode in ("train", "eval"):
            network = fill_network(SamplingNet(128, width), tag, "sampler").train(mode == "train")
            code = network(case_inputs["z"])
            agree({f"{name}.{mode}": code[:, ::37], f"{name}.{mode}.norm": code.norm(dim=1)})


@torch.no_grad()
def test_structure_and_color_rows_come_from_their_own_noise():
    layout = LatentLayout(64)
    sampler = StyleSampler(SamplerConfig(layout=layout, style_dim=12, noise_dim=6)).eval()
    noise, other = torch.randn(2, 6), torch.randn(2, 6)
    code, moved = sampler(noise, noise), sampler(noise, other)
    assert code.shape == (2, layout.num_latents, 12)
    assert code[:, layout.structure].equal(moved[:, layout.structure])
    assert not code[:, layout.color].allclose(moved[:, layout.color])


def test_sampler_config_survives_its_header():
    config = SamplerConfig(layout=LatentLayout(128, 4), style_dim=16)
    assert SamplerConfig.from_json(config.as_json()) == config
