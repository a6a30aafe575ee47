"""Shared by every test: one thread a process, fixed seeds, and no logged error goes unseen."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOG_minloglevel", "2")

import pytest
import torch
from tiny_store import write_tiny_store

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.runtime import keep_freed_memory
from dsgcli.store import ModelStore

torch.set_num_threads(1)
keep_freed_memory()


# ── several workers (pytest -n 2) ────────────────────────────────────────────────────────────────

LARGE = ("training/test_loops_golden.py", "training/test_fitting_golden.py")
"""Minutes of float64 and up to seven gigabytes each: one worker runs them all, one by one."""
LONG = (*LARGE, "training/test_run.py")
"""What is begun with, so that no worker is left with it at the end."""


def _skip_forks(items: list[pytest.Item]) -> None:
    """Tests that kill a copy of this process are for systems that make copies of processes."""
    forks = () if hasattr(os, "fork") else items
    for item in forks:
        function = getattr(item, "function", None)
        if function is not None and "fork" in function.__code__.co_names:
            item.add_marker(pytest.mark.skip(reason="this system does not fork"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run here; for workers, order what is left: who runs everything in one
    process sees quick failures first."""
    _skip_forks(items)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file at a time, so that what its tests share is made once."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "large" if file.endswith(LARGE) else file

    config.option.loadscopereorder = False  # in the order above, not by numbers of tests
    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_logged_error(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest):
    """A test that expects a logged error says so by clearing `caplog`."""
    yield
    errors = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert not errors, f"logged: {[r.getMessage() for r in errors]}"


# ── tiny networks: random weights, fixed by the seed above; a few milliseconds each ──────────────


@pytest.fixture
def tiny_config() -> GeneratorConfig:
    """A 32 px generator with 8 rows of 16 numbers, some 30,000 weights."""
    return GeneratorConfig.compact(32, base=256, most=16, style_dim=16, mapping_layers=2)


@pytest.fixture
def tiny_generator(tiny_config: GeneratorConfig) -> DualStyleGAN:
    """A DualStyleGAN of this size; `.generator` is the plain one."""
    torch.manual_seed(1)
    return DualStyleGAN(tiny_config).eval()


@pytest.fixture
def tiny_encoder(tiny_config: GeneratorConfig) -> Encoder:
    """32 px faces to z+ codes for `tiny_generator`."""
    torch.manual_seed(2)
    return Encoder(
        EncoderConfig(
            num_latents=tiny_config.layout.num_latents,
            style_dim=tiny_config.style_dim,
            input_px=32,
            stem_width=8,
            widths=(8, 12, 16, 24),
            units=(1, 1, 1, 1),
            head_width=16,
        )
    ).eval()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models for `--pretrained`: two styles on one base, see tests/tiny_store.py."""
    return write_tiny_store(tmp_path_factory.mktemp("models"))


@pytest.fixture
def only_tiny_store(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelStore:
    """The same as the only models there are, in a working folder of its own."""
    monkeypatch.setattr("dsgcli.store.places.shipped_folder", lambda: tmp_path / "none")
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DSG_PRETRAINED", str(tiny_store))
    monkeypatch.chdir(tmp_path)
    return ModelStore.open()
