"""Stage `encoder`: from a portrait to the codes of a given generator (Richardson et al.,
arXiv:2008.00951).

Flow: portraits, and the generator's own samples whose codes are known -> encoder -> generator ->
the same pictures. The published project never released this stage; without it no size but its own
works.

Shapes: B batch, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from dsgcli.errors import TrainingError
from dsgcli.models.encoder import Encoder
from dsgcli.models.irse import IRSE50
from dsgcli.models.stylegan2 import Generator
from dsgcli.recipe import EncoderRecipe
from dsgcli.store.networks import load_encoder, load_generator
from dsgcli.store.write import save_encoder
from dsgcli.training.adversary import random_ws, to_device
from dsgcli.training.losses import identity_loss
from dsgcli.training.perceptual import (
    Features,
    Identity,
    IrseIdentity,
    encoded,
    frozen,
    load_features,
    load_identity,
)
from dsgcli.training.stage import (
    Across,
    Batch,
    Draws,
    Phase,
    Plan,
    RunContext,
    Scalars,
)
from dsgcli.training.stages.base import SHEET_PICTURES, encoder_config

BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class KnownCodes:
    """The generator's own samples."""

    images: Tensor
    """(K, 3, S, S)."""
    codes: Tensor
    """(K, L, D): what the encoder should say, in its space."""


class EncoderTraining:
    """An encoder for a generator that stays as it is (`Trainable`); one phase, `e`.

    Args:
        pictures: (N, 3, S, S) in [-1, 1], whose reconstructions are drawn on the sheets.
    """

    def __init__(
        self,
        encoder: Encoder,
        generator: Generator,
        features: Features,
        identity: Identity | None,
        recipe: EncoderRecipe,
        pictures: Tensor,
    ) -> None:
        self.encoder, self.generator = encoder, frozen(generator)
        self.features, self.identity, self.recipe = features, identity, recipe
        self.pictures = pictures
        self.in_z = encoder.config.latent_space == "z+"
        with torch.no_grad():
            self.center = generator.random_ws(_fixed_z(generator, 4096)).mean(dim=0)  # (L, D)
        self._optimizers: dict[str, Optimizer] = {
            "e": Adam(encoder.parameters(), lr=recipe.lr, betas=BETAS, fused=True)
        }

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"e": self.encoder}

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return self._optimizers

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Nothing beside the networks."""

    def begin(self, iteration: int) -> None:
        self.encoder.train()

    def phases(self, iteration: int) -> Sequence[Phase]:
        clip = self.recipe.max_grad_norm or None
        return [Phase(name="e", optimizer="e", loss=self._loss, clip=clip)]

    def finish(self, iteration: int) -> None:
        """No average: the encoder's batch norms already are one."""

    # one pass

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) -> codes (B, L, D)."""
        return encoded(self.encoder, images)

    def to_w(self, codes: Tensor) -> Tensor:
        """Codes of the encoder -> W+."""
        return self.generator.map_plus(codes) if self.in_z else codes

    @torch.no_grad()
    def samples(self, count: int, draws: Draws) -> KnownCodes:
        """The generator's own pictures, of codes that are the same in each row."""
        generator = self.generator
        layout, width = generator.layout, generator.config.style_dim
        noise = draws.noise(layout.noise_sizes_px, count)
        if self.in_z:
            z = draws.normal(count, width)
            codes = generator.spread(z)
            return KnownCodes(generator(generator.map_plus(codes), noise), codes)
        ws = random_ws(generator, count, 0.0, draws)
        return KnownCodes(generator(ws, noise), ws)

    def _loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        recipe = self.recipe
        known = self.samples(self._num_samples(batch), draws)
        count = len(known.images)
        target = torch.cat([known.images, batch.images[count:]])
        codes = self.encode(target)
        ws = self.to_w(codes)
        noise = draws.noise(self.generator.layout.noise_sizes_px, len(batch.rows))
        images = self.generator(ws, noise)
        terms = {
            "pixel": (recipe.lambda_pixel, F.mse_loss(images, target)),
            "perc": (recipe.lambda_perc, self.features.distance(images, target).mean()),
            "reg": (recipe.lambda_reg, (ws - self.center).norm(dim=2).mean()),
            "code": (recipe.lambda_code, self._code_distance(codes[:count], known, batch)),
        }
        if self.identity is not None:
            with torch.no_grad():
                faces = self.identity.embed(target)
            distance = identity_loss(self.identity.embed(images), faces)
            terms["id"] = (recipe.lambda_id, distance)
        loss = torch.stack([weight * value.float() for weight, value in terms.values()]).sum()
        return loss, {name: value.detach() for name, (_, value) in terms.items()}

    def _num_samples(self, batch: Batch) -> int:
        """The first rows of the whole batch are samples, whichever process has them."""
        limit = round(self.recipe.sample_share * self.recipe.batch_size)
        return sum(row < limit for row in batch.rows)

    def _code_distance(self, codes: Tensor, known: KnownCodes, batch: Batch) -> Tensor:
        """Distance to the codes that were drawn; only the direction of a z counts."""
        share = max(self.recipe.sample_share, 1 / self.recipe.batch_size) * len(batch.rows)
        if self.in_z:
            distance = 1.0 - F.cosine_similarity(codes.float(), known.codes, dim=2)
        else:
            distance = (codes - known.codes).square().mean(dim=2)
        return distance.mean(dim=1).sum() / share

    @torch.no_grad()
    def sheets(self, count: int) -> dict[str, Tensor]:
        generator = self.generator
        self.encoder.eval()
        own = generator(generator.random_ws(_fixed_z(generator, count)))
        sheets = {}
        for name, images in {"reconstructions": self.pictures[:count], "own": own}.items():
            again = generator(self.to_w(self.encode(images)))
            sheets[name] = torch.stack([images, again], dim=1)
            sheets.setdefault("samples", again)
        self.encoder.train()
        return sheets


def _fixed_z(generator: Generator, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(count, generator.config.style_dim, generator=rng)
    return z.to(generator.input.input)


# ── the stage ────────────────────────────────────────────────────────────────────────────────────


class EncoderStage:
    """From a base to its encoder. Continues to train an existing encoder; its identity loss is off
    when the recipe's identity network is the encoder itself."""

    name = "encoder"
    needs: tuple[str, ...] = ("base",)
    makes: tuple[str, ...] = ("encoder",)

    def run(self, context: RunContext) -> None:
        recipe, model = context.recipe.encoder, context.recipe.model
        assert recipe is not None, "the stage runs only if the recipe has its table"
        pictures, device = context.pictures("base"), context.device
        generator = load_generator(context.find("base"), device)
        own = context.recipe.features.identity in ("encoder", "none")
        identity = None if own or recipe.lambda_id == 0 else load_identity(context, pictures)
        if context.recipe.features.perceptual == "encoder":
            raise TrainingError(
                "stage 'encoder' cannot compare pictures by the encoder it trains; set "
                "features.perceptual = 'discriminator' or 'vgg'"
            )
        encoder = first_encoder(context, identity)
        to_device(encoder, device)
        shown = list(range(min(SHEET_PICTURES, len(pictures))))
        images = pictures.get(shown, model.size_px).to(device)
        features = load_features(context)
        training = EncoderTraining(encoder, generator, features, identity, recipe, images)
        plan = Plan(
            label="encoder",
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            size_px=model.size_px,
            mirror=context.recipe.data.mirror,
        )
        context.train(training, pictures, plan)
        save_encoder(context.target("encoder"), encoder.eval())


def first_encoder(context: RunContext, identity: Identity | None) -> Encoder:
    """The encoder that is there, or a new one; its body begins as the identity network's if that
    has the same shape, as pSp does."""
    try:
        return load_encoder(context.find("encoder"))
    except TrainingError:
        torch.manual_seed(context.recipe.run.seed)
        encoder = Encoder(encoder_config(context.recipe.model))
    if isinstance(identity, IrseIdentity):
        _copy_body(encoder, identity.network)
    return encoder


def _copy_body(encoder: Encoder, network: IRSE50) -> None:
    own, theirs = encoder.state_dict(), network.state_dict()
    shared = {k: v for k, v in theirs.items() if k.startswith(("input_layer.", "body."))}
    if all(k in own and own[k].shape == v.shape for k, v in shared.items()):
        encoder.load_state_dict(own | shared)
