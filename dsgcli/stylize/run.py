"""A batch of inputs: found, planned, and given to workers or this process.

What is imported here is little: networks and detectors are loaded where something is drawn, which
may be in other processes (`desk.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dsgcli.errors import OutputExistsError, SourceMissingError
from dsgcli.media.files import no_empty_folders, numbered_neighbors
from dsgcli.media.write import is_occupied
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.stylize.crowd import called, draw_all
from dsgcli.stylize.desk import Desk
from dsgcli.stylize.jobs import InputFile, Job, find_sources, plan_jobs
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.settings import is_made, job_keys
from dsgcli.stylize.summary import Summary


def run(
    inputs: Sequence[str | Path],
    output: Path | None,
    options: StylizeOptions,
    progress: Progress = NULL_PROGRESS,
) -> Summary:
    """Stylize pictures, videos, folders and globs.

    Args:
        output: a file for one output, a folder for several; None writes beside each input.

    Returns:
        What became of each input; files that failed are in it, unless there is but one input.

    Raises:
        UsageError, ModelError: before any work starts.
        DsgError: what went wrong with the only input.
    """
    started = time.monotonic()
    found = find_sources(inputs, recursive=options.recursive, sequences=options.rate is not None)
    with called(options, found) as helpers, Desk(options, helpers, progress) as desk:
        jobs = plan_jobs(
            _without_own(found, progress),
            output,
            desk.labels,
            pattern=options.output_pattern,
            overwrite=options.overwrite,
            preview=options.preview > 0,
            alpha=options.alpha,
        )
        with no_empty_folders(path for job in jobs for path in job.outputs):
            jobs = _beside_existing(jobs, desk)
            results, workers = draw_all(jobs, desk, progress)
        return Summary(
            files=results,
            stages=desk.clock.seconds(),
            seconds=time.monotonic() - started,
            machine=desk.machine | ({"workers": workers} if workers else {}),
            styles=desk.references,
        )


def _without_own(sources: Sequence[InputFile], progress: Progress) -> list[InputFile]:
    """Leave out what was found in folders and by globs, and was made by `dsg stylize`: or a second
    run over a folder would draw the drawings of the first. A file that is named is always taken.

    Raises:
        SourceMissingError: nothing is left.
    """
    kept = [source for source in sources if not (source.listed and is_made(source.path, None))]
    left_out = len(sources) - len(kept)
    if not kept:
        raise SourceMissingError(
            f"all {left_out} files there were made by dsg stylize; name one to draw it once more"
        )
    if left_out:
        progress.note(f"left out {left_out} files that were made by dsg stylize")
    return kept


def _beside_existing(jobs: Sequence[Job], desk: Desk) -> list[Job]:
    """The jobs, none of which writes over what is there: an output that dsg has made with other
    settings gets a numbered neighbor, `photo_noir-3-2.jpg` beside `photo_noir-3.jpg`. One that this
    run would make again stays, and is skipped. Files found in folders are looked at when their turn
    comes.

    Raises:
        OutputExistsError: a file that dsg has not made is in the place of an output.
    """
    options = desk.options
    if options.overwrite:
        return list(jobs)
    placed = []
    for job in jobs:
        if job.source.listed or not any(map(is_occupied, job.outputs)):
            placed.append(job)
            continue
        keys = job_keys(job.source.path, desk.studio.casts, options, desk.studio.mask)
        outputs = [
            _free_place(path, None if options.preview else key)
            for path, key in zip(job.outputs, keys, strict=True)
        ]
        placed.append(replace(job, outputs=tuple(outputs)))
    return placed


def _free_place(path: Path, key: str | None) -> Path:
    """`path`, or its first numbered neighbor that is free or was made with this key.

    Raises:
        OutputExistsError: `path` is there, and is no work of dsg.
    """
    if not is_occupied(path) or (key is not None and is_made(path, key)):
        return path
    if not is_made(path, None):
        raise OutputExistsError(path)
    return next(
        beside
        for beside in numbered_neighbors(path)
        if not beside.exists() or (key is not None and is_made(beside, key))
    )
