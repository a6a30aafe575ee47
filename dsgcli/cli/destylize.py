"""`dsg destylize`: from a stylized portrait to its codes, and to the person as a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.options import STYLE_GROUP, Machine, OutputFlags, Overwrite, Seed, output_to
from dsgcli.types import DEFAULT_TRUNCATION

EXAMPLES = """
Examples:
  dsg destylize portrait.png --style toon           the person as a photograph
  dsg destylize portraits/ --style neon-dual -o codes/  codes of a whole folder
"""


@dataclass(frozen=True, kw_only=True)
class Destylization:
    """Flags for the fit."""

    style: Annotated[
        str,
        typer.Option(
            "--style",
            "-s",
            metavar="NAME",
            help="The style in which the portraits are drawn.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = "default"
    steps: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Optimizer steps for each portrait.",
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
    ] = DEFAULT_TRUNCATION
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
    talk: OutputFlags,
) -> None:
    """Recover the person behind a stylized portrait, and the codes of portraits.

    One portrait gives a photograph of the person; a folder gives codes and sheets. A portrait's
    extrinsic code is its style, its intrinsic code the person.
    """
    from dsgcli.generate.destylize import DestylizeOptions
    from dsgcli.generate.destylize import destylize as run

    values = values_of(how, machine)
    del values["precision"]  # fitting is float32: its steps are too small for less
    del values["backend"]  # and goes backwards too, which backends do not
    with talk.terminal.progress() as progress:
        found = run(DestylizeOptions(source=source, **values), progress)
    text = f"Wrote {found['output']} ({found['portraits']} portraits)"
    if found["flagged"]:
        text += f"; these do not fit well: {', '.join(found['flagged'])}"
    talk.terminal.summary(found, text)
