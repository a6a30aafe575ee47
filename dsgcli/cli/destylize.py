"""`dsg destylize`: from a stylized portrait to the codes that make it, and to the person behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.options import STYLE_GROUP, Machine, Overwrite, Seed, Talk, output_to

EXAMPLES = """
Examples:
  dsg destylize portrait.png --style neon-dual     the photograph behind it
  dsg destylize portraits/ --style neon-dual -o codes/  codes of a whole folder
"""


@dataclass(frozen=True, kw_only=True)
class Destylization:
    """How codes are found."""

    style: Annotated[
        str,
        typer.Option(
            "--style",
            "-s",
            metavar="NAME",
            help="The style whose fine-tuned generator draws the portraits.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = "default"
    steps: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Optimizer steps a portrait.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = 300
    truncation: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="0..1",
            help="How far the recovered face may be from the average one; 0.5 for styles far from "
            "photographs.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = 0.7
    seed: Seed = 0
    output: Annotated[
        Path | None,
        output_to(
            "PATH", "A picture for one portrait, a folder of codes for several.", "beside the input"
        ),
    ] = None
    overwrite: Overwrite = False


@expand
def destylize(
    source: Annotated[
        Path, typer.Argument(metavar="PICTURE|FOLDER", help="Stylized portraits, aligned.")
    ],
    *,
    how: Destylization,
    machine: Machine,
    talk: Talk,
) -> None:
    """Recover the codes of stylized portraits, and the person behind one.

    A portrait's extrinsic code is its style, its intrinsic code the face that it was drawn from.
    """
    from dsgcli.destylize import DestylizeOptions
    from dsgcli.destylize import destylize as run

    values = values_of(how, machine)
    del values["precision"]  # fitting is float32: its steps are too small for less
    del values["backend"]  # and goes backwards too, which backends do not
    with talk.terminal.progress() as progress:
        found = run(DestylizeOptions(source=source, **values), progress)
    flagged = ", ".join(found["flagged"]) or "none"
    said = f"{found['portraits']} portraits: {found['output']}; flagged: {flagged}"
    talk.terminal.summary(found, said)
