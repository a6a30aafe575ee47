"""A batch of inputs: each found, drawn and written; one bad file does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from dsgcli.errors import DsgError, OutputExistsError, SourceMissingError, UsageError
from dsgcli.faces.detect import FaceDetector, open_detector
from dsgcli.faces.masks import MaskKind, Segmenter, pick_kind
from dsgcli.faces.mediapipe_segment import MULTICLASS_NAME, open_segmenter
from dsgcli.progress import SILENT, Progress
from dsgcli.runtime import num_cpus
from dsgcli.store import ModelStore
from dsgcli.stylize.cast import Cast, Wardrobe, make_casts
from dsgcli.stylize.crowd import called, draw_all
from dsgcli.stylize.exemplar import encode_exemplar
from dsgcli.stylize.file import Studio, stylize_file
from dsgcli.stylize.jobs import Job, Source, find_sources, num_pictures, plan_jobs
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.preview import write_preview
from dsgcli.stylize.segments import discard_parts
from dsgcli.stylize.settings import is_made, job_keys
from dsgcli.stylize.summary import FileResult, Stopwatch, Summary


def run(
    inputs: Sequence[str | Path],
    output: Path | None,
    options: StylizeOptions,
    progress: Progress = SILENT,
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
    sources = _without_own(find_sources(inputs, recursive=options.recursive), progress)
    with (
        called(options, num_pictures(sources)) as processes,
        open_studio(options, progress) as studio,
    ):
        casts, clock = studio.casts, studio.clock
        jobs = plan_jobs(
            sources,
            output,
            [cast.label for cast in casts],
            pattern=options.output_pattern,
            overwrite=options.overwrite,
            preview=options.preview > 0,
            alpha=options.alpha,
        )
        _refuse_existing(jobs, studio)
        results, workers = draw_all(jobs, studio, progress, processes)
    machine = {
        "device": str(casts[0].role.portraits.device),
        "precision": str(casts[0].role.portraits.dtype).removeprefix("torch."),
        "backend": casts[0].role.portraits.backend_name,
        "detector": studio.detector.name,
        "mask": studio.mask,
        "cpus": str(num_cpus()),
    } | ({"workers": workers} if workers else {})
    return Summary(
        files=results,
        stages=clock.seconds(),
        seconds=time.monotonic() - started,
        machine=machine,
    )


@contextmanager
def open_studio(options: StylizeOptions, progress: Progress = SILENT) -> Iterator[Studio]:
    """Everything that inputs are drawn with: detector, segmentation and networks, loaded once and
    closed in the end.

    Raises:
        UsageError, ModelError: something that is not there, or does not fit.
    """
    store = ModelStore.open(options.pretrained)
    clock = Stopwatch()
    with ExitStack() as stack:
        detector = open_detector(task_file=store.face_landmarker())
        stack.callback(detector.close)
        segmenter, mask = _segmentation(options, store)
        if segmenter is not None:
            stack.callback(segmenter.close)
        with clock.stage("load"):
            casts = _casts(store, options, detector, progress)
        yield Studio(
            detector=detector,
            segmenter=segmenter,
            mask=mask,
            casts=casts,
            options=options,
            clock=clock,
            store=store,
        )


def _without_own(sources: Sequence[Source], progress: Progress) -> list[Source]:
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


def _refuse_existing(jobs: Sequence[Job], studio: Studio) -> None:
    """Make sure, before any work, that nothing is there in the place of an output, or just what
    this run would write. Of files found in folders, it is told when their turn comes.

    Raises:
        OutputExistsError: something else is there, and `--overwrite` was not given.
    """
    if studio.options.overwrite:
        return
    for job in jobs:
        if job.source.listed or not any(path.exists() for path in job.outputs):
            continue
        keys = _keys(job, studio)
        for path, key in zip(job.outputs, keys, strict=True):
            if path.exists() and (studio.options.preview or not is_made(path, key)):
                raise OutputExistsError(path)


def _keys(job: Job, studio: Studio) -> list[str]:
    return job_keys(job.source.path, studio.casts, studio.options, studio.mask)


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
                results.append(failed(job, error, progress))
            if files is not None:
                files.advance()
    return results


def failed(job: Job, error: DsgError, progress: Progress) -> FileResult:
    """What to say of one input of many that went wrong."""
    told, path = str(error), str(job.source.path)
    progress.warn(told if path in told else f"{path}: {told}")
    return FileResult(
        source=job.source.path, status="failed", error=str(error), exit_code=error.exit_code
    )


def run_job(job: Job, studio: Studio, progress: Progress = SILENT) -> FileResult:
    """One input, unless what is wanted of it is there already.

    Raises:
        DsgError: it cannot be drawn.
    """
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
    keys = _keys(job, studio)
    if not options.overwrite and all(map(is_made, job.outputs, keys)):
        discard_parts(job.outputs[0])
        return FileResult(source=job.source.path, status="skipped", outputs=list(job.outputs)), keys
    return None, keys


def _segmentation(options: StylizeOptions, store: ModelStore) -> tuple[Segmenter | None, MaskKind]:
    """The segmentation model, if a mask needs one, and the kind of mask."""
    if options.mask in ("feather", "face") or (options.crop and not options.alpha):
        return None, "feather" if options.mask == "auto" else options.mask
    segmenter = open_segmenter(store.file(MULTICLASS_NAME))
    return segmenter, pick_kind(options.mask, segmenter)


def _casts(
    store: ModelStore, options: StylizeOptions, detector: FaceDetector, progress: Progress
) -> list[Cast]:
    """Who is drawn how; a picture given as exemplar is encoded here, and refined if asked."""
    wardrobe = Wardrobe(store, options)
    if options.exemplar is None:
        return make_casts(wardrobe, options.style, options.face_style)
    if len(options.style) > 1 or options.face_style:
        raise UsageError("--exemplar with a picture takes one --style, and no --face-style")
    name = wardrobe.style_of(options.style[0])
    code = encode_exemplar(
        options.exemplar, name, wardrobe.portraits(name), store, options, detector, progress
    )
    label = f"{name}-{options.exemplar.stem}"
    role, label = wardrobe.role(options.style[0], exstyle=code, label=label)
    return [Cast(label=label, role=role)]
