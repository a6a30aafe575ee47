"""bf16 draws what fp32 draws with the bundled model, whatever its weights are now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from dsgcli.generate.codes import seeded_normal
from dsgcli.inference.backend import problem_of
from dsgcli.pipeline import load_pipeline
from dsgcli.portraits import Look, Portraits, load_portraits, pick_weights
from dsgcli.store import ModelStore
from dsgcli.store.contents import open_model
from dsgcli.store.places import shipped_folder
from dsgcli.types import StyleRef, StyleWeights

FOLDER = shipped_folder() / "default"
KINDS = {path.stem: open_model(path).header.kind for path in sorted(FOLDER.glob("*.safetensors"))}
STYLES = [name for name, kind in KINDS.items() if kind == "style"]
TRANSLATED = [name for name, kind in KINDS.items() if kind == "translator-style"]
FACES = 4
LEAST_DB = 45.0

pytestmark = pytest.mark.skipif(not STYLES, reason="no model comes with this checkout")


@pytest.fixture(scope="module")
def store() -> Iterator[ModelStore]:
    yield ModelStore.open()
    load.cache_clear()


@cache
def load(store: ModelStore, style: str, precision: str, backend: str = "torch") -> Portraits:
    if problem := problem_of(backend, torch.device("cpu")):
        pytest.skip(problem)
    return load_portraits(store, style, device="cpu", precision=precision, backend=backend)


def people(portraits: Portraits) -> torch.Tensor:
    """(FACES, L, D) codes of random people, as `dsg sample` draws them."""
    network = portraits.generator.generator
    width = network.config.style_dim
    drawn = [seeded_normal(seed, "content", width)[None] for seed in range(FACES)]
    return torch.cat([network.spread(one) for one in drawn])


def least_db(found: np.ndarray, expected: np.ndarray) -> float:
    """PSNR of the picture that differs most, on 8 bits."""
    errors = (found.astype(float) - expected).reshape(len(expected), -1)
    return float(10 * np.log10(255**2 / np.square(errors).mean(axis=1).max()))


@pytest.mark.parametrize("preset", ["default", "caricature"])
@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("style", STYLES)
def test_bf16_keeps_45_db_to_fp32(store, backend, style, preset):
    plain, low = load(store, style, "fp32"), load(store, style, "bf16", backend)
    look = Look(
        exstyle=store.resolve(StyleRef.parse(style)).exstyle,
        weights=pick_weights(plain.layout, preset=preset),
    )
    codes = people(plain)
    expected = plain.draw(codes, look)
    assert least_db(low.draw(codes, look), expected) > LEAST_DB


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_bf16_keeps_45_db_from_the_photograph_to_the_portrait(store, backend):
    """Codes are rounded too, and everything after them."""
    style = STYLES[0]
    plain, low = load(store, style, "fp32"), load(store, style, "bf16", backend)
    look = Look(
        exstyle=store.resolve(StyleRef.parse(style)).exstyle, weights=pick_weights(plain.layout)
    )
    photographs, rows = list(plain.draw_plain(people(plain))), plain.face_rows(look)
    expected = plain.draw(plain.encode(photographs, rows), look)
    assert least_db(low.draw(low.encode(photographs, rows), look), expected) > LEAST_DB


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("style", TRANSLATED)
def test_bf16_of_a_translator_keeps_45_db_to_fp32(store, backend, style):
    """The photograph and the sum are float32; only what is added to it is rounded."""
    if problem := problem_of(backend, torch.device("cpu")):
        pytest.skip(problem)
    plain, low = (
        load_pipeline(store, style, device="cpu", precision=precision, backend=name, size=256)
        for precision, name in (("fp32", "torch"), ("bf16", backend))
    )
    look = Look(
        exstyle=store.resolve(StyleRef.parse(style)).exstyle,
        weights=StyleWeights((1.0,) * plain.layout.num_latents),
    )
    crops = list(load(store, STYLES[0], "fp32").draw_plain(people(load(store, STYLES[0], "fp32"))))
    found, expected = (p.draw_crops(crops, p.encode(crops), look, 256) for p in (low, plain))
    assert least_db(found, expected) > LEAST_DB
