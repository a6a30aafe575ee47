"""Figures: many scenes on one sheet, as in the paper (Yang et al., arXiv:2203.13248).

matrix             people down, exemplars across: any face in any style
structure, color   one portrait over a grid of the two weights
layers             one portrait with each layer of the extrinsic path alone

Sheets are files like any others; whether one can be written is checked here before it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsgcli.errors import MediaError, UsageError
from dsgcli.generate.keyframes import Keyframes, StyleKeyframe
from dsgcli.generate.scenes import Scene
from dsgcli.media.files import check_output, numbered_neighbors
from dsgcli.media.images import write_image
from dsgcli.media.read import read_metadata
from dsgcli.media.sheets import make_sheet
from dsgcli.portraits import to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.types import LatentLayout, StyleWeights

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.types import Pixels

SWEPT = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of a sweep."""
SHEET_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
GAP_PX = 8
"""Room that a cell needs beside its picture, for the check of a sheet's size."""

_LONGEST_PX = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
"""Longest side that the formats hold; PNG has no limit that matters."""
_MOST_PIXELS = 1 << 28
"""Largest sheet: `read_image` reads it again, in 0.8 GB of memory."""


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


def draw_cells(
    keyframes: Keyframes, figure: Figure, progress: Progress = NULL_PROGRESS
) -> list[Pixels]:
    """(S, S, 3) for each cell; white where there is nothing."""
    scenes = [cell.scene for cell in figure.cells if cell.scene is not None]
    size_px = keyframes.portraits.size_px
    blank = np.full((size_px, size_px, 3), 255, np.uint8)
    with progress.task("Drawing", len(scenes), unit="pictures") as task:

        def drawn() -> Iterator[Pixels]:
            for image in keyframes.renderer.images(scenes):
                yield to_pixels(image[None])[0]
                task.advance()

        pictures = drawn()
        return [
            next(pictures) if cell.scene else blank if cell.picture is None else cell.picture
            for cell in figure.cells
        ]


def write_figure(
    target: Path,
    keyframes: Keyframes,
    figure: Figure,
    progress: Progress = NULL_PROGRESS,
    *,
    overwrite: bool = False,
) -> None:
    """Draw a figure and write it as a sheet."""
    columns, size_px = figure.columns, keyframes.portraits.size_px
    check_sheet(target, columns, -(-len(figure.cells) // columns), size_px, overwrite=overwrite)
    labels = [cell.label for cell in figure.cells]
    sheet = make_sheet(
        draw_cells(keyframes, figure, progress),
        columns=columns,
        labels=labels if any(labels) else None,
        row_labels=figure.row_labels,
        cell_px=size_px,
    )
    metadata = {"style": ", ".join(style.label for style in keyframes.styles)}
    write_image(target, sheet, metadata=metadata, overwrite=overwrite)


def matrix(keyframes: Keyframes) -> Figure:
    """People down, exemplars across; the first column is each person without style, the first row
    each exemplar."""
    cells = [
        Cell(),
        *(Cell(scene=exemplar_scene(s), label=s.label) for s in keyframes.styles),
    ]
    for person in keyframes.people:
        ws = keyframes.ws(person)
        cells.append(Cell(scene=Scene(ws=ws)))
        cells += [Cell(scene=styled(ws, s, keyframes.weights)) for s in keyframes.styles]
    labels = ["", *(person.label for person in keyframes.people)]
    return Figure(cells=cells, columns=1 + len(keyframes.styles), row_labels=labels)


def sweep(keyframes: Keyframes, parts: Sequence[str]) -> Figure:
    """One person in one style over weights: `structure`, `color`, both (the first one down, the
    second one across), or single `layers`."""
    person, style = keyframes.people[0], keyframes.styles[0]
    ws, layout = keyframes.ws(person), keyframes.portraits.layout
    if parts == ("layers",):  # without style, with each layer alone, with all
        cells = [Cell(scene=Scene(ws=ws), label="none")]
        if person.photograph is not None:
            cells.insert(0, Cell(picture=person.photograph, label=person.label))
        layers = range(layout.num_latents)
        for layer in layers:
            alone = StyleWeights(tuple(float(layer == other) for other in layers))
            cells.append(Cell(scene=styled(ws, style, alone), label=layer_name(layout, layer)))
        cells.append(Cell(scene=styled(ws, style, keyframes.weights), label="all"))
        return Figure(cells=cells, columns=min(len(cells), 5))

    def with_rows(weights: StyleWeights, part: str, value: float) -> StyleWeights:
        """The weights with all rows of structure, or of color, at one value."""
        layers = list(weights.layers)
        rows = layout.structure if part == "structure" else layout.color
        layers[rows] = [value] * len(layers[rows])
        return StyleWeights(tuple(layers))

    down, across = parts[0], parts[-1]
    cells = []
    for row in SWEPT if len(parts) == 2 else (None,):
        above = keyframes.weights if row is None else with_rows(keyframes.weights, down, row)
        for column in SWEPT:
            scene = styled(ws, style, with_rows(above, across, column))
            cells.append(Cell(scene=scene, label=f"{across} {column:g}"))
    labels = None if len(parts) == 1 else [f"{down} {row:g}" for row in SWEPT]
    return Figure(cells=cells, columns=len(SWEPT), row_labels=labels)


def exemplar_scene(style: StyleKeyframe, weight: float = 1.0) -> Scene:
    """An exemplar as its codes draw it: its intrinsic code, wholly in its own style."""
    weights = StyleWeights.of(style.model.layout, structure=weight, color=weight)
    return styled(style.instyle_ws, style, weights)


def styled(ws: Tensor, style: StyleKeyframe, weights: StyleWeights) -> Scene:
    """A face in the style of one exemplar."""
    one = (style.weighted(),)
    return Scene(ws=ws, structure=one, color=one, weights=weights)


def layer_name(layout: LatentLayout, row: int) -> str:
    """`5: structure, 32 px`."""
    kind = "structure" if row < layout.num_structure else "color"
    sides = (*layout.noise_sizes_px, layout.size_px)  # the last row drives the last ToRGB alone
    return f"{row}: {kind}, {sides[row]} px"


# ── sheets as files ──────────────────────────────────────────────────────────────────────────────


def is_sheet(path: Path) -> bool:
    """Whether a name means one picture that holds all."""
    return path.suffix.lower() in SHEET_SUFFIXES


def near_square(count: int) -> int:
    """Columns of a sheet that is about as wide as high."""
    return math.ceil(math.sqrt(count))


def check_sheet(
    path: Path, columns: int, rows: int, cell_px: int, *, overwrite: bool = False
) -> None:
    """Make sure, before anything is drawn, that a sheet can be written.

    Raises:
        UsageError: larger than its format allows, or than fits into memory.
        OutputExistsError, SinkError: as `check_output`.
    """
    width, height = columns * (cell_px + GAP_PX), rows * (cell_px + GAP_PX)
    longest = _LONGEST_PX.get(path.suffix.lower(), _MOST_PIXELS)
    if max(width, height) > longest or width * height > _MOST_PIXELS:
        raise UsageError(
            f"{path} would be {width}x{height} pixels, which is too large; pass --size "
            f"{max(32, cell_px // 4)} or draw fewer pictures"
        )
    check_output(path, overwrite=overwrite)


def made_by_dsg(path: Path) -> bool:
    """Whether a file is there and has metadata of dsg."""
    try:
        return path.is_file() and bool(read_metadata(path))
    except MediaError:
        return False


def free_output(path: Path, *, overwrite: bool = False) -> Path:
    """The path of an output; where dsg has made that file before, a numbered neighbor (`a-2.png`
    beside `a.png`), so that a second run with other settings is not refused. Files of others are
    left to `check_output`, which refuses them."""
    if overwrite or not made_by_dsg(path):
        return path
    return next(beside for beside in numbered_neighbors(path) if not beside.exists())
