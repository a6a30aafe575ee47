"""Published files become ours with nothing lost, and are told whether they are what they claim."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from small_models import (
    STYLE_DIM,
    encoder_checkpoint,
    same_weights,
    save_npy,
    save_pt,
    small_codes,
    small_dual,
    small_encoder,
    small_sampler,
)

from dsgcli.errors import ModelCorruptError, ModelMissingError, OutputExistsError, UsageError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.features import LPIPSHeads
from dsgcli.store import ModelStore
from dsgcli.store.catalog import ModelFile, scan
from dsgcli.store.codes import Codes
from dsgcli.store.convert import ImportOptions, import_models
from dsgcli.store.files import one_writer
from dsgcli.store.header import read_header
from dsgcli.store.places import Root
from dsgcli.store.verify import Verified, record_hash, verify
from dsgcli.store.write import save_generator
from dsgcli.types import StyleRef


def write_style(folder: Path, dual: DualStyleGAN, codes: Codes) -> None:
    save_pt(folder / "generator.pt", {"g_ema": dual.state_dict()})
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    if codes.refined is not None:
        save_npy(folder / "refined_exstyle_code.npy", codes.names, codes.refined)
    sampler = small_sampler()
    halves = {half: getattr(sampler, half).state_dict() for half in ("color", "structure")}
    save_pt(folder / "sampler.pt", halves)


@pytest.fixture
def published(tmp_path) -> dict:
    """A folder as it is published: two styles on one base, an encoder, a network of the losses."""
    root = tmp_path / "published"
    toon = small_dual()
    ink = small_dual()
    ink.generator = copy.deepcopy(toon.generator)
    codes = small_codes("b", "a", "c", refined=True)
    write_style(root / "models" / "toon", toon, codes)
    write_style(root / "models" / "ink", ink, small_codes("x"))
    encoder = small_encoder()
    save_pt(root / "models" / "encoder.pt", encoder_checkpoint(encoder, toon.generator))
    heads = LPIPSHeads()
    save_pt(root / "vgg.pth", heads.state_dict())
    return {"root": root, "toon": toon, "ink": ink, "codes": codes, "encoder": encoder}


# ── import ───────────────────────────────────────────────────────────────────────────────────────


def test_folder_is_imported_whole_and_draws_the_same(tmp_path, published):
    done = import_models(published["root"], ImportOptions())
    assert [item.problem for item in done] == ["", "", "", ""]
    home = tmp_path / "home" / "pretrained"
    assert sorted(path.relative_to(home).as_posix() for path in home.rglob("*.safetensors")) == [
        "encoder.safetensors",
        "imported/base.safetensors",
        "imported/ink.safetensors",
        "imported/toon.safetensors",
        "vgg.safetensors",
    ]
    store = ModelStore([Root(home, "")])
    for name in ("toon", "ink"):
        assert same_weights(store.generator(name), published[name])
    assert store.same_base("toon", "ink")
    assert store.info("toon").exemplars == ("b", "a", "c")  # the published order
    assert torch.equal(store.style("toon").refined, published["codes"].refined)
    second = store.resolve(StyleRef.parse("toon:1")).exstyle
    assert torch.equal(second, published["codes"].refined[1])
    assert same_weights(store.encoder("toon"), published["encoder"])
    assert store.sampler("ink").config.style_dim == STYLE_DIM


def test_report_says_what_was_recognized_and_where_it_went(published):
    done = {item.source.name: item for item in import_models(published["root"], ImportOptions())}
    assert done["toon"].recognized == "a DualStyleGAN, 32 px, 3 exemplars"
    assert done["ink"].notes == ("its base is base.safetensors",)
    assert done["toon"].notes == ("shares its base with base.safetensors",)
    assert done["encoder.pt"].recognized == "an encoder of 8 x 16 codes"
    assert any("not the published one (encoder)" in note for note in done["encoder.pt"].notes)
    assert any("read as z+" in note for note in done["encoder.pt"].notes)
    assert done["vgg.pth"].target is not None
    header, _ = read_header(done["vgg.pth"].target)
    assert header.kind == "lpips"
    assert header.provenance.license == "BSD-2-Clause (PerceptualSimilarity)"
    assert len(header.provenance.extra["published_sha256"]) == 64


def test_another_generator_gets_a_base_of_its_own(tmp_path, published):
    import_models(published["root"], ImportOptions())
    other = small_dual()
    write_style(tmp_path / "other" / "oil", other, small_codes("o"))
    (item,) = import_models(tmp_path / "other" / "oil", ImportOptions())
    base = item.notes[0].removeprefix("its base is ")
    assert base.startswith("base-")
    store = ModelStore([Root(tmp_path / "home" / "pretrained", "")])
    assert same_weights(store.generator("oil"), other)
    assert not store.same_base("oil", "toon")


def test_generator_pt_brings_the_codes_beside_it(tmp_path, published):
    path = published["root"] / "models" / "toon" / "generator.pt"
    (item,) = import_models(path, ImportOptions(name="mytoon", target=tmp_path / "t"))
    assert item.target == tmp_path / "t" / "imported" / "mytoon.safetensors"
    assert ModelStore([Root(tmp_path / "t", "")]).info("mytoon").exemplars == ("b", "a", "c")


def test_half_precision_import_is_smaller_and_shares_its_base_too(tmp_path, published):
    import_models(published["root"], ImportOptions(target=tmp_path / "whole"))
    import_models(published["root"], ImportOptions(target=tmp_path / "half", half=True))
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).rglob("*.safetensors"))
        for name in ("whole", "half")
    ]
    assert sizes[1] < 0.65 * sizes[0]
    store = ModelStore([Root(tmp_path / "half", "")])
    assert store.same_base("toon", "ink")
    for key, value in store.generator("toon").state_dict().items():
        torch.testing.assert_close(
            value, published["toon"].state_dict()[key], rtol=2**-10, atol=1e-6
        )


def test_existing_target_is_kept_unless_told(published):
    path = published["root"] / "vgg.pth"
    import_models(path, ImportOptions())
    with pytest.raises(OutputExistsError):
        import_models(path, ImportOptions())
    import_models(path, ImportOptions(overwrite=True))


def test_space_of_an_encoder_and_license_can_be_said(published):
    path = published["root"] / "models" / "encoder.pt"
    (item,) = import_models(path, ImportOptions(space="w+", license="mine"))
    header, _ = read_header(item.target)
    assert header.config["latent_space"] == "w+"
    assert header.provenance.license == "mine"


def test_one_bad_file_of_a_folder_does_not_stop_the_others(published):
    (published["root"] / "models" / "encoder.pt").write_bytes(b"<html>")
    done = {item.source.name: item for item in import_models(published["root"], ImportOptions())}
    assert "is a web page" in done["encoder.pt"].problem
    assert done["toon"].target is not None
    with pytest.raises(ModelCorruptError, match="is a web page"):
        import_models(published["root"] / "models" / "encoder.pt", ImportOptions())


def test_sampler_of_another_size_is_told(published):
    folder = published["root"] / "models" / "toon"
    sampler = small_sampler(10)
    halves = {half: getattr(sampler, half).state_dict() for half in ("color", "structure")}
    save_pt(folder / "sampler.pt", halves)
    done = {item.source.name: item for item in import_models(published["root"], ImportOptions())}
    assert "draws codes of 10 rows, and the style's have 8" in done["toon"].problem


def test_folder_without_models_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissingError, match="holds no model"):
        import_models(tmp_path / "empty", ImportOptions())


def test_own_file_is_copied_once_it_is_known_to_be_whole(tmp_path, generator):
    path = tmp_path / "given.safetensors"
    save_generator(path, generator, name="faces")
    (item,) = import_models(path, ImportOptions())
    assert item.target == tmp_path / "home" / "pretrained" / "imported" / "faces.safetensors"
    assert item.target.read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelCorruptError):
        import_models(path, ImportOptions(name="again"))


# ── verify ───────────────────────────────────────────────────────────────────────────────────────


def verified(root: Path) -> dict[str, Verified]:
    files: list[ModelFile] = scan([Root(root, "")])
    return {item.path.name: item for item in verify(files)}


def test_whole_files_are_verified(tmp_path, published):
    import_models(published["root"], ImportOptions())
    found = verified(tmp_path / "home" / "pretrained")
    assert len(found) == 5
    assert {item.hash_state for item in found.values()} == {"as recorded"}
    assert all(item.ok for item in found.values()), found


def test_changed_weights_are_found_although_the_header_is_whole(tmp_path, published):
    import_models(published["root"], ImportOptions())
    path = tmp_path / "home" / "pretrained" / "imported" / "toon.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    found = verified(tmp_path / "home" / "pretrained")["toon.safetensors"]
    assert found.hash_state == "changed"
    assert "was changed after it was written" in found.problem


def test_style_without_its_base_is_found(tmp_path, published):
    import_models(published["root"], ImportOptions())
    (tmp_path / "home" / "pretrained" / "imported" / "base.safetensors").unlink()
    found = verified(tmp_path / "home" / "pretrained")
    assert "the base 'base'" in found["toon.safetensors"].problem


def test_published_file_that_is_another_is_found(published):
    """encoder.pt has a published hash, and a small encoder has not that one."""
    found = verified(published["root"])
    assert found["encoder.pt"].hash_state == "changed"
    assert "is not the published encoder" in found["encoder.pt"].problem
    assert found["generator.pt"].ok  # of no published style: nothing to compare with
    assert found["generator.pt"].hash_state == "unknown"
    assert len(found["generator.pt"].sha256) == 64


def test_hash_seen_first_is_compared_later(tmp_path):
    path = tmp_path / "home" / "pretrained" / "ink" / "generator.pt"
    save_pt(path, {"g_ema": small_dual().state_dict()})
    from dsgcli.store.files import sha256_of

    record_hash(path, sha256_of(path), "https://x/y")
    assert verified(tmp_path / "home" / "pretrained")["generator.pt"].hash_state == "as first seen"
    save_pt(path, {"g_ema": small_dual().state_dict()})
    found = verified(tmp_path / "home" / "pretrained")["generator.pt"]
    assert found.hash_state == "changed"
    assert "has changed since it was fetched" in found.problem


def test_file_with_nan_or_missing_keys_is_found(tmp_path):
    state = small_dual().state_dict()
    root = tmp_path / "root"
    save_pt(root / "a" / "generator.pt", {"g_ema": {**state, "res.7.bias": torch.ones(16) / 0}})
    (found,) = verify(scan([Root(root, "")]))
    assert "not finite" in found.problem
    state.pop("res.7.bias")
    save_pt(root / "a" / "generator.pt", {"g_ema": state})
    (found,) = verify(scan([Root(root, "")]))
    assert "1 key is missing (res.7.bias)" in found.problem


# ── two at once ──────────────────────────────────────────────────────────────────────────────────


def test_second_import_into_the_same_folder_is_refused(published, tmp_path):
    target = tmp_path / "target"
    with one_writer(target / "imported"), pytest.raises(UsageError, match="another dsg is writing"):
        import_models(tmp_path / "published", ImportOptions(target=target))
    assert not list(target.rglob("*.safetensors"))
    assert import_models(tmp_path / "published", ImportOptions(target=target))
    assert not list(target.rglob("*.dsg-lock"))
