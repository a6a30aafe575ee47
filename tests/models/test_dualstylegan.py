"""DualStyleGAN: golden cases, and what the weights, the fuse index and batches must do."""

import pytest
import torch
from torch.nn import functional as F

from dsgcli.models.dualstylegan import (
    AdaIN,
    DualConfig,
    DualStyleGAN,
    ModRes,
    weights_by_row,
)
from dsgcli.models.stylegan2 import GeneratorConfig

DEFAULT = [0.75] * 7 + [1.0] * 3
VECTORS = {
    "ones": [1.0] * 10,
    "default": DEFAULT,
    "zeros": [0.0] * 10,
    "half": [0.5] * 10,
    "struct_only": [1.0] * 7 + [0.0] * 3,
    "color_only": [0.0] * 7 + [1.0] * 3,
}


@pytest.fixture(autouse=True)
def _no_grad(request):
    with torch.set_grad_enabled("grad" in request.node.name):
        yield


def codes(network, inputs):
    """ws from z, and the extrinsic code from z+, as most cases have them."""
    generator = network.generator
    return generator.broadcast(generator.map(inputs["z"])), generator.map_plus(inputs["ez"])


# ── golden cases ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.golden("dual.Ts_Tc")
def test_extrinsic_transforms_agree(dual64, case_inputs, agree):
    w = case_inputs["w"]
    agree({"Ts": dual64.style(w), "Tc7": dual64.color_code(7, w), "Tc9": dual64.color_code(9, w)})


@pytest.mark.golden("dual.AdaResBlock")
def test_modulative_residual_block_agrees(dual64, case_inputs, agree, fill_network, summarize_map):
    x, style, block = case_inputs["x"], case_inputs["s"], dual64.res[3]
    agree({"w0_is_input": (block(x, style, 0.0) - x).abs().max()})
    for weight in (1.0, 0.5):
        y, name = block(x, style, weight), f"w{weight:g}"
        agree(summarize_map(name, y) | {f"{name}.ch0_8": y[:, :8]})
    agree({"adain.ch0_8": block.norm(x, style)[:, :8]})
    small = fill_network(ModRes(16, 12), "ada16", "stylegan")
    agree({"small": small(case_inputs["x16"], case_inputs["s12"], 0.75)})  # not in the notes


@pytest.mark.golden("dual.init")
def test_fresh_weights_are_spread_as_published(agree):
    network = DualStyleGAN(GeneratorConfig.official(64))
    blocks, color = network.res[network.layout.structure], network.res[network.layout.color]
    off_diagonal = ~torch.eye(512, dtype=torch.bool)
    bias = blocks[0].norm.style.bias
    agree(
        {
            "conv_std": torch.stack(
                [conv[0].weight.std() for block in blocks[:4] for conv in (block.conv, block.conv2)]
            ),
            "Tc_diag_mean": color[0].weight.diagonal().mean(),
            "Tc_off_std": color[0].weight[off_diagonal].std(),
            "Tc_bias_absmax": color[0].bias.abs().max(),
            "adain_bias": torch.stack([bias[0], bias[511], bias[512]]),
            "adain_w_absmax": blocks[0].norm.style.weight.abs().max(),
            "Ts_std": network.style[1].weight.std(),
            "Ts_bias": network.style[1].bias.abs().max(),
        }
    )


@pytest.mark.slow
@pytest.mark.golden("dual.weights")
def test_weight_vectors_agree(dual64, case_inputs, agree):
    ws, exstyle_ws = codes(dual64, case_inputs)
    agree({"exstyle_w": exstyle_ws[..., :16], "use_res_False": dual64.plain(ws)})
    agree({name: dual64(ws, exstyle_ws, weights) for name, weights in VECTORS.items()})


@pytest.mark.slow
@pytest.mark.golden("dual.single_layer")
def test_single_rows_agree(dual64, case_inputs, agree):
    ws, exstyle_ws = codes(dual64, {name: value[:1] for name, value in case_inputs.items()})
    rows = torch.eye(10).tolist()
    pictures = {f"only{i}": dual64(ws, exstyle_ws, row) for i, row in enumerate(rows)}
    agree({name: F.avg_pool2d(picture, 2) for name, picture in pictures.items()})


@pytest.mark.slow
@pytest.mark.golden("dual.fuse_index")
def test_fuse_indices_agree(dual64, case_inputs, agree):
    ws, exstyle_ws = codes(dual64, {name: value[:1] for name, value in case_inputs.items()})
    pictures = {f"fuse{k}": dual64(ws, exstyle_ws, fuse_index=k) for k in range(11)}
    agree({name: F.avg_pool2d(picture, 2) for name, picture in pictures.items()})


@pytest.mark.slow
@pytest.mark.golden("dual.modes")
def test_intrinsic_modes_agree(dual64, case_inputs, agree):
    generator, exstyle_ws = dual64.generator, dual64.generator.map_plus(case_inputs["ez"])
    ws = generator.broadcast(generator.map(case_inputs["z"]))
    ws_plus = generator.map_plus(case_inputs["zp"])
    mixed = generator.mix(ws, generator.broadcast(generator.map(case_inputs["z2"])), 5)
    truncated = {
        "trunc05_z": generator.truncate(ws, 0.5),
        "trunc075_zplus": generator.truncate(ws_plus, 0.75),
        "trunc075_wplus": generator.truncate(case_inputs["wp"], 0.75),
    }
    whole = {"zplus": ws_plus, "w": generator.broadcast(case_inputs["w"]), "mix5": mixed}
    agree({name: dual64(code, exstyle_ws, DEFAULT) for name, code in truncated.items()})
    agree({name: dual64(code, exstyle_ws) for name, code in whole.items()})
    agree({"mix5_latents": mixed[..., :8]})


@pytest.mark.slow
@pytest.mark.golden("dual.ex2d_feat")
def test_extrinsic_w_and_features_agree(dual64, case_inputs, agree, summarize_map):
    ws, exstyle_ws = codes(dual64, case_inputs)
    w = case_inputs["e2"]
    agree({"ex2d": dual64(ws, w), "ex2d_default_w": dual64(ws, w, DEFAULT)})
    agree({"ex3d_same": dual64(ws, dual64.generator.broadcast(w))})
    features, picture = dual64.features(ws, exstyle_ws)
    agree(summarize_map("feat", features))
    agree({"feat.ch0_4": features[:, :4], "feat.skip": picture})


@pytest.mark.golden("dual.res_index4")
def test_a_shorter_structure_agrees(case_inputs, agree, fill_network):
    network = DualStyleGAN(GeneratorConfig.official(64), last_structure=4)
    fill_network(network, "dual64c2r4", "stylegan")
    ws = network.generator.broadcast(network.generator.map(case_inputs["z"]))
    exstyle_ws = case_inputs["ex"]
    agree({"img": network(ws, exstyle_ws), "default": network(ws, exstyle_ws, DEFAULT)})


@pytest.mark.slow
@pytest.mark.golden("dual.full1024")
def test_full_size_agrees(case_inputs, agree, fill_network, summarize_picture):
    network = DualStyleGAN(GeneratorConfig.official(1024))
    fill_network(network, "dual1024c2", "stylegan")
    generator = network.generator
    exstyle_ws = generator.map_plus(torch.cat([case_inputs["zs"], case_inputs["zc"]], dim=1))
    ws = generator.truncate(generator.broadcast(generator.map(case_inputs["z"])), 0.5)
    drawn = network(ws, exstyle_ws, [0.75] * 7 + [1.0] * 11)
    agree(summarize_picture("generate", drawn, pool=64, crop=32))
    ws = generator.truncate(generator.map_plus(case_inputs["zp"]), 0.75)
    drawn = network(ws, exstyle_ws, [0.6] * 11 + [1.0] * 7)
    agree(summarize_picture("transfer", drawn, pool=64, crop=32))


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pair(tiny_generator):
    """Intrinsic and extrinsic codes, (3, L, D) each."""
    shape = (3, tiny_generator.layout.num_latents, tiny_generator.config.generator.style_dim)
    return torch.randn(shape), torch.randn(shape)


def test_no_weight_is_the_plain_generator(tiny_generator, pair):
    ws, exstyle_ws = pair
    zeros = [0.0] * tiny_generator.layout.num_latents
    plain = tiny_generator.plain(ws)
    assert tiny_generator(ws, exstyle_ws, zeros).equal(plain)
    assert tiny_generator(ws, exstyle_ws, fuse_index=0).equal(plain)
    assert not tiny_generator(ws, exstyle_ws).allclose(plain)


def test_full_color_hides_the_color_of_the_face(tiny_generator, pair):
    ws, exstyle_ws = pair
    other = ws.clone()
    other[:, tiny_generator.layout.color] = 7.0
    assert tiny_generator(ws, exstyle_ws).equal(tiny_generator(other, exstyle_ws))


def test_each_sample_can_have_its_own_weights(tiny_generator, pair):
    ws, exstyle_ws = pair
    weights = torch.rand(3, tiny_generator.layout.num_latents)
    together = tiny_generator(ws, exstyle_ws, weights)
    for row in range(3):
        part = slice(row, row + 1)
        alone = tiny_generator(ws[part], exstyle_ws[part], weights[row].tolist())
        torch.testing.assert_close(together[part], alone, atol=1e-4, rtol=1e-4)


def test_one_exemplar_serves_a_batch(tiny_generator, pair):
    ws, exstyle_ws = pair
    one = exstyle_ws[:1]
    repeated = tiny_generator(ws, one.expand_as(ws), [0.5] * 8)
    torch.testing.assert_close(tiny_generator(ws, one, [0.5] * 8), repeated, atol=1e-5, rtol=1e-5)


def test_extrinsic_w_is_the_same_row_everywhere(tiny_generator, pair):
    ws, w = pair[0], torch.randn(3, 16)
    repeated = tiny_generator.generator.broadcast(w)
    torch.testing.assert_close(tiny_generator(ws, w), tiny_generator(ws, repeated))


def test_weights_by_row_honors_the_fuse_index(tiny_generator):
    layout = tiny_generator.layout
    assert weights_by_row(None, layout, 0) == [0.0] * 8
    assert weights_by_row(None, layout, 1) == [1.0] * 2 + [0.0] * 6
    assert weights_by_row([0.5] * 8, layout, 6) == [0.5] * 7 + [0.0]


def test_weights_can_be_learnt_by_grad(tiny_generator, pair):
    weights = torch.full((3, 8), 0.5, requires_grad=True)
    tiny_generator(*pair, weights).square().sum().backward()
    assert (weights.grad.abs() > 0).all()


def test_extrinsic_path_can_be_trained_with_grad_of_grad(tiny_generator, pair):
    ws, exstyle_ws = pair[0].requires_grad_(), pair[1]
    (grad,) = torch.autograd.grad(
        tiny_generator(ws, exstyle_ws, [0.5] * 8).sum(), ws, create_graph=True
    )
    grad.square().sum().backward()
    assert tiny_generator.res[3].conv[0].weight.grad.abs().sum() > 0
    assert tiny_generator.style[1].weight.grad.abs().sum() > 0


# ── shapes and sizes ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("size_px", "last_structure"), [(32, 6), (32, 4), (64, 6), (256, 8)])
def test_every_size_and_structure_draws(size_px, last_structure):
    config = GeneratorConfig.compact(size_px, base=256, most=8, style_dim=11, mapping_layers=2)
    network = DualStyleGAN(config, last_structure, style_layers=1)
    ws = torch.randn(2, network.layout.num_latents, 11)
    picture = network(ws, torch.randn(1, 11), [0.7] * network.layout.num_latents)
    assert picture.shape == (2, 3, size_px, size_px)
    features, skip = network.features(ws, torch.randn(1, 11))
    side = 4 << (last_structure // 2)
    assert features.shape[2:] == skip.shape[2:] == (side, side)


def test_untrained_extrinsic_path_hardly_bends(tiny_generator):
    """Fine-tuning starts from the photographic generator: structure is bent by about 1 %."""
    block, x = tiny_generator.res[2], torch.randn(2, 16, 8, 8)
    assert (block(x, torch.randn(2, 16)) - x).std() < 0.05 * x.std()


def test_adain_gives_each_channel_the_wanted_mean_and_deviation():
    norm, style = AdaIN(6, 4), torch.randn(2, 4)
    y = norm(5 + 3 * torch.randn(2, 6, 32, 32), style)
    gamma, beta = norm.style(style).chunk(2, dim=1)
    torch.testing.assert_close(y.mean((2, 3)), beta, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(y.std((2, 3)), gamma.abs(), atol=1e-2, rtol=1e-2)


def test_dual_config_survives_its_header():
    config = DualConfig(generator=GeneratorConfig.official(256), last_structure=8, style_layers=3)
    assert DualConfig.from_json(config.as_json()) == config
    with torch.device("meta"):
        assert DualStyleGAN.of(config).config == config
