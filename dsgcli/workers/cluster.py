"""Workers of an existing Dask cluster, through joblib's Dask backend.

Pieces are submitted one by one to joblib's backend, and not through `joblib.Parallel`, whose call
ends with the first piece that fails. Dask gives a piece to another worker when its own is lost, and
gives up on it after some (the scheduler's setting `allowed-failures`, 3). Only workers that were
welcomed get pieces; more may come and go at any time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dsgcli.errors import UsageError, WorkerError, WorkerLostError

if TYPE_CHECKING:
    from distributed import Client

P = TypeVar("P")
R = TypeVar("R")

CONNECT_S = 10.0
"""How long to wait for a scheduler; one that is there answers at once."""
WORKERS_S = 30.0
"""How long to wait for the first worker: the queue of a cluster may be about to start it."""
AHEAD = 2
"""Pieces a worker that are on their way: the next one is there when one is done."""
MAX_MOVES = 3
"""How often a piece may lose all its workers: as often as Dask lets it lose one."""
Welcome = Callable[["Cluster", Sequence[str]], Sequence[str]]
"""New addresses -> those of them that may be given work."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A question that a worker could not answer."""

    why: str


@dataclass(frozen=True, slots=True)
class _Sent:
    """A piece under way."""

    function: Callable[[Any], Any]
    piece: Any
    workers: frozenset[str]
    """Those that may do it."""
    moves: int
    """How often all of those were lost, and others took it."""


class Cluster:
    """The workers of one scheduler.

    Args:
        welcome: asked about workers when they come, also in the middle.

    Raises:
        UsageError: Dask is not installed, or that is no address.
        WorkerError: no answer from there, or no worker.
    """

    def __init__(self, address: str, welcome: Welcome = lambda cluster, new: new) -> None:
        self.address, self._welcome = address, welcome
        self.client = _connect(address)
        self._met: set[str] = set()
        self._welcomed: tuple[str, ...] = ()
        self._backend: Any = None
        self._backends: list[Any] = []
        """Those of before, too: what they have under way goes on."""
        self._under_way: dict[Future[Any], _Sent] = {}
        try:
            self.client.wait_for_workers(1, timeout=WORKERS_S)
            self.workers()
        except TimeoutError as error:
            self.close()
            raise WorkerError(
                f"the scheduler {address} has no worker after {WORKERS_S:g} s; start some with "
                f"`dask worker {address} --nthreads 1`"
            ) from error
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return f"{len(self._welcomed)} at {self.address}"

    def workers(self) -> tuple[str, ...]:
        """Addresses of those that are there now and may be given work."""
        there = set(self.client.scheduler_info(n_workers=-1)["workers"])
        new = sorted(there - self._met)
        self._met |= there
        welcomed = {*self._welcomed, *(self._welcome(self, new) if new else ())}
        now = tuple(sorted(welcomed & there))
        if now != self._welcomed:
            self._welcomed, self._backend = now, None
        self._move(there)
        return now

    def _move(self, there: Collection[str]) -> None:
        """Send pieces whose workers have all gone to those that came in their place."""
        for outcome, sent in list(self._under_way.items()):
            if outcome.done():
                del self._under_way[outcome]
            elif sent.workers.isdisjoint(there) and self._welcomed:
                if sent.moves < MAX_MOVES:
                    self._send(outcome, sent.function, sent.piece, sent.moves + 1)
                else:
                    with contextlib.suppress(InvalidStateError):
                        outcome.set_exception(WorkerLostError("its workers were lost every time"))

    @property
    def capacity(self) -> int:
        return max(1, AHEAD * len(self.workers()))

    def ask(
        self, question: Callable[..., R], *arguments: Any, workers: Sequence[str]
    ) -> dict[str, R | Refusal]:
        """Call a function on each of these workers; returns the answers by address."""
        answers: dict[str, R | tuple[str]] = self.client.run(
            _answering(question), *arguments, workers=list(workers)
        )
        return {
            worker: Refusal(answer[0]) if isinstance(answer, tuple) else answer
            for worker, answer in answers.items()
        }

    def start(self, function: Callable[[P], R], piece: P, *, again: bool = False) -> Future[R]:
        outcome: Future[R] = Future()
        outcome.set_running_or_notify_cancel()
        self._send(outcome, function, piece, 0)
        return outcome

    def _send(self, outcome: Future[R], function: Callable[[P], R], piece: P, moves: int) -> None:
        from joblib import delayed
        from joblib.parallel import BatchedCalls

        backend = self._open_backend()
        calls = BatchedCalls([delayed(function)(piece)], backend.get_nested_backend())
        raw: Future[Any] = backend.submit(calls, callback=lambda result: None)
        raw.add_done_callback(lambda done: _hand_on(done, backend, outcome))
        self._under_way[outcome] = _Sent(function, piece, frozenset(self._welcomed), moves)

    def check(self) -> None:
        if self.client.status != "running":
            raise WorkerLostError(
                f"the scheduler {self.address} is gone; finished files stay, and the same command "
                f"does the others when it is back"
            )
        if not self.workers():
            with contextlib.suppress(TimeoutError):
                self.client.wait_for_workers(1, timeout=WORKERS_S)
            if not self.workers():
                raise WorkerLostError(
                    f"no worker is left at {self.address}; finished files stay, and the same "
                    f"command does the others when there are some"
                )

    def close(self) -> None:
        """Cancel what is under way; the workers stay."""
        for backend in self._backends:
            backend.stop_call()
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it mourns what is cancelled
        self.client.close(timeout=5)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_backend(self) -> Any:
        """joblib's, for the workers that are welcome now."""
        from joblib import parallel_config
        from joblib.parallel import get_active_backend

        if self._backend is None:
            where = {"workers": list(self._welcomed), "allow_other_workers": False}
            with parallel_config(backend="dask", client=self.client, pure=False, **where):
                self._backend, _ = get_active_backend()
            self._backend.start_call()
            self._backends.append(self._backend)
        return self._backend


def _connect(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "--cluster needs Dask, here and on the workers: pip install 'dsgcli[dask]'"
        ) from error
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise UsageError(
            f"--cluster takes the address of a Dask scheduler such as tcp://host:8786, got "
            f"{address!r}"
        ) from error
    except OSError as error:  # a timeout is one, too
        raise WorkerError(
            f"no Dask scheduler answers at {address}; is it started (`dask scheduler`), and does "
            f"a firewall let this machine through?"
        ) from error
    return client


def _answering(question: Callable[..., R]) -> Callable[..., R | tuple[str]]:
    """The question, with errors told in words: they do not always survive the way. A function
    inside a function goes to the workers whole: they need nothing of ours to say what is wrong."""

    def answer(*arguments: Any) -> R | tuple[str]:
        try:
            return question(*arguments)
        except OSError as error:
            return (error.strerror or str(error),)
        except Exception as error:
            return (f"{type(error).__name__}: {error}",)

    return answer


def _hand_on(done: Future[Any], backend: Any, outcome: Future[R]) -> None:
    """The one result of a batch of one call; a worker's end is an error of its own."""
    with contextlib.suppress(InvalidStateError):  # given up meanwhile
        try:
            results = backend.retrieve_result_callback(done.result())
            if isinstance(results, BaseException):
                raise results
        except BaseException as error:
            outcome.set_exception(_told(error))
        else:
            outcome.set_result(results[0])


def _told(error: BaseException) -> BaseException:
    if type(error).__name__ not in ("KilledWorker", "CancelledError", "FutureCancelledError"):
        return error
    lost = WorkerLostError(f"workers were lost with it ({type(error).__name__})")
    lost.__cause__ = error
    return lost
