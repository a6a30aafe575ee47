"""How good a style is: the stage `evaluate`, and the score that chooses among candidates.

Flow: style + codes + faces -> portraits -> distances to the exemplars and to the plain faces,
KID and FID against the style's portraits -> evaluate/metrics.json and a sheet.

Shapes: N samples, S size, L rows of a code, D style width, F features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsgcli.errors import ModelMissingError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.store.codes import Codes
from dsgcli.store.files import write_text
from dsgcli.store.networks import load_dualstylegan, load_encoder
from dsgcli.training.candidates import Scored, candidate_steps, write_scores
from dsgcli.training.losses import NUM_COMPARED, feature_matching
from dsgcli.training.metrics import fid, kid, psnr
from dsgcli.training.perceptual import (
    EncoderFeatures,
    Features,
    Identity,
    fit,
    frozen,
    load_features,
    load_identity,
)
from dsgcli.training.sheets import save_sheet
from dsgcli.training.stage import Pictures, RunContext
from dsgcli.training.stages.codes import exemplar_indices, open_codes
from dsgcli.training.stages.pretrain import encode_to_w
from dsgcli.training.stages.transfer import candidate_path
from dsgcli.types import StyleWeights

Describe = Callable[[Tensor], Tensor]
"""Pictures (N, 3, S, S) -> features (N, F) for KID and FID."""
METRICS = "metrics.json"
SCORED_SAMPLES = 32
"""Portraits that each candidate is scored on."""
SHOWN = 8
"""Rows of the sheet."""


@dataclass(frozen=True, slots=True)
class Judges:
    """Networks that judge the style."""

    features: Features
    identity: Identity | None
    codes: Codes
    pictures: Pictures
    size_px: int
    device: torch.device

    @classmethod
    def of(cls, context: RunContext) -> Judges:
        """From the recipe's [features] and the style's codes."""
        pictures = context.pictures("style")
        return cls(
            load_features(context),
            load_identity(context, pictures),
            open_codes(context),
            pictures,
            context.recipe.model.size_px,
            context.device,
        )

    def exemplars(self, numbers: Tensor) -> Tensor:
        """(N,) numbers of exemplars -> (N, 3, S, S)."""
        places = exemplar_indices(self.codes.names, self.pictures.names)
        chosen = [places[n] for n in numbers.tolist()]
        return self.pictures.get(chosen, self.size_px).to(self.device)

    def likeness_lost(self, portraits: Tensor, plain: Tensor) -> float:
        """1 - cosine between faces, mean; 1 where the recipe has no identity network."""
        if self.identity is None:
            return 1.0
        a, b = self.identity.embed(portraits), self.identity.embed(plain)
        return float(1.0 - (a * b).sum(dim=1).mean())


@dataclass(frozen=True, slots=True)
class DrawnExemplars:
    """Faces, the exemplars they are drawn after, and the portraits."""

    plain: Tensor
    portraits: Tensor
    exemplars: Tensor


def draw(
    dual: DualStyleGAN, judges: Judges, numbers: Tensor, ws: Tensor, weights: StyleWeights
) -> DrawnExemplars:
    """Portraits of the faces (N, L, D) in W+ after the exemplars (N,)."""
    exstyle = judges.codes.default[numbers.cpu()].to(judges.device)
    exstyle_ws = dual.generator.map_plus(exstyle)
    portraits = dual(ws, exstyle_ws, weights.layers)
    exemplars = fit(judges.exemplars(numbers), portraits.shape[2])  # an enlarged style draws more
    return DrawnExemplars(dual.plain(ws), portraits, exemplars)


def random_faces(dual: DualStyleGAN, count: int, device: torch.device) -> Tensor:
    """(N, L, D) in W+: the same faces each time."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(count, dual.config.generator.style_dim, generator=rng).to(device)
    return dual.generator.random_ws(z)


# ── candidates ───────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def score_candidates(context: RunContext) -> list[Scored]:
    """Score what `transfer` has kept, and propose one; nothing without candidates."""
    steps = candidate_steps(context.folder)
    if not steps:
        return []
    judges = Judges.of(context)
    found = []
    for done, step in enumerate(steps, 1):
        found.append(_score(step, context.folder, judges))
        context.advance(done, len(steps), "scoring candidates")
    write_scores(context.folder, found)
    return found


def _score(step: int, folder: Path, judges: Judges) -> Scored:
    dual = frozen(load_dualstylegan(candidate_path(folder, step), judges.device))
    weights = StyleWeights.of(dual.layout, structure=1.0, color=1.0)
    style, lost, batches = 0.0, 0.0, 0
    faces = random_faces(dual, SCORED_SAMPLES, judges.device)
    for ws, numbers in _batches(faces, len(judges.codes.names), 8):
        drawn = draw(dual, judges, numbers, ws, weights)
        ours = judges.features.maps(drawn.portraits, NUM_COMPARED)
        theirs = judges.features.maps(drawn.exemplars, NUM_COMPARED)
        style += float(feature_matching(ours, theirs))
        lost += judges.likeness_lost(drawn.portraits, drawn.plain)
        batches += 1
    return Scored(step=step, style=style / batches, identity=lost / batches)


def _batches(faces: Tensor, exemplars: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Faces, and with each the next exemplar."""
    numbers = torch.arange(len(faces)) % exemplars
    yield from zip(faces.split(size), numbers.split(size), strict=True)


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class EvaluateStage:
    """From a style to figures about it."""

    name = "evaluate"
    needs: tuple[str, ...] = ("style", "codes", "encoder")
    makes: tuple[str, ...] = ()

    @torch.no_grad()
    def run(self, context: RunContext) -> None:
        recipe = context.recipe.evaluate
        assert recipe is not None, "the stage runs only if the recipe has its table"
        dual = frozen(load_dualstylegan(context.find("style"), context.device))
        judges, describe = Judges.of(context), describer(context, recipe.features)
        faces = random_faces(dual, recipe.samples, context.device)
        drawn: list[Tensor] = []
        rows: list[dict[str, float]] = []
        shown: list[Tensor] = []
        for ws, numbers in _batches(faces, len(judges.codes.names), recipe.batch_size):
            one = draw(dual, judges, numbers, ws, StyleWeights.of(dual.layout))
            drawn.append(describe(one.portraits))
            rows += [compare(context, judges, one)] * len(numbers)
            if len(shown) * recipe.batch_size < SHOWN:
                shown.append(torch.stack([one.plain, one.exemplars, one.portraits], dim=1))
            context.advance(len(rows), recipe.samples, "drawing")
        ours, real = torch.cat(drawn), real_features(judges, describe)
        figures = {
            "samples": recipe.samples,
            f"kid ({recipe.features})": kid(ours, real),
            f"fid ({recipe.features})": fid(ours, real),
            **{name: sum(row[name] for row in rows) / len(rows) for name in rows[0]},
            **reconstruction(context, dual),
        }
        write_metrics(context.folder / METRICS, figures)
        save_sheet(context.folder / "sheet.jpg", torch.cat(shown)[:SHOWN].flatten(0, 1), columns=3)


def compare(context: RunContext, judges: Judges, drawn: DrawnExemplars) -> dict[str, float]:
    """Distances of portraits to their exemplars and to the plain faces, means over a batch."""
    distance = judges.features.distance(drawn.portraits, drawn.exemplars)
    found = {f"style distance ({judges.features.name})": float(distance.mean())}
    if judges.identity is not None:
        name = f"identity similarity ({judges.identity.name})"
        found[name] = 1.0 - judges.likeness_lost(drawn.portraits, drawn.plain)
    return found | lpips_to_exemplars(context, drawn)


def real_features(judges: Judges, describe: Describe) -> Tensor:
    """(N, F): features of the style's own portraits."""
    everything = torch.arange(len(judges.codes.names))
    return torch.cat([describe(judges.exemplars(n)) for n in everything.split(16)])


def describer(context: RunContext, name: str) -> Describe:
    """Features by name: `vgg16`, its deepest maps, averaged over the picture; `encoder`, those of
    the encoder's body.

    Raises:
        ModelMissingError: its weights are not in the store.
    """
    if name == "vgg16":
        vgg = frozen(context.store.vgg(16, context.device))
        return lambda images: vgg(fit(images, 256))[-1].mean(dim=(2, 3)).float().cpu()
    encoder = EncoderFeatures(load_encoder(context.find("encoder"), context.device))
    return lambda images: encoder.maps(images)[-1].mean(dim=(2, 3)).float().cpu()


def lpips_to_exemplars(context: RunContext, drawn: DrawnExemplars) -> dict[str, float]:
    """Mean LPIPS of portraits to their exemplars; nothing where its weights are not there."""
    try:
        network = frozen(context.store.lpips(context.device))
    except ModelMissingError:
        return {}
    distance = network(fit(drawn.portraits, 256), fit(drawn.exemplars, 256))
    return {"lpips to exemplars": float(distance.mean())}


def reconstruction(context: RunContext, dual: DualStyleGAN) -> dict[str, float]:
    """How well photographs that were held out come back through encoder and base."""
    if not (context.recipe.data.source and context.recipe.data.holdout):
        return {}
    pictures, size_px = context.pictures("base"), dual.layout.size_px
    held_out = [i for i, weight in enumerate(pictures.weights) if weight == 0.0]
    encode, found = encode_to_w(context, dual), []
    for start in range(0, len(held_out), 16):
        images = pictures.get(held_out[start : start + 16], size_px).to(context.device)
        found.append(psnr(dual.plain(encode(images)), images))
    if not found:
        return {}
    return {
        "photographs held out": float(len(held_out)),
        "reconstruction psnr (dB)": float(torch.cat(found).mean()),
    }


def write_metrics(path: Path, figures: dict[str, Any]) -> None:
    """The figures, rounded to what they mean."""
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
    write_text(path, json.dumps(rounded, indent=1))


def read_metrics_of(folder: Path) -> dict[str, Any]:
    """Read the file of `write_metrics`; empty if there is none."""
    path = folder / METRICS
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
