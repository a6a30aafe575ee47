"""A stage small enough to train in milliseconds, with all that the loop must carry.

Two networks that work against each other, an average, two Adams, numbers beside them, a phase that
comes every third step, and losses that use every kind of draw.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dsgcli.errors import InterruptedRunError
from dsgcli.training.loop import Loop, LoopSettings
from dsgcli.training.processes import join, leave
from dsgcli.training.record import FileRecorder
from dsgcli.training.stage import Across, Batch, Draws, Phase, Plan, Scalars

SIZE_PX = 8


class ToyPictures:
    """Flat pictures of different colors, made of their number."""

    def __init__(self, count: int, weights: Sequence[float] | None = None) -> None:
        self.names = [f"toy-{i}" for i in range(count)]
        self.weights = list(weights or [1.0] * count)

    def __len__(self) -> int:
        return len(self.names)

    def get(self, indices: Sequence[int], size_px: int) -> Tensor:
        ramp = torch.linspace(-1, 1, size_px).expand(3, size_px, size_px)
        return torch.stack([ramp * (i + 1) / len(self) for i in indices])


class ToyGan:
    """A linear generator and a convolutional discriminator."""

    def __init__(self, lr: float = 0.01) -> None:
        torch.manual_seed(1)
        self.generator = nn.Linear(4, 3 * SIZE_PX * SIZE_PX)
        self.average = nn.Linear(4, 3 * SIZE_PX * SIZE_PX)
        self.average.load_state_dict(self.generator.state_dict())
        self.critic = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 1))
        self.critic.to(memory_format=torch.channels_last)
        self.g_optim = Adam(self.generator.parameters(), lr=lr, betas=(0.0, 0.99))
        self.d_optim = Adam(self.critic.parameters(), lr=lr, betas=(0.0, 0.99))
        self.mean_norm = 0.0
        self.base_lr = lr
        self.poison_at = -1

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"g": self.generator, "g_ema": self.average, "d": self.critic}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"g": self.g_optim, "d": self.d_optim}

    def state(self) -> dict[str, float]:
        return {"mean_norm": self.mean_norm}

    def load_state(self, state: Mapping[str, float]) -> None:
        self.mean_norm = state["mean_norm"]

    def begin(self, iteration: int) -> None:
        self.iteration = iteration
        for group in self.g_optim.param_groups:
            group["lr"] = self.base_lr / (1 + 0.01 * iteration)

    def phases(self, iteration: int) -> Sequence[Phase]:
        found = [Phase(name="d", optimizer="d", loss=self._d_loss)]
        if iteration % 3 == 0:
            found.append(Phase(name="r1", optimizer="d", loss=self._r1_loss))
        return [
            *found,
            Phase(
                name="g",
                optimizer="g",
                loss=self._g_loss,
                couples=True,
                clip=5.0,
                after=self._remember,
            ),
        ]

    def finish(self, iteration: int) -> None:
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        with torch.no_grad():
            for mean, new in pairs:
                mean.lerp_(new, 0.1)

    def sheets(self, count: int) -> dict[str, Tensor]:
        z = torch.linspace(-1, 1, count)[:, None].expand(count, 4)
        return {"samples": self.average(z).view(-1, 3, SIZE_PX, SIZE_PX).tanh()}

    def _fake(self, batch: Batch, draws: Draws) -> Tensor:
        z = draws.normal(len(batch.rows), 4) + draws.uniform(len(batch.rows), 1)
        return self.generator(z).view(-1, 3, SIZE_PX, SIZE_PX).tanh()

    def _d_loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        real, fake = self.critic(batch.images), self.critic(self._fake(batch, draws))
        loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
        if draws.shared_chance(0.5):
            loss = loss * 1.5
        if self.iteration == self.poison_at:
            loss = loss * float("nan")
        return loss, {
            "score/real": real.mean().detach(),
            "score/fake": fake.mean().detach(),
        }

    def _r1_loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        images = batch.images.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.critic(images).sum(), images, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean(), {}

    def _g_loss(self, batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
        fake = self._fake(batch, draws)
        norm = across.mean(fake.square().mean())
        loss = nn.functional.softplus(-self.critic(fake)).mean() + (norm - 0.1).square()
        return loss, {"norm": norm.detach()}

    def _remember(self, scalars: Mapping[str, float]) -> None:
        self.mean_norm = 0.9 * self.mean_norm + 0.1 * scalars["norm"]


def run(
    folder: Path,
    *,
    steps: int = 40,
    batch_size: int = 8,
    trainable: ToyGan | None = None,
    label: str = "toy",
    **settings: object,
) -> ToyGan:
    """Train the toy to `steps` in `folder`, from its checkpoint if there is one."""
    toy = trainable or ToyGan()
    processes = join(torch.device("cpu"))
    options = {"checkpoint_minutes": 0.0} | settings
    loop = Loop(
        toy,
        ToyPictures(37),
        Plan(label=label, steps=steps, batch_size=batch_size, size_px=SIZE_PX),
        LoopSettings(checkpoint=folder / "toy.safetensors", seed=3, **options),  # type: ignore[arg-type]
        processes=processes,
        recorder=FileRecorder(folder, label) if processes.is_first else None,
    )
    loop.run()
    leave(processes)
    return toy


def in_two_processes(work: Callable[[], object]) -> None:
    """Do it in two forked processes that join each other: quicker than torchrun, as they need not
    import torch again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            place = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {key: str(value) for key, value in place.items()}
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]  # of both, so that none is left
    assert statuses == [0, 0]


def main() -> None:
    """For tests that need a process to kill, or two that meet over a network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--interrupt-at", type=int, help="press Ctrl-C in this step; no checkpoints"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = {"steps": arguments.steps, "batch_size": arguments.batch_size}
    if arguments.interrupt_at is None:
        run(arguments.folder, **plan)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        toy = impatient(arguments.interrupt_at)
        run(arguments.folder, **plan, trainable=toy, checkpoint_minutes=60.0)
    except InterruptedRunError as error:
        sys.exit(str(error))


def impatient(step: int) -> ToyGan:
    """Ctrl-C comes in this step."""
    toy = ToyGan()
    finish = toy.finish

    def interrupt(iteration: int) -> None:
        finish(iteration)
        if iteration + 1 == step:
            signal.raise_signal(signal.SIGINT)

    toy.finish = interrupt  # type: ignore[method-assign]
    return toy


if __name__ == "__main__":
    main()
