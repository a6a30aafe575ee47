"""Inputs one after the other, by the process that this is; one bad file does not stop the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from dsgcli.errors import DsgError, OutputExistsError
from dsgcli.media.files import files_refused, locked_outputs
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.stylize.checkpoint import discard_parts
from dsgcli.stylize.file import stylize_file
from dsgcli.stylize.preview import write_preview
from dsgcli.stylize.settings import is_made, job_keys
from dsgcli.stylize.summary import FileResult, failed

if TYPE_CHECKING:
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.studio import Studio


def draw_jobs(
    jobs: Sequence[Job], studio: Studio, progress: Progress, *, only: bool | None = None
) -> list[FileResult]:
    """Draw all inputs, one after the other; what became of each.

    Args:
        only: whether this is all there is, so that an error is raised and not told (None: if it is
            one job).

    Raises:
        DsgError: what went wrong with the only input, or Ctrl-C.
    """
    results = []
    several = len(jobs) > 1
    with progress.task("files", len(jobs), unit="files") if several else nullcontext() as files:
        for job in jobs:
            try:
                results.append(run_job(job, studio, progress))
            except DsgError as error:
                if (not several if only is None else only) or error.exit_code == 130:
                    raise
                results.append(failed(job.source.path, error, progress))
            if files is not None:
                files.advance()
    return results


def run_job(job: Job, studio: Studio, progress: Progress = NULL_PROGRESS) -> FileResult:
    """Draw one input, unless its outputs are up to date.

    Raises:
        OutputBusyError: another run is writing an output.
        DsgError: it cannot be drawn.
    """
    with files_refused(), locked_outputs(job.outputs):
        settled, keys = settle(job, studio)
        if settled is not None:
            return settled
        if studio.options.preview:
            return write_preview(job, studio, progress)
        return stylize_file(job, keys, studio, progress)


def settle(job: Job, studio: Studio) -> tuple[FileResult | None, list[str]]:
    """The result of an input that need not be drawn, or None; and the keys of its outputs.

    Raises:
        OutputExistsError: something else is in the place of an output.
    """
    options = studio.options
    if not options.overwrite:
        for path in job.outputs:
            if is_made(path, None) is False:
                raise OutputExistsError(path)
    if options.preview:
        return None, []
    keys = job_keys(job.source.path, studio.casts, options, studio.mask)
    if not options.overwrite and all(map(is_made, job.outputs, keys)):
        discard_parts(job.outputs[0])
        return FileResult(source=job.source.path, status="skipped", outputs=list(job.outputs)), keys
    return None, keys
