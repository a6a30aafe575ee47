"""The pSp encoder: golden cases, and small encoders of other shapes."""

import pytest
import torch
from reference import fill
from torch.nn import functional as F

from dsgcli.errors import ModelMismatchError
from dsgcli.models.encoder import Encoder, EncoderConfig


@pytest.fixture(autouse=True)
def _no_grad(request):
    with torch.set_grad_enabled("grad" in request.node.name):
        yield


@pytest.mark.slow
@pytest.mark.golden("psp.codes18")
def test_codes_and_maps_agree(encoder18, case_inputs, agree, summarize_map):
    taps = encoder18.taps(case_inputs["x"])
    _, p2, p1 = encoder18.pyramid(taps)
    for name, feature_map in zip(("c1", "c2", "c3", "p2", "p1"), (*taps, p2, p1), strict=True):
        agree(summarize_map(name, feature_map))
    agree({"codes": encoder18(case_inputs["x"])})


def first_rows(encoder, **other):
    """The same weights, fewer heads, as the rule names weights by key."""
    with torch.device("meta"):
        short = Encoder(EncoderConfig(num_latents=10, **other))
    wanted = short.state_dict().keys()
    state = {key: value for key, value in encoder.state_dict().items() if key in wanted}
    if other.get("latent_avg"):
        state["latent_avg"] = torch.from_numpy(fill.unit("psp:latent_avg", (10, 512)))
    short.load_state_dict(state, assign=True)
    return short.eval()


@pytest.mark.slow
@pytest.mark.golden("psp.forward")
def test_encoder_and_decoder_agree(encoder18, gen64, case_inputs, agree):
    codes = first_rows(encoder18)(case_inputs["x"])
    ws = gen64.map_plus(codes)
    picture = gen64(ws)
    agree({"zplus_codes": codes, "zplus_w": ws, "zplus_img": picture})
    pooled = F.adaptive_avg_pool2d(picture, 256)  # what the published class does when told to
    agree({"resized_shape": torch.tensor(pooled.shape)})
    shifted = first_rows(encoder18, latent_space="w+", latent_avg=True)
    ws = shifted(case_inputs["x"])
    agree({"wplus_latent": ws, "wplus_img": gen64(ws)})


def test_codes_do_not_depend_on_the_batch(tiny_encoder):
    x = torch.randn(3, 3, 32, 32)
    alone = torch.cat([tiny_encoder(face[None]) for face in x])
    torch.testing.assert_close(tiny_encoder(x), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("input_px", [32, 64, 128])
@pytest.mark.parametrize("num_latents", [8, 14])
def test_small_encoders_of_any_shape(input_px, num_latents):
    config = EncoderConfig(
        num_latents=num_latents,
        style_dim=20,
        input_px=input_px,
        stem_width=4,
        widths=(4, 8, 8, 12),
        units=(1, 2, 2, 1),
        head_width=10,
        coarse_rows=2,
        middle_rows=3,
    )
    codes = Encoder(config).eval()(torch.randn(2, 3, input_px, input_px))
    assert codes.shape == (2, num_latents, 20)
    assert codes.isfinite().all()


def test_an_encoder_of_a_few_megabytes():
    config = EncoderConfig(
        num_latents=10, stem_width=16, widths=(16, 32, 48, 64), units=(1, 1, 2, 1), head_width=32
    )
    with torch.device("meta"):
        weights = sum(p.numel() for p in Encoder(config).parameters())
    assert weights * 4 < 4e6


def test_taps_are_the_last_units_of_the_later_stages():
    assert EncoderConfig().taps == (6, 20, 23)


def test_encoder_can_be_trained_by_grad(tiny_encoder):
    tiny_encoder(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in tiny_encoder.parameters())


def test_encoder_works_in_float64(tiny_encoder):
    x = torch.randn(1, 3, 32, 32)
    single = tiny_encoder(x).double()
    torch.testing.assert_close(tiny_encoder.double()(x.double()), single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [EncoderConfig(), EncoderConfig(latent_space="w+", input_px=64)])
def test_encoder_config_survives_its_header(config):
    assert EncoderConfig.from_json(config.as_json()) == config


@pytest.mark.parametrize("wrong", [{"input_px": 100}, {"latent_space": "z"}])
def test_encoder_config_refuses_what_cannot_be(wrong):
    with pytest.raises(ModelMismatchError):
        EncoderConfig(**wrong)
