"""A contact sheet of some frames, before hours of work: each as it is, and as it would be."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from dsgcli.errors import NoFaceError
from dsgcli.media.base import HeldFrames
from dsgcli.media.images import write_image
from dsgcli.media.read import open_source, preview_frames
from dsgcli.media.sheets import make_sheet, marked
from dsgcli.stylize.settings import metadata
from dsgcli.stylize.summary import FileResult

if TYPE_CHECKING:
    from dsgcli.progress import Progress
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.studio import Studio
    from dsgcli.types import Pixels

CELL_PX = 480
MOST_FRAMES, LIMIT_S = 24, 60.0
"""Bounds of a preview, which is to save time."""
FOREHEAD = 10
"""Landmark at the top of the face, where its number is written."""


def write_preview(job: Job, studio: Studio, progress: Progress) -> FileResult:
    """Draw some frames spread over the input, and write one sheet for each cast.

    Frames are drawn as stills: nothing is smoothed, and everyone's number is written at the face,
    as `--faces` and `--face-style` take it. However many frames are asked for, at most MOST_FRAMES
    are drawn, and none is begun after LIMIT_S seconds.

    Raises:
        NoFaceError: none of the frames has a face.
    """
    started = time.monotonic()
    options = studio.options
    path = job.source.path
    start, end, rate = options.start, options.end, options.rate
    count = min(options.preview, MOST_FRAMES)
    frames = preview_frames(path, count, start=start, end=end, rate=rate)
    with open_source(path, start=start, end=end, rate=rate) as source:
        aligned = studio.is_aligned(source)
        crew = studio.crew(job, source.info, aligned=aligned)
    crew.smooth_s, crew.refine_steps = 0.0, 0
    crew.options = replace(options, on_missing="keep")  # frames far apart lose faces
    result = FileResult(source=path, outputs=list(job.outputs))
    labels: list[str] = []
    before: list[Pixels] = []
    after: list[list[Pixels]] = [[] for _ in job.outputs]
    with ExitStack() as stack:
        task = stack.enter_context(progress.task(f"{path.name}, preview", len(frames), "frames"))
        run = crew.run(HeldFrames(frames), studio.casts)
        for drawn in stack.enter_context(closing(run)):
            shot = drawn.shot
            assert shot.frame is not None
            numbers = " ".join(str(face.track) for face in shot.faces)
            labels.append(_label(shot.frame.time, numbers))
            marks = [(face.landmarks[FOREHEAD], str(face.track)) for face in shot.faces]
            before.append(marked(shot.frame.pixels, marks))
            for pictures, picture in zip(after, drawn.pictures, strict=True):
                pictures.append(picture.pixels)
            result.frames += 1
            result.faces += len(shot.crops)
            task.advance()
            if result.faces and time.monotonic() - started > LIMIT_S:
                break
    capped = len(frames) == MOST_FRAMES < options.preview
    if capped or result.frames < len(frames):
        result.notes.append(f"the sheet shows {result.frames} frames of {options.preview}")
    if not result.faces:
        raise NoFaceError(f"{len(frames)} frames of {path}", detector=studio.detector.name)
    for target, cast, pictures in zip(job.outputs, studio.casts, after, strict=True):
        pairs = [picture for pair in zip(before, pictures, strict=True) for picture in pair]
        texts = [text for label in labels for text in (label, "")]
        columns = 2 if len(pairs) < 6 else 4
        header = f"{path.name}: before, and after in {cast.reference}"
        sheet = make_sheet(pairs, columns=columns, labels=texts, cell_px=CELL_PX, title=header)
        write_image(target, sheet, metadata=metadata("preview", cast), overwrite=True)
    result.seconds = time.monotonic() - started
    return result


def _label(time_s: Fraction, numbers: str) -> str:
    minutes, seconds = divmod(float(time_s), 60)
    faces = f"face{'s' * (' ' in numbers)} {numbers}" if numbers else "no face"
    return f"{int(minutes)}:{seconds:05.2f}  {faces}"
