"""A loop of few lines that feeds a stage the published draws, and records what it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from reference import fill, golden
from torch import Tensor, nn

from dsgcli.training.stage import Batch, OneProcess, Trainable


def rule(case_id: str, name: str, *shape: int) -> Tensor:
    """The value that a random call of the published code was given."""
    return torch.from_numpy(fill.unit(f"{case_id}:{name}", shape)).double()


def two_codes(case_id: str, name: str, batch: int) -> Tensor:
    """(batch, 2, 512): codes to be mixed, which were drawn as (2, batch, 512)."""
    return rule(case_id, name, 2, batch, 512).transpose(0, 1)


class ToldDraws:
    """Draws that were written down; each is asked for its shape."""

    def __init__(
        self, normals: Iterable[Tensor], chosen: Iterable[Sequence[int]], shared: Iterable[int]
    ) -> None:
        self.normals, self.chosen, self.shared = list(normals), list(chosen), list(shared)

    def normal(self, *shape: int) -> Tensor:
        value = self.normals.pop(0)
        assert tuple(value.shape) == shape, (tuple(value.shape), shape)
        return value

    def uniform(self, *shape: int) -> Tensor:
        raise AssertionError("nothing uniform was drawn")

    def integers(self, high: int, *shape: int) -> Tensor:
        value = torch.tensor(self.chosen.pop(0))
        assert tuple(value.shape) == shape and int(value.max()) < high
        return value

    def noise(self, sizes_px: Sequence[int], batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1, s, s, dtype=torch.float64) for s in sizes_px]

    def shared_integer(self, low: int, high: int) -> int:
        value = self.shared.pop(0)
        assert low <= value <= high
        return value

    def shared_chance(self, probability: float) -> bool:
        return probability > 0

    def check_empty(self) -> None:
        assert not (self.normals or self.chosen or self.shared), "not all draws were used"


@dataclass
class Recorded:
    """Steps of each optimizer, as the golden cases name them."""

    case: Mapping
    names: Mapping[str, str]
    """Optimizer -> its letter in the case."""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def step(self, optimizer: str, parameters: Mapping[str, nn.Parameter]) -> None:
        letter = self.names[optimizer]
        key = f"{letter}.step{self.counts.setdefault(letter, 0)}"
        self.counts[letter] += 1
        squares = [p.grad.square().sum() for p in parameters.values() if p.grad is not None]
        self.outputs[f"{key}.gradnorm"] = torch.stack(squares).sum().sqrt().numpy()
        for output in self.case["outputs"]:
            if output.startswith(f"{key}.grad."):
                parameter = parameters[output.removeprefix(f"{key}.grad.")]
                self.outputs[output] = self.cut(output, parameter.grad)

    def weights(self, prefix: str, state: Mapping[str, Tensor]) -> None:
        for output in self.case["outputs"]:
            if output.startswith(f"{prefix}."):
                self.outputs[output] = self.cut(output, state[output.removeprefix(f"{prefix}.")])

    def cut(self, output: str, value: Tensor) -> np.ndarray:
        """The corner of a tensor that the case keeps."""
        shape = self.case["outputs"][output]["shape"]
        return value.detach()[tuple(slice(n) for n in shape)].numpy()

    def check(self) -> None:
        results = golden.check(self.case, self.outputs, f64=True)
        wrong = [r for r in results if not r[1]]
        assert not wrong, wrong


def iterate(
    trainable: Trainable,
    iteration: int,
    images: Tensor,
    draws: Mapping[str, ToldDraws],
    recorded: Recorded,
    parameters: Mapping[str, Mapping[str, nn.Parameter]],
) -> dict[str, float]:
    """One iteration, as the loop does it."""
    count = len(images)
    batch = Batch(images=images, indices=torch.arange(count), rows=tuple(range(count)))
    everything = [p for m in trainable.modules.values() for p in m.parameters()]
    trainable.begin(iteration)
    scalars: dict[str, float] = {}
    for phase in trainable.phases(iteration):
        optimizer = trainable.optimizers[phase.optimizer]
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        for p in everything:
            p.requires_grad_(p in trained)
        optimizer.zero_grad(set_to_none=True)
        told = draws.get(phase.name, ToldDraws([], [], []))
        loss, found = phase.loss(batch, told, OneProcess())
        told.check_empty()
        loss.backward()
        recorded.step(phase.optimizer, parameters[phase.optimizer])
        optimizer.step()
        now = {name: float(value) for name, value in found.items()}
        scalars |= now
        if phase.after is not None:
            phase.after(now)
    trainable.finish(iteration)
    return scalars
