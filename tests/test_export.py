"""`dsg models export`: the file draws what the networks draw, and says what it takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import dsg
from small_models import small_translator
from tiny_store import write_tiny_store

from dsgcli.store.write import save_translator, save_translator_style
from dsgcli.types import Provenance

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """Tiny models of both kinds: toon and ink of a DualStyleGAN, oil of a translator."""
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_tiny_store(tmp_path / "pretrained")


@pytest.fixture
def oil(store) -> str:
    folder = store / "default"
    translator = small_translator()
    path = folder / "translator.safetensors"
    save_translator(path, translator, provenance=Provenance(license="MIT"))
    save_translator_style(
        folder / "oil.safetensors",
        torch.randn(2, 14, 8, generator=torch.Generator().manual_seed(1)),
        ("a.png", "b.png"),
        translator=path,
        provenance=Provenance(license="MIT"),
    )
    return "oil"


def drawn(path: Path, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (portraits,) = session.run(None, inputs)
    return portraits


def crops(count: int, px: int) -> np.ndarray:
    values = np.random.default_rng(5).random((count, 3, px, px), np.float32)
    return values * 2 - 1


@pytest.mark.slow
def test_exported_translator_draws_batches_of_any_size(oil, tmp_path):
    result = dsg("models", "export", "oil:b", "--onnx", "oil.onnx", "--size", 64, "--json")
    assert result.exit_code == 0, result.stderr
    card = json.loads((tmp_path / "oil.json").read_text())
    assert card["exemplars"] == ["b.png"] and card["license"] == "MIT"
    assert card["inputs"][0]["shape"] == ["N", 3, 64, 64]
    several = crops(5, 64)
    portraits = drawn(tmp_path / "oil.onnx", crops=several)
    assert portraits.shape == several.shape and np.abs(portraits - several).max() > 0.05
    alone = drawn(tmp_path / "oil.onnx", crops=several[3:4])
    np.testing.assert_allclose(portraits[3:4], alone, atol=1e-5)


@pytest.mark.slow
def test_exported_translator_takes_style_and_weights(oil, tmp_path):
    how = ("--size", 32, "--style-input", "--structure", 0.5)
    assert dsg("models", "export", "oil:a", "--onnx", "any.onnx", *how).exit_code == 0
    card = json.loads((tmp_path / "any.json").read_text())
    assert [port["name"] for port in card["inputs"]] == ["crops", "code", "weights"]
    several = crops(2, 32)
    code = np.array([card["code"]] * 2, np.float32)
    weights = np.array([card["weights"], [0.0] * 14], np.float32)
    portraits = drawn(tmp_path / "any.onnx", crops=several, code=code, weights=weights)
    np.testing.assert_allclose(portraits[1], several[1], atol=1e-6)  # weights 0: the photograph
    assert np.abs(portraits[0] - several[0]).max() > 0.05


@pytest.mark.slow
def test_exported_dualstylegan_is_bound_to_its_exemplar(store, tmp_path):
    for exemplar in ("bo", "cy"):
        result = dsg("models", "export", f"toon:{exemplar}", "--onnx", f"{exemplar}.onnx")
        assert result.exit_code == 0, result.stderr
    card = json.loads((tmp_path / "bo.json").read_text())
    assert card["network"] == "dualstylegan" and card["max_difference"] < 1e-3
    several = crops(3, card["inputs"][0]["shape"][-1])
    bo, cy = (drawn(tmp_path / f"{name}.onnx", crops=several) for name in ("bo", "cy"))
    assert bo.shape == (3, 3, 64, 64)
    assert np.abs(bo - cy).max() > 0.01


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("toon", "--onnx", "toon.pt"), "ends in .onnx"),
        (("toon", "--onnx", "toon.onnx", "--size", 48), "--size of this style is one of"),
        (("oil", "--onnx", "oil.onnx", "--size", 48), "multiple of 32"),
        (("toon", "--onnx", "toon.onnx", "--style-input"), "--style-input is for translators"),
        (("nothing", "--onnx", "out.onnx"), "nothing"),
    ],
)
@pytest.mark.usefixtures("oil")
def test_export_says_what_it_cannot_do(words, message, tmp_path):
    result = dsg("models", "export", *words)
    assert result.exit_code in (2, 4) and message in result.stderr
    assert not list(tmp_path.glob("*.onnx*")) and not list(tmp_path.glob("*.json"))


def test_export_replaces_nothing_unasked(store, tmp_path):
    (tmp_path / "toon.json").write_text("mine")
    result = dsg("models", "export", "toon", "--onnx", "toon.onnx")
    assert result.exit_code != 0 and "toon.json" in result.stderr
    assert (tmp_path / "toon.json").read_text() == "mine"
