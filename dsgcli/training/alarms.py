"""Alarms: what goes wrong in adversarial training, noticed early and said in one sentence each.

Flow: scalars and samples of a run -> Alarm (warning or stop) with what to change.
Names of scalars that are looked at: `score/real`, `score/fake` (mean outputs of the discriminator),
and the first of `FALLING` that a stage reports.
"""

from __future__ import annotations

import math
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

COLLAPSE_SHARE = 0.2
"""Samples have collapsed when they vary less than this share of what they did at their best."""
SATURATED_GAP = 12.0
"""Discriminator outputs this far apart leave a generator gradient of about e^-6 of the usual."""
WINDOW_STEPS = 200
"""Alarms look at means over so many steps: single steps are noise."""
PATIENCE_WINDOWS = 8
"""A reconstruction that has not fallen for so many windows will not fall by itself."""
LEAST_FALL = 0.002
"""Share by which the mean of a window must be below the best before it, to count as progress."""
FALLING = ("pixel", "perc", "perceptual", "edge")
"""Scalars that fall as long as something is learnt; the first that a stage reports is watched."""
LOW_DISK_CHECKPOINTS = 3
"""Room for this many checkpoints must be left."""


class TrainingMonitor:
    """Watches one loop; each alarm rings once until its cause has gone."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._progress = _Progress()
        self._best_spread = 0.0
        self._ringing: set[str] = set()

    def look(self, scalars: Mapping[str, float]) -> Iterator[str]:
        """Messages for this step's scalars."""
        if "score/real" in scalars and "score/fake" in scalars:
            self._gaps.append(scalars["score/real"] - scalars["score/fake"])
        full = len(self._gaps) == WINDOW_STEPS
        mean = sum(self._gaps) / WINDOW_STEPS if full else 0.0
        yield from self._ring(
            "saturation",
            mean > SATURATED_GAP,
            f"the discriminator has won (real - fake is {mean:.1f} on average): the generator "
            f"learns no more; raise r1_gamma, switch augment on, or add portraits",
        )

        name = next((name for name in FALLING if name in scalars), None)
        if name is not None:
            yield from self._ring(
                "progress",
                self._progress.stalled(scalars[name]),
                f"{name!r} has not fallen for {PATIENCE_WINDOWS * WINDOW_STEPS} steps: this is "
                f"what the recipe can reach; go on to the next stage, or change the learning rate",
            )

    def look_at_samples(self, images: Tensor) -> Iterator[str]:
        """Messages for (N, 3, S, S) samples from different codes."""
        spread = sample_spread(images)
        self._best_spread = max(self._best_spread, spread)
        yield from self._ring(
            "collapse",
            spread < COLLAPSE_SHARE * self._best_spread,
            f"the samples have become alike (their spread is {spread:.3f}, and was "
            f"{self._best_spread:.3f}): mode collapse; go back to an earlier checkpoint, with a "
            f"larger batch_size, a lower lr, or augment = true",
        )

    def look_at_disk(self, folder: Path, checkpoint_bytes: int) -> Iterator[str]:
        """Messages when the next checkpoints may not fit."""
        free = shutil.disk_usage(folder).free
        yield from self._ring(
            "disk",
            free < LOW_DISK_CHECKPOINTS * checkpoint_bytes,
            f"only {free / 2**30:.1f} GiB are left in {folder}, and a checkpoint takes "
            f"{checkpoint_bytes / 2**30:.2f} GiB: make room, or the run stops at the next one",
        )

    def _ring(self, name: str, wrong: bool, message: str) -> Iterator[str]:
        if wrong and name not in self._ringing:
            self._ringing.add(name)
            yield message
        elif not wrong:
            self._ringing.discard(name)


class _Progress:
    """Means of windows, and how many have passed since the best."""

    def __init__(self) -> None:
        self._window: list[float] = []
        self._best = math.inf
        self._since = 0

    def stalled(self, value: float) -> bool:
        self._window.append(value)
        if len(self._window) == WINDOW_STEPS:
            mean = sum(self._window) / WINDOW_STEPS
            self._window.clear()
            better = mean < self._best - LEAST_FALL * abs(self._best) or self._best == math.inf
            self._best, self._since = (mean, 0) if better else (self._best, self._since + 1)
        return self._since >= PATIENCE_WINDOWS


def sample_spread(images: Tensor) -> float:
    """How much samples differ: the standard deviation over samples of 8x8 thumbnails, mean over
    places and channels. 0 means all alike."""
    small = adaptive_avg_pool2d(images.detach().float(), 8)
    return float(small.std(dim=0, correction=0).mean()) if len(small) > 1 else math.inf
