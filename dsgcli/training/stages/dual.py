"""Parts that the two stages of the extrinsic path share (`pretrain`, `transfer`).

Only `res` (ModRes, T_c) and `style` (T_s) learn; the photographic generator inside stays as it is,
and is neither trained nor stored with checkpoints. Both are averaged: the published code leaves T_s
out of the average, so that its models pair averaged blocks with the T_s they began
with (docs/differences.md, 1).

Shapes: B batch, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.patch import Judge
from dsgcli.recipe import AdversarialRecipe
from dsgcli.training.adversary import (
    Adversary,
    PathLength,
    average_decay,
    lazy_adam,
    to_device,
    update_average,
)
from dsgcli.training.stage import Draws

TRAINED = ("res", "style")
"""Parts of a DualStyleGAN that learn."""


@dataclass(frozen=True, slots=True)
class DualPlayers:
    """A DualStyleGAN, its average, and the discriminator."""

    dual: DualStyleGAN
    average: DualStyleGAN
    discriminator: Judge

    @classmethod
    def of(cls, dual: DualStyleGAN, discriminator: Judge) -> DualPlayers:
        """The average begins as the network is."""
        return cls(dual, deepcopy(dual), discriminator)

    def to(self, device: torch.device) -> DualPlayers:
        """Moves the networks, and freezes the photographic generators."""
        for module in (self.dual, self.average, self.discriminator):
            to_device(module, device)
        for dual in (self.dual, self.average):
            dual.generator.requires_grad_(False)
        return self


class DualTraining:
    """The part of a `Trainable` that does not depend on the stage.

    Args:
        adversarial: weight of the adversarial loss, for the discriminator too.
        path_rows: rows of the intrinsic code that can move the picture. Color rows are replaced by
            the extrinsic code, so with all rows the mean would be over zeros too
            (docs/differences.md, 7); None leaves them out.
        averaged: parts that have a moving average; others keep what they began with.
    """

    def __init__(
        self,
        players: DualPlayers,
        recipe: AdversarialRecipe,
        *,
        adversarial: float = 1.0,
        path_rows: slice | None = None,
        averaged: Sequence[str] = TRAINED,
    ) -> None:
        self.players, self.recipe, self.averaged = players, recipe, averaged
        self.layout = players.dual.layout
        self.width = players.dual.config.generator.style_dim
        self.decay = average_decay(recipe.ema_half_life_steps)
        self.adversary = Adversary(players.discriminator, recipe, adversarial)
        self.path = PathLength(recipe, path_rows or self.layout.structure)
        learning = [p for part in self.parts(players.dual).values() for p in part.parameters()]
        self._optimizers: dict[str, Optimizer] = {
            "g": lazy_adam(learning, recipe.lr, recipe.path_every),
            "d": self.adversary.optimizer,
        }

    @staticmethod
    def parts(dual: DualStyleGAN) -> dict[str, nn.Module]:
        """The parts that learn."""
        return {name: getattr(dual, name) for name in TRAINED}

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        players = self.players
        averages = {f"{k}_ema": v for k, v in self.parts(players.average).items()}
        return {**self.parts(players.dual), **averages, "d": players.discriminator}

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

    def finish(self, iteration: int) -> None:
        for name in self.averaged:
            average, learnt = getattr(self.players.average, name), getattr(self.players.dual, name)
            update_average(average, learnt, self.decay)

    def noise(self, batch: int, draws: Draws) -> list[Tensor]:
        """Fresh noise maps."""
        return draws.noise(self.layout.noise_sizes_px, batch)

    @property
    def code_shape(self) -> tuple[int, int]:
        """(L, D)."""
        return self.layout.num_latents, self.width
