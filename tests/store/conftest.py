"""Shared by the tests of the store: a store of their own, and one small model of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import small_config, small_dual

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.stylegan2 import Discriminator, Generator


@pytest.fixture(autouse=True)
def _only_these_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the models of the machine it runs on, or writes among them."""
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dual() -> DualStyleGAN:
    return small_dual()


@pytest.fixture
def generator() -> Generator:
    return Generator(small_config()).eval()


@pytest.fixture
def discriminator() -> Discriminator:
    return Discriminator(small_config()).eval()
