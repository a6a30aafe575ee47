"""Our own files: what is written comes back, whole or not at all; damage is told."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import (
    STYLE_DIM,
    same_weights,
    save_pt,
    small_codes,
    small_dual,
    small_encoder,
    small_sampler,
)

from dsgcli.errors import DsgError, ModelCorruptError, ModelMismatchError, UsageError
from dsgcli.models.stylegan2 import Generator
from dsgcli.store.contents import OwnModel, open_model, tensors_sha256
from dsgcli.store.header import Header, read_header
from dsgcli.store.networks import (
    load_discriminator,
    load_dualstylegan,
    load_encoder,
    load_generator,
    load_sampler,
)
from dsgcli.store.write import (
    save_codes,
    save_dualstylegan,
    save_encoder,
    save_generator,
    save_sampler,
    save_style,
    write,
)
from dsgcli.types import LatentLayout, Provenance

CARD = Provenance(license="CC0", source="drawn", notes="tiny", extra={"steps": 12})


def with_base(tmp_path: Path, **options):
    """A base file, and a DualStyleGAN on top of it."""
    dual = small_dual()
    base = tmp_path / "base.safetensors"
    save_generator(base, dual.generator, **options)
    return base, dual


# ── round trips ──────────────────────────────────────────────────────────────────────────────────


def test_generator_comes_back_with_all_that_belongs_to_it(tmp_path, generator, discriminator):
    path = tmp_path / "base.safetensors"
    last = Generator(generator.config)
    written = save_generator(
        path, generator, g=last, discriminator=discriminator, provenance=CARD, name="faces"
    )
    assert same_weights(load_generator(path), generator)
    assert same_weights(load_generator(path, part="g"), last)
    assert same_weights(load_discriminator(path), discriminator)
    header, shapes = read_header(path)
    assert header == replace(written, made_by=header.made_by)
    assert header.provenance == CARD
    assert (header.name, header.layout) == ("faces", LatentLayout(32))
    assert shapes["g_ema/input.input"] == (1, 8, 4, 4)


def test_whole_dualstylegan_encoder_and_sampler_come_back(tmp_path, dual):
    save_dualstylegan(tmp_path / "dual.safetensors", dual)
    assert same_weights(load_dualstylegan(tmp_path / "dual.safetensors"), dual)
    encoder = small_encoder(latent_avg=True, latent_space="w+")
    save_encoder(tmp_path / "encoder.safetensors", encoder)
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert same_weights(loaded, encoder)
    assert loaded.config == encoder.config
    sampler = small_sampler()
    save_sampler(tmp_path / "sampler.safetensors", sampler)
    assert same_weights(load_sampler(tmp_path / "sampler.safetensors"), sampler)


@pytest.mark.parametrize("half_base", [False, True])
def test_style_is_put_together_with_its_base(tmp_path, half_base):
    base, dual = with_base(tmp_path, half=half_base)
    if half_base:  # what was trained on a half-precision base contains the rounded weights
        dual.generator = load_generator(base)
    path, sampler = tmp_path / "toon.safetensors", small_sampler()
    codes = small_codes("b.png", "a.png", refined=True, instyle=True)
    save_style(path, dual, codes, base=base, sampler=sampler, provenance=CARD)
    assert same_weights(load_dualstylegan(path, base=base), dual)
    assert same_weights(load_sampler(path), sampler)
    assert load_sampler(path).config == sampler.config


def test_style_holds_only_what_its_base_does_not(tmp_path):
    base, dual = with_base(tmp_path)
    path = tmp_path / "toon.safetensors"
    save_style(path, dual, small_codes("a"), base=base)
    header, shapes = read_header(path)
    assert {key.partition("/")[0] for key in shapes} == {"style_path", "codes"}
    assert not [key for key in shapes if "generator" in key]
    assert header.base is not None
    assert (header.base.name, header.base.sha256) == ("base", read_header(base)[0].sha256)


def test_exemplars_are_sorted_by_name_unless_their_order_means_something(tmp_path):
    codes = small_codes("b", "A", "c")
    save_codes(tmp_path / "codes.safetensors", codes)
    model = open_model(tmp_path / "codes.safetensors")
    assert model.header.names == ("A", "b", "c")
    assert torch.equal(model.part("codes")["exstyle"], codes.exstyle[[1, 0, 2]])
    save_codes(tmp_path / "codes.safetensors", codes, keep_order=True)
    assert open_model(tmp_path / "codes.safetensors").header.names == ("b", "A", "c")


def test_half_precision_halves_matrices_and_keeps_vectors(tmp_path, dual):
    whole = save_dualstylegan(tmp_path / "whole.safetensors", dual)
    half = save_dualstylegan(tmp_path / "half.safetensors", dual, half=True)
    assert whole.sha256 != half.sha256
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = load_dualstylegan(tmp_path / "half.safetensors").state_dict()
    for key, value in dual.state_dict().items():
        assert loaded[key].dtype == value.dtype
        allowed = 0.0 if value.ndim < 2 else 2.0**-11
        torch.testing.assert_close(loaded[key], value, rtol=allowed, atol=1e-7)


def test_hash_names_the_averaged_weights_and_nothing_else(tmp_path, generator, discriminator):
    one = save_generator(tmp_path / "one.safetensors", generator)
    two = save_generator(tmp_path / "two.safetensors", generator, provenance=CARD)
    assert one.sha256 == two.sha256
    assert one.sha256 == tensors_sha256(OwnModel(tmp_path / "two.safetensors").stored("g_ema"))
    with_d = tmp_path / "three.safetensors"
    assert save_generator(with_d, generator, discriminator=discriminator).sha256 == one.sha256
    with torch.no_grad():
        generator.conv1.noise.weight.add_(1e-3)
    assert save_generator(tmp_path / "one.safetensors", generator).sha256 != one.sha256


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


def test_style_of_another_generator_is_not_written(tmp_path):
    base, _ = with_base(tmp_path)
    path = tmp_path / "toon.safetensors"
    with pytest.raises(ModelMismatchError, match="trained on another generator than"):
        save_style(path, small_dual(), small_codes("a"), base=base)
    assert not path.exists()


def test_style_refuses_a_base_that_is_not_its_own(tmp_path):
    base, dual = with_base(tmp_path)
    path = tmp_path / "toon.safetensors"
    save_style(path, dual, small_codes("a"), base=base)
    save_generator(base, small_dual().generator)
    with pytest.raises(ModelMismatchError, match=r"made with the base 'base' \(\w{12}\)"):
        load_dualstylegan(path, base=base)
    with pytest.raises(ModelMismatchError, match="needs its base"):
        load_dualstylegan(path)


def test_codes_of_another_size_are_refused_with_both_sizes(tmp_path):
    base, dual = with_base(tmp_path)
    codes = small_codes("a", rows=18, style_dim=512)
    with pytest.raises(ModelMismatchError, match=r"18 x 512.*32 px takes 8 x 16"):
        save_style(tmp_path / "toon.safetensors", dual, codes, base=base)


def test_base_has_to_be_a_file_of_ours(tmp_path):
    dual = small_dual()
    base = save_pt(tmp_path / "ffhq.pt", {"g_ema": dual.generator.state_dict()})
    with pytest.raises(ModelMismatchError, match="import it first"):
        save_style(tmp_path / "toon.safetensors", dual, small_codes("a"), base=base)


def test_weights_that_are_not_finite_are_not_written(tmp_path, generator):
    with torch.no_grad():
        generator.input.input[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelCorruptError, match=r"g_ema/input\.input has numbers that are not fin"):
        save_generator(tmp_path / "base.safetensors", generator)
    assert list(tmp_path.glob("*.safetensors*")) == []


def test_weights_too_large_for_half_precision_are_told_apart(tmp_path, generator):
    with torch.no_grad():
        generator.input.input[0, 0, 0, 0] = 1e6
    with pytest.raises(ModelCorruptError, match="too large for half precision"):
        save_generator(tmp_path / "base.safetensors", generator, half=True)


def test_name_has_to_be_that_of_safetensors(tmp_path, generator):
    with pytest.raises(UsageError, match=r"has to end in \.safetensors"):
        save_generator(tmp_path / "base.pt", generator)


# ── writing whole ────────────────────────────────────────────────────────────────────────────────


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path, generator, monkeypatch):
    path = tmp_path / "models" / "base.safetensors"
    save_generator(path, generator)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DsgError, match="No space left on device"):
        save_generator(path, small_dual().generator)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["base.safetensors"]


def test_folder_that_cannot_be_made_is_told(tmp_path, generator):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(DsgError, match="cannot be made"):
        save_generator(tmp_path / "models" / "base.safetensors", generator)


# ── damage ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def written(tmp_path, generator) -> Path:
    path = tmp_path / "base.safetensors"
    save_generator(path, generator)
    return path


def rewrite_header(path: Path, change) -> None:
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    table = json.loads(raw[8 : 8 + length])
    change(table)
    text = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_truncated_file_is_corrupt(written, share):
    raw = written.read_bytes()
    written.write_bytes(raw[: max(9, int(len(raw) * share))])
    with pytest.raises(ModelCorruptError, match=r"base\.safetensors is incomplete or damaged"):
        open_model(written)


def test_header_of_no_json_is_corrupt(written):
    raw = bytearray(written.read_bytes())
    raw[9:40] = b"\xff" * 31
    written.write_bytes(raw)
    with pytest.raises(ModelCorruptError, match="its header cannot be read"):
        open_model(written)


def test_header_longer_than_the_file_is_corrupt(written):
    raw = written.read_bytes()
    written.write_bytes(struct.pack("<Q", 1 << 39) + raw[8:])
    with pytest.raises(ModelCorruptError, match="its header would take"):
        open_model(written)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table["g_ema/input.input"].update(shape=[1 << 40]),
        lambda table: table["g_ema/input.input"].update(shape=[-1, 8, 4, 4]),
        lambda table: table["g_ema/input.input"].update(dtype="F7"),
        lambda table: table["g_ema/input.input"].update(data_offsets=[0, 512]),
        lambda table: table.update(extra={"dtype": "F32", "shape": [], "data_offsets": [4, 8]}),
        lambda table: table.pop("g_ema/input.input"),
        lambda table: table["__metadata__"].update(dsg="{"),
        lambda table: table["__metadata__"].update(dsg='{"format": 1, "kind": "poem"}'),
        lambda table: table["__metadata__"].update(dsg="[]"),
    ],
)
def test_header_that_contradicts_itself_is_corrupt(written, change):
    rewrite_header(written, change)
    with pytest.raises(ModelCorruptError, match="incomplete or damaged"):
        open_model(written)


def test_header_of_a_newer_version_and_of_others_is_told_apart(written):
    rewrite_header(written, lambda table: table["__metadata__"].update(dsg='{"format": 2}'))
    with pytest.raises(ModelMismatchError, match=r"format 2.*reads up to 1"):
        open_model(written)
    rewrite_header(written, lambda table: table.pop("__metadata__"))
    with pytest.raises(ModelMismatchError, match="made by another program"):
        open_model(written)


def test_weights_with_nan_are_not_loaded(tmp_path, generator):
    """Written by someone else: our own writer refuses them."""
    from safetensors.torch import load_file, save_file

    path = tmp_path / "base.safetensors"
    save_generator(path, generator)
    metadata = {"dsg": json.dumps(read_header(path)[0].as_json())}
    tensors = load_file(path)
    tensors["g_ema/conv1.activate.bias"][3] = float("nan")
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ModelCorruptError, match=r"not finite \(in g_ema, conv1\.activate\.bias\)"):
        load_generator(path)


def test_config_that_does_not_fit_the_weights_is_a_mismatch(written):
    def wider(table):
        values = json.loads(table["__metadata__"]["dsg"])
        values["config"]["style_dim"] = 2 * STYLE_DIM
        table["__metadata__"]["dsg"] = json.dumps(values)

    rewrite_header(written, wider)
    with pytest.raises(ModelMismatchError, match="tensors are of another size"):
        load_generator(written)


@pytest.mark.parametrize("config", [{}, {"size_px": "x"}, {"size_px": 33}, {"size_px": 1 << 40}])
def test_config_that_is_none_is_told(written, config):
    def other(table):
        values = json.loads(table["__metadata__"]["dsg"])
        values["config"] = {**values["config"], **config} if config else {}
        table["__metadata__"]["dsg"] = json.dumps(values)

    rewrite_header(written, other)
    with pytest.raises((ModelCorruptError, ModelMismatchError), match="base"):
        load_generator(written)


def test_header_survives_json(generator):
    header = Header(kind="generator", config=generator.config.as_json(), provenance=CARD)
    back = Header.from_json(json.loads(json.dumps(header.as_json())))
    assert replace(back, made_by="") == header


def test_parts_of_one_storage_are_written_apart(tmp_path):
    shared = torch.arange(8.0)
    write(
        tmp_path / "x.safetensors",
        Header(kind="codes"),
        {"a": {"x": shared[:4]}, "b": {"x": shared[2:]}},
    )
    model = open_model(tmp_path / "x.safetensors")
    assert torch.equal(model.part("b")["x"], shared[2:])
