"""Hand pieces of work out to workers; their outcomes come back as they finish.

Flow: a function that names the next piece -> workers -> Outcome, Outcome, ...

Knows nothing of what the pieces are. A piece whose worker dies is tried once more elsewhere; an
error that a piece raises is that piece's outcome, and the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dsgcli.errors import WorkerLostError

P = TypeVar("P")
R = TypeVar("R")

LOOK_AROUND_S = 1.0
"""How often, while nothing comes, to look whether the workers are still there."""


class Workers(Protocol):
    """Those who do the work."""

    @property
    def capacity(self) -> int:
        """Pieces that may be under way at a time: enough to keep all of them busy."""
        ...

    def start(self, function: Callable[[P], R], piece: P, *, again: bool = False) -> Future[R]:
        """Begin a piece. The future raises WorkerLostError if its worker dies.

        Args:
            again: a worker died of it, or with it, before: another one is to take it.
        """
        ...

    def check(self) -> None:
        """Make sure that a worker is left to wait for.

        Raises:
            WorkerLostError: no worker is left, and none will come.
        """
        ...

    def close(self) -> None:
        """Stop what is under way, and let go of the workers."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome(Generic[P, R]):
    """Result of a piece of work: a value, or an error."""

    piece: P
    result: R | None = None
    error: BaseException | None = None
    again: bool = False
    """Its first worker died."""

    @property
    def value(self) -> R:
        """The result; raises the error."""
        if self.error is not None:
            raise self.error
        assert self.result is not None, "pieces return something"
        return self.result


def hand_out(
    workers: Workers, function: Callable[[P], R], next_piece: Callable[[], P | None]
) -> Iterator[Outcome[P, R]]:
    """Outcomes in the order in which pieces finish.

    Args:
        next_piece: the next one to begin, or None if there is none now. It is asked again whenever
            an outcome was taken, so pieces may depend on what others found; the end has come when
            there is none and nothing is under way.
    """
    under_way: dict[Future[R], tuple[P, bool]] = {}
    once_more: deque[P] = deque()
    while True:
        while len(under_way) < workers.capacity:
            again = bool(once_more)
            piece = once_more.popleft() if once_more else next_piece()
            if piece is None:
                break
            under_way[workers.start(function, piece, again=again)] = (piece, again)
        if not under_way:
            return
        done, _ = wait(under_way, timeout=LOOK_AROUND_S, return_when=FIRST_COMPLETED)
        if not done:
            workers.check()
        for future in done:
            piece, again = under_way.pop(future)
            error = future.exception()
            if isinstance(error, WorkerLostError) and not again:
                once_more.append(piece)
            elif error is not None:
                yield Outcome(piece, error=error, again=again)
            else:
                yield Outcome(piece, result=future.result(), again=again)


class Here:
    """Does every piece at once, in this process: for tests, and for what is not worth a worker."""

    capacity = 1

    def start(self, function: Callable[[P], R], piece: P, *, again: bool = False) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(function(piece))
        except Exception as error:
            future.set_exception(error)
        return future

    def check(self) -> None:
        """There is always a worker."""

    def close(self) -> None:
        """Nothing to let go of."""
