"""`dsg sample`: random portraits of people who do not exist."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.options import (
    FILES_GROUP,
    STYLE_GROUP,
    Color,
    Machine,
    OneStyle,
    OutputFlags,
    Overwrite,
    Preset,
    Seed,
    Size,
    Structure,
    Truncation,
    Weights,
    numbers,
    output_to,
)
from dsgcli.errors import UsageError
from dsgcli.types import DEFAULT_TRUNCATION

if TYPE_CHECKING:
    from dsgcli.generate.sample import SampleOptions

EXAMPLES = """
Examples:
  dsg sample                                   16 portraits and a sheet of them
  dsg sample --n 64 --style-random -o faces/   each in a style of its own
  dsg sample --style noir:3 --grid 8x4 -o sheet.png
  dsg sample --seeds 0,4-6 --plain             the same people without a style
  dsg sample --style-random --fix-content      one person, many styles
"""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Flags for the portraits and the output."""

    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            min=1,
            metavar="N",
            help="Number of pictures, from --seed on.",
            show_default="16, or what --grid holds",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = None
    seed: Seed = 0
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="0,4-6",
            help="These seeds, instead of --n and --seed.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = None
    style: OneStyle = "default"
    style_random: Annotated[
        bool,
        typer.Option(
            "--style-random",
            help="A style for each picture from the style's sampling network; structure and color "
            "are drawn apart.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = False
    fix_content: Annotated[
        bool,
        typer.Option(
            "--fix-content",
            help="The same person in all pictures.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = False
    fix_structure: Annotated[
        bool,
        typer.Option(
            "--fix-structure",
            help="The same structure of style in all.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = False
    fix_color: Annotated[
        bool,
        typer.Option(
            "--fix-color", help="The same colors of style in all.", rich_help_panel=STYLE_GROUP
        ),
    ] = False
    structure: Structure = None
    color: Color = None
    weights: Weights = None
    preset: Preset = None
    truncation: Truncation = DEFAULT_TRUNCATION
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Faces of the base, without a style.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = False
    layer_swap: Annotated[
        bool,
        typer.Option(
            "--layer-swap",
            help="Mix layers of the base and the fine-tuned generator, for comparison.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = False
    size: Size = None
    codes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw codes from --save-codes.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = None
    output: Annotated[
        Path,
        output_to(
            "PATH",
            "A folder for pictures and a sheet of them, or a file (png, jpg, webp) for one sheet.",
        ),
    ] = Path("samples")
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="COLSxROWS",
            help="Layout of the sheet.",
            show_default="nearly square",
            rich_help_panel=FILES_GROUP,
        ),
    ] = None
    save_codes: Annotated[
        bool,
        typer.Option(
            "--save-codes",
            help="Write the codes beside the pictures.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = False
    overwrite: Overwrite = False


@expand
def sample(samples: Samples, machine: Machine, talk: OutputFlags) -> None:
    """Draw portraits of people who do not exist, in a style.

    The same seed gives the same picture, whatever else is drawn beside it.
    """
    options = options_of(samples, machine)
    from dsgcli.generate.sample import run

    with talk.terminal.progress() as progress:
        done = run(options, progress)
    count = len(done["pictures"])
    text = f"Wrote {done['sheet']} ({count} portraits, {done['style']})"
    talk.terminal.summary(done, text)


def options_of(samples: Samples, machine: Machine) -> SampleOptions:
    """The flags as the library takes them: same names, two of them read into values."""
    values = values_of(samples, machine)
    values |= {"weights": numbers("--weights", samples.weights), "grid": _grid(samples.grid)}
    from dsgcli.generate.sample import SampleOptions  # torch loads here

    return SampleOptions(**values)


def _grid(text: str | None) -> tuple[int, int] | None:
    """`8x4` -> (8, 4).

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdigit() and rows.isdigit() and int(columns) and int(rows)):
        raise UsageError(f"--grid takes COLUMNSxROWS such as 8x4, got {text!r}")
    return int(columns), int(rows)
