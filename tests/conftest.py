"""Shared by every test: one thread a process, fixed seeds, and no logged error goes unseen."""

from __future__ import annotations

import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOG_minloglevel", "2")

import pytest
import torch

from dsgcli.runtime import keep_freed_memory

torch.set_num_threads(1)
keep_freed_memory()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_logged_error(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest):
    """A test that expects a logged error says so by clearing `caplog`."""
    yield
    errors = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert not errors, f"logged: {[r.getMessage() for r in errors]}"
