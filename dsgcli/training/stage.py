"""Interfaces of a stage of training and of the shared loop.

Flow: recipe -> Stage.run(context) -> context.train(Trainable, Pictures, Plan) -> artifacts.
A stage builds its networks and its losses; the loop owns everything else: batches, accumulation,
processes, checkpoints, reports. Stages without a shared loop (destylize, refine, sampler) write
their results themselves.

One iteration is a short list of named phases (for a GAN: d, r1, g, path). Each phase is a loss and
the optimizer that steps on it. The loop, without its checks:

    trainable.begin(iteration)
    for phase in trainable.phases(iteration):
        requires_grad on for the parameters of optimizers[phase.optimizer], off for all others
        for part in micro_batches(batch):                     # strided: rows k, k + n, k + 2n, ...
            draws = SeededDraws(seed, iteration, label/phase.name, part.rows, device)
            loss, scalars = phase.loss(part, draws, across)
            (loss / num_parts).backward()
        average the gradients over processes; check them; clip to phase.clip
        optimizers[phase.optimizer].step()
        phase.after(scalars averaged over parts and processes)
    trainable.finish(iteration)

Conventions
    images      (B, 3, S, S) in [-1, 1]
    row         a sample's place in the *effective* batch, 0 <= row < batch_size, whatever the
                number of processes and micro-batches; process p of n takes rows p, p + n, ...,
                so that the groups of the discriminator's minibatch deviation
                are the same in any split
    randomness  comes from `Draws` alone and is a function of (seed, plan, iteration, phase, row):
                nothing needs saving for an exact resume, and two processes draw what one would
                with twice the batch
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from dsgcli.recipe import Recipe
    from dsgcli.store import ModelStore

CPU = torch.device("cpu")
Scalars = dict[str, Tensor]
"""Detached zero-dimensional tensors by name: what a phase reports, means over its samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """This process's part of one effective batch (or a micro-batch of it)."""

    images: Tensor
    """(B, 3, S, S) in [-1, 1]."""
    indices: Tensor
    """(B,) int64: positions in the data set."""
    rows: tuple[int, ...]
    """Places in the effective batch, for `Draws`."""

    def first(self, count: int) -> Batch:
        """The first samples only: what path-length regularization works on."""
        return Batch(
            images=self.images[:count], indices=self.indices[:count], rows=self.rows[:count]
        )


# ── randomness ───────────────────────────────────────────────────────────────────────────────────


class Draws(Protocol):
    """The single source of randomness of a step.

    Row-wise methods return one row a sample of the part; shared ones return the same value to
    every process and micro-batch.
    """

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), shape (B, ...); the first dimension is at most the number of rows."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """U[0, 1), shape (B, ...)."""
        ...

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, high), shape (B, ...)."""
        ...

    def noise(self, sizes_px: Sequence[int], batch: int) -> list[Tensor]:
        """Fresh noise maps N(0, 1): one (B, 1, s, s) for each size."""
        ...

    def shared_integer(self, low: int, high: int) -> int:
        """One uniform integer in [low, high]."""
        ...

    def shared_chance(self, probability: float) -> bool:
        """True with this probability."""
        ...


class SeededDraws:
    """Draws as a pure function of (seed, iteration, phase, row), on the device that asks.

    One generator a row: a sample's numbers do not depend on which process or micro-batch it is in.
    """

    def __init__(
        self,
        seed: int,
        iteration: int,
        phase: str,
        rows: Sequence[int],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._device, self._dtype = device, dtype
        key = f"{seed}/{iteration}/{phase}"
        self._rows = [seeded_generator(f"{key}/{row}", device) for row in rows]
        self._shared = seeded_generator(f"{key}/shared")

    def normal(self, *shape: int) -> Tensor:
        return self._each(shape, torch.randn)

    def uniform(self, *shape: int) -> Tensor:
        return self._each(shape, torch.rand)

    def integers(self, high: int, *shape: int) -> Tensor:
        rows = [
            torch.randint(high, shape[1:], generator=g, device=self._device)
            for g in self._take(shape)
        ]
        return torch.stack(rows)

    def noise(self, sizes_px: Sequence[int], batch: int) -> list[Tensor]:
        flat = self.normal(batch, sum(s * s for s in sizes_px))  # one draw a row: fewer launches
        maps = torch.split(flat, [s * s for s in sizes_px], dim=1)
        return [m.reshape(batch, 1, s, s) for m, s in zip(maps, sizes_px, strict=True)]

    def shared_integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self._shared))

    def shared_chance(self, probability: float) -> bool:
        return float(torch.rand((), generator=self._shared)) < probability

    def _take(self, shape: Sequence[int]) -> list[torch.Generator]:
        assert shape[0] <= len(self._rows), f"{shape[0]} samples asked of {len(self._rows)} rows"
        return self._rows[: shape[0]]

    def _each(self, shape: Sequence[int], draw: Callable[..., Tensor]) -> Tensor:
        options: dict[str, Any] = {"device": self._device, "dtype": self._dtype}
        return torch.stack([draw(shape[1:], generator=g, **options) for g in self._take(shape)])


def seeded_generator(key: str, device: torch.device = CPU) -> torch.Generator:
    """A generator whose numbers are a function of a text."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


class Across(Protocol):
    """Means over all parts of a batch, for the few losses that couple samples (path length,
    contextual)."""

    def mean(self, value: Tensor) -> Tensor:
        """Mean over processes and micro-batches, differentiable; the value itself when there is one
        part."""
        ...


class OneProcess:
    """`Across` where there is nothing to cross."""

    def mean(self, value: Tensor) -> Tensor:
        return value


# ── what the loop runs ───────────────────────────────────────────────────────────────────────────

PhaseLoss = Callable[[Batch, Draws, Across], tuple[Tensor, Scalars]]
"""A part of the batch -> the loss to descend (mean over its samples) and what to report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One optimizer step of an iteration."""

    name: str
    """Short and fixed: part of the key of the draws, prefix of nothing."""
    optimizer: str
    """Key in `Trainable.optimizers`; its parameters are the ones that get gradients."""
    loss: PhaseLoss
    couples: bool = False
    """Whether the loss calls `across`: the parts of a batch are then looked at before the descent,
    so that the means are those of the whole batch (`coupled.py`)."""
    clip: float | None = None
    """Largest norm of the gradient over all the optimizer's parameters; None does not clip."""
    after: Callable[[Mapping[str, float]], None] | None = None
    """Called once after the step with the scalars averaged over parts and processes."""


class Trainable(Protocol):
    """The parts that a stage gives to the loop: everything that is saved, and the phases of an
    iteration."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything that training changes, EMA copies included; saved and restored as a whole."""
        ...

    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...

    def state(self) -> dict[str, float]:
        """Numbers beside the networks: ADA's p, mean path length."""
        ...

    def load_state(self, state: Mapping[str, float]) -> None: ...

    def begin(self, iteration: int) -> None:
        """Before the phases: the learning rates, a function of the iteration alone."""
        ...

    def phases(self, iteration: int) -> Sequence[Phase]: ...

    def finish(self, iteration: int) -> None:
        """After the phases: moving averages."""
        ...

    def sheets(self, count: int) -> dict[str, Tensor]:
        """Pictures to look at, by name, in [-1, 1] and from codes fixed for the run: (n, 3, S, S),
        or (n, m, 3, S, S) where m belong side by side. "samples" is always there: (count, 3, S, S),
        which the alarms judge too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long one run of the loop lasts, and on what."""

    label: str
    """Names the checkpoints and the report of this run: "base-64px", "transfer"."""
    steps: int
    """Iterations."""
    batch_size: int
    """Effective batch: over all processes and micro-batches."""
    size_px: int
    """The pictures are given at this size."""
    mirror: bool = True
    """Mirror pictures at random."""


class Pictures(Protocol):
    """A data set, as stages see it; the loop batches it."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def weights(self) -> Sequence[float]:
        """How often each picture is drawn, against 1 for another."""
        ...

    def __len__(self) -> int: ...

    def get(self, indices: Sequence[int], size_px: int) -> Tensor:
        """(N, 3, S, S) float32 in [-1, 1], on the CPU, unmirrored."""
        ...


class RunContext(Protocol):
    """Everything a stage may touch of the run."""

    @property
    def recipe(self) -> Recipe: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def store(self) -> ModelStore: ...

    @property
    def folder(self) -> Path:
        """The stage's own folder in the run folder."""
        ...

    def find(self, artifact: str) -> Path:
        """File of an artifact: made by an earlier stage of this run, or named by the recipe."""
        ...

    def target(self, artifact: str) -> Path:
        """Where this stage writes an artifact that it makes."""
        ...

    def pictures(self, name: str) -> Pictures:
        """The data set "base" (source domain) or "style" (target domain), audited and aligned."""
        ...

    def train(self, trainable: Trainable, pictures: Pictures, plan: Plan) -> None:
        """Run the loop, from its last checkpoint if there is one; a finished run only restores."""
        ...

    def advance(self, done: int, total: int, message: str = "") -> None:
        """Tell the person at the screen how far a stage without a loop is."""
        ...


class Stage(Protocol):
    """One step of the way from a folder of portraits to a style."""

    name: str
    """The recipe's table and the word after `--stage`."""
    needs: tuple[str, ...]
    """Artifacts that must exist before it starts."""
    makes: tuple[str, ...]
    """Artifacts that it writes."""

    def run(self, context: RunContext) -> None: ...
