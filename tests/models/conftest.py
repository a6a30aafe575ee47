"""Rule-filled networks (made once a session: large ones take seconds) and the golden checker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import pytest
import torch
from reference import fill, golden
from torch import Tensor, nn

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig

Net = TypeVar("Net", bound=nn.Module)


def _fill(network: Net, tag: str, family: str) -> Net:
    """Set every entry of the state dict that the rule has a value for, and go to eval mode."""
    state = network.state_dict()
    for key, values in fill.fill_state(state.items(), tag, family).items():
        state[key].copy_(torch.from_numpy(values))
    return network.eval()


@pytest.fixture(scope="session")
def fill_network() -> Callable[..., nn.Module]:
    """fill_network(network, tag, family): the network with the rule's weights."""
    return _fill


@pytest.fixture(scope="session")
def gen64() -> Generator:
    return _fill(Generator(GeneratorConfig.official(64)), "gen64c2", "stylegan")


@pytest.fixture(scope="session")
def disc64() -> Discriminator:
    return _fill(Discriminator(GeneratorConfig.official(64)), "disc64c2", "stylegan")


@pytest.fixture(scope="session")
def dual64() -> DualStyleGAN:
    return _fill(DualStyleGAN(GeneratorConfig.official(64)), "dual64c2", "stylegan")


@pytest.fixture(scope="session")
def encoder18() -> Encoder:
    """The published encoder at full size, 267 million weights."""
    return _fill(Encoder(EncoderConfig()), "pspenc", "irse")


@pytest.fixture
def case_inputs(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """Tensors of the golden case that the test is marked with; constants as they are."""
    values = golden.inputs(golden.case(_case_id(request)))
    return {k: torch.from_numpy(v) if hasattr(v, "shape") else v for k, v in values.items()}


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Callable[[Mapping[str, Tensor]], None]:
    """agree({output: tensor}) checks outputs of the golden case that the test is marked with, and
    at the end that the test has checked every output of it."""
    case, seen = golden.case(_case_id(request)), set()

    def check(outputs: Mapping[str, Tensor]) -> None:
        arrays = {name: torch.as_tensor(value).numpy() for name, value in outputs.items()}
        wrong = [result for result in golden.check(case, arrays) if not result[1]]
        assert not wrong, f"(output, ok, largest difference, allowed): {wrong}"
        seen.update(arrays)

    yield check
    assert seen == set(case["outputs"]), sorted(set(case["outputs"]) - seen)


def _case_id(request: pytest.FixtureRequest) -> str:
    return request.node.get_closest_marker("golden").args[0]


def map_summary(name: str, x: Tensor) -> dict[str, Tensor]:
    """The manifest's summary of a feature map."""
    summary = {name + key: torch.as_tensor(v) for key, v in golden.fstat(x.numpy()).items()}
    return summary | {f"{name}.map": nn.functional.adaptive_avg_pool2d(x[:, :4], 8)}


def picture_summary(
    name: str,
    x: Tensor,
    keys: Iterable[str] = (".pool", ".crop", ".stats"),
    pool: int = 32,
    crop: int = 16,
) -> dict[str, Tensor]:
    """The manifest's summary of a picture."""
    summary = golden.summ(x.numpy(), pool, crop)
    return {name + key: torch.as_tensor(summary[key]) for key in keys}


@pytest.fixture(scope="session")
def summarize_map() -> Callable[[str, Tensor], dict[str, Tensor]]:
    return map_summary


@pytest.fixture(scope="session")
def summarize_picture() -> Callable[..., dict[str, Tensor]]:
    return picture_summary
