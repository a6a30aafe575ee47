"""`dsg watch`: draw what arrives in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsgcli.cli.flags import expand
from dsgcli.cli.options import FILES_GROUP, LookFlags, Machine, OutputFlags, output_to
from dsgcli.cli.stylize import options_of
from dsgcli.cli.stylize_options import Faces, FileFlags, Paste, Spread, Video

EXAMPLES = """
Examples:
  dsg watch inbox/ -o drawn/ --style noir:3
  dsg watch inbox/ -o drawn/ -r             subfolders too
"""


@expand
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where pictures and clips arrive.")
    ],
    *,
    output: Annotated[Path, output_to("FOLDER", "Where the drawings go.", False)],
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Subfolders too.", rich_help_panel=FILES_GROUP),
    ] = False,
    settle: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="A file is complete when it has not changed for so long.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = 2.0,
    look: LookFlags,
    machine: Machine,
    talk: OutputFlags,
) -> None:
    """Draw new pictures and clips of a folder as they arrive, until Ctrl-C.

    What was drawn before is not drawn again, also after a restart.
    """
    from dsgcli.stylize.watched_folder import watch_folder

    options = options_of(FileFlags(), look, Faces(), Paste(), Video(), machine, Spread())
    talk.terminal.note(f"watching {folder}; Ctrl-C stops")
    with talk.terminal.progress() as progress:
        for result in watch_folder(
            folder, output, options, progress, recursive=recursive, settle_s=settle
        ):
            if result.status == "done":
                progress.note(f"wrote {', '.join(map(str, result.outputs))}")
