"""Figures: many scenes on one sheet, as in the paper (Yang et al., arXiv:2203.13248).

matrix             people down, exemplars across: any face in any style
structure, color   one portrait over a grid of the two weights
layers             one portrait with each layer of the extrinsic path alone
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.generate.interpolate_options import InterpolateOptions
from dsgcli.generate.scenes import Scene, constant
from dsgcli.generate.sheets import check_sheet
from dsgcli.generate.stops import Stops, StyleStop
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.portraits import to_pixels
from dsgcli.progress import SILENT, Progress
from dsgcli.types import LatentLayout, StyleWeights

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.types import Pixels

SWEPT = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of a sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One place of a figure: a scene to draw, a picture that is there, or nothing."""

    scene: Scene | None = None
    picture: Pixels | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Cells, row by row."""

    cells: list[Cell]
    columns: int
    row_labels: list[str] | None = None


def draw_figure(
    options: InterpolateOptions, stops: Stops, progress: Progress = SILENT
) -> dict[str, Any]:
    """Draw and write the figure that `options` asks for.

    Returns:
        Its rows and columns, for `--json`.
    """
    figure = matrix(stops) if options.kind == "matrix" else sweep(stops, options.sweeps)
    rows = -(-len(figure.cells) // figure.columns)
    check_sheet(
        options.target,
        columns=figure.columns,
        rows=rows,
        cell_px=stops.portraits.size_px,
        overwrite=options.overwrite,
    )
    pictures = draw_cells(stops, figure, progress)
    labels = [cell.label for cell in figure.cells]
    sheet = make_sheet(
        pictures,
        columns=figure.columns,
        labels=labels if any(labels) else None,
        row_labels=figure.row_labels,
        cell_px=stops.portraits.size_px,
    )
    write_image(options.target, sheet, overwrite=options.overwrite)
    return {"rows": rows, "columns": figure.columns}


def draw_cells(stops: Stops, figure: Figure, progress: Progress = SILENT) -> list[Pixels]:
    """(S, S, 3) for each cell; white where there is nothing."""
    scenes = [cell.scene for cell in figure.cells if cell.scene is not None]
    size_px = stops.portraits.size_px
    blank = np.full((size_px, size_px, 3), 255, np.uint8)
    with progress.task("Drawing", len(scenes), unit="pictures") as task:

        def drawn() -> Iterator[Pixels]:
            for image in stops.painter.images(scenes):
                yield to_pixels(image[None])[0]
                task.advance()

        pictures = drawn()
        return [
            next(pictures) if cell.scene else blank if cell.picture is None else cell.picture
            for cell in figure.cells
        ]


# ── what is on them ──────────────────────────────────────────────────────────────────────────────


def matrix(stops: Stops) -> Figure:
    """People down, exemplars across; the first column is each person without style, the first row
    each exemplar."""
    cells = [Cell(), *(Cell(scene=exemplar_scene(s), label=s.label) for s in stops.styles)]
    for person in stops.people:
        ws = stops.ws(person)
        cells.append(Cell(scene=Scene(ws=ws)))
        cells += [Cell(scene=styled(ws, style, stops.weights)) for style in stops.styles]
    labels = ["", *(person.label for person in stops.people)]
    return Figure(cells=cells, columns=1 + len(stops.styles), row_labels=labels)


def sweep(stops: Stops, parts: Sequence[str]) -> Figure:
    """One person in one style over weights: `structure`, `color`, both, or single `layers`."""
    ws, style = stops.ws(stops.people[0]), stops.styles[0]
    if parts == ("layers",):
        return _layers(stops)
    layout, rows = stops.portraits.layout, SWEPT if len(parts) == 2 else (None,)
    down, across = parts[0], parts[-1]
    cells = []
    for row in rows:
        above = stops.weights if row is None else with_rows(stops.weights, layout, down, row)
        cells += [
            Cell(
                scene=styled(ws, style, with_rows(above, layout, across, column)),
                label=f"{across} {column:g}",
            )
            for column in SWEPT
        ]
    labels = None if len(parts) == 1 else [f"{down} {row:g}" for row in SWEPT]
    return Figure(cells=cells, columns=len(SWEPT), row_labels=labels)


def _layers(stops: Stops) -> Figure:
    """Without style, with each layer alone, with all."""
    layout = stops.portraits.layout
    person, style = stops.people[0], stops.styles[0]
    ws, none = stops.ws(person), constant(0.0, layout).layers
    cells = [Cell(scene=Scene(ws=ws), label="none")]
    if person.photograph is not None:
        cells.insert(0, Cell(picture=person.photograph, label=person.label))
    for row in range(layout.num_latents):
        alone = StyleWeights((*none[:row], 1.0, *none[row + 1 :]))
        cells.append(Cell(scene=styled(ws, style, alone), label=layer_name(layout, row)))
    cells.append(Cell(scene=styled(ws, style, stops.weights), label="all"))
    return Figure(cells=cells, columns=min(len(cells), 5))


def exemplar_scene(style: StyleStop, weight: float = 1.0) -> Scene:
    """An exemplar as its codes draw it: its intrinsic code, wholly in its own style."""
    layout = style.model.layout
    return styled(style.instyle_ws, style, constant(weight, layout))


def styled(ws: Tensor, style: StyleStop, weights: StyleWeights) -> Scene:
    """A face in the style of one exemplar."""
    pull = (style.pull(),)
    return Scene(ws=ws, structure=pull, color=pull, weights=weights)


def with_rows(weights: StyleWeights, layout: LatentLayout, part: str, value: float) -> StyleWeights:
    """The same with all rows of structure, or of color, at one value."""
    layers = list(weights.layers)
    rows = layout.structure if part == "structure" else layout.color
    layers[rows] = [value] * len(layers[rows])
    return StyleWeights(tuple(layers))


def layer_name(layout: LatentLayout, row: int) -> str:
    """`5: structure, 32 px`."""
    kind = "structure" if row < layout.num_structure else "color"
    sides = (*layout.noise_sizes_px, layout.size_px)  # the last row drives the last ToRGB alone
    return f"{row}: {kind}, {sides[row]} px"
