"""A batch of inputs: each found, drawn and written; one bad file does not stop the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from dsgcli.errors import DsgError, OutputExistsError, UsageError
from dsgcli.faces.align import crop_face
from dsgcli.faces.detect import TASK_NAME, FaceDetector, open_detector
from dsgcli.faces.masks import MaskKind, Segmenter, pick_kind
from dsgcli.faces.mediapipe_segment import MULTICLASS_NAME, open_segmenter
from dsgcli.media.images import read_image
from dsgcli.progress import SILENT, Progress
from dsgcli.runtime import num_cpus
from dsgcli.store import ModelStore
from dsgcli.stylize.cast import Cast, Wardrobe, make_casts
from dsgcli.stylize.file import Studio, stylize_file
from dsgcli.stylize.jobs import Job, find_sources, plan_jobs
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.preview import write_preview
from dsgcli.stylize.settings import is_made, job_key
from dsgcli.stylize.summary import FileResult, Stopwatch, Summary

LANDMARKER_VARIABLE = "DSG_FACE_LANDMARKER"


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
    sources = find_sources(inputs, recursive=options.recursive)
    store = ModelStore.open(options.pretrained)
    clock = Stopwatch()
    with ExitStack() as stack:
        detector = open_detector(task_file=_landmarker(store))
        stack.callback(detector.close)
        segmenter, mask = _segmentation(options, store)
        if segmenter is not None:
            stack.callback(segmenter.close)
        with clock.stage("load"):
            casts = _casts(store, options, detector)
        studio = Studio(
            detector=detector,
            segmenter=segmenter,
            mask=mask,
            casts=casts,
            options=options,
            clock=clock,
            store=store,
        )
        jobs = plan_jobs(
            sources,
            output,
            [cast.label for cast in casts],
            pattern=options.output_pattern,
            overwrite=options.overwrite,
            preview=options.preview > 0,
            alpha=options.alpha,
        )
        results = _run_jobs(jobs, studio, progress)
    machine = {
        "device": str(casts[0].role.portraits.device),
        "precision": str(casts[0].role.portraits.dtype).removeprefix("torch."),
        "detector": detector.name,
        "mask": mask,
        "cpus": str(num_cpus()),
    }
    return Summary(
        files=results,
        stages=clock.seconds(),
        seconds=time.monotonic() - started,
        machine=machine,
    )


def _run_jobs(jobs: Sequence[Job], studio: Studio, progress: Progress) -> list[FileResult]:
    results = []
    for job in jobs:
        try:
            results.append(_run_job(job, studio, progress))
        except DsgError as error:
            if len(jobs) == 1 or error.exit_code == 130:
                raise
            progress.warn(f"{job.source.path}: {error}")
            results.append(
                FileResult(
                    source=job.source.path,
                    status="failed",
                    error=str(error),
                    exit_code=error.exit_code,
                )
            )
    return results


def _run_job(job: Job, studio: Studio, progress: Progress) -> FileResult:
    """One input, unless what is wanted of it is there already."""
    options = studio.options
    if options.preview:
        return write_preview(job, studio, progress)
    keys = [job_key(job.source.path, cast, options, studio.mask) for cast in studio.casts]
    if not options.overwrite:
        made = [is_made(path, key) for path, key in zip(job.outputs, keys, strict=True)]
        if all(made):
            return FileResult(source=job.source.path, status="skipped", outputs=list(job.outputs))
        for path in job.outputs:
            if path.exists() and is_made(path, None) is False:
                raise OutputExistsError(path)
    return stylize_file(job, keys, studio, progress)


def _landmarker(store: ModelStore) -> Path | None:
    """A face landmarker for MediaPipe's Tasks API, where there is one."""
    named = os.environ.get(LANDMARKER_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UsageError(f"{LANDMARKER_VARIABLE} names {named}, which does not exist")
        return Path(named)
    return store.file(TASK_NAME)


def _segmentation(options: StylizeOptions, store: ModelStore) -> tuple[Segmenter | None, MaskKind]:
    """The segmentation model, if a mask needs one, and the kind of mask."""
    if options.mask in ("feather", "face") or (options.crop and not options.alpha):
        return None, "feather" if options.mask == "auto" else options.mask
    segmenter = open_segmenter(store.file(MULTICLASS_NAME))
    return segmenter, pick_kind(options.mask, segmenter)


def _casts(store: ModelStore, options: StylizeOptions, detector: FaceDetector) -> list[Cast]:
    """Who is drawn how; a picture given as exemplar is encoded here."""
    wardrobe = Wardrobe(store, options)
    if options.exemplar is None:
        return make_casts(wardrobe, options.style, options.face_style)
    if len(options.style) > 1 or options.face_style:
        raise UsageError("--exemplar with a picture takes one --style, and no --face-style")
    style = options.style[0]
    portraits = wardrobe.portraits(wardrobe.style_of(style))
    frame = read_image(options.exemplar)
    faces = detector.detect(frame)
    if not faces:
        raise UsageError(
            f"no face found in the exemplar {options.exemplar}; choose a picture whose face is "
            f"larger or less turned"
        )
    largest = max(faces, key=lambda face: face.height_px)
    code = portraits.encode([crop_face(frame, largest, portraits.crop_px).pixels])[0]
    label = f"{wardrobe.style_of(style)}-{options.exemplar.stem}"
    role, label = wardrobe.role(style, exstyle=code, label=label)
    return [Cast(label=label, role=role)]
