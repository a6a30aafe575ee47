"""Codes and noise maps fitted to portraits by descent (arXiv:1912.04958, appendix D).

Flow: portraits, first codes -> many small steps of Adam -> codes that a generator draws them from.
Destylization and refinement differ in the generator, in what they fit and in the terms of the loss.

A batch is as many separate problems: each term is summed over samples and noise is treated sample
by sample, so a portrait gets the same code alone and among others. (In the published code the terms
are partly sums and partly means, and noise statistics run over the batch: docs/differences.md, 12.)

Shapes: B portraits, S size, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam

from dsgcli.training.losses import noise_regularizer_each, normalize_noise_each

Terms = dict[str, tuple[float, Tensor]]
"""Name -> weight, values (B,)."""
Judge = Callable[[Sequence[Tensor], Sequence[Tensor]], Terms]
"""(what is fitted, noise maps) -> terms of the loss."""
Rate = Callable[[int], float]
"""Step -> factor of the learning rates."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Result of a fit."""

    values: tuple[Tensor, ...]
    """Fitted values, in the order given: first dimension B."""
    noise: list[Tensor]
    """(B, 1, s, s) each."""
    terms: dict[str, Tensor]
    """(B,) each: the terms before the last step, unweighted."""


class Fit:
    """Adam on codes and noise maps.

    Args:
        values: what to fit, first dimension B each, with its learning rate.
        noise: (B, 1, s, s) maps, fitted at `noise_rate`.
        lambda_noise: weight of the noise regularizer.
        rate: factor of all learning rates at a step; constant by default.
    """

    def __init__(
        self,
        values: Sequence[tuple[Tensor, float]],
        noise: Sequence[Tensor],
        *,
        noise_rate: float,
        lambda_noise: float,
        rate: Rate = lambda _: 1.0,
    ) -> None:
        self.values = [v.detach().clone().requires_grad_() for v, _ in values]
        self.noise = [n.detach().clone().requires_grad_() for n in noise]
        self.lambda_noise, self.rate = lambda_noise, rate
        self.rates = [lr for _, lr in values] + [noise_rate]
        groups = [*([v] for v in self.values), self.noise]
        self.optimizer = Adam(
            [{"params": g, "lr": lr} for g, lr in zip(groups, self.rates, strict=True)], fused=True
        )

    def run(self, judge: Judge, steps: int, after: Callable[[int], None] | None = None) -> Fitted:
        """Descend; `after` gets the number of finished steps."""
        terms: Mapping[str, tuple[float, Tensor]] = {}
        for step in range(steps):
            terms = self.step(judge, step)
            if after is not None:
                after(step + 1)
        plain = {name: value.detach() for name, (_, value) in terms.items()}
        return Fitted(
            tuple(v.detach() for v in self.values), [n.detach() for n in self.noise], plain
        )

    def step(self, judge: Judge, step: int) -> Terms:
        """One step; returns its terms."""
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * self.rate(step)
        terms = judge(self.values, self.noise)
        terms["noise"] = (self.lambda_noise, self.noise_term())
        self.optimizer.zero_grad(set_to_none=True)
        self.total(terms).backward()
        self.optimizer.step()
        self.normalize()
        return terms

    def total(self, terms: Terms) -> Tensor:
        """The loss: each sample's own, added up."""
        return torch.stack([weight * value.sum() for weight, value in terms.values()]).sum()

    def noise_term(self) -> Tensor:
        """(B,): self-correlation of each sample's noise."""
        return noise_regularizer_each(self.noise)

    def normalize(self) -> None:
        """Mean 0 and deviation 1 for each map of each sample."""
        normalize_noise_each(self.noise)
