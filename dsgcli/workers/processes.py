"""Workers that are processes of this machine: joblib's loky, one executor a process.

Each process has an executor of its own, so that one that dies (killed, out of memory) takes
nothing with it but its own piece, and it is known which piece that was; another process takes its
place. Threads and the GPU of a process are set before it loads anything.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from joblib.externals.loky import process_executor

from dsgcli.errors import WorkerLostError

P = TypeVar("P")
R = TypeVar("R")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""How many threads torch computes with."""
ONE_THREAD_VARIABLES = (
    *("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
"""Pools that may hang when several Python threads use them, see `dsgcli/__init__`."""
PATIENCE_S = 5.0
"""How long a process may take to put its work away when it is stopped."""


class ProcessPool:
    """A number of processes, started when there is work for them.

    Args:
        threads: of each process.
        gpus: as CUDA_VISIBLE_DEVICES names them; processes take turns with them. Empty leaves the
            variable alone.
    """

    def __init__(self, count: int, *, threads: int = 1, gpus: tuple[str, ...] = ()) -> None:
        assert count > 0, count
        self.capacity, self.threads, self.gpus = count, threads, gpus
        variables = dict.fromkeys(ONE_THREAD_VARIABLES, "1")
        variables |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._slots = [
            _Slot(variables | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}))
            for i in range(count)
        ]

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        share = f"1 GPU of {len(self.gpus)}" if self.gpus else f"{self.threads} thread{plural}"
        return f"{self.capacity} of {share} each"

    def start(self, function: Callable[[P], R], piece: P, *, again: bool = False) -> Future[R]:
        """Begin a piece on a process that has none."""
        slot = next(slot for slot in self._slots if not slot.busy)
        return slot.start(function, piece)

    def warm_up(self, function: Callable[[P], R], argument: P) -> list[Future[R]]:
        """Let every process do this before its first piece; what it raises is for who asks."""
        return [slot.warm_up(function, argument) for slot in self._slots]

    def check(self) -> None:
        """A dead process is known by its future."""

    def close(self) -> None:
        """Ask what is under way to stop, as Ctrl-C would; then end all processes."""
        busy = [slot.under_way for slot in self._slots if slot.interrupt()]
        wait([future for future in busy if future is not None], timeout=PATIENCE_S)
        for slot in self._slots:
            slot.close()

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Slot:
    """One process at a time; the next one when it has died."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._executor: process_executor.ProcessPoolExecutor | None = None
        self._pid: Future[int] | None = None
        self.under_way: Future[object] | None = None

    @property
    def busy(self) -> bool:
        return self.under_way is not None and not self.under_way.done()

    def start(self, function: Callable[[P], R], piece: P) -> Future[R]:
        try:
            raw = self._open().submit(_work, function, piece)
        except BrokenProcessPool:  # it died between two pieces: nothing is lost
            self.close()
            raw = self._open().submit(_work, function, piece)
        outcome: Future[R] = Future()
        outcome.set_running_or_notify_cancel()
        self.under_way = raw
        raw.add_done_callback(lambda done: self._hand_on(done, outcome))
        return outcome

    def warm_up(self, function: Callable[[P], R], argument: P) -> Future[R]:
        answer: Future[R] = self._open().submit(_work, function, argument)
        return answer

    def interrupt(self) -> bool:
        """Let what is under way end as after Ctrl-C; whether there is something."""
        if not self.busy or self._pid is None or not self._pid.done():
            return False
        with contextlib.suppress(OSError, BrokenProcessPool):
            os.kill(self._pid.result(), signal.SIGTERM)
        return True

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
        self._executor = self._pid = None

    def _open(self) -> process_executor.ProcessPoolExecutor:
        if self._executor is not None and self._executor._flags.broken is not None:
            self.close()
        if self._executor is None:
            self._executor = process_executor.ProcessPoolExecutor(
                max_workers=1, env=self._variables, initializer=_begin
            )
            self._pid = self._executor.submit(os.getpid)
        return self._executor

    def _hand_on(self, done: Future[R], outcome: Future[R]) -> None:
        error = done.exception()
        if isinstance(error, BrokenProcessPool):
            lost = WorkerLostError(f"a worker process died ({_first_line(error)})")
            lost.__cause__ = error
            outcome.set_exception(lost)
        elif error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(done.result())


def _first_line(error: BaseException) -> str:
    """Message of loky about the end of a process, without its advice."""
    lines = [line for line in str(error).splitlines() if "exit codes" in line] or [""]
    return lines[0].strip() or "killed, or out of memory"


def _begin() -> None:
    """Ctrl-C on a terminal reaches all processes; it is the first one's to decide what it means.

    And where psutil is there, loky takes a process that grows by 300 MB for one that leaks, and
    ends it: so it would every one that loads networks.
    """
    process_executor._USE_PSUTIL = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupted)


def _interrupted(number: int, frame: object) -> None:
    if not _working:
        os._exit(128 + number)
    raise KeyboardInterrupt


_working = False
"""In a worker: whether it is at a piece, which is to be put away properly."""


def _work(function: Callable[[P], R], piece: P) -> R:
    global _working
    _working = True
    try:
        return function(piece)
    finally:
        _working = False
