"""`dsg try`: one person in every style, to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dsgcli.cli.completion import complete_style
from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.options import STYLE_GROUP, Machine, OutputFlags, Overwrite, output_to

EXAMPLES = """
Examples:
  dsg try me.jpg                          every style here, 12 exemplars each
  dsg try family.jpg --face 2             the third face from the left
  dsg try me.jpg --style noir --count 40  more of one style
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Flags for the styles to try."""

    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            "-s",
            metavar="NAME",
            help="Only this style; may be repeated.",
            show_default="all that are here",
            autocompletion=complete_style,
            rich_help_panel=STYLE_GROUP,
        ),
    ] = None
    count: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Exemplars of each style.", rich_help_panel=STYLE_GROUP
        ),
    ] = 12
    face: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Which face, counted from the left from 0.",
            show_default="the largest",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = None
    output: Annotated[
        Path | None,
        output_to("PAGE.html", "The page; a sheet lies beside it.", "PHOTO_try.html"),
    ] = None
    overwrite: Overwrite = False


@expand
def try_(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph of a person.")],
    *,
    trial: Trial,
    machine: Machine,
    talk: OutputFlags,
) -> None:
    """Draw a person in every style, on one page to choose from.

    Every picture on the page has the command that makes it; a click copies it.
    """
    from dsgcli.generate.try_styles import TryOptions, try_styles

    values = values_of(trial, machine)
    values["style"] = tuple(values["style"] or ())
    with talk.terminal.progress() as progress:
        done = try_styles(TryOptions(photo=photo, **values), progress)
    drawn = sum(map(len, done["styles"].values()))
    talk.terminal.summary(
        done,
        f"Wrote {done['page']} ({drawn} pictures; open it and click the one you like), and the "
        f"sheet {done['sheet']}",
    )
