"""A folded generator draws what its module draws, for every weight, size, batch and noise."""

import pytest
import torch
from likeness import WEIGHTS, codes, distance, narrow_dual, psnr

from dsgcli.inference.generator import fold
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.stylegan2 import GeneratorConfig


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def narrow() -> DualStyleGAN:
    return narrow_dual()


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_folded_generator_draws_what_the_module_draws(narrow, weights):
    ws, exstyle_ws = codes(narrow)
    expected = narrow(ws, exstyle_ws, weights)
    picture = fold(narrow, exstyle_ws, weights)(ws)
    assert picture.dtype == torch.float32 and picture.shape == expected.shape
    assert distance(picture, expected) < 1e-5
    torch.testing.assert_close(
        picture, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
    )


@pytest.mark.slow
def test_folded_full_width_agrees_in_fp32_and_keeps_its_looks_in_bf16(dual64):
    ws, exstyle_ws = codes(dual64, 2)
    ws, exstyle_ws = dual64.generator.map_plus(ws), dual64.generator.map_plus(exstyle_ws)
    expected = dual64(ws, exstyle_ws, WEIGHTS["published"])
    assert distance(fold(dual64, exstyle_ws, WEIGHTS["published"])(ws), expected) < 2e-5
    low = fold(dual64, exstyle_ws, WEIGHTS["published"], dtype=torch.bfloat16)(ws)
    assert low.dtype == torch.float32
    assert psnr(low, expected) > 48


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_bf16_keeps_45_db(narrow, weights):
    ws, exstyle_ws = codes(narrow)
    picture = fold(narrow, exstyle_ws, weights, dtype=torch.bfloat16)(ws)
    assert psnr(picture, narrow(ws, exstyle_ws, weights)) > 45


def test_folded_plain_generator_draws_what_the_module_draws(narrow):
    ws, _ = codes(narrow)
    assert distance(fold(narrow.generator)(ws), narrow.plain(ws)) < 1e-5


@pytest.mark.parametrize("size_px", [4, 8, 32, 64])
def test_folded_generator_stops_early(narrow, size_px):
    ws, exstyle_ws = codes(narrow)
    folded = fold(narrow, exstyle_ws, [0.0] * 10, size_px=size_px)
    _, expected = narrow.generator.synthesize(ws, size_px=size_px)
    assert distance(folded(ws), expected) < 1e-5
    assert len(folded.convs) == 1 + 2 * narrow.layout.blocks_to(size_px)


def test_folded_generator_takes_explicit_noise(narrow):
    ws, exstyle_ws = codes(narrow)
    folded = fold(narrow, exstyle_ws)
    for batch in (1, len(ws)):
        noise = narrow.generator.make_noise(batch)
        assert distance(folded(ws, noise), narrow(ws, exstyle_ws, noise=noise)) < 1e-5
    assert distance(folded(ws, noise), folded(ws)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folded_generator_adds_noise_of_each_sample_in_any_format(narrow, dtype):
    ws, exstyle_ws = codes(narrow)
    folded, noise = fold(narrow, exstyle_ws, dtype=dtype), narrow.generator.make_noise(len(ws))
    assert psnr(folded(ws, noise), narrow(ws, exstyle_ws, noise=noise)) > 45


def test_folded_generator_draws_each_sample_by_itself(narrow):
    ws, exstyle_ws = codes(narrow)
    folded = fold(narrow, exstyle_ws, WEIGHTS["between"])
    alone = torch.cat([folded(one[None]) for one in ws])
    assert distance(folded(ws), alone) < 1e-5


def test_folded_generator_repeats_itself(narrow):
    ws, exstyle_ws = codes(narrow)
    folded = fold(narrow, exstyle_ws)
    assert folded(ws).equal(folded(ws))


def test_folded_generator_does_not_share_weights(narrow):
    ws, exstyle_ws = codes(narrow)
    folded = fold(narrow, exstyle_ws, WEIGHTS["between"])
    before = folded(ws)
    for parameter in narrow.parameters():
        parameter.zero_()
    assert folded(ws).equal(before)


def test_folded_generator_takes_one_w_code(narrow):
    ws, w = codes(narrow)[0], torch.randn(1, 20)
    assert distance(fold(narrow, w)(ws), narrow(ws, w)) < 1e-5


def test_colors_of_the_face_are_blended_outside(narrow):
    """Where the extrinsic color rows come from each face, `blend` gives codes for a generator that
    is bound to the structure alone."""
    ws, exstyle_ws = codes(narrow)
    color, weights = narrow.layout.color, WEIGHTS["between"]
    own = exstyle_ws.repeat(len(ws), 1, 1)
    own[:, color] = torch.randn_like(own[:, color])
    structure = [*weights[narrow.layout.structure], *[0.0] * narrow.layout.num_color]
    folded = fold(narrow, exstyle_ws, structure)
    assert distance(folded(narrow.blend(ws, own, weights)), narrow(ws, own, weights)) < 1e-5


@pytest.mark.parametrize("last_structure", [4, 8])
def test_folded_generator_follows_the_layout(last_structure):
    config = GeneratorConfig.compact(64, base=512, most=12, style_dim=8, mapping_layers=1)
    network = DualStyleGAN(config, last_structure)
    ws, exstyle_ws = codes(network)
    weights = torch.rand(10).tolist()
    expected = network(ws, exstyle_ws, weights)
    assert distance(fold(network, exstyle_ws, weights)(ws), expected) < 1e-5
