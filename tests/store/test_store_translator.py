"""Translators and their styles as files: written, read, checked, listed, extended, given away."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_models import STYLE_DIM, same_weights, small_sampler, small_translator

from dsgcli.errors import ModelCorruptError, ModelError, ModelMismatchError, ModelMissingError
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.store import ModelStore
from dsgcli.store.codes import Codes
from dsgcli.store.exchange import diff_styles, export_style
from dsgcli.store.networks import load_translator
from dsgcli.store.places import Root
from dsgcli.store.verify import verify
from dsgcli.store.write import save_translator, save_translator_style
from dsgcli.types import Provenance, StyleRef

NAMES = ("ada.png", "bo.png", "cy.png")


@pytest.fixture
def translator():
    return small_translator()


@pytest.fixture
def folder(tmp_path, translator, monkeypatch):
    """default/translator and default/toon, which has a sampling network."""
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "models" / "default"
    folder.mkdir(parents=True)
    path = folder / "translator.safetensors"
    provenance = Provenance(license="MIT", extra={"default_style": "toon"})
    save_translator(path, translator, provenance=provenance)
    config = SamplerConfig(layout=translator.layout, style_dim=8, noise_dim=6)
    save_translator_style(
        folder / "toon.safetensors",
        torch.randn(3, 14, 8),
        NAMES,
        translator=path,
        sampler=StyleSampler(config).eval(),
        provenance=Provenance(license="MIT"),
    )
    return folder


def store_of(folder):
    return ModelStore([Root(folder.parent, "tests")])


@pytest.mark.parametrize("half", [False, True])
def test_a_translator_comes_back(tmp_path, translator, half):
    path = tmp_path / "t.safetensors"
    header = save_translator(path, translator, half=half)
    assert header.sha256
    loaded = load_translator(path)
    assert loaded.config == translator.config
    assert half or same_weights(loaded, translator)
    picture = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        loaded.encode_style(picture), translator.encode_style(picture), atol=1e-2, rtol=1e-2
    )


def test_a_header_that_describes_a_larger_network_is_refused(tmp_path, translator):
    path = tmp_path / "t.safetensors"
    save_translator(path, translator)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["dsg"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header["config"]["widths"] = [8, 8, 12, 1_000_000]
    save_file(tensors, path, metadata={"dsg": json.dumps(header)})
    with pytest.raises(ModelMismatchError, match="another translator"):
        load_translator(path)
    header["config"]["widths"] = "wide"
    save_file(tensors, path, metadata={"dsg": json.dumps(header)})
    with pytest.raises(ModelCorruptError, match="describes no network"):
        load_translator(path)


def test_a_file_without_a_layer_is_refused(tmp_path, translator):
    path = tmp_path / "t.safetensors"
    del translator.stem
    save_translator(path, translator)
    with pytest.raises(ModelMismatchError, match=r"stem\.weight"):
        load_translator(path)


def test_a_style_is_listed_with_its_exemplars(folder):
    store = store_of(folder)
    info = store.info("default")
    assert (info.name, info.exemplars, info.style_dim) == ("toon", NAMES, 8)
    assert info.of_translator
    assert info.has_sampler
    assert store.sampler("toon").config.noise_dim == 6
    assert store.find("translator").kind == "translator"


def test_codes_are_blended(folder):
    store = store_of(folder)
    codes = store.style("toon").codes.exstyle
    mixed = store.resolve(StyleRef.parse("toon:ada*3+toon:cy*1"))
    torch.testing.assert_close(mixed.exstyle, 0.75 * codes[0] + 0.25 * codes[2])


def test_all_files_verify(folder):
    assert [found.problem for found in verify(store_of(folder).models())] == ["", ""]


def test_a_style_without_its_translator_is_told(folder):
    (folder / "translator.safetensors").unlink()
    store = store_of(folder)
    with pytest.raises(ModelMissingError, match="the translator 'translator'"):
        store.translator("toon")
    (found,) = verify(store.models())
    assert "the translator 'translator'" in found.problem


def test_another_translator_is_not_taken(folder):
    save_translator(folder / "translator.safetensors", small_translator(seed=4))
    with pytest.raises(ModelMissingError, match="is missing"):
        store_of(folder).translator("toon")


def test_codes_of_another_size_are_refused(folder):
    target, translator = folder / "other.safetensors", folder / "translator.safetensors"
    with pytest.raises(ModelMismatchError, match="14 x 9"):
        save_translator_style(target, torch.randn(1, 14, 9), ("a",), translator=translator)
    with pytest.raises(ModelMismatchError, match="sampling network"):
        save_translator_style(
            target, torch.randn(1, 14, 8), ("a",), translator=translator, sampler=small_sampler()
        )
    with pytest.raises(ModelMismatchError, match="not a translator"):
        save_translator_style(
            target, torch.randn(1, 14, 8), ("a",), translator=folder / "toon.safetensors"
        )


def test_added_exemplars_belong_to_one_translator(folder):
    store = store_of(folder)
    added = Codes(names=("me.png",), exstyle=torch.randn(1, 14, 8))
    store.add_exemplar("toon", added)
    assert store.style("toon").names == (*NAMES, "me.png")
    assert all(not found.problem for found in verify(store.models()))

    path = folder / "translator.safetensors"
    save_translator(path, small_translator(seed=5))
    save_translator_style(
        folder / "toon.safetensors", torch.randn(1, 14, 8), ("new",), translator=path
    )
    assert store_of(folder).style("toon").names == ("new",)


def test_a_style_is_given_away_and_compared(folder, tmp_path):
    store = store_of(folder)
    store.add_exemplar("toon", Codes(names=("me.png",), exstyle=torch.randn(1, 14, 8)))
    path = folder / "gift.safetensors"
    header = export_style(store, "toon", path)
    assert header.names == (*NAMES, "me.png")
    found = diff_styles(store_of(folder), "toon", str(path))
    assert found.same_base
    assert found.same_codes == 4
    assert found.is_empty


def test_what_needs_a_dualstylegan_says_so(folder):
    with pytest.raises(ModelError, match="needs a style of a DualStyleGAN"):
        store_of(folder).generator("toon")
    with pytest.raises(ModelMissingError, match=r"base\.safetensors"):
        store_of(folder).people("toon")
    assert STYLE_DIM != 8
