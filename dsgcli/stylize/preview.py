"""A contact sheet of some frames, before hours of work: each as it is, and as it would be."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from dsgcli.errors import NoFaceError
from dsgcli.media.base import HeldFrames
from dsgcli.media.images import write_image
from dsgcli.media.read import open_source, preview_frames
from dsgcli.media.sheets import make_sheet
from dsgcli.stylize.settings import metadata
from dsgcli.stylize.summary import FileResult

if TYPE_CHECKING:
    from dsgcli.progress import Progress
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.studio import Studio
    from dsgcli.types import Pixels

CELL_PX = 480


def write_preview(job: Job, studio: Studio, progress: Progress) -> FileResult:
    """Draw some frames spread over the input, and write one sheet for each cast.

    Frames are drawn as stills: nothing is smoothed, and everyone's number is written under the
    frame, as `--faces` and `--face-style` take it.

    Raises:
        NoFaceError: none of the frames has a face.
    """
    started = time.monotonic()
    options = studio.options
    path = job.source.path
    start, end, rate = options.start, options.end, options.rate
    frames = preview_frames(path, options.preview, start=start, end=end, rate=rate)
    with open_source(path, start=start, end=end, rate=rate) as source:
        aligned = studio.is_aligned(source)
        crew = studio.crew(job, source.info, aligned=aligned)
    crew.smooth_s, crew.refine_steps = 0.0, 0
    crew.options = replace(options, on_missing="keep")  # frames far apart lose faces
    result = FileResult(source=path, outputs=list(job.outputs))
    labels: list[str] = []
    before: list[Pixels] = []
    after: list[list[Pixels]] = [[] for _ in job.outputs]
    with progress.task(f"{path.name}, preview", len(frames), unit="frames") as task:
        for drawn in crew.run(HeldFrames(frames), studio.casts):
            shot = drawn.shot
            assert shot.frame is not None
            numbers = " ".join(str(face.track) for face in shot.faces)
            labels.append(_label(shot.frame.time, numbers))
            before.append(shot.frame.pixels)
            for pictures, picture in zip(after, drawn.pictures, strict=True):
                pictures.append(picture.pixels)
            result.frames += 1
            result.faces += len(shot.crops)
            task.advance()
    if not result.faces:
        raise NoFaceError(f"{len(frames)} frames of {path}", detector=studio.detector.name)
    for target, cast, pictures in zip(job.outputs, studio.casts, after, strict=True):
        pairs = [picture for pair in zip(before, pictures, strict=True) for picture in pair]
        texts = [text for label in labels for text in (label, "")]
        sheet = make_sheet(pairs, columns=2 if len(pairs) < 6 else 4, labels=texts, cell_px=CELL_PX)
        write_image(target, sheet, metadata=metadata("preview", cast), overwrite=True)
    result.seconds = time.monotonic() - started
    return result


def _label(time_s: Fraction, numbers: str) -> str:
    minutes, seconds = divmod(float(time_s), 60)
    faces = f"face{'s' * (',' in numbers)} {numbers}" if numbers else "no face"
    return f"{int(minutes)}:{seconds:05.2f}  {faces}"
