"""Stage `finetune`: the base fitted to the style's domain, g' (Yang et al., section 3.1).

Flow: base generator and its discriminator + portraits of the style -> g', which destylization
inverts. It is trained like any StyleGAN2 (`AdversarialTraining`), only briefly, so that a code
still means the same face in both. A base that was learnt as an autoencoder is fitted as one: g'
draws each portrait from the code that the encoder of g has for it, which needs a hundred portraits
and a hundred steps, and the discriminator sharpens. `swapped` blends the two layer by layer
(Pinkney and Adler, arXiv:2010.05334): the Toonify baseline.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError
from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Generator
from dsgcli.recipe import FinetuneRecipe
from dsgcli.store.networks import load_encoder, load_generator
from dsgcli.store.write import save_generator
from dsgcli.training.losses import EDGE_SHARE, generator_loss, pyramid_l1
from dsgcli.training.perceptual import encoded, fit, frozen
from dsgcli.training.stage import Across, Batch, Draws, Plan, RunContext, Scalars
from dsgcli.training.stages.base import AdversarialTraining, Players, load_players


class FinetuneTraining(AdversarialTraining):
    """StyleGAN2 on the style's portraits, and each portrait from its own code (`Trainable`).

    Args:
        encoder: of the base, into Z+; None where the recipe has no weight for it.
    """

    def __init__(self, players: Players, recipe: FinetuneRecipe, encoder: Encoder | None) -> None:
        super().__init__(players, recipe)
        self.options, self.encoder = recipe, encoder

    def _loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        fake = generator_loss(self.adversary.judge(self._fake(batch, draws), draws))
        loss, scalars = self.options.lambda_adv * fake, {"g": fake.detach()}
        if self.encoder is None:
            return loss, scalars
        generator = self.players.generator
        with torch.no_grad():
            codes = encoded(self.encoder, batch.images)
        noise = draws.noise(generator.layout.noise_sizes_px, len(batch.rows))
        drawn = generator(generator.map_plus(codes), noise)
        pixel, edge = pyramid_l1(drawn.float(), fit(batch.images, drawn.shape[2]))
        loss = loss + self.options.lambda_pixel * (pixel + EDGE_SHARE * edge)
        return loss, scalars | {"pixel": pixel.detach(), "edge": edge.detach()}


class FinetuneStage:
    """From a base to the generator of the style's domain, and the blend of both."""

    name = "finetune"
    needs: tuple[str, ...] = ("base",)
    makes: tuple[str, ...] = ("finetuned", "swapped")

    def run(self, context: RunContext) -> None:
        recipe = context.recipe.finetune
        assert recipe is not None, "the stage runs only if the recipe has its table"
        size_px = context.recipe.model.size_px
        players = load_players(context, size_px).to(context.device)
        plan = Plan(
            label="finetune",
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            size_px=size_px,
            mirror=context.recipe.data.mirror,
        )
        encoder = None
        if recipe.lambda_pixel > 0:
            rows = players.generator.layout.num_latents
            encoder = frozen(
                load_encoder(context.find("encoder"), context.device, num_latents=rows)
            )
        training = FinetuneTraining(players, recipe, encoder)
        context.train(training, context.pictures("style"), plan)
        save_generator(
            context.target("finetuned"),
            players.average,
            g=players.generator,
            discriminator=players.discriminator,
        )
        base = load_generator(context.find("base"), context.device)
        blend = swapped(base, players.average, min(recipe.swap_size_px, size_px))
        save_generator(context.target("swapped"), blend)


@torch.no_grad()
def swapped(base: Generator, finetuned: Generator, from_px: int) -> Generator:
    """The base's structure in the style's texture: layers below `from_px` are the base's.

    Args:
        base: of the source domain; its mapping network is taken, so codes keep their faces.
        finetuned: fitted to the style from that base.
        from_px: first resolution whose convolutions and ToRGB are the fine-tuned ones.

    Raises:
        ModelMismatchError: the two differ in size.
    """
    if base.config != finetuned.config:
        raise ModelMismatchError("only generators of one size and width can be blended")
    blend = deepcopy(base)
    if from_px <= 4:
        blend.input.load_state_dict(finetuned.input.state_dict())
        blend.conv1.load_state_dict(finetuned.conv1.state_dict())
        blend.to_rgb1.load_state_dict(finetuned.to_rgb1.state_dict())
    for block, size_px in enumerate(base.layout.resolutions_px[1:]):
        if size_px >= from_px:
            for convs in (2 * block, 2 * block + 1):
                blend.convs[convs].load_state_dict(finetuned.convs[convs].state_dict())
            blend.to_rgbs[block].load_state_dict(finetuned.to_rgbs[block].state_dict())
    return blend
