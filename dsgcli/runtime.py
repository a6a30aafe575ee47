"""Where and how things run: device, precision, threads, prefetching, parallel maps.

The only owner of joblib. Knows nothing of pictures, faces or models.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import logging
import os
import platform
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from dsgcli.errors import StalledError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
BackendName = Literal["auto", "torch", "compile", "openvino"]
"""Name of a backend; `inference/backend.py` makes it."""

# ── device and precision ─────────────────────────────────────────────────────────────────────────


def pick_device(name: str = "auto") -> torch.device:
    """The device that `--device` names: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.

    Raises:
        UsageError: an unknown name, or a device that this machine or this torch does not have.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not number.isdigit()):
        raise UsageError(f"--device takes auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "cuda" and (not cuda or int(number or 0) >= torch.cuda.device_count()):
        found = f"{torch.cuda.device_count()} found" if cuda else "none found"
        raise UsageError(
            f"no CUDA device {name!r} here ({found}); `dsg doctor` shows what there is"
        )
    if kind == "mps" and not mps:
        raise UsageError("no Apple GPU here; use --device cpu or auto")
    return torch.device(name)


def pick_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format for inference. `auto` is bf16 where the hardware multiplies it natively
    (CPUs with AMX or AVX512-bf16, NVIDIA from sm_80 on), fp32 elsewhere.

    Raises:
        UsageError: fp16 on a CPU, which has no fast half precision.
    """
    import torch

    if precision == "fp16":
        if device.type == "cpu":
            raise UsageError("--precision fp16 needs a GPU; on a CPU use bf16, fp32 or auto")
        return torch.float16
    if precision == "bf16" or (precision == "auto" and has_native_bf16(device)):
        return torch.bfloat16
    return torch.float32


def has_native_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 in hardware, so that it is faster than fp32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    capability = torch.backends.cpu.get_cpu_capability()
    if not capability.startswith("AVX512"):
        return False
    check: Callable[[], bool] | None = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


def set_threads(count: int | None) -> int:
    """Let torch use `count` threads (None: leave it); returns the number in force."""
    import torch

    if count is not None:
        torch.set_num_threads(max(1, count))
    return torch.get_num_threads()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEEP_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed blocks of up to 1 GiB instead of returning them to the system.

    By default each large tensor is fresh pages, zeroed by the kernel on first touch: that is most
    of the time of a small network on a CPU (benchmarks/memory.md). Elsewhere than on
    glibc it does nothing. Call it before the first large allocation.

    Returns:
        Whether it took effect.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    one_arena = mallopt(_M_ARENA_MAX, 1)  # other arenas cannot grow beyond 64 MiB
    threshold = mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
    trim = mallopt(_M_TRIM_THRESHOLD, 2 * _KEEP_BYTES - 1)
    return bool(one_arena and threshold and trim)


def return_freed_memory() -> None:
    """Give free pages in the middle of glibc's heap back to the system.

    `keep_freed_memory` keeps large blocks in the heap, between small ones that live longer; over a
    long video the gaps between these add up. Called once in some dozens of frames, this costs some
    milliseconds. Elsewhere than on glibc it does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Import and load in this block without the garbage collector, and leave what is there at its
    end out of later collections, until `gc.unfreeze`.

    All of it stays, and is half a million objects with torch: to look through them again and again
    took a sixth of the time of a short run.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_on:
            gc.enable()


# ── threads of linear algebra ────────────────────────────────────────────────────────────────────

_OPENBLAS_FORMS = ("", "64_", "_64", "64__")
_OPENBLAS_PREFIXES = ("", "scipy_")
_blas_lock = threading.Lock()
_blas_users = 0
_blas_before: list[tuple[Callable[[int], None], int]] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let every OpenBLAS of this process compute in the calling thread alone, in this block.

    OpenBLAS has a pool of threads of its own, and when several Python threads use it at once it may
    wait for itself forever. Where `dsgcli` was imported first, `OPENBLAS_NUM_THREADS` has seen to
    it already (`dsgcli/__init__`); this is for programs that imported NumPy before. Blocks may
    overlap; the last to end puts back what was there.
    """
    global _blas_users
    with _blas_lock:
        _blas_users += 1
        if _blas_users == 1:
            for get, put in _openblas_controls():
                if (count := get()) > 1:
                    _blas_before.append((put, count))
                    put(1)
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                for put, count in _blas_before:
                    put(count)
                _blas_before.clear()


def _openblas_controls() -> Iterator[tuple[Callable[[], int], Callable[[int], None]]]:
    """Functions that read and set the number of threads of each loaded OpenBLAS."""
    for path in _loaded_openblas():
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)  # loaded already: the same one
            for prefix, form in itertools.product(_OPENBLAS_PREFIXES, _OPENBLAS_FORMS):
                get = getattr(library, f"{prefix}openblas_get_num_threads{form}", None)
                put = getattr(library, f"{prefix}openblas_set_num_threads{form}", None)
                if get is not None and put is not None:
                    yield get, put
                    break


def _loaded_openblas() -> list[str]:
    """Files of the OpenBLAS libraries in this process; of NumPy's own where a system does not
    list them."""
    maps = Path("/proc/self/maps")
    if maps.exists():
        lines = maps.read_text("utf-8", "surrogateescape").splitlines()
        paths = {line.partition("/")[2] for line in lines if "openblas" in line.lower()}
        return sorted(f"/{path}" for path in paths if path and "(deleted)" not in path)
    numpy = sys.modules.get("numpy")
    if numpy is None or not numpy.__file__:
        return []
    package = Path(numpy.__file__).parent
    folders = (package / ".dylibs", package.with_name("numpy.libs"))
    return sorted(str(path) for folder in folders for path in folder.glob("*openblas*"))


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────


STALL_S = 600.0
"""Seconds without any progress of any step after which a run counts as hung. Compiling a network,
the slowest single thing that a step does, takes two to five minutes on a slow machine."""
POLL_S = 0.1
"""Seconds between two looks at whether a waiting step was closed."""

_moves = itertools.count()
_last_move = 0


def note_progress() -> None:
    """Tell the watchdog of `prefetch` that a step is at work; for steps that take minutes."""
    global _last_move
    _last_move = next(_moves)


class Prefetch(Iterator[T]):
    """Yield the items in order, made up to `depth` ahead in a separate thread.

    An error of the source is raised where its item would have come. Closing stops the thread, and
    closes the source if it is a generator.

    Raises:
        StalledError: from `next`, if no step of any `Prefetch` has moved for `STALL_S` seconds.
    """

    def __init__(self, items: Iterable[T], depth: int = 8) -> None:
        self._items = items
        self._slots: queue.Queue[tuple[bool, object]] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._ended = False
        self._blas = one_blas_thread()
        self._blas.__enter__()
        self._thread = threading.Thread(target=self._work, name="dsg-prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        ok, item = self._get()
        if self._stopped.is_set():
            raise StopIteration
        if ok and item is not _END:
            return item  # type: ignore[return-value]
        self.close()
        if not ok:
            assert isinstance(item, BaseException)
            raise item
        raise StopIteration

    def stop(self) -> None:
        """Ask the thread to end, without waiting; `next` then raises StopIteration."""
        self._stopped.set()

    def close(self) -> None:
        """Stop the thread and wait for it; one that hangs is left behind after five seconds."""
        self._stopped.set()
        if not self._ended:
            self._ended = True
            if self._thread is not threading.current_thread():
                self._thread.join(timeout=5)
            self._blas.__exit__(None, None, None)

    def _get(self) -> tuple[bool, object]:
        """The next slot; polls, so that closing from another thread ends the wait."""
        seen, waited_s, since = _last_move, 0.0, time.monotonic()
        while not self._stopped.is_set():
            try:
                slot = self._slots.get(timeout=POLL_S)
            except queue.Empty:
                now = time.monotonic()
                # a process that was paused (Ctrl-Z, a debugger) did not wait meanwhile
                waited_s += min(now - since, 10 * POLL_S)
                since = now
                if _last_move != seen:
                    seen, waited_s = _last_move, 0.0
                elif waited_s > STALL_S:
                    return False, _stalled(waited_s)
            else:
                note_progress()
                return slot
        return True, _END

    def _put(self, ok: bool, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._slots.put((ok, item), timeout=POLL_S)
            except queue.Full:
                continue
            note_progress()
            return True
        return False

    def _work(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._put(True, item):
                    return
            self._put(True, _END)
        except BaseException as error:
            self._put(False, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None and self._stopped.is_set():
                close()


_END = object()


def prefetch(items: Iterable[T], depth: int = 8) -> Prefetch[T]:
    """The items of an iterable, made up to `depth` ahead by a thread; see `Prefetch`."""
    return Prefetch(items, depth)


def _stalled(waited_s: float) -> StalledError:
    """The error of a hung run; the stacks of all threads go to the log, which `-v` shows."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        _log.info("stack of thread %s:\n%s", names.get(number, number), stack)
    return StalledError(
        f"the run hangs: no step has moved for {waited_s / 60:.0f} minutes; the same command keeps "
        f"what is finished, with --backend torch it uses fewer libraries, and with -v it shows "
        f"where it hangs"
    )


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


# ── parallel maps ────────────────────────────────────────────────────────────────────────────────


def num_cpus() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], *, workers: int | None = None
) -> Iterator[R]:
    """`function` of each item, in order, in `workers` processes (None: one a core).

    One worker, or one item, runs here without starting a process. `function` must be picklable
    by cloudpickle, which joblib's loky uses. Relative paths mean in a process what they mean here.
    """
    todo = list(items)
    count = min(workers or num_cpus(), len(todo))
    if count <= 1:
        yield from (function(item) for item in todo)
        return
    import joblib

    here = Path.cwd()
    jobs = (joblib.delayed(_in_folder)(here, function, item) for item in todo)
    yield from joblib.Parallel(n_jobs=count, return_as="generator", inner_max_num_threads=1)(jobs)


def _in_folder(folder: Path, function: Callable[[T], R], item: T) -> R:
    """loky keeps its processes for the next call, by when the caller may stand elsewhere."""
    os.chdir(folder)
    return function(item)
