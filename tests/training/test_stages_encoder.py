"""The encoder's stage: what it is shown, what it learns, what it leaves alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import EncoderRecipe
from dsgcli.training.perceptual import DiscriminatorFeatures
from dsgcli.training.stage import Batch, OneProcess, SeededDraws
from dsgcli.training.stages.encoder import EncoderTraining

CPU = torch.device("cpu")
BATCH = 4


def training_of(
    config: GeneratorConfig, encoder: Encoder, space: str = "z+", **recipe: float
) -> EncoderTraining:
    torch.manual_seed(3)
    network = Encoder(replace(encoder.config, latent_space=space))
    return EncoderTraining(
        network,
        Generator(config),
        DiscriminatorFeatures(Discriminator(config)),
        None,
        EncoderRecipe(**{"batch_size": BATCH, "lr": 2e-3, "lambda_id": 0.0} | recipe),
        torch.rand(2, 3, 32, 32) * 2 - 1,
    )


def batch_of(images: Tensor) -> Batch:
    rows = tuple(range(len(images)))
    return Batch(images=images, indices=torch.arange(len(images)), rows=rows)


def step(training: EncoderTraining, iteration: int, images: Tensor) -> dict[str, float]:
    training.begin(iteration)
    (phase,) = training.phases(iteration)
    optimizer = training.optimizers[phase.optimizer]
    draws = SeededDraws(0, 0, "e", range(len(images)), CPU)
    loss, scalars = phase.loss(batch_of(images), draws, OneProcess())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    training.finish(iteration)
    return {"loss": float(loss.detach())} | {k: float(v) for k, v in scalars.items()}


@pytest.mark.parametrize("space", ["z+", "w+"])
def test_encoder_learns_and_the_generator_stays(tiny_config, tiny_encoder, space):
    training = training_of(tiny_config, tiny_encoder, space)
    before = copy.deepcopy(training.generator.state_dict())
    images = torch.rand(BATCH, 3, 32, 32) * 2 - 1
    rows = [step(training, i, images) for i in range(25)]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert rows[-1]["code"] < rows[0]["code"]
    after = training.generator.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("space", ["z+", "w+"])
def test_code_of_an_own_sample_is_the_one_that_draws_it(tiny_config, tiny_encoder, space):
    training = training_of(tiny_config, tiny_encoder, space)
    draws = SeededDraws(0, 0, "e", range(3), CPU)
    known = training.samples(3, draws)
    noise = SeededDraws(0, 0, "e", range(3), CPU).noise(training.generator.layout.noise_sizes_px, 3)
    with torch.no_grad():
        again = training.generator(training.to_w(known.codes), noise)
    torch.testing.assert_close(again, known.images)


@pytest.mark.parametrize(("share", "samples"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_share_of_samples_is_that_of_the_whole_batch(tiny_config, tiny_encoder, share, samples):
    training = training_of(tiny_config, tiny_encoder, sample_share=share)
    images = torch.zeros(BATCH, 3, 32, 32)
    assert training._num_samples(batch_of(images)) == samples
    parts = [Batch(images=images[:2], indices=torch.arange(2), rows=r) for r in ((0, 2), (1, 3))]
    assert sum(training._num_samples(part) for part in parts) == samples


def test_only_the_direction_of_a_z_counts(tiny_config, tiny_encoder):
    training = training_of(tiny_config, tiny_encoder, sample_share=1.0)
    known = training.samples(BATCH, SeededDraws(0, 0, "e", range(BATCH), CPU))
    batch = batch_of(known.images)
    assert training._code_distance(3.0 * known.codes, known, batch).abs() < 1e-5
    assert training._code_distance(-known.codes, known, batch) == pytest.approx(2.0)


def test_sheets_do_not_change_the_statistics_of_batch_norms(tiny_config, tiny_encoder):
    training = training_of(tiny_config, tiny_encoder)
    training.begin(0)
    before = copy.deepcopy(training.encoder.state_dict())
    sheets = training.sheets(2)
    assert sheets["reconstructions"].shape == sheets["own"].shape == (2, 2, 3, 32, 32)
    assert training.encoder.training
    after = training.encoder.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
