"""Generator and discriminator: golden cases, and what holds for any weights."""

import pytest
import torch
from reference import golden

from dsgcli.errors import ModelMismatchError, UsageError
from dsgcli.models.stylegan2 import (
    Discriminator,
    Generator,
    GeneratorConfig,
    append_stddev,
)


@pytest.fixture(autouse=True)
def _no_grad(request):
    with torch.set_grad_enabled("grad" in request.node.name):
        yield


def small(size_px=32, style_dim=24, **other):
    return GeneratorConfig.compact(size_px, base=256, most=12, style_dim=style_dim, **other)


# ── golden cases ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.golden("gen.mapping")
def test_mapping_agrees(gen64, case_inputs, agree):
    agree({"w": gen64.map(case_inputs["z"])})


@pytest.mark.golden("gen.z")
def test_z_agrees(gen64, case_inputs, agree):
    ws = gen64.broadcast(gen64.map(case_inputs["z"]))
    agree({"latents": ws, "img": gen64(ws)})


@pytest.mark.golden("gen.mix")
def test_style_mixing_agrees(gen64, case_inputs, agree):
    ws_a, ws_b = (gen64.broadcast(gen64.map(case_inputs[name])) for name in ("z1", "z2"))
    ws = gen64.mix(ws_a, ws_b, case_inputs["inject_index"])
    agree({"latents": ws[..., :8], "img": gen64(ws)})


@pytest.mark.golden("gen.zplus")
def test_z_plus_agrees(gen64, case_inputs, agree):
    ws = gen64.map_plus(case_inputs["z"])
    agree({"latents": ws[..., :32], "img": gen64(ws)})


@pytest.mark.golden("gen.zplus_mix")
def test_z_plus_mixing_agrees(gen64, case_inputs, agree):
    ws_a, ws_b = (gen64.map_plus(case_inputs[name]) for name in ("z1", "z2"))
    agree({"img": gen64(gen64.mix(ws_a, ws_b, case_inputs["inject_index"]))})


@pytest.mark.golden("gen.w")
def test_w_agrees(gen64, case_inputs, agree):
    agree({"img": gen64(gen64.broadcast(case_inputs["w"]))})


@pytest.mark.golden("gen.wplus")
def test_w_plus_agrees(gen64, case_inputs, agree):
    agree({"img": gen64(case_inputs["w"])})


@pytest.mark.golden("gen.truncation")
def test_truncation_agrees(gen64, case_inputs, agree):
    ws = gen64.broadcast(gen64.map(case_inputs["z"]))
    ws_plus = gen64.map_plus(case_inputs["zp"])
    agree({"trunc0": gen64(gen64.truncate(ws, 0.7))})
    agree({"truncmean": gen64(gen64.truncate(ws, 0.7, case_inputs["mean_w"]))})
    agree({"trunc0_zplus": gen64(gen64.truncate(ws_plus, 0.5))})


@pytest.mark.golden("gen.noise_list")
def test_explicit_noise_agrees(gen64, case_inputs, agree):
    noise = [case_inputs[f"noise{i}"] for i in range(gen64.layout.num_noises)]
    agree({"img": gen64(gen64.broadcast(gen64.map(case_inputs["z"])), noise)})


@pytest.mark.golden("gen.size128c1")
def test_another_size_and_multiplier_agree(case_inputs, agree, fill_network, summarize_picture):
    network = Generator(GeneratorConfig.official(128, multiplier=1))
    fill_network(network, "gen128c1", "stylegan")
    picture = network(network.broadcast(network.map(case_inputs["z"])))
    agree(summarize_picture("img", picture, pool=64))


@pytest.mark.slow
@pytest.mark.golden("disc.out")
def test_discriminator_agrees(disc64, case_inputs, agree):
    agree({f"b{n}": disc64(case_inputs["x"][:n]) for n in (1, 2, 4, 8)})


@pytest.mark.slow
@pytest.mark.golden("disc.size128c1")
def test_discriminator_of_another_size_agrees(case_inputs, agree, fill_network):
    network = Discriminator(GeneratorConfig.official(128, multiplier=1))
    agree({"y": fill_network(network, "disc128c1", "stylegan")(case_inputs["x"])})


# ── the generator, any weights ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size_px", [32, 64, 256])
def test_generator_draws_every_size(size_px):
    network = Generator(small(size_px))
    picture = network(network.broadcast(torch.randn(2, 24)))
    assert picture.shape == (2, 3, size_px, size_px)
    assert picture.isfinite().all()


def test_generator_takes_an_odd_style_width():
    network = Generator(small(style_dim=13, mapping_layers=3))
    assert network(network.map_plus(torch.randn(1, 8, 13))).shape == (1, 3, 32, 32)


@pytest.mark.slow
def test_a_sample_does_not_depend_on_its_batch(gen64):
    ws = gen64.broadcast(torch.randn(3, 512))
    alone = torch.cat([gen64(row[None]) for row in ws])
    torch.testing.assert_close(gen64(ws), alone, atol=1e-4, rtol=1e-4)


def test_generator_repeats_itself():
    network = Generator(small())
    ws = network.broadcast(torch.randn(2, 24))
    assert network(ws).equal(network(ws))


def noisy(network):
    for name, value in network.named_parameters():
        if name.endswith("noise.weight"):
            value.fill_(1.0)
    return network


def test_stored_noise_is_the_default():
    network = noisy(Generator(small()))
    ws = network.broadcast(torch.randn(2, 24))
    assert network(ws).equal(network(ws, network.stored_noise()))
    assert not network(ws).allclose(network(ws, network.make_noise(2)))


def test_noise_is_drawn_from_the_given_generator():
    network = Generator(small())
    first, second = (network.make_noise(2, torch.Generator().manual_seed(5)) for _ in range(2))
    assert [n.shape for n in first] == [(2, 1, s, s) for s in network.layout.noise_sizes_px]
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    assert not first[0].equal(network.make_noise(2, torch.Generator().manual_seed(6))[0])


def test_broadcast_w_and_equal_rows_are_the_same():
    network = Generator(small())
    z = torch.randn(2, 24)
    rows = network.map_plus(z[:, None].expand(-1, network.layout.num_latents, -1))
    torch.testing.assert_close(rows, network.broadcast(network.map(z)))


@pytest.mark.parametrize("index", [0, 3, 8])
def test_mixing_takes_rows_below_the_index_from_the_first(index):
    network = Generator(small())
    ws_a, ws_b = torch.randn(2, 8, 24), torch.randn(2, 8, 24)
    mixed = network.mix(ws_a, ws_b, index)
    assert mixed[:, :index].equal(ws_a[:, :index])
    assert mixed[:, index:].equal(ws_b[:, index:])


def test_truncation_ends_at_the_center_and_at_the_code():
    network = Generator(small())
    ws, center = torch.randn(2, 8, 24), torch.randn(1, 24)
    torch.testing.assert_close(network.truncate(ws, 0.0, center), center.expand_as(ws))
    assert network.truncate(ws, 1.0, center).equal(ws)


def test_mean_w_comes_near_the_mean_of_many():
    network = Generator(small())
    mean = network.mean_w(4096, torch.Generator().manual_seed(1))
    assert mean.shape == (1, 24)
    torch.testing.assert_close(
        mean, network.map(torch.randn(4096, 24)).mean(0)[None], atol=0.2, rtol=0
    )


def test_synthesis_stops_early_with_the_same_picture():
    """The picture at a lower resolution is the skip that the next block would enlarge."""
    network = Generator(small(64))
    ws = torch.randn(2, 10, 24)
    features, picture = network.synthesize(ws, size_px=32)
    assert features.shape == (2, 8, 32, 32) and picture.shape == (2, 3, 32, 32)
    _, last = network.synthesize(ws, size_px=64)
    assert last.equal(network(ws))


def test_generator_works_in_float64():
    network = Generator(small())
    ws = torch.randn(2, 8, 24)
    picture = network.double()(ws.double())
    assert picture.dtype == torch.float64
    torch.testing.assert_close(network.float()(ws).double(), picture, atol=1e-4, rtol=1e-4)


def test_path_length_can_be_trained_with_grad_of_grad():
    """Path length regularization: the gradient's norm, differentiated by the weights."""
    network = Generator(small())
    ws = network.broadcast(network.map(torch.randn(2, 24)))
    (grad,) = torch.autograd.grad(network(ws).sum(), ws, create_graph=True)
    grad.square().sum().backward()
    for name in ("conv1.conv.weight", "convs.1.conv.weight", "style.1.weight"):
        assert network.get_parameter(name).grad.abs().sum() > 0, name


# ── the discriminator, any weights ───────────────────────────────────────────────────────────────


def test_r1_can_be_trained_with_grad_of_grad():
    network = Discriminator(small())
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert network.convs[0][0].weight.grad.abs().sum() > 0


def test_discriminator_shows_a_map_for_each_resolution():
    maps = Discriminator(small(64)).features(torch.randn(2, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [64, 32, 16, 8, 4]


@pytest.mark.parametrize(
    ("batch", "group"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (7, 1), (8, 4)]
)
def test_stddev_groups_divide_any_batch(batch, group):
    x = torch.randn(batch, 2, 3, 3)
    channel = append_stddev(x)[:, 2]
    assert channel.shape == (batch, 3, 3)
    assert channel[:, 0, 0].unique().numel() <= batch // group
    members = x[:: batch // group]
    spread = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
    torch.testing.assert_close(channel[0], spread.expand(3, 3))


# ── configurations ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "config", [GeneratorConfig.official(1024), small(64, 17, mapping_layers=2)]
)
def test_generator_config_survives_its_header(config):
    assert GeneratorConfig.from_json(config.as_json()) == config


def test_official_channels_double_from_64_px():
    table = GeneratorConfig.official(1024).channels
    assert [table[px] for px in (4, 32, 64, 128, 256, 512, 1024)] == [
        512,
        512,
        512,
        256,
        128,
        64,
        32,
    ]


def test_config_refuses_a_table_with_a_hole():
    with pytest.raises(ModelMismatchError, match="channels for"):
        GeneratorConfig(size_px=32, channels={4: 8, 8: 8, 32: 8})


def test_config_refuses_a_size_that_is_no_power_of_two():
    with pytest.raises(UsageError, match="power of two"):
        GeneratorConfig(size_px=48, channels={4: 8})


@pytest.mark.golden("gen.keys")
def test_generator_has_the_published_number_of_entries(agree):
    """The case's ctor says 1024 px; its number is that of the 64 px model (1024 px has 171)."""
    assert golden.case("gen.keys")["ctor"].startswith("Generator(1024")
    with torch.device("meta"):
        entries = len(Generator(GeneratorConfig.official(64)).state_dict())
    agree({"n": torch.tensor(entries)})
