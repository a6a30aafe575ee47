"""Timestamps of one stream, made usable: exact, relative to the start, strictly increasing.

Streams in the wild lack timestamps (old AVI files, raw H.264), repeat them, step back, or start
over in the middle (joined recordings). No frame is dropped for that; it is given a time between its
neighbors, and the repair is counted.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Generic, TypeVar

Item = TypeVar("Item")

JUMP_S = Fraction(1)
"""A step back by more than this starts a new recording; by less, it is a faulty timestamp."""
MAX_WAITING = 16
"""Frames held back until a good timestamp says where they belong; after that they are spaced by the
nominal rate, so that memory stays bounded."""


class Timeline(Generic[Item]):
    """Gives each item a time; items come out in the order in which they went in.

    Args:
        origin: the stamp that becomes time 0.
        nominal: seconds an item usually lasts.
    """

    def __init__(self, *, origin: Fraction, nominal: Fraction) -> None:
        self._shift = -origin
        self._nominal = nominal
        self._last: Fraction | None = None
        self._waiting: list[Item] = []
        self.repaired = 0
        """Items whose stamp was missing, repeated or stepped back."""
        self.jumps = 0
        """Times the stream started over."""

    def push(self, item: Item, stamp: Fraction | None) -> list[tuple[Item, Fraction]]:
        """Take an item with its stamp in seconds; return those whose time is settled."""
        time = self._place(stamp)
        if time is None:
            self._waiting.append(item)
            return self._space_nominally() if len(self._waiting) >= MAX_WAITING else []
        settled = self._spread(before=time) if self._waiting else []
        if self._last is not None and time <= self._last:  # no room before the first good stamp
            self._shift += self._last + self._nominal - time
            time = self._last + self._nominal
        self._last = time
        return [*settled, (item, time)]

    def flush(self) -> list[tuple[Item, Fraction]]:
        """The items that still wait, at the end of the stream."""
        return self._space_nominally()

    def _place(self, stamp: Fraction | None) -> Fraction | None:
        """The time of a stamp; None if the stamp is of no use."""
        if stamp is None:
            return None
        time = stamp + self._shift
        if self._last is None or time > self._last:
            return time
        if self._last - time <= JUMP_S:
            return None
        self.jumps += 1
        resumed = self._last + self._nominal * (len(self._waiting) + 1)
        self._shift += resumed - time
        return resumed

    def _spread(self, before: Fraction) -> list[tuple[Item, Fraction]]:
        """Place the waiting items evenly between the last time and the next."""
        count = len(self._waiting)
        if self._last is None:
            step = before / count if before > 0 else self._nominal
            first = Fraction(0)
        else:
            step = (before - self._last) / (count + 1)
            first = self._last + step
        return self._release(first, step)

    def _space_nominally(self) -> list[tuple[Item, Fraction]]:
        first = Fraction(0) if self._last is None else self._last + self._nominal
        return self._release(first, self._nominal)

    def _release(self, first: Fraction, step: Fraction) -> list[tuple[Item, Fraction]]:
        placed = [(item, first + i * step) for i, item in enumerate(self._waiting)]
        self.repaired += len(placed)
        self._waiting = []
        if placed:
            self._last = placed[-1][1]
        return placed
