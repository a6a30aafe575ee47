"""Crops to portraits: the published scripts' numbers, and what holds for any style."""

import numpy as np
import pytest
import torch
from reference import fill, golden

from dsgcli.errors import UsageError
from dsgcli.generate.codes import SampleCodes
from dsgcli.generate.sample import draw_samples
from dsgcli.generate.scenes import SceneRenderer
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.portraits import Look, Portraits, area_resize, pick_weights, to_images, to_pixels
from dsgcli.stylize.refine import refine_codes
from dsgcli.types import LatentLayout, StyleWeights

SIZE = 256
LAYOUT = LatentLayout(SIZE)


def filled(network, tag, family):
    state = network.state_dict()
    for key, values in fill.fill_state(state.items(), tag, family).items():
        state[key].copy_(torch.from_numpy(values))
    return network.eval()


@pytest.fixture(scope="module")
def dual256():
    network = DualStyleGAN(GeneratorConfig.official(SIZE))
    return filled(network, "dual256c2", "stylegan_nonoise")


@pytest.fixture(scope="module")
def encoders():
    """z+ and w+ with the same weights; the latter starts from a mean code."""
    with torch.device("meta"):
        plain = Encoder(EncoderConfig(num_latents=LAYOUT.num_latents))
        other = Encoder(
            EncoderConfig(num_latents=LAYOUT.num_latents, latent_space="w+", latent_avg=True)
        )
    plain = filled(plain.to_empty(device="cpu"), "pspenc", "irse")
    average = fill.unit("psp:latent_avg", (LAYOUT.num_latents, 512))
    state = {**plain.state_dict(), "latent_avg": torch.from_numpy(average)}
    other.load_state_dict(state, assign=True)
    return {"z+": plain, "w+": other}


@pytest.fixture(scope="module")
def tiny():
    """A 32 px style with random weights, and an encoder for it."""
    torch.manual_seed(1)
    config = GeneratorConfig.compact(32, base=256, most=16, style_dim=24, mapping_layers=2)
    encoder = Encoder(
        EncoderConfig(
            num_latents=config.layout.num_latents,
            style_dim=24,
            input_px=64,
            stem_width=8,
            widths=(8, 8, 16, 16),
            units=(1, 1, 1, 1),
            head_width=16,
        )
    )
    return Portraits(DualStyleGAN(config), encoder)


def look(portraits, **values):
    layout = portraits.layout
    exstyle = torch.randn(layout.num_latents, portraits.generator.config.generator.style_dim)
    return Look(exstyle=exstyle, **{"weights": StyleWeights.of(layout), **values})


def check(case_id, name, images, **others):
    case = golden.case(case_id)
    outputs = {
        **{f"{name}.unclamped{k}": v for k, v in golden.summ(images, 64).items()},
        **{f"{name}{k}": v for k, v in golden.summ(images.clamp(-1, 1), 64).items()},
        **{f"{name}.{k}": v for k, v in others.items()},
    }
    wrong = [r for r in golden.check(case, outputs) if not r[1]]
    assert not wrong, f"(output, ok, largest difference, allowed): {wrong}"


# ── the published scripts ────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.golden("script.style_transfer")
@pytest.mark.parametrize("space", ["z+", "w+"])
@pytest.mark.parametrize("preserve_color", [False, True])
def test_stylizing_agrees_with_the_published_script(dual256, encoders, space, preserve_color):
    name = {"z+": ("default", "preserve"), "w+": ("wplus", "wplus_preserve")}[space]
    portraits = Portraits(dual256, encoders[space])
    picture = np.rint((fill.image("style_transfer:content", 1, SIZE) + 1) * 127.5)
    exstyle = torch.from_numpy(fill.unit("style_transfer:ex1", (1, LAYOUT.num_latents, 512)))[0]
    look = Look(exstyle=exstyle, weights=StyleWeights.of(LAYOUT), preserve_color=preserve_color)

    instyle = portraits.encode(picture[0].transpose(1, 2, 0)[None].astype(np.uint8))
    exstyle_ws = portraits.extrinsic_ws(look, instyle).expand(1, -1, -1)
    check(
        "script.style_transfer",
        name[preserve_color],
        portraits.draw_images(instyle, look),
        instyle=instyle[..., :64],
        exstyle=exstyle_ws[..., :64],
    )


@pytest.mark.slow
@pytest.mark.golden("script.generate")
@pytest.mark.parametrize("name", ["plain", "fixed"])
def test_sampling_agrees_with_the_published_script(dual256, name):
    """The published sampler runs on batch statistics (docs/differences.md, 2), so here it does."""
    sampler = StyleSampler(SamplerConfig(layout=LatentLayout(1024)))
    filled(sampler.structure, "samplerS", "sampler")
    filled(sampler.color, "samplerC", "sampler")
    sampler.train()

    def drawn(k, *shape):
        return torch.from_numpy(fill.unit(f"script.generate.{name}:randn{k}", shape))

    z, structure, color = drawn(0, 2, 512), drawn(1, 2, 128), drawn(2, 2, 128)
    with torch.no_grad():
        exstyle = sampler(structure, color)
    if name == "fixed":
        z = z[:1].expand(2, -1)
        exstyle[:, 7:] = exstyle[:1, 7:]
    codes = SampleCodes(z, exstyle[:, : LAYOUT.num_latents], ("a", "b"))
    painter, weights = SceneRenderer(Portraits(dual256)), StyleWeights.of(LAYOUT)
    images = list(draw_samples(painter, codes, weights=weights, truncation=0.5))
    check("script.generate", name, torch.stack(images))


@pytest.mark.golden("save_image")
def test_pictures_are_rounded_as_published():
    case = golden.case("save_image")
    images = torch.from_numpy(golden.inputs(case)["x"])[None]
    wrong = [r for r in golden.check(case, {"u8": to_pixels(images)[0]}) if not r[1]]
    assert not wrong


# ── what holds for any style ─────────────────────────────────────────────────────────────────────


def test_pictures_survive_the_way_to_tensors_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_pixels(to_images(list(pixels), torch.device("cpu"))), pixels)


def test_area_resize_is_the_block_mean():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    torch.testing.assert_close(area_resize(x, 4)[0, 0, 0, 0], x[0, 0, :2, :2].mean())


def test_weights_of_zero_give_the_reconstruction(tiny):
    codes = torch.randn(2, tiny.layout.num_latents, 24)
    nothing = look(tiny, weights=StyleWeights.of(tiny.layout, structure=0, color=0), truncation=1)
    np.testing.assert_array_equal(tiny.draw(codes, nothing), tiny.draw_plain(codes))


def test_a_portrait_does_not_depend_on_its_batch(tiny):
    codes = torch.randn(3, tiny.layout.num_latents, 24)
    style = look(tiny)
    together = tiny.draw_images(codes, style)
    alone = torch.cat([tiny.draw_images(code[None], style) for code in codes])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_preserved_color_makes_the_exemplars_color_rows_irrelevant(tiny):
    codes = torch.randn(1, tiny.layout.num_latents, 24)
    style = look(tiny, preserve_color=True)
    other = style.exstyle.clone()
    other[tiny.layout.color] += 1
    changed = Look(exstyle=other, weights=style.weights, preserve_color=True)
    np.testing.assert_array_equal(tiny.draw(codes, style), tiny.draw(codes, changed))


def test_encoding_takes_crops_larger_than_the_encoder(tiny):
    crops = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    assert tiny.crop_px == 64
    assert tiny.encode(list(crops)).shape == (2, tiny.layout.num_latents, 24)


@pytest.mark.parametrize(
    ("weights", "rows"),
    [([0.75] * 7 + [1.0], 7), ([1.0] * 8, 7), ([0.0] * 7 + [0.5], 8), ([0.0] * 8, 8)],
)
def test_rows_that_a_look_does_not_take_from_the_face_need_no_encoding(tiny, weights, rows):
    seen = look(tiny, weights=StyleWeights(tuple(weights)))
    assert tiny.face_rows(seen) == rows
    crops = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    whole, wanted = tiny.encode(crops), tiny.encode(crops, rows)
    assert wanted[:, :rows].equal(whole[:, :rows])
    assert (wanted[:, rows:] == 0).all()
    assert tiny.draw_images(wanted, seen).equal(tiny.draw_images(whole, seen))


def test_colors_of_the_photograph_and_small_pictures_say_which_rows_they_need(tiny):
    assert tiny.face_rows(look(tiny, preserve_color=True)) == 8
    small = Portraits(tiny.generator, tiny.encoder, size=8)
    assert small.face_rows(look(tiny)) == 4  # 8 px: two convolutions after the first, and ToRGB
    large = Portraits(DualStyleGAN(GeneratorConfig.compact(64, base=64, most=4, style_dim=24)))
    assert large.face_rows(look(large)) == 7
    between = look(large, weights=StyleWeights((1.0,) * 8 + (0.5, 1.0)))
    assert large.face_rows(between) == 9


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def test_two_numbers_override_a_preset_row_by_row():
    layout = LatentLayout(1024)
    weights = pick_weights(layout, preset="anime", color=0.5)
    assert weights.layers == (0, 0, 0, 0, 0.75, 0.75, 0.75) + (0.5,) * 11


def test_weights_beside_a_preset_are_refused():
    with pytest.raises(UsageError, match="leave out"):
        pick_weights(LatentLayout(256), preset="anime", weights=[1] * 14)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(UsageError, match="anime, arcane"):
        pick_weights(LatentLayout(256), preset="manga")


# ── refining ─────────────────────────────────────────────────────────────────────────────────────


def test_refining_brings_the_reconstruction_closer(tiny):
    wanted = tiny.draw_plain(torch.randn(2, tiny.layout.num_latents, 24))
    start = torch.randn(2, tiny.layout.num_latents, 24)
    refined = refine_codes(tiny, list(wanted), start, steps=30)
    before = np.abs(tiny.draw_plain(start).astype(float) - wanted).mean(axis=(1, 2, 3))
    after = np.abs(tiny.draw_plain(refined).astype(float) - wanted).mean(axis=(1, 2, 3))
    assert (after < 0.8 * before).all()


def test_refining_for_no_steps_changes_nothing(tiny):
    start = torch.randn(1, tiny.layout.num_latents, 24)
    assert torch.equal(refine_codes(tiny, list(tiny.draw_plain(start)), start, steps=0), start)


# ── the bound form ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preserve_color", [False, True])
@pytest.mark.parametrize("color", [0.0, 0.4, 1.0])
def test_drawing_agrees_with_the_unbound_network(tiny, preserve_color, color):
    codes = torch.randn(2, tiny.layout.num_latents, 24)
    weights = StyleWeights.of(tiny.layout, structure=0.6, color=color)
    style = look(tiny, weights=weights, preserve_color=preserve_color)
    ws = tiny.intrinsic_ws(codes, style.truncation)
    exstyle_ws = tiny.extrinsic_ws(style, codes).expand(2, -1, -1)
    with torch.no_grad():
        plain = tiny.generator(ws, exstyle_ws, style.weights.layers)
    torch.testing.assert_close(tiny.draw_images(codes, style), plain, atol=1e-4, rtol=1e-4)


def test_a_size_that_the_model_cannot_draw_is_refused(tiny):
    with pytest.raises(UsageError, match="4, 8, 16, 32"):
        Portraits(tiny.generator, size=64)


def test_a_smaller_size_is_drawn_at_that_size(tiny):
    small = Portraits(tiny.generator, tiny.encoder, size=16)
    codes = torch.randn(1, tiny.layout.num_latents, 24)
    assert small.draw(codes, look(small)).shape == (1, 16, 16, 3)
