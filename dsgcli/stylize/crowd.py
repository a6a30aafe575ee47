"""How many workers, and with what each: from cores, memory and GPUs, or from a cluster.

Several processes of one thread each draw more than one process of several threads: networks at
these sizes use a second thread for half of what it could do, and finding faces, pasting and files
do not use it at all (docs/scale.md). But each process takes seconds to start, and memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.runtime import num_cpus
from dsgcli.stylize.jobs import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from dsgcli.progress import Progress
    from dsgcli.stylize.file import Studio
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.summary import FileResult
    from dsgcli.workers.processes import Processes

WORTH_S = 30.0
"""Work that must be left for `auto` to start processes: they take some six seconds to be ready."""
TRIED = 2
"""Inputs that `auto` draws itself first: the first one is slow, the next says how fast it goes."""
SHARE_OF_MEMORY = 0.8
"""Of what is free now; the rest is for the files that are read and written."""


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
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = named.split(",") if named else [str(i) for i in range(count)]
    return tuple(name.strip() for name in names[:count])


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
def called(options: StylizeOptions, num_pictures: int) -> Iterator[Processes | None]:
    """The processes that `--workers` asks for by number, getting ready while this one does; None
    where it does not, or they would have nothing to share."""
    wanted = options.workers
    if wanted == "auto" or min(wanted, num_pictures) < 2 or options.cluster is not None:
        yield None
        return
    with _start(pick_crowd(min(wanted, num_pictures), options.device), options) as processes:
        yield processes


def _start(crowd: Crowd, options: StylizeOptions) -> Processes:
    from dsgcli.stylize.orders import get_ready
    from dsgcli.stylize.spread import for_workers
    from dsgcli.workers.processes import Processes

    processes = Processes(crowd.count, threads=crowd.threads, gpus=crowd.gpus)
    processes.warm_up(get_ready, for_workers(options))
    return processes


def draw_all(
    jobs: Sequence[Job], studio: Studio, progress: Progress, processes: Processes | None
) -> tuple[list[FileResult], str]:
    """What became of each input, and who did it, in words; "" for this process alone.

    Args:
        processes: those that were `called`.

    Raises:
        DsgError: as `run.draw_jobs` and `spread`; or workers that cannot be reached.
    """
    from dsgcli.stylize import run
    from dsgcli.stylize.spread import spread

    if studio.options.cluster is not None:
        return _on_cluster(jobs, studio, progress)
    if studio.options.workers == "auto":
        return _auto(jobs, studio, progress)
    if processes is None:
        return run.draw_jobs(jobs, studio, progress), ""
    return spread(jobs, studio, processes, progress), str(processes)


def _on_cluster(
    jobs: Sequence[Job], studio: Studio, progress: Progress
) -> tuple[list[FileResult], str]:
    from dsgcli.stylize.muster import mustered
    from dsgcli.stylize.spread import spread

    with mustered(jobs, studio, progress) as (cluster, models):
        results = spread(jobs, studio, cluster, progress, models=models)
        return results, str(cluster)


def _auto(jobs: Sequence[Job], studio: Studio, progress: Progress) -> tuple[list[FileResult], str]:
    """Begin alone; call others once what is left is worth it."""
    from dsgcli.stylize import run
    from dsgcli.stylize.spread import spread

    results: list[FileResult] = []
    only = len(jobs) == 1
    for number, job in enumerate(jobs):
        left = jobs[number:]
        crowd = pick_crowd("auto", studio.options.device, bytes_each=peak_bytes())
        if crowd.count > 1 and (_is_long(job, studio) or _is_worth_it(results, len(left))):
            with _start(crowd, studio.options) as processes:
                others = spread(left, studio, processes, progress, only=only)
                return results + others, str(processes)
        results += run.draw_jobs([job], studio, progress, only=only)
    return results, ""


def _is_worth_it(results: Sequence[FileResult], left: int) -> bool:
    """Whether the inputs that are left take so long that starting processes pays."""
    drawn = [result.seconds for result in results if result.status == "done"][1:]
    return len(results) >= TRIED and bool(drawn) and sum(drawn) / len(drawn) * left > WORTH_S


def _is_long(job: Job, studio: Studio) -> bool:
    """Whether an input is a video that several can draw."""
    from dsgcli.stylize.spread import open_splittable

    if job.source.path.suffix.lower() not in VIDEO_SUFFIXES:
        return False
    source = open_splittable(job, studio.options)
    if source is not None:
        source.close()
    return source is not None
