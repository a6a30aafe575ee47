"""How many workers, and with what each: from cores, memory and GPUs, or from a cluster.

Several processes of one thread each draw more than one process of several threads: networks at
these sizes use a second thread for half of what it could do, and finding faces, pasting and files
do not use it at all (docs/scale.md). But each process takes seconds to start, and memory.

Little is imported here, so that processes can be started first of all.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.runtime import num_cpus
from dsgcli.stylize.desk import Called
from dsgcli.stylize.jobs import VIDEO_SUFFIXES, num_pictures

if TYPE_CHECKING:
    from dsgcli.progress import Progress
    from dsgcli.stylize.desk import Desk
    from dsgcli.stylize.jobs import InputFile, Job
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.summary import FileResult

MANY_FILES = 32
"""So many, and `auto` starts processes at once: they pay however small the networks are."""
WORTH_S = 8.0
"""Work that must be left, of fewer files, for `auto` to start processes: they take three seconds to
be ready, in which this one goes on."""
TRIED = 2
"""Inputs that `auto` draws itself first: the first one is slow, the next says how fast it goes."""
USUAL_BYTES = 2_500_000_000
"""Assumed memory of a process before one has been measured: that of a 1024 px style."""
SHARE_OF_MEMORY = 0.8
"""Share of the free memory to use; the rest is for the files that are read and written."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Processes of this machine."""

    count: int
    threads: int
    gpus: tuple[str, ...] = ()


def pick_crowd(wanted: int | str, device: str, *, bytes_each: int | None = None) -> Crowd:
    """How many processes, and the share of each.

    Args:
        wanted: a number, or "auto": one a GPU, else one a core, as far as memory reaches.
        device: as `--device`; one that is named is shared by all.
        bytes_each: memory that a process takes, if that is known.
    """
    cores = num_cpus()
    gpus = visible_gpus() if device in ("auto", "cuda") else ()
    if wanted == "auto":
        fitting = cores if bytes_each is None else int(SHARE_OF_MEMORY * free_bytes() // bytes_each)
        count = len(gpus) or max(1, min(cores, fitting))
    else:
        count = int(wanted)
    return Crowd(count, max(1, cores // count), gpus)


def visible_gpus() -> tuple[str, ...]:
    """CUDA devices as CUDA_VISIBLE_DEVICES would name them, each alone."""
    if not _has_gpu_driver():
        return ()
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = named.split(",") if named else [str(i) for i in range(count)]
    return tuple(name.strip() for name in names[:count])


def _has_gpu_driver() -> bool:
    """Whether torch could find a GPU, without the second that it takes to import it."""
    if Path("/dev/kfd").exists():  # AMD's
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def free_bytes() -> int:
    """Memory that processes can still get; a great deal where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return sys.maxsize


def peak_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


# ── a batch, by whoever is to do it ──────────────────────────────────────────────────────────────


@contextmanager
def called(options: StylizeOptions, sources: Sequence[InputFile]) -> Iterator[Called | None]:
    """The processes that `--workers` asks for from the beginning; None where it does not, or they
    would have nothing to share."""
    pictures, crowd = num_pictures(sources), None
    if options.cluster is None and options.workers != "auto":
        crowd = pick_crowd(min(options.workers, pictures), options.device)
    elif options.cluster is None and len(sources) >= MANY_FILES:
        crowd = pick_crowd("auto", options.device, bytes_each=USUAL_BYTES)
    if crowd is None or crowd.count < 2:
        yield None
        return
    helpers = _start(crowd, options, pictures)
    with helpers.workers:
        yield helpers


def _start(crowd: Crowd, options: StylizeOptions, pictures: int) -> Called:
    from dsgcli.stylize.dispatch import for_workers
    from dsgcli.stylize.tasks import Call, get_ready
    from dsgcli.workers.processes import ProcessPool

    processes = ProcessPool(crowd.count, threads=crowd.threads, gpus=crowd.gpus)
    return Called(
        processes,
        processes.warm_up(get_ready, Call(options=for_workers(options), num_pictures=pictures)),
    )


def draw_all(jobs: Sequence[Job], desk: Desk, progress: Progress) -> tuple[list[FileResult], str]:
    """Draw all inputs; returns the result of each, and a text about the workers, "" for this
    process alone.

    Raises:
        DsgError: as `batch.draw_jobs` and `spread`; or workers that cannot be reached.
    """
    from dsgcli.stylize.dispatch import spread

    if desk.options.cluster is not None:
        return _on_cluster(jobs, desk, progress)
    if desk.helpers is not None:
        workers = desk.helpers.workers
        return spread(jobs, desk, workers, progress), str(workers)
    if desk.options.workers == "auto":
        return _auto(jobs, desk, progress)
    from dsgcli.stylize.batch import draw_jobs

    return draw_jobs(jobs, desk.studio, progress), ""


def _on_cluster(
    jobs: Sequence[Job], desk: Desk, progress: Progress
) -> tuple[list[FileResult], str]:
    from dsgcli.stylize.cluster_check import checked_cluster
    from dsgcli.stylize.dispatch import spread

    with checked_cluster(jobs, desk.studio, progress) as (cluster, models):
        results = spread(jobs, desk, cluster, progress, models=models)
        return results, str(cluster)


def _auto(jobs: Sequence[Job], desk: Desk, progress: Progress) -> tuple[list[FileResult], str]:
    """Begin alone; call others once what is left is worth it, and go on until they are ready."""
    from dsgcli.stylize.batch import draw_jobs
    from dsgcli.stylize.dispatch import spread

    results: list[FileResult] = []
    helpers, only = None, len(jobs) == 1
    with ExitStack() as stack:
        for number, job in enumerate(jobs):
            left, is_long = jobs[number:], _is_long(job, desk.options)
            if helpers is None and (is_long or _is_worth_it(results, len(left))):
                crowd = pick_crowd("auto", desk.options.device, bytes_each=peak_bytes())
                if crowd.count > 1:
                    helpers = _start(crowd, desk.options, job.num_pictures)
                    stack.enter_context(helpers.workers)
            if helpers is not None and (is_long or helpers.are_ready):
                workers = helpers.workers
                return results + spread(left, desk, workers, progress, only=only), str(workers)
            results += draw_jobs([job], desk.studio, progress, only=only)
    return results, ""


def _is_worth_it(results: Sequence[FileResult], left: int) -> bool:
    """Whether the inputs that are left take so long that starting processes pays."""
    drawn = [result.seconds for result in results if result.status == "done"][1:]
    return len(results) >= TRIED and bool(drawn) and sum(drawn) / len(drawn) * left > WORTH_S


def _is_long(job: Job, options: StylizeOptions) -> bool:
    """Whether an input is a video that several can draw."""
    from dsgcli.stylize.dispatch import open_splittable

    if job.source.path.suffix.lower() not in VIDEO_SUFFIXES:
        return False
    source = open_splittable(job, options)
    if source is not None:
        source.close()
    return source is not None
