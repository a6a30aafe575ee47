"""A network that is made ready for one batch size, for batches of any.

A batch runs in the smallest size that holds it and is ready, filled up with its last row: the last
batch of a video must not cost what made the others ready. A larger one than any is made ready.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dsgcli.backends.base import Run

MOST_SIZES = 3
"""Sizes kept ready: a single picture, the usual batch, and one between."""


class BySize:
    """Rows (B, ...) -> rows (B, ...), by networks for fixed B.

    Args:
        prepare: makes the network for batches like the one it is given.
    """

    def __init__(self, prepare: Callable[[Tensor], Run], most: int = MOST_SIZES) -> None:
        self._prepare, self._most = prepare, most
        self._ready: dict[int, Run] = {}

    @property
    def sizes(self) -> list[int]:
        """The sizes that are ready, in rising order."""
        return sorted(self._ready)

    def __call__(self, rows: Tensor) -> Tensor:
        """The network's answer to each row."""
        count = len(rows)
        size = next((size for size in self.sizes if size >= count), count)
        if size > count:
            rows = torch.cat([rows, rows[-1:].expand(size - count, *rows.shape[1:])])
        if size not in self._ready:
            while len(self._ready) >= self._most:
                del self._ready[self.sizes[0]]
            self._ready[size] = self._prepare(rows)
        return self._ready[size](rows)[:count]


class BySide:
    """Pictures (B, 3, S, S) -> pictures, by networks for fixed S.

    Args:
        prepare: makes the network for pictures of this side.
    """

    def __init__(self, prepare: Callable[[int], Run]) -> None:
        self._prepare = prepare
        self._ready: dict[int, Run] = {}

    def __call__(self, pictures: Tensor) -> Tensor:
        side = pictures.shape[-1]
        if side not in self._ready:
            while len(self._ready) >= MOST_SIZES:
                del self._ready[next(iter(self._ready))]
            self._ready[side] = self._prepare(side)
        return self._ready[side](pictures)


def one_by_one(run: Run) -> Run:
    """Rows (B, ...) in batches of one: on a CPU more gain nothing, and a row's answer then does not
    depend on its neighbors, to the last bit."""

    def each(rows: Tensor) -> Tensor:
        return torch.cat([run(row) for row in rows.split(1)])

    return each
