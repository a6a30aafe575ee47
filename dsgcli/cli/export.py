"""`dsg models export`: a style as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsgcli.cli.flags import expand
from dsgcli.cli.options import OutputFlags, Overwrite, Pretrained

EXAMPLES = """
Examples:
  dsg models export noir:3 --onnx noir.onnx
  dsg models export toon --onnx toon.onnx --size 512 --structure 0.5
  dsg models export noir --onnx any.onnx --style-input
"""


@expand
def export(
    style: Annotated[
        str, typer.Argument(metavar="STYLE", help="NAME or NAME:EXEMPLAR, as in `dsg stylize`.")
    ],
    *,
    onnx: Annotated[Path, typer.Option("--onnx", metavar="OUT.onnx", help="The file to write.")],
    size: Annotated[
        int | None,
        typer.Option(min=4, metavar="PX", help="Side of the portraits.", show_default="its own"),
    ] = None,
    structure: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="WEIGHT",
            help="How far shapes go to the exemplar.",
            show_default="as drawn",
        ),
    ] = None,
    color: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="WEIGHT",
            help="How far colors go to the exemplar.",
            show_default="as drawn",
        ),
    ] = None,
    truncation: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SCALE", help="Scale of the face's code, for a DualStyleGAN."
        ),
    ] = 0.75,
    style_input: Annotated[
        bool,
        typer.Option(
            "--style-input", help="Make the style an input of the file. For translators only."
        ),
    ] = False,
    pretrained: Pretrained = None,
    overwrite: Overwrite = False,
    talk: OutputFlags,
) -> None:
    """Write a style as an ONNX file: aligned crops in, portraits out.

    The file is compared with the networks before it is written. A card beside it (OUT.json)
    says what goes in and what comes out. Needs dsgcli[onnx].
    """
    from dsgcli.export import ExportOptions, export_onnx
    from dsgcli.store import ModelStore

    options = ExportOptions(
        structure=structure,
        color=color,
        size=size,
        style_input=style_input,
        truncation=truncation,
        overwrite=overwrite,
    )
    card = export_onnx(ModelStore.open(pretrained), style, onnx, options)
    talk.terminal.summary(
        {"onnx": onnx, "card": onnx.with_suffix(".json"), "max_difference": card.max_difference},
        f"Wrote {onnx} and {onnx.with_suffix('.json')} "
        f"(onnxruntime and torch differ by at most {card.max_difference:.1g})",
    )
