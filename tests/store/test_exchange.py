"""Styles given away and compared: what comes back is what was there."""

from __future__ import annotations

import pytest
import torch
from small_models import save_npy, save_pt, small_codes, small_dual
from tiny_store import LICENSE, STYLE_DIM, write_tiny_store

from dsgcli.errors import OutputExistsError, UsageError
from dsgcli.store import ModelStore
from dsgcli.store.codes import Codes
from dsgcli.store.exchange import diff_styles, export_style


@pytest.fixture
def store(tmp_path):
    return ModelStore.open(write_tiny_store(tmp_path / "models"))


def test_an_exported_style_is_the_same_style(store, tmp_path):
    path = tmp_path / "models" / "default" / "copy.safetensors"
    header = export_style(store, "toon", path)
    assert header.names == store.style("toon").names
    assert header.provenance.license == LICENSE.license
    found = diff_styles(store, "toon", str(path))
    assert found.is_empty
    assert found.same_codes == 5


def test_an_exported_style_has_what_the_user_added(store, tmp_path):
    layout = store.style("toon").info.layout
    added = Codes(names=("me.png",), exstyle=torch.randn(1, layout.num_latents, STYLE_DIM))
    store.add_exemplar("toon", added)
    path = tmp_path / "models" / "default" / "mine.safetensors"
    assert export_style(store, "toon", path).names[-1] == "me.png"


def test_export_refuses_what_is_there(store, tmp_path):
    path = tmp_path / "toon.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        export_style(store, "toon", path)
    assert path.read_bytes() == b"mine"
    export_style(store, "toon", path, overwrite=True)
    assert path.stat().st_size > 1000


def test_two_styles_of_one_base_differ_in_weights_and_exemplars(store):
    found = diff_styles(store, "toon", "ink")
    assert found.same_base
    assert len(found.only_first) == len(found.only_second) == 5
    assert found.weights["ModRes"] > 0
    assert not found.is_empty


def test_a_changed_code_is_told_by_structure_and_color(store, tmp_path):
    """Only color rows are moved, by a known distance."""
    style = store.style("toon")
    codes = style.default[:1].clone()
    codes[:, style.info.layout.color] += 0.5
    path = tmp_path / "models" / "default" / "other.safetensors"
    export_style(store, "toon", path)
    store.add_exemplar("toon", Codes(names=style.names[:1], exstyle=codes))
    found = diff_styles(store, "toon", str(path))
    assert [c.exemplar for c in found.changed] == [style.names[0]]
    assert found.changed[0].structure == 0
    assert found.changed[0].color == pytest.approx(0.5, rel=1e-4)


def test_a_published_style_is_imported_before_it_is_exported(tmp_path):
    folder = tmp_path / "models" / "arcane"
    folder.mkdir(parents=True)
    dual, codes = small_dual(), small_codes("a.jpg")
    save_pt(folder / "generator.pt", {"g_ema": dual.state_dict()})
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    store = ModelStore.open(tmp_path / "models")
    with pytest.raises(UsageError, match="dsg models import"):
        export_style(store, "arcane", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
