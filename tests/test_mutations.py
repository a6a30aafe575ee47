"""Damaged and hostile files of every kind end in a result or a sentence."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import dsgcli

SCRIPT = Path(dsgcli.__file__).parents[1] / "benchmarks" / "mutations.py"


@pytest.fixture
def mutations(monkeypatch):
    """The script, as a module."""
    if not SCRIPT.is_file():
        pytest.skip("only in a checkout")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    spec = importlib.util.spec_from_file_location("mutations", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_thousand_mutated_files_end_in_a_result_or_a_sentence(mutations, tmp_path, capsys):
    assert mutations.run(tmp_path, 1000, seed=0) == 0, capsys.readouterr().out
