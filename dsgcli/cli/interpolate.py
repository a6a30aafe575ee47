"""`dsg interpolate`: from one style or face to another, as a video, a strip or a figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.options import (
    FILES_GROUP,
    STYLE_GROUP,
    Aligned,
    Color,
    Machine,
    OutputFlags,
    Overwrite,
    Preset,
    Seed,
    Size,
    Structure,
    Styles,
    Truncation,
    Weights,
    numbers,
    output_to,
)
from dsgcli.types import DEFAULT_TRUNCATION

if TYPE_CHECKING:
    from dsgcli.generate.interpolate import InterpolateOptions

EXAMPLES = """
Examples:
  dsg interpolate --style noir:1 --style noir:4 -o blend.mp4
  dsg interpolate --content me.jpg -s noir:1 -s toon:5 --loop -o me.gif
  dsg interpolate --content 3 --content 8 --axis content --frames 7 -o strip.png
  dsg interpolate --matrix 4 6 -o figure.png
  dsg interpolate --content me.jpg --sweep structure,color -o weights.png
"""

PATH_GROUP = "The path"


@dataclass(frozen=True, kw_only=True)
class KeyframeFlags:
    """Flags for the people and styles along the path."""

    style: Styles = field(default_factory=lambda: ["default"])
    content: Annotated[
        list[str] | None,
        typer.Option(
            "--content",
            "-c",
            metavar="PICTURE|SEED",
            help="A photograph, or the seed of a random face; may be repeated.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = None
    seed: Seed = 0
    structure: Structure = None
    color: Color = None
    weights: Weights = None
    preset: Preset = None
    truncation: Truncation = DEFAULT_TRUNCATION
    size: Size = None
    aligned: Aligned = "auto"


@dataclass(frozen=True, kw_only=True)
class PathFlags:
    """Flags for the path."""

    axis: Annotated[
        Literal["both", "content", "style", "structure", "color", "weight"],
        typer.Option(
            metavar="AXIS",
            help="What changes: both, content, style, structure, color or weight.",
            rich_help_panel=PATH_GROUP,
        ),
    ] = "both"
    space: Annotated[
        Literal["z+", "w+"],
        typer.Option(
            metavar="z+|w+",
            help="z+ interpolates on the sphere, w+ on a straight line.",
            rich_help_panel=PATH_GROUP,
        ),
    ] = "w+"
    ease: Annotated[
        bool,
        typer.Option(
            "--ease/--no-ease",
            help="Slow down at each keyframe, or keep one speed.",
            rich_help_panel=PATH_GROUP,
        ),
    ] = True
    frames: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Number of pictures of the whole path.",
            show_default="49, or 7 for a strip, for two keyframes",
            rich_help_panel=PATH_GROUP,
        ),
    ] = None
    fps: Annotated[
        float,
        typer.Option(
            min=1, metavar="N", help="Frames per second of a video.", rich_help_panel=PATH_GROUP
        ),
    ] = 24.0
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Come back to the first keyframe.", rich_help_panel=PATH_GROUP),
    ] = False


@dataclass(frozen=True, kw_only=True)
class FigureFlags:
    """Flags for figures instead of a path, and for the output."""

    matrix: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="ROWS COLUMNS",
            help="People down, exemplars across: the figure of the paper.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = None
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="structure,color|layers",
            help="One portrait over a grid of weights (the first one down, the second one across), "
            "or with each layer alone.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = None
    output: Annotated[
        Path | None,
        output_to(
            "FILE",
            "A video (mp4, gif, webp) or a strip (png, jpg).",
            "interpolation.mp4, or .png for a figure",
        ),
    ] = None
    overwrite: Overwrite = False


@expand
def interpolate(
    keyframes: KeyframeFlags,
    path: PathFlags,
    figure: FigureFlags,
    machine: Machine,
    talk: OutputFlags,
) -> None:
    """Transitions between styles or faces, as a video or a strip; and figures.

    Give --style or --content several times: they are the keyframes of the path.
    """
    options = options_of(keyframes, path, figure, machine)
    from dsgcli.generate.interpolate import run

    with talk.terminal.progress() as progress:
        done = run(options, progress)
    talk.terminal.summary(done, _text(done))


def options_of(
    keyframes: KeyframeFlags, path: PathFlags, figure: FigureFlags, machine: Machine
) -> InterpolateOptions:
    """The flags as the library takes them: same names, two of them read into values."""
    values = values_of(keyframes, path, figure, machine)
    values |= {
        "weights": numbers("--weights", keyframes.weights),
        "content": values["content"] or (),
    }
    from dsgcli.generate.interpolate import InterpolateOptions  # torch loads here

    return InterpolateOptions(**values)


def _text(done: dict[str, Any]) -> str:
    if done["kind"] != "path":
        return (
            f"Wrote {done['output']} ({done['kind']}, {done['rows']} x {done['columns']} pictures)"
        )
    lasts = "" if done["duration_s"] is None else f", {done['duration_s']:.1f} s"
    return f"Wrote {done['output']} ({done['frames']} pictures{lasts})"
