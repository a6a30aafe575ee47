"""Published checkpoints load unchanged, and what is wrong with one is said in words."""

from __future__ import annotations

import datetime
import json
from argparse import Namespace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from small_models import (
    STYLE_DIM,
    encoder_checkpoint,
    same_weights,
    save_npy,
    save_pt,
    small_codes,
    small_config,
    small_dual,
    small_encoder,
    small_sampler,
)
from torch import nn

from dsgcli.errors import ModelCorruptError, ModelMismatchError
from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import EncoderConfig
from dsgcli.models.features import VGG16, VGG19, LPIPSHeads
from dsgcli.models.irse import IRSE50
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.store.architecture import dual_config, encoder_config, generator_config, kind_of
from dsgcli.store.contents import open_model
from dsgcli.store.networks import (
    load_discriminator,
    load_dualstylegan,
    load_encoder,
    load_generator,
    load_identity,
    load_lpips,
    load_sampler,
    load_vgg19,
)

REFERENCE = Path(__file__).parents[1] / "reference" / "state_dicts.json"
ADAM_STATE = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
    "param_groups": [{"lr": 0.002, "betas": (0.0, 0.99), "params": [0]}],
}
LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, tuple[int, ...]]]:
    """Keys and shapes of the published networks."""
    tables = json.loads(REFERENCE.read_text("utf-8"))
    return {
        name: {key: tuple(shape) for key, shape in table.items() if isinstance(shape, list)}
        for name, table in tables.items()
    }


# ── architecture from keys and shapes ────────────────────────────────────────────────────────────


def test_published_generator_is_recognized_by_its_keys(published):
    shapes = published["Generator(1024,512,8,2)"]
    assert kind_of(shapes) == "generator"
    assert generator_config(shapes, Path("x.pt")) == GeneratorConfig.official(1024)


def test_published_dualstylegan_is_recognized_by_its_keys(published):
    inner = published["Generator(1024,512,8,2)"]
    shapes = dict(published["DualStyleGAN(1024,512,8,2,res_index=6)"])
    shapes = {key: shape for key, shape in shapes.items() if "*" not in key}
    shapes |= {f"generator.{key}": shape for key, shape in inner.items()}
    assert kind_of(shapes) == "dualstylegan"
    wanted = DualConfig(generator=GeneratorConfig.official(1024))
    assert dual_config(shapes, Path("x.pt")) == wanted


def test_published_encoder_is_recognized_by_its_keys(published):
    shapes = published["GradualStyleEncoder(50,ir_se,n_styles=18)"]
    assert kind_of(shapes) == "encoder"
    assert encoder_config(shapes, Path("x.pt"), space="z+", latent_avg=False) == EncoderConfig()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Backbone(112,50,ir_se)", "identity"),
        ("lpips_vgg_v0.1", "lpips"),
        ("Discriminator(1024,2)", None),
        ("sampler.color", None),
    ],
)
def test_other_published_networks_are_told_apart(published, name, kind):
    assert kind_of(published[name]) == kind


@pytest.mark.parametrize("size_px", [32, 64, 256, 1024])
@pytest.mark.parametrize("style_layers", [1, 2])
def test_any_dualstylegan_is_rebuilt_from_its_shapes(size_px, style_layers):
    config = DualConfig(
        generator=GeneratorConfig.compact(
            size_px, base=2048, most=8, style_dim=12, mapping_layers=size_px.bit_length() - 2
        ),
        last_structure=4,
        style_layers=style_layers,
    )
    state = DualStyleGAN.of(config).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert dual_config(shapes, Path("x.pt")) == config


@pytest.mark.parametrize("input_px", [32, 64, 256])
@pytest.mark.parametrize("num_latents", [8, 14, 18])
def test_any_encoder_with_four_widths_is_rebuilt_from_its_shapes(input_px, num_latents):
    from dsgcli.models.encoder import Encoder

    config = EncoderConfig(
        num_latents=num_latents,
        style_dim=10,
        latent_space="w+",
        input_px=input_px,
        stem_width=4,
        widths=(4, 8, 16, 24),
        units=(1, 2, 3, 1),
        head_width=6,
    )
    state = Encoder(config).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    found = encoder_config(shapes, Path("x.pt"), space="w+", latent_avg=False)
    assert found == config


# ── published files ──────────────────────────────────────────────────────────────────────────────


@LEGACY
def test_generator_pt_loads(tmp_path, dual, legacy):
    path = save_pt(tmp_path / "toon" / "generator.pt", {"g_ema": dual.state_dict()}, legacy=legacy)
    loaded = load_dualstylegan(path)
    assert same_weights(loaded, dual)
    assert not loaded.training
    assert loaded.config == dual.config
    assert open_model(path).header.name == "toon"
    ws, ex = torch.randn(1, 8, STYLE_DIM), torch.randn(1, STYLE_DIM)
    assert torch.equal(loaded(ws, ex), dual(ws, ex))


@pytest.mark.parametrize("key", ["g", "params_ema", "params", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_under_the_keys_that_training_code_uses(tmp_path, dual, key, prefix):
    state = {prefix + name: value for name, value in dual.state_dict().items()}
    content = {key: state, "optimizer": ADAM_STATE, "iteration": 1500}
    path = save_pt(tmp_path / "toon" / "generator-001500.pt", content)
    assert same_weights(load_dualstylegan(path), dual)
    assert open_model(path).header.name == "toon"


def test_averaged_weights_are_taken_of_several(tmp_path, dual):
    last = {name: value + 1 for name, value in dual.state_dict().items()}
    path = save_pt(tmp_path / "x.pt", {"g": last, "params_ema": dual.state_dict()})
    assert same_weights(load_dualstylegan(path), dual)


@pytest.mark.parametrize("how", ["half", "parameters", "views", "arguments", "numbers"])
def test_weights_load_however_they_were_kept(tmp_path, dual, how):
    """As training code of the field saves them."""
    state, beside = dual.state_dict(), {}
    if how == "half":
        state = {key: value.half() for key, value in state.items()}
        dual.load_state_dict(state)
    elif how == "parameters":
        state = {k: nn.Parameter(v, v.is_floating_point()) for k, v in state.items()}
    elif how == "views":
        state = {key: torch.stack([value, value])[0] for key, value in state.items()}
    elif how == "arguments":
        beside = {"args": Namespace(root=PurePosixPath("x")), "when": datetime.datetime(2020, 1, 1)}
    else:
        beside = {"loss": np.float64(1.5), "step": np.int64(7), "seen": {1, 2}}
    path = save_pt(tmp_path / "x.pt", {"g_ema": state, **beside})
    assert same_weights(load_dualstylegan(path), dual)


def test_g_ema_of_parallel_training_loads(tmp_path, dual):
    state = {f"module.{name}": value for name, value in dual.state_dict().items()}
    assert same_weights(load_dualstylegan(save_pt(tmp_path / "x.pt", {"g_ema": state})), dual)


@LEGACY
def test_stylegan2_checkpoint_loads_with_its_discriminator(
    tmp_path, generator, discriminator, legacy
):
    other = Generator(small_config())
    content = {
        "g": other.state_dict(),
        "d": discriminator.state_dict(),
        "g_ema": generator.state_dict(),
        "latent_avg": torch.zeros(STYLE_DIM),
    }
    path = save_pt(tmp_path / "stylegan2-ffhq-config-f.pt", content, legacy=legacy)
    assert same_weights(load_generator(path), generator)
    assert same_weights(load_generator(path, part="g"), other)
    assert same_weights(load_discriminator(path), discriminator)


def test_pretrain_checkpoint_loads_with_optimizers_beside(tmp_path, dual, discriminator):
    content = {
        "g": dual.state_dict(),
        "d": discriminator.state_dict(),
        "g_ema": dual.state_dict(),
        "d_optim": ADAM_STATE,
        "ada_aug_p": 0.0,
    }
    path = save_pt(tmp_path / "generator-pretrain.pt", content)
    assert same_weights(load_dualstylegan(path), dual)
    assert same_weights(load_generator(path), dual.generator)
    assert same_weights(load_discriminator(path), discriminator)


@LEGACY
@pytest.mark.parametrize("options", ["namespace", "dict"])
@pytest.mark.parametrize("adds", [False, True])
def test_encoder_pt_loads(tmp_path, generator, legacy, options, adds):
    encoder = small_encoder(latent_avg=adds)
    if adds:
        encoder.latent_avg.normal_()
    content = encoder_checkpoint(encoder, generator, start_from_latent_avg=adds, device="cuda")
    if options == "dict":
        content["opts"] = vars(content["opts"])
    path = save_pt(tmp_path / "encoder.pt", content, legacy=legacy)
    loaded = load_encoder(path)
    assert same_weights(loaded, encoder)
    faces = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(faces), encoder(faces))


def test_encoder_wplus_is_known_by_its_name_or_by_what_is_said(tmp_path, generator):
    content = encoder_checkpoint(small_encoder(), generator)
    assert load_encoder(save_pt(tmp_path / "encoder.pt", content)).config.latent_space == "z+"
    path = save_pt(tmp_path / "encoder_wplus.pt", content)
    assert load_encoder(path).config.latent_space == "w+"
    assert load_encoder(path, space="z+").config.latent_space == "z+"


def test_mean_code_of_one_row_counts_for_all_rows(tmp_path, generator):
    content = encoder_checkpoint(small_encoder(), generator, start_from_latent_avg=True)
    content["latent_avg"] = torch.arange(16.0)
    loaded = load_encoder(save_pt(tmp_path / "encoder.pt", content))
    assert torch.equal(loaded.latent_avg, torch.arange(16.0).expand(8, -1))


def test_encoder_is_cut_to_the_rows_of_a_smaller_model(tmp_path, generator):
    encoder = small_encoder(10, latent_avg=True)
    encoder.latent_avg.normal_()
    content = encoder_checkpoint(encoder, generator, start_from_latent_avg=True)
    path = save_pt(tmp_path / "encoder.pt", content)
    faces = torch.randn(1, 3, 32, 32)
    assert torch.equal(load_encoder(path, num_latents=8)(faces), encoder(faces)[:, :8])
    with pytest.raises(ModelMismatchError, match=r"10 rows \(64 px\).*12 \(128 px\)"):
        load_encoder(path, num_latents=12)


def test_sampler_pt_loads(tmp_path):
    sampler = small_sampler()
    halves = {name: getattr(sampler, name).state_dict() for name in ("color", "structure")}
    path = save_pt(tmp_path / "sampler.pt", halves)
    loaded = load_sampler(path, style_dim=STYLE_DIM)
    assert same_weights(loaded, sampler)
    assert loaded.config == sampler.config
    with pytest.raises(ModelMismatchError, match="no rows of 512"):
        load_sampler(path)


def test_perceptual_networks_load_from_their_files(tmp_path):
    torch.manual_seed(1)
    vgg16, vgg19, heads, identity = VGG16(), VGG19(), LPIPSHeads(), IRSE50()
    classifier = {"classifier.0.weight": torch.zeros(2, 2)}
    files = {
        "vgg16": save_pt(tmp_path / "vgg16.pth", {**vgg16.state_dict(), **classifier}),
        "vgg19": save_pt(tmp_path / "vgg19.pth", {**vgg19.state_dict(), **classifier}),
        "lpips": save_pt(tmp_path / "vgg.pth", heads.state_dict()),
        "identity": save_pt(tmp_path / "model_ir_se50.pth", identity.state_dict()),
    }
    assert {name: open_model(path).header.kind for name, path in files.items()} == {
        name: name for name in files
    }
    assert same_weights(load_vgg19(files["vgg19"]), vgg19)
    assert same_weights(load_identity(files["identity"]), identity)
    lpips = load_lpips(files["lpips"], files["vgg16"])
    assert same_weights(lpips.vgg, vgg16)
    assert same_weights(lpips.heads, heads)
    assert torch.equal(lpips.vgg.standardize.scale, vgg16.standardize.scale)


def test_codes_open_as_a_model(tmp_path):
    codes = small_codes("b", "a")
    model = open_model(save_npy(tmp_path / "instyle_code.npy", codes.names, codes.exstyle))
    assert (model.header.kind, model.header.names) == ("codes", ("b", "a"))
    assert torch.equal(model.part("codes")["instyle"], codes.exstyle)


def test_bare_state_dict_loads_whether_wrapped_or_not(tmp_path, dual):
    bare = save_pt(tmp_path / "bare.pt", dual.state_dict())
    wrapped = {f"module.{key}": value for key, value in dual.state_dict().items()}
    assert same_weights(load_dualstylegan(bare), dual)
    assert same_weights(load_dualstylegan(save_pt(tmp_path / "ddp.pt", wrapped)), dual)


def test_loading_draws_no_random_numbers_and_keeps_constants(tmp_path, generator):
    """What a constructor would draw is replaced by the file's; FIR kernels are the same anyway."""
    path = save_pt(tmp_path / "g.pt", {"g_ema": generator.state_dict()})
    before = torch.get_rng_state()
    loaded = load_generator(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(loaded, generator)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_loaded_weights_do_not_depend_on_their_file(tmp_path, dual):
    path = save_pt(tmp_path / "generator.pt", {"g_ema": dual.state_dict()})
    loaded = load_dualstylegan(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert same_weights(loaded, dual)


# ── what is wrong, in words ──────────────────────────────────────────────────────────────────────


def test_missing_and_extra_keys_are_named(tmp_path, dual):
    state = dual.state_dict()
    for key in [k for k in state if k.startswith("generator.noises.")]:
        del state[key]
    state["surplus.weight"] = torch.zeros(1)
    path = save_pt(tmp_path / "generator.pt", {"g_ema": state})
    with pytest.raises(ModelMismatchError) as error:
        load_dualstylegan(path)
    assert "7 keys are missing (generator.noises.noise_0, " in str(error.value)
    assert "and 4 more)" in str(error.value)
    assert "1 key is too many (surplus.weight)" in str(error.value)


def test_tensor_of_another_size_is_named_with_both_sizes(tmp_path, dual):
    state = {**dual.state_dict(), "res.7.weight": torch.zeros(3, 4)}
    path = save_pt(tmp_path / "generator.pt", {"g_ema": state})
    with pytest.raises(ModelMismatchError, match=r"res\.7\.weight is 3x4 instead of 16x16"):
        load_dualstylegan(path)


def test_file_of_another_kind_says_what_it_is(tmp_path, dual, generator, discriminator):
    encoder = save_pt(tmp_path / "encoder.pt", encoder_checkpoint(small_encoder(), generator))
    with pytest.raises(ModelMismatchError, match=r"holds an encoder, not a DualStyleGAN"):
        load_dualstylegan(encoder)
    with pytest.raises(ModelMismatchError, match="looks like a StyleGAN2 discriminator alone"):
        open_model(save_pt(tmp_path / "d.pt", discriminator.state_dict()))
    with pytest.raises(ModelMismatchError, match="looks like the state of an optimizer"):
        open_model(save_pt(tmp_path / "o.pt", ADAM_STATE))
    with pytest.raises(ModelMismatchError, match="no generator under 'g_ema' but an encoder"):
        open_model(save_pt(tmp_path / "x.pt", {"g_ema": small_encoder().state_dict()}))
    with pytest.raises(ModelMismatchError, match="holds list"):
        open_model(save_pt(tmp_path / "l.pt", [torch.zeros(1)]))
    with pytest.raises(ModelMismatchError, match=r"must save network\.state_dict\(\) instead"):
        open_model(save_pt(tmp_path / "whole.pt", dual))
    with pytest.raises(ModelMismatchError, match="looks like something without a tensor"):
        open_model(save_pt(tmp_path / "empty.pt", {}))
    arrays = {key: value.numpy() for key, value in dual.state_dict().items()}
    with pytest.raises(ModelMismatchError, match="under 'g_ema' but something without a tensor"):
        open_model(save_pt(tmp_path / "n.pt", {"g_ema": arrays}))
    with pytest.raises(ModelMismatchError, match=r"no part 'd', only g_ema"):
        load_discriminator(save_pt(tmp_path / "g.pt", {"g_ema": dual.state_dict()}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, dual, value):
    state = dual.state_dict()
    state["res.7.bias"] = torch.full_like(state["res.7.bias"], value)
    path = save_pt(tmp_path / "generator.pt", {"g_ema": state})
    with pytest.raises(ModelCorruptError, match=r"not finite \(in g_ema, res\.7\.bias\)"):
        load_dualstylegan(path)


def test_generator_of_no_known_size_is_refused(tmp_path):
    config = small_config()
    state = Generator(config).state_dict()
    small = {k: v for k, v in state.items() if not k.startswith(("convs.2", "convs.3", "convs.4"))}
    with pytest.raises(ModelMismatchError, match="no generator of a size that dsg has"):
        load_generator(save_pt(tmp_path / "g.pt", {"g_ema": small}))


def test_discriminator_of_another_size_is_refused(tmp_path, generator):
    other = Discriminator(small_config(64))
    path = save_pt(tmp_path / "g.pt", {"g_ema": generator.state_dict(), "d": other.state_dict()})
    with pytest.raises(ModelMismatchError, match=r"not a StyleGAN2 discriminator of 32 px"):
        load_discriminator(path)


def test_dual_of_64_px_draws_64_px(tmp_path):
    dual = small_dual(64)
    loaded = load_dualstylegan(save_pt(tmp_path / "g.pt", {"g_ema": dual.state_dict()}))
    assert loaded(torch.randn(1, 10, 16), torch.randn(1, 16)).shape == (1, 3, 64, 64)
