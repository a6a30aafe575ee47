"""Growing and blending keep what they promise; frozen features behave as distances."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.layers import CodePrior
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import BaseRecipe, Growth
from dsgcli.training.losses import face_importance, pyramid_l1
from dsgcli.training.perceptual import (
    DiscriminatorFeatures,
    EncoderFeatures,
    EncoderIdentity,
    Features,
    mean_code,
)
from dsgcli.training.stage import Batch, OneProcess, SeededDraws
from dsgcli.training.stages.autoencoder import (
    EQUALIZED_SHARE,
    Autoencoder,
    AutoencoderTraining,
    code_moments,
    cosine_rate,
    grown,
    grown_discriminator,
    grown_generator,
    seed_heads,
)
from dsgcli.training.stages.finetune import swapped

CPU = torch.device("cpu")
SMALL, LARGE = (GeneratorConfig.compact(s, base=512, most=16, style_dim=16) for s in (32, 64))
ENCODER = EncoderConfig(
    num_latents=10,
    style_dim=16,
    input_px=32,
    stem_width=8,
    widths=(8, 8, 16, 16),
    units=(1, 1, 1, 1),
    head_width=8,
)


def test_grown_generator_begins_with_the_small_picture_enlarged() -> None:
    small = Generator(SMALL)
    large = grown_generator(small, LARGE)
    ws = torch.randn(2, 10, 16)
    wanted = large.to_rgbs[-1].upsample(small(ws[:, :8], large.stored_noise()[:-2]))
    torch.testing.assert_close(large(ws), wanted)


def test_grown_discriminator_keeps_its_old_blocks() -> None:
    small = Discriminator(SMALL)
    large = grown_discriminator(small, LARGE)
    x = torch.randn(2, SMALL.channels[32], 32, 32)
    torch.testing.assert_close(large.convs[2:](x), small.convs[1:](x))


def test_new_heads_begin_as_the_last_old_one() -> None:
    encoder = Encoder(ENCODER)
    seed_heads(encoder, 8)
    codes = encoder.eval()(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(codes[:, 8:], codes[:, 7:8].expand(-1, 2, -1))


def test_swapped_takes_structure_from_the_base_and_texture_from_the_style() -> None:
    base, style = Generator(LARGE), Generator(LARGE)
    blend, ws = swapped(base, style, 16), torch.randn(1, 10, 16)
    for px, source in ((8, base), (4, base)):
        mine = blend.synthesize(ws, base.stored_noise(), size_px=px)
        theirs = source.synthesize(ws, base.stored_noise(), size_px=px)
        torch.testing.assert_close(mine, theirs)
    assert torch.equal(blend.convs[2].conv.weight, style.convs[2].conv.weight)
    assert torch.equal(blend.style[1].weight, base.style[1].weight)


def test_pyramid_is_zero_for_the_same_and_edges_ignore_brightness() -> None:
    a = torch.rand(2, 3, 32, 32)
    assert sum(pyramid_l1(a, a)) == 0
    pixel, edge = pyramid_l1(a, a + 0.5)
    assert pixel == pytest.approx(1.5, rel=1e-4) and edge < 1e-5


def test_code_moments_are_least_for_a_normal_distribution() -> None:
    codes = torch.randn(4000, 2, 3)
    normal = code_moments(codes, OneProcess())
    assert normal < 0.01 < code_moments(codes * 1.5, OneProcess())
    assert normal < code_moments(codes + 0.5, OneProcess())


def test_rate_rises_falls_and_ends_at_a_twentieth() -> None:
    rates = [cosine_rate(i, 100, 1.0, 10) for i in range(101)]
    assert rates[9] == 1.0 and rates[0] == 0.1 and rates[100] == pytest.approx(0.05)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


@pytest.mark.parametrize("kind", ["discriminator", "encoder"])
def test_features_are_distances_at_falling_resolutions(kind: str) -> None:
    features: Features = (
        DiscriminatorFeatures(Discriminator(SMALL))
        if kind == "discriminator"
        else EncoderFeatures(Encoder(ENCODER))
    )
    a, b = torch.rand(2, 2, 3, 32, 32).mul(2).sub(1).unbind(0)
    sides = [m.shape[2] for m in features.maps(a)]
    assert sides == [32 >> k for k in range(len(sides))]
    assert features.distance(a, a).abs().max() < 1e-6
    for count in (1, 3):
        for first, same in zip(features.maps(a, count), features.maps(a)[:count], strict=True):
            assert torch.equal(first, same)
    assert torch.equal(features.towards(b)(a), features.distance(a, b))
    near, far = features.distance(a, 0.9 * a + 0.1 * b), features.distance(a, b)
    assert (near < far).all()


def test_identity_of_an_encoder_is_of_unit_length_and_its_own() -> None:
    encoder = Encoder(ENCODER).eval()
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    identity = EncoderIdentity(encoder, slice(0, 5), mean_code(encoder, images))
    embedding = identity.embed(images)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
    assert (embedding @ embedding.T).argmax(1).tolist() == [0, 1, 2, 3]


def test_draws_of_a_row_do_not_depend_on_the_split() -> None:
    """What makes resuming exact, and two processes equal to one with twice the batch."""
    whole = SeededDraws(1, 5, "g", range(4), CPU)
    odd = SeededDraws(1, 5, "g", (1, 3), CPU)
    torch.testing.assert_close(whole.normal(4, 3)[1::2], odd.normal(2, 3))
    torch.testing.assert_close(whole.integers(9, 4)[1::2], odd.integers(9, 2))
    assert whole.shared_integer(0, 99) == odd.shared_integer(0, 99)
    other = SeededDraws(1, 6, "g", range(4), CPU)
    assert not torch.equal(other.normal(4, 3), SeededDraws(1, 5, "g", range(4), CPU).normal(4, 3))


def test_importance_has_mean_one_and_is_greatest_in_the_face() -> None:
    importance = face_importance(64, 4.0)[0, 0]
    assert importance.mean() == pytest.approx(1.0, abs=1e-5)
    assert divmod(int(importance.argmax()), 64) in {(35, 31), (35, 32)}
    assert 3.5 < importance.max() / importance.min() < 4.0
    assert torch.equal(face_importance(64, 1.0), torch.ones(1, 1, 64, 64))


def test_eyes_and_mouth_may_count_more_than_the_face() -> None:
    plain, more = (face_importance(64, 4.0, features)[0, 0] for features in (1.0, 8.0))
    assert more.mean() == pytest.approx(1.0, abs=1e-5)
    ratio = more / plain
    eye, mouth, cheek, corner = ratio[30, 24], ratio[47, 32], ratio[40, 20], ratio[2, 2]
    assert min(eye, mouth) > 2 * cheek
    assert cheek == pytest.approx(float(corner), rel=0.1)
    assert torch.allclose(ratio, ratio.flip(1), atol=0.01)


def test_pyramid_counts_an_error_in_the_face_more_than_one_in_a_corner() -> None:
    a = torch.zeros(1, 3, 32, 32)
    face, corner = a.clone(), a.clone()
    face[..., 16:20, 14:18] = 1.0
    corner[..., 1:5, 1:5] = 1.0
    importance = face_importance(32, 4.0)
    for near, far in zip(
        pyramid_l1(a, face, importance), pyramid_l1(a, corner, importance), strict=True
    ):
        assert near > 2 * far


def test_prior_draws_codes_that_spread_as_the_ones_it_was_fitted_to() -> None:
    torch.manual_seed(0)
    mixing = torch.randn(6, 4 * 8)
    codes = (torch.randn(4000, 6) @ mixing + 3.0).view(-1, 4, 8)
    prior = CodePrior(4, 8, 8)
    prior.fit(codes)
    drawn = prior(torch.randn(4000, 8)).flatten(1)
    wanted = codes.flatten(1)
    torch.testing.assert_close(drawn.mean(0), wanted.mean(0), atol=0.3, rtol=0)
    spread = torch.linalg.matrix_norm(wanted.T.cov())
    assert torch.linalg.matrix_norm(drawn.T.cov() - wanted.T.cov()) < 0.1 * spread


def test_random_faces_go_through_the_prior_if_there_is_one() -> None:
    z = torch.randn(3, 16)
    plain = Generator(SMALL)
    torch.testing.assert_close(plain.random_ws(z), plain.map_plus(plain.spread(z)))
    network = Generator(replace(SMALL, prior_axes=4))
    network.prior.fit(torch.randn(50, 8, 16))
    ws = network.random_ws(z)
    assert torch.equal(ws, network.map_plus(network.prior(z)))
    assert not torch.allclose(ws[:, 0], ws[:, 1])
    assert GeneratorConfig.from_json(network.config.as_json()) == network.config


def training_of(growth: Growth, **recipe: float) -> AutoencoderTraining:
    config = replace(SMALL, prior_axes=4)
    torch.manual_seed(0)
    nets = Autoencoder.fresh(Generator(config), Encoder(replace(ENCODER, num_latents=8)))
    pictures = torch.rand(16, 3, 32, 32) * 2 - 1
    return AutoencoderTraining(
        nets,
        BaseRecipe(start="autoencoder", growth=(growth,), **recipe),
        growth,
        pictures,
        lambda: [pictures],
    )


def learnt(growth: Growth, nets: Autoencoder, before_px: int = 64) -> AutoencoderTraining:
    """Two steps of a phase, as the loop takes them."""
    pictures = torch.rand(16, 3, 64, 64) * 2 - 1
    recipe = BaseRecipe(start="autoencoder", growth=(growth,), prior_axes=0, warmup_steps=1)
    training = AutoencoderTraining(nets, recipe, growth, pictures, list, before_px)
    batch = Batch(images=pictures[:4], indices=torch.arange(4), rows=range(4))
    for iteration in range(2):
        training.begin(iteration)
        for phase in training.phases(iteration):
            draws = SeededDraws(0, iteration, phase.name, range(4), CPU)
            loss, _ = phase.loss(batch, draws, OneProcess())
            training.optimizers[phase.optimizer].zero_grad()
            loss.backward()
            training.optimizers[phase.optimizer].step()
        training.finish(iteration)
    return training


def test_encoder_learns_alone_for_a_generator_that_stays_at_a_smaller_size_than_its_own() -> None:
    torch.manual_seed(0)
    nets = Autoencoder.fresh(Generator(LARGE), Encoder(ENCODER))
    generator, encoder = deepcopy(nets.generator.state_dict()), deepcopy(nets.encoder.state_dict())
    growth = Growth(size_px=32, steps=2, batch_size=4, learns="encoder")
    sheet = learnt(growth, nets).sheets(2)["reconstructions"]
    assert sheet.shape == (2, 2, 3, 32, 32)
    for network in (nets.generator, nets.generator_average):
        assert all(torch.equal(v, generator[k]) for k, v in network.state_dict().items())
    heads = {
        k: v for k, v in nets.encoder_average.state_dict().items() if k.endswith("linear.bias")
    }
    moved = [not torch.equal(v, encoder[k]) for k, v in heads.items()]
    assert moved == [True] * 8 + [False] * 2  # 32 px has eight rows


def test_new_layers_learn_alone_and_the_picture_below_them_stays() -> None:
    torch.manual_seed(0)
    small = Autoencoder.fresh(Generator(SMALL), Encoder(ENCODER))
    nets = grown(small, LARGE)
    for encoder in (nets.encoder, nets.encoder_average):
        seed_heads(encoder, 8)
    images, ws = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 10, 16)
    codes = nets.encoder.eval()(images)[:, :8]
    below, above = small.generator(ws[:, :8]), nets.generator(ws)
    growth = Growth(size_px=64, steps=2, batch_size=4, learns="new", lambda_adv=0.1)
    learnt(growth, nets, before_px=32)
    for generator, encoder in (
        (nets.generator, nets.encoder),
        (nets.generator_average, nets.encoder_average),
    ):
        assert torch.equal(generator.synthesize(ws, size_px=32)[1], below)
        assert torch.equal(encoder.eval()(images)[:, :8], codes)
        assert not torch.allclose(generator(ws), above)
    heads = [head.linear.bias for head in nets.encoder.styles]
    assert not torch.equal(heads[8], heads[7])


def test_what_does_not_learn_is_what_is_kept_of_it() -> None:
    """The average, where the phase before has left the two apart."""
    nets = Autoencoder.fresh(Generator(SMALL), Encoder(ENCODER))
    with torch.no_grad():
        nets.generator_average.input.input.add_(1.0)
    kept = nets.generator_average.input.input.clone()
    growth = Growth(size_px=32, steps=2, batch_size=4, learns="encoder")
    learnt(growth, nets, before_px=32)
    assert torch.equal(nets.generator.input.input, kept)
    assert torch.equal(nets.generator_average.input.input, kept)


def test_reconstructions_and_samples_take_turns_before_the_discriminator() -> None:
    growth = Growth(size_px=32, steps=9, batch_size=4, lambda_adv=0.1, lambda_sample=0.1)
    training = training_of(growth, lambda_perc=0.1)
    images = training.pictures[:4]
    batch = Batch(images=images, indices=torch.arange(4), rows=range(4))
    seen = []
    for iteration in range(2):
        training.begin(iteration)
        draws = SeededDraws(0, iteration, "ae", range(4), CPU)
        _, scalars = training._loss(batch, draws, OneProcess())
        seen.append({name for name in scalars if name in ("g/recon", "g/sample", "perc")})
        assert len(training._fakes(batch, draws)) == 1
    assert seen == [{"g/recon", "perc"}, {"g/sample"}]


def test_prior_is_fitted_as_training_begins_and_belongs_to_both_generators() -> None:
    training = training_of(Growth(size_px=32, steps=9, batch_size=4))
    training.begin(0)
    nets = training.nets
    assert nets.generator.prior.axes.abs().sum() > 0
    assert torch.equal(nets.generator.prior.axes, nets.generator_average.prior.axes)
    sheet = training.sheets(4)["samples"]
    assert sheet.flatten(1).var(dim=0).mean() > 0


def test_weights_of_unit_size_take_larger_steps_than_plain_ones() -> None:
    training = training_of(Growth(size_px=32, steps=9, batch_size=4, lr=1e-3))
    training.begin(8)
    plain, equalized = training.optimizers["g"].param_groups
    assert equalized["lr"] == pytest.approx(EQUALIZED_SHARE * plain["lr"])
    nets = training.nets
    assert sum(p.numel() for g in (plain, equalized) for p in g["params"]) == sum(
        p.numel() for m in (nets.generator, nets.encoder) for p in m.parameters()
    )
    assert any(p is nets.encoder.styles[0].linear.weight for p in equalized["params"])
    assert any(p is nets.encoder.styles[0].convs[0].weight for p in plain["params"])


def test_encoder_sees_its_own_size_where_the_generator_is_smaller() -> None:
    growth = Growth(size_px=32, steps=9, batch_size=4)
    training = training_of(growth)
    large = torch.rand(4, 3, 64, 64) * 2 - 1
    batch = Batch(images=large, indices=torch.arange(4), rows=range(4))
    assert training.wanted(batch).shape[2:] == (32, 32)
    assert training.encode(large).shape == (4, 8, 16)
