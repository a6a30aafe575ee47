"""Stage `transfer`: the extrinsic path fitted to the style's domain (Yang et al., section 3.3).

Flow: exemplars with their codes, and portraits of the style -> DualStyleGAN of the style. Steps
alternate: unpaired ones take a random face and a random exemplar's style, paired ones a destylized
face and its own exemplar, whose portrait is known.

Shapes: B batch, N exemplars, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dsgcli.errors import TrainingError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.recipe import TransferRecipe
from dsgcli.store.contents import open_model
from dsgcli.store.networks import load_discriminator, load_dualstylegan
from dsgcli.store.write import save_dualstylegan
from dsgcli.training.adversary import random_ws
from dsgcli.training.losses import (
    CONTEXTUAL_LAYER,
    EDGE_SHARE,
    NUM_COMPARED,
    TRANSFER_LAYERS,
    color_distance,
    contextual_loss,
    face_importance,
    feature_l1,
    feature_matching,
    generator_loss,
    identity_loss,
    norm_sum,
    pyramid_l1,
)
from dsgcli.training.perceptual import Features, Identity, fit, load_features, load_identity
from dsgcli.training.stage import (
    Across,
    Batch,
    Draws,
    Phase,
    Pictures,
    Plan,
    RunContext,
    Scalars,
)
from dsgcli.training.stages.codes import exemplar_indices, open_codes
from dsgcli.training.stages.dual import TRAINED, DualPlayers, DualTraining

SUBSPACES = 2
"""Unpaired and paired steps take turns."""
Keep = Callable[[int], None]
"""Told after each step how many are done; keeps candidates."""


@dataclass(frozen=True, slots=True)
class Exemplars:
    """The style's portraits with their codes, N each, in one order."""

    exstyle_ws: Tensor
    """(N, L, D): extrinsic codes in W+."""
    instyle: Tensor
    """(N, L, D): intrinsic codes in Z+."""
    portraits: Callable[[Tensor], Tensor]
    """Numbers (B,) -> portraits (B, 3, S, S)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A face and an exemplar for each sample."""

    ws: Tensor
    """(B, L, D): faces in W+."""
    exstyle_ws: Tensor
    """(B, L, D): jittered codes of the exemplars in W+."""
    numbers: Tensor
    """(B,): which exemplars."""


class TransferTraining(DualTraining):
    """Stage three (`Trainable`); phases d, r1, g, path."""

    def __init__(
        self,
        players: DualPlayers,
        recipe: TransferRecipe,
        exemplars: Exemplars,
        features: Features,
        identity: Identity | None,
        *,
        path_rows: slice | None = None,
        averaged: Sequence[str] = TRAINED,
        keep: Keep | None = None,
    ) -> None:
        super().__init__(
            players,
            recipe,
            adversarial=recipe.lambda_adv,
            path_rows=path_rows,
            averaged=averaged,
        )
        self.options, self.exemplars, self.keep = recipe, exemplars, keep
        self.features, self.identity = features, identity
        rows = recipe.rows or range(self.layout.num_latents)
        self.weights = [1.0 if row in rows else 0.0 for row in range(self.layout.num_latents)]
        self.importance = face_importance(
            self.layout.size_px, recipe.face_weight, recipe.feature_weight
        ).to(exemplars.exstyle_ws)
        self._numbers: dict[tuple[int, ...], Tensor] = {}

    def phases(self, iteration: int) -> Sequence[Phase]:
        paired = self.options.paired and iteration % SUBSPACES == 1

        def fakes(batch: Batch, draws: Draws) -> list[Tensor]:
            taken = self.take(len(batch.rows), draws, paired=paired)
            self._numbers[batch.rows] = taken.numbers
            return [self.stylized(taken, self.noise(len(batch.rows), draws))]

        def loss(batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
            taken = self.take(len(batch.rows), draws, paired=paired)
            return self._loss(taken, draws, across, paired=paired)

        return [
            *self.adversary.phases(iteration, fakes, self._portraits if paired else None),
            Phase(name="g", optimizer="g", loss=loss, couples=True),
            *self.path.phases(iteration, self._moving),
        ]

    def finish(self, iteration: int) -> None:
        super().finish(iteration)
        if self.keep is not None:
            self.keep(iteration + 1)

    # what is drawn

    @torch.no_grad()
    def take(self, batch: int, draws: Draws, *, paired: bool) -> Taken:
        """Exemplars with replacement, their codes a little off; with each its own face in other
        colors, or a random face."""
        chosen = self.exemplars
        numbers = draws.integers(len(chosen.instyle), batch)
        fresh = self.layout.destylized_color
        instyle = chosen.instyle[numbers].clone()
        instyle[:, fresh] = draws.normal(batch, *instyle[:, fresh].shape[1:])
        jitter = self.options.code_jitter * draws.normal(batch, *self.code_shape)
        exstyle_ws = chosen.exstyle_ws[numbers] + jitter
        generator = self.players.dual.generator
        ws = generator.map_plus(instyle) if paired else self.random_faces(batch, draws)
        return Taken(ws, exstyle_ws, numbers)

    def random_faces(self, batch: int, draws: Draws) -> Tensor:
        """(B, L, D) in W+."""
        return random_ws(self.players.dual.generator, batch, self.options.mixing, draws)

    def _portraits(self, batch: Batch, draws: Draws) -> Tensor:
        """The exemplars of the fakes just made; any, for R1."""
        numbers = self._numbers.pop(batch.rows, None)
        if numbers is None:
            numbers = draws.integers(len(self.exemplars.instyle), len(batch.rows))
        return self.exemplars.portraits(numbers)

    # what is made

    def stylized(self, taken: Taken, noise: list[Tensor]) -> Tensor:
        """(B, 3, S, S): portraits, with the rows that the recipe trains."""
        image: Tensor = self.players.dual(taken.ws, taken.exstyle_ws, self.weights, noise)
        return image

    @torch.no_grad()
    def plain(self, taken: Taken, noise: list[Tensor]) -> Tensor:
        """(B, 3, S, S): the same faces as photographs. (The published code lets the two cross at
        different rows, so that the identity loss compares different faces: docs/differences.md, 4.)
        """
        image: Tensor = self.players.dual.plain(taken.ws, noise)
        return image

    def _loss(
        self, taken: Taken, draws: Draws, across: Across, *, paired: bool
    ) -> tuple[Tensor, Scalars]:
        options, noise = self.options, self.noise(len(taken.ws), draws)
        fake = self.stylized(taken, noise)
        terms = {"g": (options.lambda_adv, generator_loss(self.adversary.judge(fake, draws)))}
        exemplars = self.exemplars.portraits(taken.numbers)
        terms |= self._style_terms(fake, exemplars, across, paired=paired)
        terms["reg"] = (options.lambda_reg, norm_sum(self._regularized()))
        if self.identity is not None and options.lambda_id > 0:
            with torch.no_grad():
                reference = self.identity.embed(self.plain(taken, noise))
            distance = identity_loss(self.identity.embed(fake), reference)
            terms["id"] = (options.lambda_id, distance)
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return loss, {name: value.detach() for name, (_, value) in terms.items()}

    def _style_terms(
        self, fake: Tensor, exemplars: Tensor, across: Across, *, paired: bool
    ) -> dict[str, tuple[float, Tensor]]:
        """Weights and values of what compares a portrait with its exemplar."""
        options, maps = self.options, self.features.maps(fake, NUM_COMPARED)
        with torch.no_grad():
            wanted = self.features.maps(exemplars, NUM_COMPARED)
        level = min(CONTEXTUAL_LAYER, len(maps) - 1)
        contextual = contextual_loss(maps[level], wanted[level], across=across.mean)
        terms = {
            "cx": (options.lambda_cx, contextual),
            "fm": (options.lambda_fm, feature_matching(maps, wanted)),
        }
        if options.lambda_color > 0:
            terms["color"] = (options.lambda_color, color_distance(fake.float(), exemplars))
        if paired:
            terms["perc"] = (options.lambda_perc, feature_l1(maps, wanted, TRANSFER_LAYERS))
        if paired and options.lambda_pixel > 0:
            portraits = fit(exemplars, fake.shape[2])
            pixel, edge = pyramid_l1(fake.float(), portraits, self.importance)
            terms["pixel"] = (options.lambda_pixel, pixel + EDGE_SHARE * edge)
        return terms

    def _regularized(self) -> list[Tensor]:
        """Tensors whose norms are kept small."""
        res = self.players.dual.res
        blocks = res if self.options.reg_scope == "all" else res[: self.layout.num_structure]
        return list(blocks.parameters())

    def _moving(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Pictures of random faces in the exemplars' styles, and the faces' codes."""
        count = len(batch.rows)
        taken = self.take(count, draws, paired=False)
        ws = taken.ws.clone().requires_grad_()
        moving = Taken(ws, taken.exstyle_ws, taken.numbers)
        return self.stylized(moving, self.noise(count, draws)), ws

    @torch.no_grad()
    def sheets(self, count: int) -> dict[str, Tensor]:
        """`transfers` has, for each sample: the face, the exemplar, the portrait; `pairs` the same
        for faces that belong to the exemplar."""
        dual, exemplars = self.players.average, self.exemplars
        generator = dual.generator
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(count, self.width, generator=rng).to(exemplars.instyle)
        numbers = torch.arange(count, device=z.device) % len(exemplars.instyle)
        exstyle_ws, portraits = exemplars.exstyle_ws[numbers], exemplars.portraits(numbers)
        sheets = {}
        faces = {
            "transfers": generator.random_ws(z),
            "pairs": generator.map_plus(exemplars.instyle[numbers]),
        }
        for name, ws in faces.items():
            stylized = dual(ws, exstyle_ws, self.weights)
            sheets[name] = torch.stack([generator(ws), portraits, stylized], dim=1)
            sheets.setdefault("samples", stylized)
        return sheets


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class TransferStage:
    """From a pretrained DualStyleGAN and a style's codes to the style."""

    name = "transfer"
    needs: tuple[str, ...] = ("pretrained", "codes")
    makes: tuple[str, ...] = ("style",)

    def run(self, context: RunContext) -> None:
        recipe = context.recipe.transfer
        assert recipe is not None, "the stage runs only if the recipe has its table"
        players = pretrained_players(context).to(context.device)
        pictures = context.pictures("style")
        training = TransferTraining(
            players,
            recipe,
            load_exemplars(context, pictures, players.dual),
            load_features(context),
            load_identity(context, pictures) if recipe.lambda_id > 0 else None,
            keep=keep_candidates(context, recipe, players.average),
        )
        plan = Plan(
            label="transfer",
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            size_px=context.recipe.model.size_px,
            mirror=context.recipe.data.mirror,
        )
        context.train(training, pictures, plan)
        save_dualstylegan(context.target("style"), players.average)


def pretrained_players(context: RunContext) -> DualPlayers:
    """The networks as pretraining left them.

    Raises:
        TrainingError: the file holds no discriminator.
    """
    model = open_model(context.find("pretrained"))
    average = load_dualstylegan(model)
    if "d" not in model.parts:
        raise TrainingError(
            f"{model.path} has no discriminator, which stage 'transfer' trains on from; take a "
            f"file that the stage 'pretrain' has made"
        )
    dual = load_dualstylegan(model, part="g") if "g" in model.parts else deepcopy(average)
    return DualPlayers(dual, average, load_discriminator(model))


@torch.no_grad()
def load_exemplars(context: RunContext, pictures: Pictures, dual: DualStyleGAN) -> Exemplars:
    """The style's codes and portraits, matched by name.

    Raises:
        TrainingError: codes without intrinsic ones, or of portraits that are not there.
    """
    codes, device = open_codes(context), context.device
    if codes.instyle is None:
        raise TrainingError(
            "the codes have no intrinsic half, which stage 'transfer' pairs with the exemplars; "
            "run the stage 'destylize'"
        )
    places = exemplar_indices(codes.names, pictures.names)
    size_px = context.recipe.model.size_px

    def portraits(numbers: Tensor) -> Tensor:
        images = pictures.get([places[n] for n in numbers.tolist()], size_px).to(device)
        return images.contiguous(memory_format=torch.channels_last)

    exstyle = codes.exstyle.to(device)
    return Exemplars(dual.generator.map_plus(exstyle), codes.instyle.to(device), portraits)


def keep_candidates(context: RunContext, recipe: TransferRecipe, average: DualStyleGAN) -> Keep:
    """Writes the averaged network every so many steps: the last is not always the best."""

    def keep(done: int) -> None:
        if done >= recipe.keep_from and done % recipe.keep_every == 0:
            name = f"{context.recipe.run.name or 'style'}-{done:06d}"
            save_dualstylegan(candidate_path(context.folder, done), average, name=name, half=True)

    return keep


def candidate_path(folder: Path, step: int) -> Path:
    """Where the candidate of a step lies in the stage's folder."""
    return folder / "candidates" / f"{step:06d}.safetensors"
