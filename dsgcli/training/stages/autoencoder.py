"""A generator and its encoder learnt together: the start of a base from a thousand pictures.

Flow: picture -> encoder -> z+ -> generator -> the same picture; random z -> generator -> a face.
Phases of an iteration: ae, then d and r1 where a discriminator takes part.
Reconstruction teaches far faster than a discriminator can, so it comes first; the discriminator
sharpens what is there, on reconstructions and on faces from random codes. It grows: each resolution
begins as the enlarged picture of the one before.

Losses, all means over the batch: an L1 pyramid and its edges; features of the discriminator in
training (Larsen et al., arXiv:1512.09300); moments of the codes, so that no entry of them goes
unused; the adversarial terms of StyleGAN2. Random z become z+ through a prior that is fitted to the
encoder's codes now and then (`CodePrior`).

Shapes: B batch, S size now, L rows of the generator now, D style width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from dsgcli.models.encoder import Encoder
from dsgcli.models.ops import EqualLinear
from dsgcli.models.patch import Judge, PatchDiscriminator
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import BaseRecipe, Growth
from dsgcli.training.adversary import (
    EQUALIZED_SHARE,
    Adversary,
    average_decay,
    random_ws,
    take_over,
    to_device,
    update_average,
)
from dsgcli.training.losses import face_importance, generator_loss, pyramid_l1
from dsgcli.training.perceptual import encoded, fit
from dsgcli.training.stage import Across, Batch, Draws, Phase, Scalars
from dsgcli.types import LatentLayout

BETA1 = 0.5
"""First beta of Adam while the autoencoder grows: reconstruction is no game between two players."""
LAST_RATE = 0.05
"""Where the cosine of the learning rate ends."""
PRIOR_EVERY = 300
"""Steps between fits of the prior."""
MATCHED_MAPS = slice(1, 4)
"""Maps of the discriminator that are compared: half to an eighth of the resolution."""


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """The networks of one resolution, and the averages that will be kept."""

    generator: Generator
    encoder: Encoder
    discriminator: Judge
    generator_average: Generator
    encoder_average: Encoder

    @classmethod
    def fresh(
        cls, generator: Generator, encoder: Encoder, discriminator: Judge | None = None
    ) -> Autoencoder:
        """With a new discriminator, if there is none; averages begin as the networks are."""
        judge = discriminator or Discriminator(generator.config)
        return cls(generator, encoder, judge, deepcopy(generator), deepcopy(encoder))

    def modules(self) -> dict[str, nn.Module]:
        """By the name they are saved under."""
        return {
            "g": self.generator,
            "e": self.encoder,
            "d": self.discriminator,
            "g_ema": self.generator_average,
            "e_ema": self.encoder_average,
        }

    def to(self, device: torch.device) -> Autoencoder:
        """Moves the networks."""
        for module in self.modules().values():
            to_device(module, device)
        return self


def grown(smaller: Autoencoder, config: GeneratorConfig) -> Autoencoder:
    """Grow the networks to a larger resolution; the picture begins as the smaller one enlarged."""
    size_px = smaller.generator.config.size_px
    if config.size_px == size_px:
        return smaller
    generator = grown_generator(smaller.generator, config)
    average = grown_generator(smaller.generator_average, config)
    discriminator = grown_discriminator(smaller.discriminator, config)
    return Autoencoder(generator, smaller.encoder, discriminator, average, smaller.encoder_average)


@torch.no_grad()
def grown_generator(smaller: Generator, config: GeneratorConfig) -> Generator:
    """More blocks on top: their ToRGB begins at zero, so the picture is the old one enlarged. The
    prior has a row for each layer, and is fitted again."""
    larger = Generator(config)
    take_over(larger, smaller.state_dict(), but=("prior.",))
    for to_rgb in larger.to_rgbs[len(smaller.to_rgbs) :]:
        to_rgb.conv.weight.zero_()  # type: ignore[union-attr, operator]
    return larger


@torch.no_grad()
def grown_discriminator(smaller: Judge, config: GeneratorConfig) -> Judge:
    """More blocks in front; the old ones keep their place before the end. Patches start again:
    sharpness differs."""
    if isinstance(smaller, PatchDiscriminator):
        return PatchDiscriminator(config)
    larger = Discriminator(config)
    shift = len(larger.convs) - len(smaller.convs)
    for index, block in enumerate(smaller.convs):
        if index > 0:  # convs.0 reads the picture: it belongs to a resolution
            larger.convs[index + shift].load_state_dict(block.state_dict())
    for name in ("final_conv", "final_linear"):
        getattr(larger, name).load_state_dict(getattr(smaller, name).state_dict())
    return larger


@torch.no_grad()
def seed_heads(encoder: Encoder, rows: int) -> None:
    """Heads from row `rows` on begin as the last head before them of the same shape: rows that
    begin to matter when the generator grows begin with a sensible code."""
    for head in encoder.styles[rows:]:
        before = encoder.styles[rows - 1].state_dict()
        if all(before[k].shape == v.shape for k, v in head.state_dict().items()):
            head.load_state_dict(before)


@torch.no_grad()
def fit_prior(nets: Autoencoder, portraits: Iterable[Tensor]) -> None:
    """Fit the prior of both generators to the codes of portraits, batches of (B, 3, S, S)."""
    encoder, rows = nets.encoder_average, nets.generator.layout.num_latents
    training = encoder.training
    encoder.eval()
    codes = [encoded(encoder, images)[:, :rows] for images in portraits]
    encoder.train(training)
    for generator in (nets.generator, nets.generator_average):
        generator.prior.fit(torch.cat(codes))


# ── losses ───────────────────────────────────────────────────────────────────────────────────────


def code_moments(codes: Tensor, across: Across) -> Tensor:
    """How far the mean over the batch of each entry of (B, L, D) is from 0, and its variance from
    1: what N(0, 1) has. Over all processes."""
    mean = across.mean(codes.mean(dim=0))
    variance = across.mean(codes.square().mean(dim=0)) - mean.square()
    return mean.square().mean() + (variance - 1.0).square().mean()


def matched_maps(fake: Sequence[Tensor], real: Sequence[Tensor], across: Across) -> Tensor:
    """L1 distance of the discriminator's maps, each in units of the real one's mean size over all
    processes."""
    pairs = list(zip(fake, real, strict=True))[MATCHED_MAPS]
    sizes = [across.mean(b.detach().abs().mean()) + 1e-3 for _, b in pairs]
    distances = [F.l1_loss(a, b.detach()) / s for (a, b), s in zip(pairs, sizes, strict=True)]
    return torch.stack(distances).mean()


def choose_learning(nets: Autoencoder, growth: Growth, before_px: int) -> None:
    """Let the parts that this phase trains have gradients, and no others. The others are, and stay,
    what will be kept of them: their averages. `before_px` is the size before this phase."""
    generator, encoder = nets.generator, nets.encoder
    generator.requires_grad_(growth.learns == "all")
    encoder.requires_grad_(growth.learns != "new")
    if growth.learns == "all":
        return
    generator.load_state_dict(nets.generator_average.state_dict())
    if growth.learns == "new":
        encoder.load_state_dict(nets.encoder_average.state_dict())
        old = LatentLayout(before_px)
        blocks = len(old.resolutions_px) - 1
        new = *generator.convs[2 * blocks :], *generator.to_rgbs[blocks:]
        for module in (*new, *encoder.styles[old.num_latents :]):
            module.requires_grad_(True)


def rate_groups(nets: Autoencoder, lr: float) -> list[dict[str, Any]]:
    """Parameters for an optimizer, with the `share` of the rate that each group takes.

    Equalized layers keep weights of unit size and divide when they are used; a step that moves the
    encoder's plain kernels, of some hundredths, would hardly move them.
    """
    plain: list[nn.Parameter] = []
    equalized = list(nets.generator.parameters())
    for module in nets.encoder.modules():
        own = list(module.parameters(recurse=False))
        (equalized if isinstance(module, EqualLinear) else plain).extend(own)
    groups = ((plain, 1.0), (equalized, EQUALIZED_SHARE))
    return [
        {"params": [p for p in group if p.requires_grad], "lr": lr, "share": share}
        for group, share in groups
    ]


def cosine_rate(iteration: int, steps: int, peak: float, warmup: int) -> float:
    """Linear up over `warmup` steps, then a cosine down to a twentieth."""
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    done = (iteration - warmup) / max(1, steps - warmup)
    return peak * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))


# ── training ─────────────────────────────────────────────────────────────────────────────────────


class AutoencoderTraining:
    """Growth of an autoencoder at one resolution (`Trainable`).

    Args:
        pictures: (N, 3, P, P) in [-1, 1], whose reconstructions are drawn on the sheets; P, as in
            batches, is the larger of the resolution and the encoder's input.
        portraits: the portraits that the prior is fitted to, in batches; the same at each call.
        before_px: size of the generator before this phase, whose layers are not `new`; 0 for none.
    """

    def __init__(
        self,
        nets: Autoencoder,
        recipe: BaseRecipe,
        growth: Growth,
        pictures: Tensor,
        portraits: Callable[[], Iterable[Tensor]],
        before_px: int = 0,
    ) -> None:
        self.nets, self.recipe, self.growth = nets, recipe, growth
        choose_learning(nets, growth, before_px)
        self.pictures, self.portraits = pictures, portraits
        self._shown: dict[tuple[int, ...], list[Tensor]] = {}
        self.importance = face_importance(
            growth.size_px, recipe.face_weight, recipe.feature_weight
        ).to(pictures)
        self._turn = ""
        self.decay = average_decay(recipe.ema_half_life_steps)
        rate = growth.lr * EQUALIZED_SHARE  # all weights of a discriminator are equalized
        adversary = replace(recipe, lr=rate, batch_size=growth.batch_size)
        self.adversary = Adversary(nets.discriminator, adversary)
        betas = (BETA1, 0.99)
        self._optimizers: dict[str, Optimizer] = {
            "g": Adam(rate_groups(nets, growth.lr), lr=growth.lr, betas=betas, fused=True),
            "d": self.adversary.optimizer,
        }

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return self.nets.modules()

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return self._optimizers

    def state(self) -> dict[str, float]:
        return self.adversary.ada.state()

    def load_state(self, state: Mapping[str, float]) -> None:
        self.adversary.ada.load_state(dict(state))

    def begin(self, iteration: int) -> None:
        growth = self.growth
        self.nets.encoder.train(growth.learns != "new")
        rate = cosine_rate(iteration, growth.steps, growth.lr, self.recipe.warmup_steps)
        for group in self._optimizers["g"].param_groups:
            group["lr"] = rate * group["share"]
        turns = {"recon": growth.lambda_adv, "sample": growth.lambda_sample}
        judged = [name for name, weight in turns.items() if weight > 0]
        self._turn = judged[iteration % len(judged)] if judged else ""
        if self.nets.generator.config.prior_axes and iteration % PRIOR_EVERY == 0:
            fit_prior(self.nets, self.portraits())

    @property
    def sharpens(self) -> bool:
        """Whether a discriminator takes part."""
        return self.growth.lambda_adv > 0 or self.growth.lambda_sample > 0

    def phases(self, iteration: int) -> Sequence[Phase]:
        clip = self.recipe.max_grad_norm or None
        own = Phase(name="ae", optimizer="g", loss=self._loss, clip=clip)
        if not self.sharpens:
            return [own]
        return [own, *self.adversary.phases(iteration, self._fakes, self.wanted)]

    def finish(self, iteration: int) -> None:
        nets = self.nets
        update_average(nets.generator_average, nets.generator, self.decay)
        update_average(nets.encoder_average, nets.encoder, self.decay)

    # one pass

    def wanted(self, batch: Batch, draws: Draws | None = None) -> Tensor:
        """Target of the generator for the portraits, (B, 3, S, S)."""
        return fit(batch.images, self.growth.size_px)

    def encode(self, images: Tensor, encoder: Encoder | None = None) -> Tensor:
        """Portraits (B, 3, P, P) -> z+ (B, L, D)."""
        encoder = encoder or self.nets.encoder
        return encoded(encoder, images)[:, : self.nets.generator.layout.num_latents]

    def drawn(
        self, generator: Generator, codes: Tensor, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """z+ (B, L, D) -> (B, 3, S, S), at this phase's size: the generator's, or a smaller one."""
        ws = generator.map_plus(codes)
        return generator.synthesize(ws, noise, size_px=self.growth.size_px)[1]

    def _noise(self, batch: int, draws: Draws) -> list[Tensor]:
        return draws.noise(self.nets.generator.layout.noise_sizes_px, batch)

    def _random(self, batch: int, draws: Draws) -> Tensor:
        return random_ws(self.nets.generator, batch, self.recipe.mixing, draws)

    def _fakes(self, batch: Batch, draws: Draws) -> list[Tensor]:
        """Reconstructions, and faces from random codes: those that the phase before has made, which
        saves making them twice."""
        return self._shown.pop(batch.rows)

    def _loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        recipe, generator = self.recipe, self.nets.generator
        wanted = self.wanted(batch)
        codes = self.encode(batch.images)
        noise = self._noise(len(batch.rows), draws)
        images = self.drawn(generator, codes, noise).float()
        pixel, edge = pyramid_l1(images, wanted, self.importance)
        rows = LatentLayout(self.growth.size_px).num_latents
        prior = code_moments(codes[:, :rows].float(), across)
        loss = recipe.lambda_pixel * pixel + recipe.lambda_edge * edge
        loss = loss + recipe.lambda_prior * prior
        scalars = {
            "pixel": pixel.detach(),
            "edge": edge.detach(),
            "prior": prior.detach(),
            "psnr": _psnr(images.detach(), wanted),
        }
        if self.sharpens:
            sharper, more = self._sharper(images, batch, draws, across)
            loss, scalars = loss + sharper, scalars | more
        return loss, scalars

    def _sharper(
        self, images: Tensor, batch: Batch, draws: Draws, across: Across
    ) -> tuple[Tensor, Scalars]:
        """The discriminator's share of the loss; where it judges reconstructions and samples, they
        take turns, which halves what it costs."""
        growth, loss, scalars = self.growth, images.new_zeros(()), {}
        shown = self._shown[batch.rows] = []
        if self._turn == "recon":
            shown.append(images.detach())
            scores, maps = self.nets.discriminator.scores_and_maps(images)
            scalars["g/recon"] = generator_loss(scores)
            loss = loss + growth.lambda_adv * scalars["g/recon"]
            if self.recipe.lambda_perc > 0:
                with torch.no_grad():
                    real = self.nets.discriminator.features(self.wanted(batch))
                scalars["perc"] = matched_maps(maps, real, across)
                loss = loss + self.recipe.lambda_perc * scalars["perc"]
        else:
            ws = self._random(len(batch.rows), draws)
            fake = self.nets.generator(ws, self._noise(len(batch.rows), draws))
            shown.append(fake.detach())
            scalars["g/sample"] = generator_loss(self.adversary.judge(fake, draws))
            loss = loss + growth.lambda_sample * scalars["g/sample"]
        return loss, {name: value.detach() for name, value in scalars.items()}

    # what it looks like

    @torch.no_grad()
    def sheets(self, count: int) -> dict[str, Tensor]:
        generator, device = self.nets.generator_average, self.pictures.device
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(count, generator.config.style_dim, generator=rng).to(device)
        samples = generator.synthesize(generator.random_ws(z), size_px=self.growth.size_px)[1]
        encoder = self.nets.encoder_average
        training = encoder.training
        codes = self.encode(self.pictures[:count], encoder.eval())
        encoder.train(training)
        again = self.drawn(generator, codes)
        wanted = fit(self.pictures[:count], self.growth.size_px)
        pairs = torch.stack([wanted, again], dim=1)
        return {"samples": samples, "reconstructions": pairs}


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    """Decibels of pictures in [-1, 1], mean over the batch."""
    error = (a.clamp(-1, 1) - b).square().mean(dim=(1, 2, 3)) / 4
    return (-10 * torch.log10(error + 1e-10)).mean()
