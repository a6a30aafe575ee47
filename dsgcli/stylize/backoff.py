"""Networks over many pictures, in batches that fit the memory there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from dsgcli.errors import MemoryShortError
from dsgcli.memory import asked_for, is_out_of_memory, sentence

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class Batches:
    """Runs a function over items in batches; halves them when memory runs out, and goes on.

    The smaller size stays: what did not fit once will not fit the next time.

    Args:
        size: items that go together at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, function: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """`function` of all items, in order; nothing is dropped.

        Raises:
            MemoryShortError: a single item does not fit.
        """
        results: list[R] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.size]
            try:
                results.extend(function(batch))
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(batch), error)
        return results

    def _shrink(self, tried: int, error: BaseException) -> None:
        if tried == 1:
            raise MemoryShortError(
                f"{sentence(asked_for(str(error)))}; a single face does not fit"
            ) from error
        self.size = max(1, tried // 2)
        _log.warning("out of memory with %d faces at once, continuing with %d", tried, self.size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
