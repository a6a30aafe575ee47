"""`dsg report`: how good a drawn video is, on one page."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from dsgcli.cli.flags import expand
from dsgcli.cli.options import OutputFlags, Overwrite, output_to

EXAMPLES = """
Examples:
  dsg report holiday.mp4 holiday_style.mp4
  dsg report holiday.mp4 drawn.mp4 --start 10 -o report.html
"""


@expand
def report(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The original video.")],
    drawn: Annotated[
        Path, typer.Argument(metavar="DRAWING", help="The video that dsg stylize made of it.")
    ],
    *,
    start: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Start of the drawing in the source, if only a part was drawn.",
        ),
    ] = None,
    output: Annotated[
        Path | None, output_to("PAGE.html", "The page to write.", "beside the drawing")
    ] = None,
    overwrite: Overwrite = False,
    talk: OutputFlags,
) -> None:
    """Compare a video with its drawing on one page: steadiness, expression, faces found.

    The page needs no other file. It has a verdict, frames side by side, and curves over time.
    """
    from dsgcli.errors import OutputExistsError
    from dsgcli.faces.detect import open_detector
    from dsgcli.store import ModelStore
    from dsgcli.video_report import measure, verdict, write_report

    page = output or drawn.with_name(f"{drawn.stem}_report.html")
    if page.exists() and not overwrite:
        raise OutputExistsError(page)
    begin = None if start is None else Fraction(start).limit_denominator(1_000_000)
    with (
        talk.terminal.progress() as progress,
        open_detector(task_file=ModelStore.open(None).face_landmarker()) as detector,
    ):
        figures = measure(source, drawn, detector, start=begin, progress=progress)
    write_report(page, source, drawn, figures, overwrite=overwrite)
    said = verdict(figures)
    talk.terminal.summary(
        {
            "page": str(page),
            "verdict": said,
            "frames": figures.frames,
            "people": len(figures.people),
            "faces_kept": figures.faces_kept(),
            "flicker_face": figures.flicker("face"),
            "flicker_ground": figures.flicker("ground"),
            "mouth": figures.expression("mouth"),
            "blink": figures.expression("eyes"),
        },
        f"{said}\nWrote {page}",
    )
