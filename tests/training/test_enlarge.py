"""A base of a larger size than the run's is cut, and what is learnt on it can be put back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsgcli.errors import ModelMismatchError
from dsgcli.inference.generator import fold
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.patch import PatchDiscriminator
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import build
from dsgcli.store import ModelStore
from dsgcli.store.contents import open_model
from dsgcli.store.networks import load_generator
from dsgcli.store.write import save_generator
from dsgcli.training.preflight import start_file
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.stages.enlarge import check_grown, cut_generator, enlarged

CONFIG = GeneratorConfig.compact(64, base=512, most=16, style_dim=16, mapping_layers=2)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    network = Generator(replace(CONFIG, prior_axes=4))
    network.prior.fit(torch.randn(50, 10, 16))
    return network


@torch.no_grad()
def test_cut_generator_draws_what_the_whole_one_draws_on_its_way(generator):
    small = cut_generator(generator, 32)
    ws, z = torch.randn(2, 10, 16), torch.randn(2, 16)
    assert torch.equal(small(ws[:, :8]), generator.synthesize(ws, size_px=32)[1])
    assert torch.equal(small.random_ws(z), generator.random_ws(z)[:, :8])
    check_grown(small, generator)


@torch.no_grad()
def test_style_that_is_enlarged_draws_at_its_own_size_what_it_drew(generator):
    small = DualStyleGAN(cut_generator(generator, 32).config, last_structure=4)
    small.generator.load_state_dict(cut_generator(generator, 32).state_dict())
    large = enlarged(small, generator)
    ws, exstyle_ws = torch.randn(2, 10, 16), torch.randn(1, 10, 16)
    wanted = fold(small, exstyle_ws[:, :8])(ws[:, :8])
    torch.testing.assert_close(fold(large, exstyle_ws, size_px=32)(ws), wanted)
    assert torch.allclose(large.color_code(9, exstyle_ws), exstyle_ws[:, 9], atol=1e-6)
    torch.testing.assert_close(large.plain(ws), generator(ws))


def test_base_that_has_not_grown_from_it_is_refused(generator):
    other = Generator(CONFIG)
    with pytest.raises(ModelMismatchError, match="has not grown from the style's base of 32 px"):
        check_grown(cut_generator(other, 32), generator)
    with pytest.raises(ModelMismatchError, match="cannot be enlarged by a base of 64 px"):
        check_grown(generator, generator)


@pytest.mark.parametrize("judge", [PatchDiscriminator, Discriminator])
def test_base_is_cut_once_with_a_discriminator_that_fits(generator, tmp_path, judge):
    path, run = tmp_path / "whole.safetensors", RunFolder(tmp_path / "run")
    save_generator(path, generator, discriminator=judge(CONFIG))
    recipe = build({"model": {"size_px": 32}, "start": {"base": str(path)}})
    store = ModelStore.open(tmp_path)
    cut = start_file("base", recipe, run, store)
    assert cut == run.path / "start" / "whole-32px.safetensors"
    assert ("d" in open_model(cut).parts) == (judge is PatchDiscriminator)
    check_grown(load_generator(cut), generator)
    before = cut.stat().st_mtime_ns
    assert start_file("base", recipe, run, store) == cut
    assert cut.stat().st_mtime_ns == before
    same = build({"model": {"size_px": 64}, "start": {"base": str(path)}})
    assert start_file("base", same, run, store) == path
