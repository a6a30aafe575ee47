"""The loop that every stage with steps shares: batches, accumulation, processes, checkpoints.

Flow: Trainable + Pictures + Plan -> trained networks, and on the way metrics, sheets, checkpoints.

An iteration is a function of the state, the data and its own number (see stage.py), so a run that
was killed at any point and started again ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from dsgcli.errors import InterruptedRunError, TrainingError
from dsgcli.progress import NULL_PROGRESS, Progress, Task
from dsgcli.runtime import prefetch
from dsgcli.training.alarms import TrainingMonitor
from dsgcli.training.checkpoint import (
    Progressed,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
    seed_everything,
)
from dsgcli.training.coupled import Uncoupled, batch_norms, joined, shared_statistics
from dsgcli.training.data import batches, num_parts, split
from dsgcli.training.processes import ProcessGroup
from dsgcli.training.record import NullRecorder, Recorder
from dsgcli.training.stage import (
    Across,
    Batch,
    Phase,
    Pictures,
    Plan,
    Scalars,
    SeededDraws,
    Trainable,
)

FLUSH_S = 5.0
"""Metrics reach the disk at least this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How the loop runs; of these only `seed` and `autocast` change what comes out."""

    checkpoint: Path
    """Where this run's checkpoint lies."""
    seed: int = 0
    device_batch: int = 0
    """Most samples a pass; 0 for the whole batch of this process."""
    checkpoint_minutes: float = 5.0
    sample_every: int = 0
    """Steps between sheets; 0 draws none."""
    sample_count: int = 16
    autocast: torch.dtype | None = None
    """Number format of the passes forward; None leaves it to the networks."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's values, stored with each checkpoint."""


class Loop:
    """One run of the loop."""

    def __init__(
        self,
        trainable: Trainable,
        pictures: Pictures,
        plan: Plan,
        settings: LoopSettings,
        *,
        processes: ProcessGroup | None = None,
        recorder: Recorder | None = None,
        progress: Progress = NULL_PROGRESS,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.trainable, self.pictures, self.plan, self.settings = (
            trainable,
            pictures,
            plan,
            settings,
        )
        self.processes = processes or ProcessGroup()
        self.recorder = recorder or NullRecorder()
        self.progress, self._tell_saved = progress, saved
        self.alarms = TrainingMonitor()
        self._parameters = {p for m in trainable.modules.values() for p in m.parameters()}
        local = len(range(self.processes.rank, plan.batch_size, self.processes.count))
        self._parts = num_parts(local, settings.device_batch)
        assert self._parts == 1 or not batch_norms(trainable.modules.values()), "checked before"
        self._elapsed_s = 0.0

    def run(self) -> None:
        """Train from the last checkpoint, or from the start, to `plan.steps`.

        Raises:
            TrainingError: NaN, a full disk, a checkpoint of another recipe.
            InterruptedRunError: Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        start = self._restore()
        if start < self.plan.steps:
            modules, peers = self.trainable.modules.values(), self.processes
            with (
                shared_statistics(modules, peers, peers.count),
                stop_signals(self._say_stopping) as asked,
                self._task(start) as task,
            ):
                self._iterate(start, asked, task)
        self.processes.wait()

    def _restore(self) -> int:
        path = find_checkpoint(self.settings.checkpoint)
        start = 0
        if path is not None:
            done = load_checkpoint(path, self.trainable)
            start, self._elapsed_s = done.iteration, done.elapsed_s
        else:
            seed_everything(self.settings.seed)
        self.processes.share(self.trainable.modules.values())
        self.recorder.rewind(start)
        return start

    def _say_stopping(self) -> None:
        self.progress.note(
            "stopping after this step, which is kept; Ctrl-C again stops at once, and goes back to "
            "the last checkpoint"
        )

    def _task(self, start: int) -> Any:
        return self.progress.task(self.plan.label, total=self.plan.steps, done=start)

    def _iterate(self, start: int, asked: StopRequest, task: Task) -> None:
        clock = _Clock(self._elapsed_s)
        feed = self._feed(start)
        for iteration, batch in enumerate(feed, start):
            scalars = self._step(iteration, batch)
            done = iteration + 1
            self._report(done, scalars, clock, task)
            stop = self.processes.any(asked())
            if done == self.plan.steps or stop or clock.due(self.settings.checkpoint_minutes):
                self._save(done, clock)
            if stop:
                raise InterruptedRunError(
                    f"stopped after step {done} of {self.plan.steps} of {self.plan.label}; "
                    f"the same command goes on from there",
                    asked.number,
                )

    def _feed(self, start: int) -> Iterator[Batch]:
        me = self.processes
        made = batches(
            self.pictures, self.plan, self.settings.seed, start, rank=me.rank, num_ranks=me.count
        )
        with closing(prefetch(made, depth=4)) as ahead:
            for batch in ahead:
                images = batch.images.to(me.device, non_blocking=True)
                yield Batch(
                    images=images.contiguous(memory_format=torch.channels_last),
                    indices=batch.indices.to(me.device),
                    rows=batch.rows,
                )

    # ── one iteration ────────────────────────────────────────────────────────────────────────────

    def _step(self, iteration: int, batch: Batch) -> dict[str, float]:
        self.trainable.begin(iteration)
        scalars: dict[str, float] = {}
        for phase in self.trainable.phases(iteration):
            found = self._phase(iteration, phase, batch)
            scalars |= found
            if phase.after is not None:
                phase.after(found)
        self.trainable.finish(iteration)
        return scalars

    def _phase(self, iteration: int, phase: Phase, batch: Batch) -> dict[str, float]:
        optimizer = self.trainable.optimizers[phase.optimizer]
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        self._only(trained)
        optimizer.zero_grad(set_to_none=True)
        cut = list(split(batch, self._parts))
        across = self._across(iteration, phase, cut)
        parts = [self._descend(iteration, phase, part, across) for part in cut]
        scalars = self.processes.average(_mean(parts))
        self.processes.average_gradients(trained)
        norm = self._checked_norm(trained, phase, scalars, iteration)
        if phase.clip is not None:
            clip_grads_with_norm_(trained, phase.clip, norm)
        optimizer.step()
        return scalars | {f"grad/{phase.name}": float(norm)}

    def _across(self, iteration: int, phase: Phase, parts: Sequence[Batch]) -> Across:
        """Means over all parts of the batch."""
        if len(parts) == 1:
            return self.processes
        if not phase.couples:
            return Uncoupled()
        return joined(
            self.processes, parts, lambda part, over: self._loss(iteration, phase, part, over)[0]
        )

    def _loss(
        self, iteration: int, phase: Phase, part: Batch, across: Across
    ) -> tuple[Tensor, Scalars]:
        device, low = self.processes.device, self.settings.autocast
        key = f"{self.plan.label}/{phase.name}"
        draws = SeededDraws(self.settings.seed, iteration, key, part.rows, device)
        with torch.autocast(device.type, low) if low else nullcontext():
            return phase.loss(part, draws, across)

    def _descend(self, iteration: int, phase: Phase, part: Batch, across: Across) -> Scalars:
        loss, scalars = self._loss(iteration, phase, part, across)
        (loss / self._parts).backward()
        return scalars | {f"loss/{phase.name}": loss.detach()}

    def _only(self, trained: Sequence[nn.Parameter]) -> None:
        """Gradients for these parameters and no others: what is not trained costs no backward."""
        chosen = set(trained)
        for parameter in self._parameters | chosen:
            parameter.requires_grad_(parameter in chosen)

    def _checked_norm(
        self,
        trained: Sequence[nn.Parameter],
        phase: Phase,
        scalars: Mapping[str, float],
        iteration: int,
    ) -> Tensor:
        """Norm of all gradients.

        Raises:
            TrainingError: it, or a scalar of the phase, is not finite.
        """
        norm = get_total_norm([p.grad for p in trained if p.grad is not None])
        bad = [name for name, value in scalars.items() if not math.isfinite(value)]
        if not bad and math.isfinite(float(norm)):
            return norm
        what = f"{bad[0]} is {scalars[bad[0]]}" if bad else f"the gradient's norm is {float(norm)}"
        raise TrainingError(
            f"{self.plan.label}: {what} in phase {phase.name!r} of step {iteration + 1}; the last "
            f"checkpoint is intact: lower the learning rate, or set run.precision = 'fp32', and "
            f"continue with --force"
        )

    # ── what is left behind ──────────────────────────────────────────────────────────────────────

    def _report(self, done: int, scalars: dict[str, float], clock: _Clock, task: Task) -> None:
        clock.tick()
        rate = self.plan.batch_size / clock.step_s
        self.recorder.scalars(done, clock.elapsed_s, scalars | {"images_per_s": rate})
        shown = {k.removeprefix("loss/"): v for k, v in scalars.items() if k.startswith("loss/")}
        task.advance(1, **{k: round(v, 4) for k, v in shown.items()}, images_per_s=round(rate, 1))
        for message in self.alarms.look(scalars):
            self.progress.warn(message)
        if self._sheet_due(done) and self.processes.is_first:
            self._draw(done)
        if clock.flush_due():
            self.recorder.flush()

    def _sheet_due(self, done: int) -> bool:
        every = self.settings.sample_every
        return every > 0 and (done % every == 0 or done == self.plan.steps or done == 1)

    def _draw(self, done: int) -> None:
        with torch.random.fork_rng(), torch.no_grad():
            sheets = self.trainable.sheets(self.settings.sample_count)
        for name, images in sheets.items():
            self.recorder.sheet(done, name, images)
        for message in self.alarms.look_at_samples(sheets["samples"]):
            self.progress.warn(message)

    def _save(self, done: int, clock: _Clock) -> None:
        self.recorder.flush()
        if self.processes.is_first:
            path = self.settings.checkpoint
            save_checkpoint(
                path,
                self.trainable,
                Progressed(iteration=done, recipe=self.settings.recipe, elapsed_s=clock.elapsed_s),
            )
            for message in self.alarms.look_at_disk(path.parent, path.stat().st_size):
                self.progress.warn(message)
            self._tell_saved()
        clock.saved()


class _Clock:
    """Seconds: of the whole run, of a step (smoothed), since the last checkpoint."""

    def __init__(self, elapsed_s: float) -> None:
        now = time.monotonic()
        self._origin = now - elapsed_s
        self._last_tick = self._last_save = self._last_flush = now
        self.step_s = 0.0

    def tick(self) -> None:
        now = time.monotonic()
        took = max(now - self._last_tick, 1e-9)
        self.step_s = took if self.step_s == 0 else 0.9 * self.step_s + 0.1 * took
        self._last_tick = now

    @property
    def elapsed_s(self) -> float:
        return self._last_tick - self._origin

    def due(self, minutes: float) -> bool:
        return time.monotonic() - self._last_save >= 60 * minutes

    def saved(self) -> None:
        self._last_save = time.monotonic()

    def flush_due(self) -> bool:
        now = time.monotonic()
        if now - self._last_flush < FLUSH_S:
            return False
        self._last_flush = now
        return True


def _mean(parts: Sequence[Scalars]) -> dict[str, float]:
    """Mean over micro-batches, brought to the CPU in one transfer."""
    names = list(parts[0])
    values = torch.stack([torch.stack([part[n].float() for n in names]) for part in parts])
    return dict(zip(names, values.mean(0).tolist(), strict=True))


class StopRequest:
    """Whether the user or a scheduler has asked the loop to stop."""

    def __init__(self) -> None:
        self.number = 0
        """The signal that asked first; 0 for none."""

    def __call__(self) -> bool:
        return self.number != 0


@contextmanager
def stop_signals(told: Callable[[], None] = lambda: None) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C (or SIGTERM, or SIGHUP) into a question that the loop asks; the second
    one acts at once. Outside the main thread signals are left alone, and so are those that are
    ignored (`nohup`).

    Args:
        told: called, in a thread of its own, at the first one: a step may take minutes.
    """
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
    before = {
        number: signal.getsignal(number)
        for number in (getattr(signal, name) for name in names if hasattr(signal, name))
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    }

    def remember(number: int, frame: FrameType | None) -> None:
        asked.number = asked.number or number
        threading.Thread(target=told, daemon=True).start()  # whoever listens may hold a lock now
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, remember)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
