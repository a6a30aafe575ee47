"""Where and how things run: device, precision, threads, prefetching, parallel maps.

The only owner of joblib. Knows nothing of pictures, faces or models.
"""

from __future__ import annotations

import gc
import os
import platform
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from dsgcli.errors import UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

Precision = Literal["auto", "fp32", "bf16", "fp16"]
BackendName = Literal["auto", "torch", "compile", "openvino", "cuda-graph"]
"""What runs the networks; `backends/choice.py` makes it."""

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
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    one_arena = mallopt(_M_ARENA_MAX, 1)  # other arenas cannot grow beyond 64 MiB
    threshold = mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
    trim = mallopt(_M_TRIM_THRESHOLD, 2 * _KEEP_BYTES - 1)
    return bool(one_arena and threshold and trim)


def return_freed_memory() -> None:
    """Give free pages in the middle of glibc's heap back to the system.

    `keep_freed_memory` keeps large blocks in the heap, between small ones that live longer; over a
    long video the gaps between these add up. Called once a segment, this costs some milliseconds.
    Elsewhere than on glibc it does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def uncollected() -> Iterator[None]:
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


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────


def prefetch(items: Iterable[T], depth: int = 8) -> Generator[T]:
    """The same items in the same order, made up to `depth` ahead in a thread of their own.

    An error of the source is raised where its item would have come. Closing the iterator (or
    leaving the loop) stops the thread, and closes the source if it is a generator.
    """
    slots: queue.Queue[tuple[bool, object]] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(ok: bool, item: object) -> bool:
        while not stop.is_set():
            try:
                slots.put((ok, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(True, item):
                    return
            put(True, end)
        except BaseException as error:
            put(False, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None and stop.is_set():
                close()

    thread = threading.Thread(target=work, name="dsg-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            ok, item = slots.get()
            if not ok:
                assert isinstance(item, BaseException)
                raise item
            if item is end:
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join(timeout=5)


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
