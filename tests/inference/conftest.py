"""The rule-filled network of the golden cases at 64 px."""

from __future__ import annotations

import pytest
import torch
from reference import fill

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.stylegan2 import GeneratorConfig


@pytest.fixture(scope="session")
def dual64() -> DualStyleGAN:
    network = DualStyleGAN(GeneratorConfig.official(64))
    state = network.state_dict()
    for key, values in fill.fill_state(state.items(), "dual64c2", "stylegan").items():
        state[key].copy_(torch.from_numpy(values))
    return network.eval()
