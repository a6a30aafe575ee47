"""Stage `base`: a StyleGAN2 of the source domain, and maybe its encoder.

Flow: portraits of the source domain -> base generator (and its discriminator); with an autoencoder
start the encoder too. `AdversarialTraining` is also how `finetune` fits a generator to a style
(Yang et al., section 3.1).

Shapes: B batch, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dsgcli.errors import ModelMismatchError
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.patch import Judge, PatchDiscriminator
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import AdversarialRecipe, BaseRecipe, ModelRecipe
from dsgcli.store.contents import OpenModel, open_model
from dsgcli.store.networks import (
    find_discriminator,
    generator_config_of,
    load_encoder,
    load_generator,
)
from dsgcli.store.write import save_encoder, save_generator
from dsgcli.training.adversary import (
    Adversary,
    PathLength,
    average_decay,
    lazy_adam,
    random_ws,
    take_over,
    to_device,
    update_average,
)
from dsgcli.training.data import batches
from dsgcli.training.losses import generator_loss
from dsgcli.training.preflight import with_sizes
from dsgcli.training.stage import Across, Batch, Draws, Phase, Pictures, Plan, RunContext, Scalars
from dsgcli.training.stages.autoencoder import (
    Autoencoder,
    AutoencoderTraining,
    fit_prior,
    grown,
    seed_heads,
)
from dsgcli.types import LatentLayout

SHEET_PICTURES = 16
"""Portraits whose reconstructions are drawn on sheets."""
PRIOR_PICTURES = 2048
"""Portraits that the prior of an autoencoder is fitted to: eight for each of 256 axes."""
PRIOR_BATCH = 64


def generator_config(model: ModelRecipe, size_px: int | None = None) -> GeneratorConfig:
    """The generator that a recipe describes, or a smaller one that grows into it."""
    return GeneratorConfig.compact(
        size_px or model.size_px,
        base=model.channel_base,
        most=model.max_channels,
        style_dim=model.style_dim,
        mapping_layers=model.mapping_layers,
    )


def encoder_config(model: ModelRecipe) -> EncoderConfig:
    """The encoder that a recipe describes."""
    stem, *widths = model.encoder_widths
    return EncoderConfig(
        num_latents=LatentLayout(model.size_px, model.last_structure).num_latents,
        style_dim=model.style_dim,
        latent_space=model.encoder_space,
        input_px=model.encoder_px,
        stem_width=stem,
        widths=(widths[0], widths[1], widths[2], widths[3]),
        units=(
            model.encoder_units[0],
            model.encoder_units[1],
            model.encoder_units[2],
            model.encoder_units[3],
        ),
        head_width=model.encoder_head_width,
    )


# ── adversarial training ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Players:
    """A generator, its average, and its discriminator."""

    generator: Generator
    average: Generator
    discriminator: Judge

    @classmethod
    def fresh(cls, config: GeneratorConfig, judge: Literal["stylegan2", "patch"]) -> Players:
        """Random weights."""
        generator = Generator(config)
        return cls(generator, deepcopy(generator), new_judge(config, judge))

    def to(self, device: torch.device) -> Players:
        """Moves the networks."""
        for module in (self.generator, self.average, self.discriminator):
            to_device(module, device)
        return self


class AdversarialTraining:
    """StyleGAN2 against its discriminator (`Trainable`); phases d, r1, g, path."""

    def __init__(self, players: Players, recipe: AdversarialRecipe) -> None:
        self.players, self.recipe = players, recipe
        self.decay = average_decay(recipe.ema_half_life_steps)
        self.adversary = Adversary(players.discriminator, recipe)
        self.path = PathLength(recipe)
        generator = players.generator
        self._optimizers: dict[str, Optimizer] = {
            "g": lazy_adam(generator.parameters(), recipe.lr, recipe.path_every),
            "d": self.adversary.optimizer,
        }

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        players = self.players
        return {"g": players.generator, "g_ema": players.average, "d": players.discriminator}

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return self._optimizers

    def state(self) -> dict[str, float]:
        return {"path_mean": self.path.mean, **self.adversary.ada.state()}

    def load_state(self, state: Mapping[str, float]) -> None:
        self.path.mean = state["path_mean"]
        self.adversary.ada.load_state(dict(state))

    def begin(self, iteration: int) -> None:
        """Rates are constant."""

    def phases(self, iteration: int) -> Sequence[Phase]:
        return [
            *self.adversary.phases(iteration, lambda batch, draws: [self._fake(batch, draws)]),
            Phase(name="g", optimizer="g", loss=self._loss),
            *self.path.phases(iteration, self._moving),
        ]

    def finish(self, iteration: int) -> None:
        update_average(self.players.average, self.players.generator, self.decay)

    def _fake(self, batch: Batch, draws: Draws) -> Tensor:
        return self._moving(batch, draws)[0]

    def _moving(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Pictures of random codes, and the codes in W+."""
        generator, count = self.players.generator, len(batch.rows)
        ws = random_ws(generator, count, self.recipe.mixing, draws)
        return generator(ws, draws.noise(generator.layout.noise_sizes_px, count)), ws

    def _loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        loss = generator_loss(self.adversary.judge(self._fake(batch, draws), draws))
        return loss, {"g": loss.detach()}

    @torch.no_grad()
    def sheets(self, count: int) -> dict[str, Tensor]:
        average = self.players.average
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(count, average.config.style_dim, generator=rng)
        return {"samples": average(average.random_ws(z.to(average.input.input)))}


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class BaseStage:
    """From portraits of the source domain to a generator."""

    name = "base"
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ("base",)

    def run(self, context: RunContext) -> None:
        recipe = context.recipe.base
        assert recipe is not None, "the stage runs only if the recipe has its table"
        players = self._start(context, recipe).to(context.device)
        if recipe.steps:
            plan = Plan(
                label="base",
                steps=recipe.steps,
                batch_size=recipe.batch_size,
                size_px=context.recipe.model.size_px,
                mirror=context.recipe.data.mirror,
            )
            context.train(AdversarialTraining(players, recipe), context.pictures("base"), plan)
        save_generator(
            context.target("base"),
            players.average,
            g=players.generator,
            discriminator=players.discriminator,
        )

    def _start(self, context: RunContext, recipe: BaseRecipe) -> Players:
        if recipe.start == "autoencoder":
            nets = grow_autoencoder(context, recipe)
            save_encoder(context.target("encoder"), nets.encoder_average.eval())
            return Players(nets.generator, nets.generator_average, nets.discriminator)
        config = generator_config(context.recipe.model)
        if recipe.start == "checkpoint":
            return load_players(context, config.size_px)
        torch.manual_seed(context.recipe.run.seed)
        return Players.fresh(config, context.recipe.model.discriminator)


def load_players(context: RunContext, size_px: int) -> Players:
    """The base to start from; its discriminator is new if the file has none.

    Raises:
        ModelMismatchError: of another size than the recipe's.
    """
    model = open_model(context.find("base"))
    average = load_generator(model)
    if average.config.size_px != size_px:
        raise ModelMismatchError(
            f"{model.path} makes {average.config.size_px} px pictures and the recipe has "
            f"{size_px}; set model.size_px"
        )
    generator = load_generator(model, part="g") if "g" in model.parts else deepcopy(average)
    torch.manual_seed(context.recipe.run.seed)
    return Players(generator, average, start_judge(model, context.recipe.model))


def new_judge(config: GeneratorConfig, kind: Literal["stylegan2", "patch"]) -> Judge:
    """A discriminator with random weights."""
    return PatchDiscriminator(config) if kind == "patch" else Discriminator(config)


def start_judge(base: OpenModel, model: ModelRecipe) -> Judge:
    """The discriminator of the base, of whatever kind; a new one if its file has none."""
    return find_discriminator(base) or new_judge(generator_config_of(base), model.discriminator)


def grow_autoencoder(context: RunContext, recipe: BaseRecipe) -> Autoencoder:
    """Train each resolution from where the one before ended."""
    model = sizes_now(context)
    pictures = context.pictures("base")
    shown = list(range(min(SHEET_PICTURES, len(pictures))))
    axes = min(recipe.prior_axes, model.style_dim, len(pictures) - 1)
    nets = first_autoencoder(context, model, recipe.growth[0].size_px, axes)
    for number, growth in enumerate(recipe.growth):
        before_px, rows = nets.generator.config.size_px, nets.generator.layout.num_latents
        size_px = before_px if growth.learns == "encoder" else growth.size_px
        config = replace(generator_config(model, size_px), prior_axes=axes)
        if size_px != before_px:
            torch.manual_seed(context.recipe.run.seed + number)  # the same after a restart
            nets = grown(nets, config)
            for encoder in (nets.encoder, nets.encoder_average):
                seed_heads(encoder, rows)
        nets.to(context.device)
        side = max(growth.size_px, model.encoder_px)  # the encoder always sees its own size
        portraits = partial(prior_portraits, pictures, side, context.device)
        images = pictures.get(shown, side).to(context.device)
        training = AutoencoderTraining(nets, recipe, growth, images, portraits, before_px)
        plan = Plan(
            label=f"base-{number + 1}-{growth.size_px}px",
            steps=growth.steps,
            batch_size=growth.batch_size,
            size_px=side,
            mirror=context.recipe.data.mirror,
        )
        context.train(training, pictures, plan)
    if axes:
        fit_prior(nets, portraits())
    return nets


def first_autoencoder(
    context: RunContext, model: ModelRecipe, size_px: int, axes: int
) -> Autoencoder:
    """New networks, or those that [start] names; these may be of a smaller model, and grow."""
    torch.manual_seed(context.recipe.run.seed)
    encoder = Encoder(encoder_config(model))
    if not context.recipe.start.base:
        config = replace(generator_config(model, size_px), prior_axes=axes)
        judge = new_judge(config, model.discriminator)
        return Autoencoder.fresh(Generator(config), encoder, judge)
    opened = open_model(context.find("base"))
    before = load_generator(opened)
    generator = Generator(replace(before.config, prior_axes=axes))
    take_over(generator, before.state_dict(), but=("prior.",))  # it is fitted anew
    take_over(encoder, load_encoder(open_model(context.find("encoder"))).state_dict())
    seed_heads(encoder, generator.layout.num_latents)
    return Autoencoder.fresh(generator, encoder, start_judge(opened, model))


def sizes_now(context: RunContext) -> ModelRecipe:
    """The recipe's sizes, or those of the networks that an autoencoder goes on from."""
    model = context.recipe.model
    if context.recipe.start.base:
        for artifact in ("base", "encoder"):
            model = with_sizes(model, artifact, context.find(artifact))
    return model


def prior_portraits(pictures: Pictures, size_px: int, device: torch.device) -> Iterator[Tensor]:
    """Portraits in the shares in which they are drawn for training, (B, 3, S, S) a batch."""
    steps = -(-min(PRIOR_PICTURES, len(pictures)) // PRIOR_BATCH)
    plan = Plan(label="prior", steps=steps, batch_size=PRIOR_BATCH, size_px=size_px, mirror=True)
    for batch in batches(pictures, plan, seed=0, start=0):
        yield batch.images.to(device)
