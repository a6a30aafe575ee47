"""However a batch is cut up, over micro-batches or processes, it trains as the whole one does."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training.toys import ToyPictures, in_two_processes

from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import BaseRecipe, EncoderRecipe, FinetuneRecipe, Growth, TransferRecipe
from dsgcli.training.coupled import batch_norms, joined, shared_statistics
from dsgcli.training.loop import Loop, LoopSettings
from dsgcli.training.perceptual import DiscriminatorFeatures
from dsgcli.training.processes import join, leave
from dsgcli.training.record import METRICS, FileRecorder, read_metrics
from dsgcli.training.stage import Across, Batch, OneProcess, Plan, Trainable
from dsgcli.training.stages.autoencoder import Autoencoder, AutoencoderTraining
from dsgcli.training.stages.base import AdversarialTraining, Players
from dsgcli.training.stages.dual import DualPlayers
from dsgcli.training.stages.encoder import EncoderTraining
from dsgcli.training.stages.transfer import Exemplars, TransferTraining

CPU = torch.device("cpu")
STEPS, BATCH = 3, 8
CONFIG = GeneratorConfig.compact(32, base=256, most=8, style_dim=16)
ENCODER = EncoderConfig(
    num_latents=8,
    style_dim=16,
    input_px=32,
    stem_width=8,
    widths=(8, 8, 16, 16),
    units=(1, 1, 1, 1),
    head_width=8,
)

# ── micro-batches ────────────────────────────────────────────────────────────────────────────────


class Coupled:
    """A loss whose gradient goes through two means over the batch."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3).double()

    def __call__(self, batch: Batch, across: Across) -> Tensor:
        codes = self.layer(batch.images)
        mean, square = across.mean(codes.mean(0)), across.mean(codes.square().mean(0))
        spread = square - mean.square()
        return ((codes - mean).square() * spread.sqrt()).mean() + (codes @ mean).tanh().mean()

    def gradient(self, parts: list[Batch], across: Across) -> tuple[float, Tensor]:
        self.layer.zero_grad()
        losses = [self(part, across) / len(parts) for part in parts]
        for loss in losses:
            loss.backward()
        assert self.layer.weight.grad is not None
        return float(torch.stack(losses).sum().detach()), self.layer.weight.grad.clone()


def parts_of(images: Tensor, count: int) -> list[Batch]:
    return [
        Batch(images=images[k::count], indices=torch.arange(len(images))[k::count], rows=())
        for k in range(count)
    ]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_joined_parts_have_the_loss_and_the_gradient_of_the_whole(count: int) -> None:
    work, images = Coupled(), torch.randn(6, 4, dtype=torch.float64)
    (whole,) = parts_of(images, 1)
    wanted, slope = work.gradient([whole], OneProcess())
    parts = parts_of(images, count)
    loss, gradient = work.gradient(parts, joined(OneProcess(), parts, work))
    assert loss == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-12)
    _, alone = work.gradient(parts, OneProcess())
    assert not torch.allclose(alone, slope, rtol=1e-3)


def test_means_without_a_gradient_are_looked_at_once() -> None:
    calls = []

    def loss_of(batch: Batch, across: Across) -> Tensor:
        calls.append(batch)
        return (batch.images - across.mean(batch.images.mean(0))).square().mean()

    parts = parts_of(torch.randn(4, 2), 2)
    across = joined(OneProcess(), parts, loss_of)
    assert len(calls) == 2
    torch.testing.assert_close(
        across.mean(parts[0].images), torch.cat([p.images for p in parts]).mean(0)
    )


def finetuning() -> Trainable:
    torch.manual_seed(0)
    players = Players.fresh(CONFIG, "stylegan2")
    return AdversarialTraining(players, FinetuneRecipe(batch_size=BATCH, path_every=2, r1_every=2))


def transfer() -> Trainable:
    torch.manual_seed(0)
    dual = DualStyleGAN.of(DualConfig(generator=CONFIG))
    codes = torch.randn(2, 5, dual.layout.num_latents, CONFIG.style_dim)
    portraits = torch.rand(5, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        exemplars = Exemplars(dual.generator.map_plus(codes[0]), codes[1], lambda n: portraits[n])
    discriminator = Discriminator(CONFIG)
    features = DiscriminatorFeatures(deepcopy(discriminator))
    recipe = TransferRecipe(batch_size=BATCH, path_every=2, r1_every=2, lambda_color=1.0)
    return TransferTraining(DualPlayers.of(dual, discriminator), recipe, exemplars, features, None)


@pytest.mark.parametrize("make", [finetuning, transfer])
def test_stage_trains_in_micro_batches_as_on_the_whole(tmp_path, make) -> None:
    """Path length and contextual features are means over the batch; parts of four, as the
    discriminator's groups are."""
    train(tmp_path / "whole", make)
    train(tmp_path / "parts", make, device_batch=4)
    assert_like(tmp_path / "whole", tmp_path / "parts")


# ── processes ────────────────────────────────────────────────────────────────────────────────────


def test_shared_statistics_of_one_part_are_those_of_torch() -> None:
    torch.manual_seed(0)
    plain, shared = (nn.BatchNorm2d(3) for _ in range(2))
    x = (torch.randn(4, 3, 5, 5) * 2 + 1).requires_grad_()
    weight = torch.randn(4, 3, 5, 5)
    (wanted_slope,) = torch.autograd.grad((plain(x) * weight).sum(), x)
    with shared_statistics([shared], OneProcess(), 2):
        assert "forward" in vars(shared)
        (slope,) = torch.autograd.grad((shared(x) * weight).sum(), x)
        torch.testing.assert_close(shared.eval()(x), nn.BatchNorm2d.forward(shared, x))
    assert "forward" not in vars(shared)
    torch.testing.assert_close(slope, wanted_slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared.running_mean, plain.running_mean)
    number = x.numel() / 3
    spread = 0.1 * (plain.running_var - 0.9) / 0.1  # its share of the running variance
    wanted = 0.9 + spread * (2 * number / (2 * number - 1)) * ((number - 1) / number)
    torch.testing.assert_close(shared.running_var, wanted)


def autoencoder() -> Trainable:
    torch.manual_seed(0)
    growth = Growth(size_px=32, steps=9, batch_size=BATCH, lambda_adv=0.05, lambda_sample=0.05)
    recipe = BaseRecipe(start="autoencoder", growth=(growth,), prior_axes=0)
    nets = Autoencoder.fresh(Generator(CONFIG), Encoder(ENCODER))
    return AutoencoderTraining(nets, recipe, growth, torch.zeros(2, 3, 32, 32), list)


def encoder() -> Trainable:
    torch.manual_seed(0)
    recipe = EncoderRecipe(batch_size=BATCH, lambda_id=0.0)
    generator, network = Generator(CONFIG), Encoder(ENCODER)
    features = DiscriminatorFeatures(Discriminator(CONFIG))
    pictures = torch.zeros(2, 3, 32, 32)
    return EncoderTraining(network, generator, features, None, recipe, pictures)


STAGES: dict[str, Callable[[], Trainable]] = {"autoencoder": autoencoder, "encoder": encoder}


def train(folder: Path, make: Callable[[], Trainable], device_batch: int = 0) -> None:
    processes = join(CPU)
    trainable = make()
    loop = Loop(
        trainable,
        ToyPictures(11),
        Plan(label="x", steps=STEPS, batch_size=BATCH, size_px=32),
        LoopSettings(checkpoint=folder / "x.safetensors", device_batch=device_batch),
        processes=processes,
        recorder=FileRecorder(folder, "x") if processes.is_first else None,
    )
    loop.run()
    norms = batch_norms(trainable.modules.values())
    assert all("forward" not in vars(norm) for norm in norms)
    leave(processes)


def assert_like(one: Path, other: Path) -> None:
    """The same losses; Adam without momentum magnifies rounding from step to step."""
    ours, theirs = (list(read_metrics(folder / METRICS)) for folder in (one, other))
    assert len(ours) == len(theirs) == STEPS
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        names = a.keys() - {"run", "step", "time_s", "images_per_s"}
        wanted = pytest.approx({key: a[key] for key in names}, rel=1e-4 * 10**number, abs=1e-5)
        assert {key: b[key] for key in names} == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be fast")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("stage", STAGES)
def test_stage_with_batch_norms_trains_in_two_processes_as_in_one(tmp_path, stage):
    train(tmp_path / "one", STAGES[stage])
    in_two_processes(lambda: train(tmp_path / "two", STAGES[stage]))
    assert_like(tmp_path / "one", tmp_path / "two")
