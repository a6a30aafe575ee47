"""Stage `finetune`: the base fitted to the style's domain, g' (Yang et al., section 3.1).

Flow: base generator and its discriminator + portraits of the style -> g', which destylization
inverts. It is trained like any StyleGAN2 (`AdversarialTraining`), only briefly, so that a code
still means the same face in both. `swapped` blends the two layer by layer (Pinkney and Adler,
arXiv:2010.05334): the Toonify baseline.
"""

from __future__ import annotations

from copy import deepcopy

import torch

from dsgcli.errors import ModelMismatchError
from dsgcli.models.stylegan2 import Generator
from dsgcli.store.networks import load_generator
from dsgcli.store.write import save_generator
from dsgcli.training.stage import Plan, RunContext
from dsgcli.training.stages.base import AdversarialTraining, load_players


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
        context.train(AdversarialTraining(players, recipe), context.pictures("style"), plan)
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
