"""Stage `refine`: each extrinsic code fitted to its exemplar (Yang et al., section 3.4).

Flow: exemplar, its intrinsic and extrinsic codes -> DualStyleGAN draws it -> the extrinsic code
moves until the drawing is the exemplar; structure rows carefully, color rows boldly.

Shapes: B exemplars, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dsgcli.errors import TrainingError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.recipe import RefineRecipe
from dsgcli.store.codes import Codes
from dsgcli.store.networks import load_dualstylegan
from dsgcli.store.write import save_codes
from dsgcli.training.fitting import Fit, Judge, Terms
from dsgcli.training.losses import CONTEXTUAL_LAYER, NUM_COMPARED, contextual_loss
from dsgcli.training.perceptual import Features, fit, frozen, load_features
from dsgcli.training.sheets import save_sheet
from dsgcli.training.stage import RunContext, SeededDraws
from dsgcli.training.stages.codes import Parts, exemplar_indices, open_codes

NOISE_RATE = 0.1
"""Learning rate of the noise maps."""


class Refiner:
    """Fits extrinsic codes; holds the networks."""

    def __init__(self, dual: DualStyleGAN, features: Features, recipe: RefineRecipe) -> None:
        self.dual, self.features, self.recipe = dual, features, recipe

    def run(
        self,
        exemplars: Tensor,
        instyle: Tensor,
        exstyle: Tensor,
        noise: Sequence[Tensor],
        after: Callable[[int], None] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Refined codes, and the noise maps that were fitted with them.

        Args:
            exemplars: (B, 3, P, P) in [-1, 1].
            instyle, exstyle: (B, L, D) in Z+.
            noise: (B, 1, s, s) each, to begin with.
            after: told how many steps are done.

        Returns:
            (B, L, D) in Z+.
        """
        fitted = self.fit(exstyle, noise).run(
            self.judge(exemplars, instyle), self.recipe.steps, after
        )
        return torch.cat(fitted.values, dim=1), fitted.noise

    def fit(self, exstyle: Tensor, noise: Sequence[Tensor]) -> Fit:
        """The problem: structure and color rows, each with its rate, and the noise."""
        recipe, layout = self.recipe, self.dual.layout
        return Fit(
            [
                (exstyle[:, layout.structure], recipe.lr_structure),
                (exstyle[:, layout.color], recipe.lr_color),
            ],
            noise,
            noise_rate=NOISE_RATE,
            lambda_noise=recipe.lambda_noise,
        )

    def judge(self, exemplars: Tensor, instyle: Tensor) -> Judge:
        """The terms that pull a code towards its exemplar."""
        recipe, generator = self.recipe, self.dual.generator
        with torch.no_grad():
            ws = generator.map_plus(instyle)
            wanted = self.features.maps(exemplars, NUM_COMPARED)
            distance = self.features.towards(exemplars)
        level = min(CONTEXTUAL_LAYER, len(wanted) - 1)

        def terms(values: Sequence[Tensor], noise: Sequence[Tensor]) -> Terms:
            image = self.dual(ws, generator.map_plus(torch.cat(list(values), dim=1)), noise=noise)
            x, y = self.features.maps(image, level + 1)[level], wanted[level]
            pairs = zip(x.split(1), y.split(1), strict=True)
            contextual = torch.stack([contextual_loss(a, b) for a, b in pairs])
            return {
                "perceptual": (recipe.lambda_perc, distance(image)),
                "contextual": (recipe.lambda_cx, contextual),
            }

        return terms


class RefineStage:
    """From codes to the same with refined ones, which later stages then find."""

    name = "refine"
    needs: tuple[str, ...] = ("style", "codes")
    makes: tuple[str, ...] = ("codes",)

    def run(self, context: RunContext) -> None:
        recipe, device = context.recipe.refine, context.device
        assert recipe is not None, "the stage runs only if the recipe has its table"
        codes, pictures = open_codes(context), context.pictures("style")
        if codes.instyle is None:
            raise TrainingError("refinement needs intrinsic codes; run the stage 'destylize'")
        dual = frozen(load_dualstylegan(context.find("style"), device))
        refiner = Refiner(dual, load_features(context), recipe)
        places = exemplar_indices(codes.names, pictures.names)

        def make(indices: range, tell: Callable[[int], None]) -> Codes:
            images = pictures.get([places[i] for i in indices], refiner.features.size_px)
            draws = SeededDraws(context.recipe.run.seed, 0, self.name, indices, device)
            noise = draws.noise(dual.layout.noise_sizes_px, len(indices))
            chosen = codes.select(indices)
            return refine(refiner, chosen, images.to(device), noise, context.folder, tell)

        parts = Parts(context, len(places), recipe.batch_size, recipe.steps, dual.layout)
        save_codes(context.target("codes"), parts.run(make), layout=dual.layout, keep_order=True)


def refine(
    refiner: Refiner,
    codes: Codes,
    images: Tensor,
    noise: Sequence[Tensor],
    folder: Path,
    after: Callable[[int], None],
) -> Codes:
    """Return the codes with refined ones, and write a sheet for each exemplar: the exemplar, as it
    was drawn before, and after."""
    assert codes.instyle is not None
    exstyle, instyle = codes.exstyle.to(images.device), codes.instyle.to(images.device)
    refined, fitted = refiner.run(images, instyle, exstyle, noise, after)
    generator = refiner.dual.generator
    with torch.no_grad():
        ws = generator.map_plus(instyle)
        before = refiner.dual(ws, generator.map_plus(exstyle), noise=fitted)
        now = refiner.dual(ws, generator.map_plus(refined), noise=fitted)
    rows = torch.stack([fit(images, now.shape[2]), before, now], dim=1)
    for name, pictures in zip(codes.names, rows, strict=True):
        save_sheet(folder / "sheets" / f"{name.replace('/', '_')}.jpg", pictures, columns=3)
    return replace(codes, refined=refined.cpu())
