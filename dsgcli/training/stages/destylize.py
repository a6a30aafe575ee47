"""Stage `destylize`: the photograph behind each portrait, as codes (Yang et al., section 3.1).

Flow: portrait S -> z+_e = encoder(S), its extrinsic code -> fitted under the style's generator g'
-> drawn by the base g with z+_e's colors, truncated -> encoder -> z+_i, its intrinsic code.

Shapes: B portraits, S size, L rows of a code, D style width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError
from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Generator
from dsgcli.recipe import DestylizeRecipe
from dsgcli.store.codes import Codes
from dsgcli.store.files import written_whole
from dsgcli.store.networks import load_encoder, load_generator
from dsgcli.store.write import save_codes
from dsgcli.training.fitting import Fit, Judge, Terms
from dsgcli.training.losses import ramped_rate
from dsgcli.training.perceptual import (
    Features,
    Identity,
    encoded,
    fit,
    frozen,
    load_features,
    load_identity,
)
from dsgcli.training.sheets import save_sheet
from dsgcli.training.stage import Pictures, RunContext, SeededDraws
from dsgcli.training.stages.codes import Parts, exemplar_names
from dsgcli.types import LatentLayout

FLAG_DEVIATIONS = 3.0
"""A portrait is flagged when its score is so many deviations above the median."""


@dataclass(frozen=True, slots=True)
class Destylized:
    """Codes and pictures found for B portraits."""

    exstyle: Tensor
    """(B, L, D) in Z+: the encoder's code of the portrait, unchanged."""
    instyle: Tensor
    """(B, L, D) in Z+: the code of the recovered photograph."""
    portrait: Tensor
    """(B, 3, P, P): as it was given."""
    drawn: Tensor
    """(B, 3, S, S): the portrait as g' draws the fitted code."""
    recovered: Tensor
    """(B, 3, S, S): the photograph, from the fitted code and noise."""
    reencoded: Tensor
    """(B, 3, S, S): the photograph, from the intrinsic code alone."""
    perceptual: Tensor
    """(B,): distance between portrait and `drawn` at the end."""
    identity: Tensor
    """(B,): 1 - cosine between their faces; 0 without an identity network."""

    def codes(self, names: Sequence[str]) -> Codes:
        """Both codes by name."""
        return Codes(names=tuple(names), exstyle=self.exstyle.cpu(), instyle=self.instyle.cpu())

    @property
    def score(self) -> Tensor:
        """(B,): how badly the fit went, lower is better."""
        return self.perceptual + self.identity


class Destylizer:
    """Finds codes; holds the networks.

    Args:
        base: g, of photographs.
        finetuned: g', fitted to the style from g.
        encoder: of g, into Z+.
    """

    def __init__(
        self,
        base: Generator,
        finetuned: Generator,
        encoder: Encoder,
        features: Features,
        identity: Identity | None,
        recipe: DestylizeRecipe,
        layout: LatentLayout,
    ) -> None:
        self.base, self.finetuned, self.encoder = base, finetuned, encoder
        self.features, self.identity, self.recipe = features, identity, recipe
        self.layout = layout

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, L, D) in Z+."""
        codes = encoded(self.encoder, images)
        return codes.float() if codes.dtype == torch.bfloat16 else codes

    def run(
        self,
        portraits: Tensor,
        noise: Sequence[Tensor],
        after: Callable[[int], None] | None = None,
    ) -> Destylized:
        """Fit B portraits (B, 3, P, P) from first noise maps (B, 1, s, s)."""
        with torch.no_grad():
            exstyle = self.encode(portraits)
        fitting = self.fit(exstyle, noise)
        fitted = fitting.run(self.judge(portraits), self.recipe.steps, after)
        (code,) = fitted.values
        zeros = torch.zeros_like(fitted.terms["perceptual"])
        return self.recover(
            portraits,
            exstyle,
            code,
            fitted.noise,
            fitted.terms["perceptual"],
            fitted.terms.get("identity", zeros),
        )

    def fit(self, exstyle: Tensor, noise: Sequence[Tensor]) -> Fit:
        """The problem: codes from `exstyle` on."""
        recipe = self.recipe
        return Fit(
            [(exstyle, recipe.lr)],
            noise,
            noise_rate=recipe.lr,
            lambda_noise=recipe.lambda_noise,
            rate=lambda step: ramped_rate(step / recipe.steps, 1.0),
        )

    def judge(self, portraits: Tensor) -> Judge:
        """The terms that pull a code towards the portraits."""
        recipe, identity = self.recipe, self.identity
        distance = self.features.towards(portraits)
        with torch.no_grad():
            faces = None if identity is None else identity.embed(portraits)

        def terms(values: Sequence[Tensor], noise: Sequence[Tensor]) -> Terms:
            (code,) = values
            image = self.finetuned(self.finetuned.map_plus(code), noise)
            spread = code.std(dim=1, unbiased=True).mean(dim=1)  # (B,): how far z+ is from z
            found: Terms = {
                "perceptual": (recipe.lambda_perc, distance(image)),
                "spread": (recipe.lambda_reg, spread),
            }
            if identity is not None and faces is not None:
                likeness = (identity.embed(image) * faces).sum(dim=1)
                found["identity"] = (recipe.lambda_id, 1.0 - likeness)
            return found

        return terms

    @torch.no_grad()
    def recover(
        self,
        portraits: Tensor,
        exstyle: Tensor,
        code: Tensor,
        noise: Sequence[Tensor],
        perceptual: Tensor,
        identity: Tensor,
    ) -> Destylized:
        """From fitted codes to photographs and intrinsic codes."""
        base, psi = self.base, self.recipe.truncation
        drawn = self.finetuned(self.finetuned.map_plus(code), noise)
        colored = self.with_colors(code, exstyle)
        recovered = base(base.truncate(base.map_plus(colored), psi), noise)
        instyle = self.with_colors(self.encode(recovered), exstyle)
        return Destylized(
            exstyle=exstyle,
            instyle=instyle,
            portrait=portraits,
            drawn=drawn,
            recovered=recovered,
            reencoded=base(base.map_plus(instyle)),
            perceptual=perceptual,
            identity=identity,
        )

    def with_colors(self, code: Tensor, exstyle: Tensor) -> Tensor:
        """`code` with the color rows of `exstyle`, one row later than elsewhere as published."""
        rows = self.layout.destylized_color
        merged = code.clone()
        merged[:, rows] = exstyle[:, rows]
        return merged


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class DestylizeStage:
    """From the style's portraits to their intrinsic and extrinsic codes.

    Each batch is written when it is done, so an interrupted run continues with the next one.
    """

    name = "destylize"
    needs: tuple[str, ...] = ("base", "finetuned", "encoder")
    makes: tuple[str, ...] = ("codes",)

    def run(self, context: RunContext) -> None:
        recipe = context.recipe.destylize
        assert recipe is not None, "the stage runs only if the recipe has its table"
        pictures = context.pictures("style")
        destylizer = load_destylizer(context, pictures)
        names, folder = exemplar_names(pictures.names), context.folder

        def make(indices: range, tell: Callable[[int], None]) -> Codes:
            found = self._fit(context, destylizer, pictures, indices, tell)
            chosen = [names[i] for i in indices]
            write_sheets(folder / "sheets", chosen, found)
            note_scores(folder / "scores.json", chosen, found)
            return found.codes(chosen)

        layout = destylizer.layout
        parts = Parts(context, len(pictures), recipe.batch_size, recipe.steps, layout)
        save_codes(context.target("codes"), parts.run(make), layout=layout, keep_order=True)

    def _fit(
        self,
        context: RunContext,
        destylizer: Destylizer,
        pictures: Pictures,
        indices: Sequence[int],
        after: Callable[[int], None],
    ) -> Destylized:
        size_px = max(destylizer.features.size_px, destylizer.encoder.config.input_px)
        portraits = pictures.get(indices, size_px).to(context.device)
        seed = context.recipe.run.seed
        draws = SeededDraws(seed, 0, self.name, indices, context.device)
        noise = draws.noise(destylizer.layout.noise_sizes_px, len(indices))
        return destylizer.run(portraits, noise, after)


def load_destylizer(context: RunContext, pictures: Pictures) -> Destylizer:
    """The networks of the run.

    Raises:
        ModelMismatchError: an encoder into W+, whose codes have no colors to swap.
    """
    recipe, device = context.recipe.destylize, context.device
    assert recipe is not None
    base = frozen(load_generator(context.find("base"), device))
    layout = LatentLayout(base.config.size_px, context.recipe.model.last_structure)
    encoder = load_encoder(context.find("encoder"), device, num_latents=layout.num_latents)
    if encoder.config.latent_space != "z+":
        raise ModelMismatchError(
            "destylization works in Z+, and the encoder's codes are in W+; train or name one with "
            "model.encoder_space = 'z+'"
        )
    return Destylizer(
        base,
        frozen(load_generator(context.find("finetuned"), device)),
        frozen(encoder),
        load_features(context),
        load_identity(context, pictures) if recipe.lambda_id > 0 else None,
        recipe,
        layout,
    )


def write_sheets(folder: Path, names: Sequence[str], found: Destylized) -> None:
    """One sheet a portrait: as given, as g' draws it, the photograph, the photograph's code."""
    size_px = found.drawn.shape[2]
    columns = [fit(found.portrait, size_px), found.drawn, found.recovered, found.reencoded]
    for name, pictures in zip(names, torch.stack(columns, dim=1), strict=True):
        save_sheet(folder / f"{name.replace('/', '_')}.jpg", pictures, columns=4)


def note_scores(path: Path, names: Sequence[str], found: Destylized) -> None:
    """Add scores to the file, and flag those that stand out: their codes are best left out."""
    scores: dict[str, float] = {}
    if path.is_file():
        scores = json.loads(path.read_text("utf-8"))["scores"]
    scores |= dict(zip(names, [round(s, 5) for s in found.score.tolist()], strict=True))
    with written_whole(path) as partial:
        content = {"scores": scores, "flagged": flagged(scores)}
        partial.write_text(json.dumps(content, indent=1), "utf-8")


def flagged(scores: dict[str, float]) -> list[str]:
    """Names whose score lies far above the median, in units of the median deviation."""
    values = torch.tensor(list(scores.values()), dtype=torch.float64)
    median = values.median()
    deviation = 1.4826 * (values - median).abs().median() + 1e-9
    limit = float(median + FLAG_DEVIATIONS * deviation)
    return [name for name, score in scores.items() if score > limit]
