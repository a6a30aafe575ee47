"""Stage `pretrain`: color, then structure transfer on the source domain (Yang et al., section 3.3).

Flow: a face z1 and a style z2, both random -> the picture with rows below a crossing row from z1
and the others from z2 is what the extrinsic path must make of z1 in the style of z2. The crossing
row goes down level by level, so that color comes first and structure is added.

Shapes: B batch, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.recipe import PretrainRecipe, Recipe
from dsgcli.store.contents import open_model
from dsgcli.store.networks import load_encoder, load_generator
from dsgcli.store.write import save_dualstylegan
from dsgcli.training.adversary import random_ws
from dsgcli.training.losses import NUM_COMPARED, PRETRAIN_LAYERS, feature_l1, generator_loss
from dsgcli.training.perceptual import Features, encoded, frozen, load_features
from dsgcli.training.stage import Across, Batch, Draws, Phase, Plan, RunContext, Scalars
from dsgcli.training.stages.base import start_judge
from dsgcli.training.stages.dual import TRAINED, DualPlayers, DualTraining

EncodeToW = Callable[[Tensor], Tensor]
"""Pictures (B, 3, S, S) -> codes in W+ (B, L, D)."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """The batch of one step."""

    ws: Tensor
    """(B, L, D): the face's code in W+."""
    exstyle_ws: Tensor
    """(B, D) or (B, L, D): the style's code in W or W+."""
    target: Tensor
    """(B, 3, S, S): the picture of crossed codes."""


class PretrainTraining(DualTraining):
    """One level of pretraining (`Trainable`); phases d, r1, g, path.

    Args:
        encode: of the style's picture, every `encoded_every` steps.
        crossing: first row that comes from the style.
    """

    def __init__(
        self,
        players: DualPlayers,
        recipe: PretrainRecipe,
        features: Features,
        encode: EncodeToW,
        *,
        crossing: int,
        path_rows: slice | None = None,
        averaged: Sequence[str] = TRAINED,
    ) -> None:
        super().__init__(
            players,
            recipe,
            adversarial=recipe.lambda_adv,
            path_rows=path_rows,
            averaged=averaged,
        )
        self.options, self.features, self.encode = recipe, features, encode
        self.crossing = crossing
        self._made: dict[tuple[int, ...], Crossed] = {}

    def phases(self, iteration: int) -> Sequence[Phase]:
        every = self.options.encoded_every
        encoded = iteration % every == 0

        def fakes(batch: Batch, draws: Draws) -> list[Tensor]:
            crossed = self._made[batch.rows] = self.cross(len(batch.rows), draws, encoded=encoded)
            return [self._fake(crossed, draws)]

        return [
            *self.adversary.phases(iteration, fakes),
            Phase(name="g", optimizer="g", loss=self._loss),
            *self.path.phases(iteration, self._moving),
        ]

    @torch.no_grad()
    def cross(self, batch: int, draws: Draws, *, encoded: bool) -> Crossed:
        """Two random codes, and the picture in which they cross."""
        generator = self.players.dual.generator
        z = draws.normal(batch, 2, self.width)
        face, style = generator.random_ws(z.flatten(0, 1)).unflatten(0, (batch, 2)).unbind(dim=1)
        target = generator(generator.mix(face, style, self.crossing), self.noise(batch, draws))
        if not encoded:
            return Crossed(face, style, target)
        picture = generator(style, self.noise(batch, draws))
        return Crossed(face, self.encode(picture), target)

    def _fake(self, crossed: Crossed, draws: Draws) -> Tensor:
        noise = self.noise(len(crossed.ws), draws)
        image: Tensor = self.players.dual(crossed.ws, crossed.exstyle_ws, noise=noise)
        return image

    def _loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        crossed = self._made.pop(batch.rows)  # the codes that the discriminator has just seen
        fake = self._fake(crossed, draws)
        adversarial = generator_loss(self.adversary.judge(fake, draws))
        with torch.no_grad():
            wanted = self.features.maps(crossed.target, NUM_COMPARED)
        perceptual = feature_l1(self.features.maps(fake, NUM_COMPARED), wanted, PRETRAIN_LAYERS)
        options = self.options
        loss = options.lambda_adv * adversarial + options.lambda_perc * perceptual
        return loss, {"g": adversarial.detach(), "perc": perceptual.detach()}

    def _moving(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Pictures of random codes in random styles, and the intrinsic codes."""
        dual, count = self.players.dual, len(batch.rows)
        with torch.no_grad():
            ws = random_ws(dual.generator, count, self.options.mixing, draws)
            exstyle_ws = dual.generator.random_ws(draws.normal(count, self.width))
        ws = ws.detach().clone().requires_grad_()
        return dual(ws, exstyle_ws, noise=self.noise(count, draws)), ws

    @torch.no_grad()
    def sheets(self, count: int) -> dict[str, Tensor]:
        """`transfers` has, for each sample: face, style, what was made of them, target."""
        dual = self.players.average
        generator = dual.generator
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(count, 2, self.width, generator=rng).to(generator.input.input)
        face, style = generator.random_ws(z.flatten(0, 1)).unflatten(0, (count, 2)).unbind(dim=1)
        samples = dual(face, style)
        target = generator(generator.mix(face, style, self.crossing))
        rows = torch.stack([generator(face), generator(style), samples, target], dim=1)
        return {"samples": samples, "transfers": rows}


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class PretrainStage:
    """From a base and its encoder to a DualStyleGAN of the source domain."""

    name = "pretrain"
    needs: tuple[str, ...] = ("base", "encoder")
    makes: tuple[str, ...] = ("pretrained",)

    def run(self, context: RunContext) -> None:
        recipe = context.recipe.pretrain
        assert recipe is not None, "the stage runs only if the recipe has its table"
        players = fresh_dual(context).to(context.device)
        training = PretrainTraining(
            players,
            recipe,
            load_features(context),
            encode_to_w(context, players.dual),
            crossing=crossings(recipe, context.recipe)[0],
        )
        for level, crossing in enumerate(crossings(recipe, context.recipe)):
            last = level == recipe.levels - 1
            training.crossing, training.path.mean = crossing, 0.0
            steps = recipe.steps if last else round(recipe.steps * recipe.level_share)
            plan = Plan(
                label=f"pretrain-{level + 1}",
                steps=steps,
                batch_size=recipe.batch_size,
                size_px=context.recipe.model.size_px,
                mirror=context.recipe.data.mirror,
            )
            if steps:
                context.train(training, context.pictures("base"), plan)
        save_dualstylegan(
            context.target("pretrained"),
            players.average,
            g=players.dual,
            discriminator=players.discriminator,
        )


def crossings(recipe: PretrainRecipe, whole: Recipe) -> list[int]:
    """The crossing row of each level: one above the last structure row, then down; 7, 6, 5 as
    published."""
    first = whole.model.last_structure + 1
    return [max(1, first - level) for level in range(recipe.levels)]


def fresh_dual(context: RunContext) -> DualPlayers:
    """The base with an extrinsic path that does nothing yet."""
    model, recipe = open_model(context.find("base")), context.recipe.model
    generator = load_generator(model)
    torch.manual_seed(context.recipe.run.seed)
    config = DualConfig(
        generator=generator.config,
        last_structure=recipe.last_structure,
        style_layers=recipe.style_layers,
    )
    dual = DualStyleGAN.of(config)
    dual.generator.load_state_dict(generator.state_dict())
    return DualPlayers.of(dual, start_judge(model, recipe))


def encode_to_w(context: RunContext, dual: DualStyleGAN) -> EncodeToW:
    """The run's encoder, its codes mapped to W+ if they are in Z+."""
    rows = dual.layout.num_latents
    encoder: Encoder = frozen(
        load_encoder(context.find("encoder"), context.device, num_latents=rows)
    )
    maps = encoder.config.latent_space == "z+"

    def encode(images: Tensor) -> Tensor:
        codes = encoded(encoder, images)
        return dual.generator.map_plus(codes) if maps else codes

    return encode
