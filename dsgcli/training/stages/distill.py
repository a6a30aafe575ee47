"""Stage `distill`: a translator learns to draw as a slow teacher does.

Flow: teacher ──▶ pairs on disk ──▶ phases (small crops, then larger ones) ──▶ translator and codes.

The teacher says what belongs where: its pairs are followed in pixels, edges and features. A patch
discriminator that sees the real exemplars, told which code they have, adds the strokes, skin and
hair that a teacher does not draw. Photograph and drawing go through one random affine map, so that
the translator draws the same whatever the crop (VToonify, arXiv:2209.11224, section 4.3), and the
teacher draws at random degrees, so that weights between 0 and 1 mean something.

Shapes: B batch, S size of the phase, L rows of a code, D its width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from dsgcli.errors import TrainingError
from dsgcli.models.patch import StyleDiscriminator
from dsgcli.models.translator import STYLE_PX, Translator, TranslatorConfig
from dsgcli.recipe import DistillPhase, DistillRecipe
from dsgcli.store.codes import Codes
from dsgcli.store.networks import load_translator
from dsgcli.store.write import save_codes, save_translator
from dsgcli.training.adversary import average_decay, to_device, update_average
from dsgcli.training.losses import (
    NUM_COMPARED,
    STROKE_PX,
    contrast_distance,
    discriminator_loss,
    face_importance,
    feature_l1,
    pyramid_l1,
    r1_penalty,
    stroke_distance,
)
from dsgcli.training.perceptual import Features, load_features
from dsgcli.training.stage import Across, Batch, Draws, Phase, Pictures, Plan, RunContext, Scalars
from dsgcli.training.teachers.base import PairSet, Teacher, draw_pairs, rejected

LEVELS = 4
"""Levels of the pyramid on which pixels are compared."""
FEATURE_WEIGHTS = (0.5, 1.0, 1.0)
"""Weights of the feature layers."""
MATCH = 1.0
"""Weight of the distance of the discriminator's own maps to the drawing's, against its verdict."""
MOST_TURN, MOST_SHIFT = 12.0, 0.12
"""Largest rotation in degrees, largest shift in sides, of the random affine map."""
SHIFT_PX = 9
"""Largest shift, in pixels, of the crops whose drawings are compared; odd ones fall between the
samples of every inner resolution."""
STROKE_LEVELS, STROKE_PATCHES, STROKE_DIRECTIONS = 4, 512, 32
"""Levels of the Laplacian pyramid on which strokes are compared; patches and directions of each."""
BATCH = 32
"""Exemplars that are encoded at once."""
ADAM_BETAS, ADVERSARY_BETAS = (0.9, 0.99), (0.5, 0.99)


@dataclass(frozen=True, slots=True)
class Example:
    """The batch of one step."""

    photos: Tensor
    """(B, 3, S, S)."""
    drawn: Tensor
    """(B, 3, S, S), what the teacher made of them."""
    importance: Tensor
    """(B, 1, S, S) of mean 1: what each pixel counts."""
    exemplars: Tensor
    """(B, 3, STYLE_PX, STYLE_PX)."""
    reals: Tensor
    """(B, 3, S, S): the exemplars, moved as the photographs are, the faces at the same place."""
    weights: Tensor
    """(B, L): degrees of the pairs, as weights of rows."""
    numbers: Tensor
    """(B,): the exemplars' positions."""


class DistillTraining:
    """One phase of a translator's training (`Trainable`); phases d, r1, g."""

    def __init__(
        self,
        translator: Translator,
        average: Translator,
        discriminator: StyleDiscriminator,
        recipe: DistillRecipe,
        phase: DistillPhase,
        pairs: PairSet,
        exemplars: Pictures,
        features: Features | None,
    ) -> None:
        self.translator, self.average, self.discriminator = translator, average, discriminator
        self.recipe, self.phase, self.pairs, self.exemplars = recipe, phase, pairs, exemplars
        self.features = features
        self.decay = average_decay(recipe.ema_half_life_steps)
        self._modules = {"g": translator, "average": average, "d": discriminator}
        self._optimizers = {
            "g": Adam(translator.parameters(), lr=phase.lr, betas=ADAM_BETAS, fused=True),
            "d": Adam(
                discriminator.parameters(),
                lr=recipe.lr_discriminator,
                betas=ADVERSARY_BETAS,
                fused=True,
            ),
        }
        self.importance = face_importance(pairs.side_px, recipe.face_weight, recipe.feature_weight)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return self._modules

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return self._optimizers

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Nothing beside the networks."""

    def begin(self, iteration: int) -> None:
        """Warm-up, then a cosine to `lr_end`."""
        phase = self.phase
        rise = min(1.0, (iteration + 1) / max(1, self.recipe.warmup_steps))
        fall = 0.5 * (1 + math.cos(math.pi * iteration / phase.steps))
        for group in self._optimizers["g"].param_groups:
            group["lr"] = rise * (phase.lr_end + (phase.lr - phase.lr_end) * fall)

    def phases(self, iteration: int) -> Sequence[Phase]:
        clip = self.recipe.max_grad_norm or None
        found = []
        if self.phase.lambda_adv > 0:
            found.append(Phase(name="d", optimizer="d", loss=self._discriminator_loss))
            if iteration % self.recipe.r1_every == 0:
                found.append(Phase(name="r1", optimizer="d", loss=self._penalty))
        return [*found, Phase(name="g", optimizer="g", loss=self._loss, clip=clip)]

    def finish(self, iteration: int) -> None:
        update_average(self.average, self.translator, self.decay)

    # ── what is learnt from ──────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def example(self, batch: Batch, draws: Draws) -> Example:
        """Pairs of the batch, through one random affine map each, mirrored at random."""
        device, count = batch.images.device, len(batch.rows)
        indices = batch.indices.tolist()
        numbers = self.pairs.exemplars[batch.indices.cpu()]
        drawn = self.pairs.drawn(indices, batch.images.shape[-1]).to(device)
        exemplars = self.exemplars.get(numbers.tolist(), STYLE_PX).to(device)
        flip = draws.uniform(count) < 0.5
        importance = self.importance.to(device).expand(count, -1, -1, -1)
        reals = self.exemplars.get(numbers.tolist(), batch.images.shape[-1]).to(device)
        stacked = torch.cat([batch.images, drawn, reals, importance], dim=1)  # (B, 10, 256, 256)
        stacked = self._moved(stacked, flip, draws)
        photos, drawn, reals, importance = stacked.split([3, 3, 3, 1], dim=1)
        exemplars = torch.where(flip[:, None, None, None], exemplars.flip(3), exemplars)
        photos = self._noisy(photos.clamp(-1, 1), draws)
        return Example(
            photos=photos.contiguous(memory_format=torch.channels_last),
            drawn=drawn.clamp(-1, 1),
            reals=reals.clamp(-1, 1),
            importance=importance.clamp(min=0) / importance.mean(dim=(2, 3), keepdim=True),
            exemplars=exemplars,
            weights=self._weights(batch.indices).to(device),
            numbers=numbers,
        )

    def _noisy(self, photos: Tensor, draws: Draws) -> Tensor:
        """Photographs (B, 3, S, S) with noise of a random strength, half of it in blocks of two
        pixels, as compression makes it."""
        if self.phase.noise == 0:
            return photos
        count, _, height, width = photos.shape
        fine = draws.normal(count, 3, height, width)
        coarse = draws.normal(count, 3, height // 2, width // 2)
        noise = 0.7 * (fine + F.interpolate(coarse, scale_factor=2.0))
        strength = self.phase.noise * draws.uniform(count)[:, None, None, None]
        return photos + strength * noise.to(photos.device)

    def _weights(self, indices: Tensor) -> Tensor:
        degrees, layout = self.pairs.degrees[indices.cpu()], self.translator.layout
        rows = [degrees[:, :1].expand(-1, layout.num_structure)]
        rows.append(degrees[:, 1:].expand(-1, layout.num_color))
        return torch.cat(rows, dim=1)

    def _moved(self, images: Tensor, flip: Tensor, draws: Draws) -> Tensor:
        """Pictures (B, C, H, H) turned, enlarged and shifted at random: (B, C, S, S)."""
        size, count = self.phase.size_px, len(images)
        low, high = self.phase.zoom
        uniform = draws.uniform(count, 4)
        zoom = low * (high / low) ** uniform[:, 0]
        angle = math.radians(MOST_TURN) * (2 * uniform[:, 1] - 1)
        # a larger face may be shifted further: its parts fill the crop
        reach = MOST_SHIFT + (zoom - 1).clamp(min=0) / zoom * 0.5
        shift = 2 * reach[:, None] * (2 * uniform[:, 2:] - 1)  # in half sides
        cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        sign = torch.where(flip, -1.0, 1.0)
        rows = [torch.stack([sign * cosine, -sine, shift[:, 0]], 1)]
        rows.append(torch.stack([sign * sine, cosine, shift[:, 1]], 1))
        grid = F.affine_grid(torch.stack(rows, 1), [count, 1, size, size], align_corners=False)
        shrink = max(1, int(images.shape[-1] / (size * high)))
        if shrink > 1:
            images = F.avg_pool2d(images, shrink)
        return F.grid_sample(
            images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
        )

    # ── the discriminator ────────────────────────────────────────────────────────────────────────

    def _discriminator_loss(
        self, batch: Batch, draws: Draws, across: Across
    ) -> tuple[Tensor, Scalars]:
        with torch.no_grad():
            example = self.example(batch, draws)
            codes = self.translator.encode_style(example.exemplars)
            full = torch.ones_like(example.weights)
            fakes = self.translator(example.photos, codes, full).clamp(-1, 1)
            reals = example.reals
        flat = codes.flatten(1).float()
        real, _ = self.discriminator(reals, flat)
        fake, _ = self.discriminator(fakes, flat)
        loss = discriminator_loss(real, fake)
        return loss, {"score/real": real.detach().mean(), "score/fake": fake.detach().mean()}

    def _penalty(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        with torch.no_grad():
            example = self.example(batch, draws)
            codes = self.translator.encode_style(example.exemplars).flatten(1).float()
            reals = example.reals
        reals = reals.detach().requires_grad_()
        with torch.autocast(reals.device.type, enabled=False):
            scores, _ = self.discriminator(reals, codes)
            r1 = r1_penalty(scores, reals)
        loss = self.recipe.r1_gamma / 2 * self.recipe.r1_every * r1
        return loss + 0.0 * scores.sum(), {"r1": r1.detach()}

    # ── the translator ───────────────────────────────────────────────────────────────────────────

    def _loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        phase, example = self.phase, self.example(batch, draws)
        codes = self.translator.encode_style(example.exemplars)
        portraits = self.translator(example.photos, codes, example.weights)
        pixel, edge = pyramid_l1(
            portraits.float(), example.drawn, example.importance, LEVELS, phase.fine_weight
        )
        terms = {
            "pixel": (1.0, pixel),
            "edge": (self.recipe.edge_share, edge),
            "code": (self.recipe.code_decay, codes.float().square().mean()),
        }
        if self.features is not None and phase.lambda_perc > 0:
            maps = self.features.maps(portraits, NUM_COMPARED)
            with torch.no_grad():
                wanted = self.features.maps(example.drawn, NUM_COMPARED)
            terms["perc"] = (phase.lambda_perc, feature_l1(maps, wanted, FEATURE_WEIGHTS))
        if phase.lambda_contrast > 0:
            contrast = contrast_distance(portraits.float(), example.drawn)
            terms["contrast"] = (phase.lambda_contrast, contrast)
        if phase.lambda_strokes > 0:
            terms["strokes"] = (phase.lambda_strokes, self._strokes(example, portraits, draws))
        if phase.lambda_adv > 0:
            terms |= self._verdict(example, portraits, codes)
        if phase.lambda_shift > 0:
            terms["shift"] = (
                phase.lambda_shift,
                self._shift_distance(example, portraits, codes, draws),
            )
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return loss, {name: value.detach() for name, (_, value) in terms.items()}

    def _verdict(
        self, example: Example, portraits: Tensor, codes: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Score of the discriminator for portraits, each as much as its color is the exemplar's,
        and how far its maps are from the teacher's drawing, which keeps faces from tearing."""
        flat = codes.detach().flatten(1).float()
        degree = example.weights[:, -1:]  # (B, 1)
        scores, maps = self.discriminator(portraits, flat)
        with torch.no_grad():
            _, wanted = self.discriminator(example.drawn, flat)
        matched = torch.stack(
            [F.l1_loss(a, b) for a, b in zip(maps[:2], wanted, strict=False)]
        ).mean()
        full = (degree * F.softplus(-scores)).mean() / degree.mean().clamp(min=0.1)
        weight = self.phase.lambda_adv
        return {"g": (weight, full), "match": (weight * MATCH, matched)}

    def _strokes(self, example: Example, portraits: Tensor, draws: Draws) -> Tensor:
        """Distance of the portraits' strokes to the exemplars', at the degree of the color."""
        count = len(portraits)
        places = draws.uniform(count, STROKE_LEVELS, STROKE_PATCHES).transpose(0, 1)
        size = 3 * STROKE_PX**2
        directions = draws.normal(1, STROKE_LEVELS, STROKE_DIRECTIONS, size)[0]
        directions = F.normalize(directions, dim=2)
        with torch.autocast(portraits.device.type, enabled=False):
            return stroke_distance(
                portraits.float(),
                example.photos.float(),
                example.reals.float(),
                example.weights[:, -1],
                example.importance,
                places,
                directions,
            )

    def _shift_distance(
        self, example: Example, portraits: Tensor, codes: Tensor, draws: Draws
    ) -> Tensor:
        """Distance between drawings of shifted crops and shifted drawings, of a quarter of the
        batch."""
        count = max(1, len(portraits) // 4)
        side = self.phase.size_px - 32
        left, top = (draws.shared_integer(1, SHIFT_PX) for _ in range(2))
        window = (slice(None, count), slice(None), slice(top, top + side), slice(left, left + side))
        photos = self._noisy(example.photos[window], draws)
        again = self.translator(photos, codes[:count], example.weights[:count])
        inner = (..., slice(16, -16), slice(16, -16))  # borders see less
        return F.l1_loss(again[inner], portraits[window][inner])

    @torch.no_grad()
    def sheets(self, count: int) -> dict[str, Tensor]:
        """`pairs`: photograph, exemplar, what the teacher drew, what the translator draws; for
        pairs fixed for the run, at full degrees."""
        device = next(self.average.parameters()).device
        full = (self.pairs.degrees.min(dim=1).values == 1).nonzero()[:, 0]
        chosen = full[:: max(1, len(full) // count)][:count].tolist()
        size = self.importance.shape[-1]
        photos = self.pairs.get(chosen, size).to(device)
        drawn = self.pairs.drawn(chosen, size).to(device)
        numbers = self.pairs.exemplars[chosen].tolist()
        exemplars = self.exemplars.get(numbers, size).to(device)
        weights = torch.ones(self.average.layout.num_latents)
        portraits = torch.cat(
            [
                self.average(photo[None], self.average.encode_style(exemplar[None]), weights)
                for photo, exemplar in zip(photos, exemplars, strict=True)
            ]
        )
        rows = torch.stack([photos, exemplars, drawn, portraits], dim=1)
        return {"pairs": rows, "samples": portraits}


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class DistillStage:
    """From a teacher to a translator and the codes of its styles."""

    name = "distill"
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ("translator", "codes")

    def run(self, context: RunContext) -> None:
        """Draw the pairs, run the phases, encode the exemplars.

        Raises:
            TrainingError: a teacher that is not there, or whose pairs are all bad.
        """
        recipe = context.recipe.distill
        assert recipe is not None, "the stage runs only if the recipe has its table"
        teacher = make_teacher(context, recipe)
        pairs = draw_pairs(
            teacher,
            context.folder / "pairs",
            recipe.pairs,
            context.recipe.run.seed,
            lambda done, total: context.advance(done, total, "pairs"),
        )
        if len(pairs) == 0:
            raise TrainingError(
                f"the teacher threw away all {recipe.pairs} pairs ({rejected(pairs)}); look at the "
                f"photographs and the exemplars of the recipe"
            )
        translator, average, discriminator = load_networks(context, recipe)
        for phase in recipe.phases:
            features = load_features(context) if phase.lambda_perc > 0 else None
            training = DistillTraining(
                translator,
                average,
                discriminator,
                recipe,
                phase,
                pairs,
                teacher.exemplars,
                features,
            )
            plan = Plan(
                label=f"distill-{phase.size_px}px-{recipe.phases.index(phase)}",
                steps=phase.steps,
                batch_size=phase.batch_size,
                size_px=pairs.side_px,
                mirror=False,  # photograph, drawing and exemplar are mirrored together
            )
            context.train(training, pairs, plan)
        save_translator(context.target("translator"), average)
        save_codes(context.target("codes"), encode_exemplars(average, teacher), keep_order=True)


def make_teacher(context: RunContext, recipe: DistillRecipe) -> Teacher:
    """The recipe's choice, ready to draw."""
    if recipe.teacher == "headshot":
        from dsgcli.training.teachers.headshot import headshot_teacher

        return headshot_teacher(context, recipe)
    if recipe.teacher == "dualstylegan":
        from dsgcli.training.teachers.dualstylegan import dualstylegan_teacher

        return dualstylegan_teacher(context, recipe)
    from dsgcli.training.teachers.pairs import folder_teacher

    return folder_teacher(context, recipe)


def load_networks(
    context: RunContext, recipe: DistillRecipe
) -> tuple[Translator, Translator, StyleDiscriminator]:
    """The translator in training, its average, and the discriminator: new ones, or the translator
    that [start] names."""
    torch.manual_seed(context.recipe.run.seed)
    if context.recipe.start.translator:
        translator = load_translator(context.find("translator")).requires_grad_(True)
    else:
        translator = Translator(TranslatorConfig())
    average = deepcopy(translator)
    layout, code_dim = translator.layout, translator.config.code_dim
    discriminator = StyleDiscriminator(layout.num_latents * code_dim)
    for network in (translator, average, discriminator):
        to_device(network, context.device)
    return translator, average.requires_grad_(False), discriminator


@torch.no_grad()
def encode_exemplars(translator: Translator, teacher: Teacher) -> Codes:
    """The codes of the teacher's shipped exemplars, in their order."""
    pictures, device = teacher.exemplars, next(translator.parameters()).device
    chosen = list(teacher.shipped)
    codes = [
        translator.encode_style(pictures.get(chosen[k : k + BATCH], STYLE_PX).to(device)).cpu()
        for k in range(0, len(chosen), BATCH)
    ]
    names = pictures.names
    labels = tuple(names[i].replace("/", ":", 1) for i in chosen)  # `toon/ann` is `toon:ann`
    return Codes(names=labels, exstyle=torch.cat(codes).float())
