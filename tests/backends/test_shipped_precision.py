"""bf16 draws what fp32 draws with the model that comes along, whatever its weights are now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from dsgcli.backends.choice import problem_of
from dsgcli.generate.codes import seeded_normal
from dsgcli.portraits import Look, Portraits, load_portraits, pick_weights
from dsgcli.store import ModelStore
from dsgcli.store.places import shipped_folder
from dsgcli.types import StyleRef

FOLDER = shipped_folder() / "default"
STYLES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
STYLES = [name for name in STYLES if name not in ("base", "encoder")]
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
