"""Portraits for training: packed once as memory-mapped bytes, drawn in a reproducible order.

Flow: prepared portraits -> pack (one file of uint8 a size, one JSON of names) -> Pack -> batches.

Conventions
    pack        (N, S, S, 3) uint8 RGB, row by row, in `portraits-S.bin`; smaller sizes are made
                from it on first use and kept beside it
    draw        number of a sample in the whole run: iteration * batch_size + row. What is drawn is
                a function of (seed, draw) alone, so the position of a killed run is its iteration,
                and processes and micro-batches see what one process with the whole batch would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dsgcli.errors import TrainingError
from dsgcli.store.files import write_text, written_whole
from dsgcli.training.stage import Batch, Pictures, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dsgcli.types import Pixels

INDEX = "portraits.json"


# ── the pack ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Pack:
    """A packed set of portraits on disk: a `Pictures` that costs no memory."""

    folder: Path
    size_px: int
    names: tuple[str, ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.names)

    def get(self, indices: Sequence[int], size_px: int) -> Tensor:
        """(N, 3, S, S) float32 in [-1, 1]; smaller sizes are block means, larger ones bilinear."""
        stored = min(size_px, self.size_px)
        pixels = torch.from_numpy(self.level(stored)[np.asarray(indices, dtype=np.int64)])
        images = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        if stored == size_px:
            return images
        return torch.nn.functional.interpolate(images, size=(size_px, size_px), mode="bilinear")

    def level(self, size_px: int) -> Pixels:
        """(N, S, S, 3) uint8, memory-mapped: the portraits at this size."""
        assert self.size_px % size_px == 0, f"{size_px} px does not divide {self.size_px}"
        return _open_level(self.folder, size_px, self.size_px, len(self))

    def with_weights(self, weights: Sequence[float]) -> Pack:
        """Portraits that are drawn more or less often."""
        assert len(weights) == len(self.names)
        return replace(self, weights=tuple(weights))


@lru_cache(maxsize=16)
def _open_level(folder: Path, size_px: int, full_px: int, count: int) -> Pixels:
    path = folder / f"portraits-{size_px}.bin"
    if not path.exists():
        full = _open_level(folder, full_px, full_px, count)
        with written_whole(path) as partial, partial.open("wb") as file:
            for pixels in full:
                file.write(_block_mean(pixels, size_px).tobytes())
    return np.memmap(path, dtype=np.uint8, mode="r", shape=(count, size_px, size_px, 3))


def _block_mean(pixels: Pixels, size_px: int) -> Pixels:
    """(S, S, 3) -> (size_px, size_px, 3): the mean of each block, to the nearest value."""
    k = pixels.shape[0] // size_px
    blocks = pixels.reshape(size_px, k, size_px, k, 3).astype(np.float32)
    mean: Pixels = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return mean


def write_pack(folder: Path, size_px: int, portraits: Iterable[tuple[str, Pixels]]) -> Pack:
    """Pack named portraits of (S, S, 3) uint8; the index is written last and makes it valid."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [folder / INDEX, *folder.glob("portraits-*.bin")]:
        stale.unlink(missing_ok=True)
    _open_level.cache_clear()
    names = []
    with written_whole(folder / f"portraits-{size_px}.bin") as partial, partial.open("wb") as file:
        for name, pixels in portraits:
            assert pixels.shape == (size_px, size_px, 3), f"{name}: {pixels.shape}"
            file.write(pixels.tobytes())
            names.append(name)
    write_text(folder / INDEX, json.dumps({"size_px": size_px, "names": names}))
    return open_pack(folder)


def open_pack(folder: Path) -> Pack:
    """Open what `write_pack` wrote.

    Raises:
        TrainingError: no complete pack there.
    """
    if not (folder / INDEX).is_file():
        raise TrainingError(f"no packed portraits in {folder}; run the stage `prepare` first")
    index = json.loads((folder / INDEX).read_text("utf-8"))
    names = tuple(index["names"])
    return Pack(folder, index["size_px"], names, (1.0,) * len(names))


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────


class Sampler:
    """Which picture each draw of a run takes, and whether it is mirrored.

    An epoch is a permutation in which a picture of weight w comes floor(w) or ceil(w) times
    (systematic sampling), so nothing is starved and folders keep their shares.
    """

    def __init__(self, weights: Sequence[float], seed: int, *, mirror: bool) -> None:
        self._weights = np.asarray(weights, dtype=np.float64)
        self._seed, self._mirror = seed, mirror
        self._epochs: dict[int, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    @cached_property
    def epoch_length(self) -> int:
        """Draws an epoch."""
        return max(1, round(float(self._weights.sum())))

    def draw(self, number: int) -> tuple[int, bool]:
        """(picture, mirrored) of this draw."""
        epoch, place = divmod(number, self.epoch_length)
        order, mirrored = self._epoch(epoch)
        return int(order[place]), bool(mirrored[place])

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if epoch not in self._epochs:
            self._epochs = {k: v for k, v in self._epochs.items() if k >= epoch - 1}
            self._epochs[epoch] = self._shuffle(epoch)
        return self._epochs[epoch]

    def _shuffle(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        digest = hashlib.blake2b(f"{self._seed}/epoch/{epoch}".encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        length = self.epoch_length
        ticks = (np.arange(length) + rng.random()) / length * self._weights.sum()
        order = np.searchsorted(np.cumsum(self._weights), ticks, side="right")
        order = rng.permutation(np.minimum(order, len(self._weights) - 1)).astype(np.int64)
        mirrored = rng.random(length) < 0.5 if self._mirror else np.zeros(length, dtype=np.bool_)
        return order, mirrored


def batches(
    pictures: Pictures, plan: Plan, seed: int, start: int, rank: int = 0, num_ranks: int = 1
) -> Iterator[Batch]:
    """This process's rows (rank, rank + num_ranks, ...) of each iteration from `start` on."""
    sampler = Sampler(pictures.weights, seed, mirror=plan.mirror)
    rows = tuple(range(rank, plan.batch_size, num_ranks))
    for iteration in range(start, plan.steps):
        draws = [sampler.draw(iteration * plan.batch_size + row) for row in rows]
        indices = [index for index, _ in draws]
        images = pictures.get(indices, plan.size_px)
        mirrored = torch.tensor([flip for _, flip in draws])
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        yield Batch(images=images, indices=torch.tensor(indices), rows=rows)


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """Micro-batches of every `parts`-th row, so that any split sees the same groups of four."""
    for k in range(parts):
        yield Batch(
            images=batch.images[k::parts],
            indices=batch.indices[k::parts],
            rows=batch.rows[k::parts],
        )


def num_parts(local_batch: int, device_batch: int) -> int:
    """Fewest equal micro-batches of at most `device_batch` samples (0: no limit)."""
    if device_batch <= 0 or local_batch <= device_batch:
        return 1
    fits = (n for n in range(1, local_batch + 1) if local_batch % n == 0)
    return next(n for n in fits if local_batch // n <= device_batch)
