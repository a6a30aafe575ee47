"""Photographs for `quality.py`: files -> aligned crops with landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import NoFaceError, UsageError
from dsgcli.faces import warp
from dsgcli.faces.detect import FaceDetector
from dsgcli.generate.contents import Aligned, FaceCutter
from dsgcli.media.images import identify, read_image
from dsgcli.recipe import read_recipe
from dsgcli.store import ModelStore
from dsgcli.training.prepare import is_held_out, list_set
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

Find = Callable[["Pixels"], "Points | None"]
"""A picture -> the landmarks of its face, in widths."""

LOOK_PX = 256
"""Smaller pictures are enlarged to this before faces are looked for."""
SMALLEST_FACE = 0.25
"""In crop widths; what is smaller is no portrait's face."""


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """An aligned face, and where its landmarks are."""

    name: str
    pixels: Pixels
    """(S, S, 3)."""
    points: Points
    """(478, 2), in widths of the crop."""


def pictures_of(places: Sequence[Path]) -> list[Path]:
    """The pictures that files and folders stand for, in order."""
    found = []
    for place in places:
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        found += [path for path in inside if path.is_file() and identify(path)]
    if places and not found:
        raise UsageError(f"no picture in {', '.join(map(str, places))}")
    return found


def held_out(run: Path, folder: str) -> list[Path]:
    """The portraits of a run that training never saw, of one folder of its data."""
    data = read_recipe(run / "recipe.toml").data
    listed = list_set(Path(data.root), data, "base")
    ours = [item for item in listed if item.name.startswith(folder)]
    return [item.path for item in ours if is_held_out(item.name, data.holdout)]


def read_photographs(
    paths: Sequence[Path], size_px: int, store: ModelStore, aligned: Aligned, find: Find
) -> list[Photograph]:
    """Those with a face; the others are named."""
    found = []
    with FaceCutter(store, aligned) as cutter:
        for path in paths:
            try:
                pixels = cutter.crop(read_image(path), str(path), size_px).pixels
            except NoFaceError:
                points = None
            else:
                points = find(pixels)
            if points is None:
                print(f"{path.name}: no face found in the photograph, left out")
            else:
                found.append(Photograph(path.stem, pixels, points))
    if not found:
        raise UsageError("no face in any of the photographs")
    return found


def finder(detector: FaceDetector) -> Find:
    """Looks at the whole picture."""

    def find(pixels: Pixels) -> Points | None:
        side = max(pixels.shape[0], LOOK_PX)
        enlarged = warp.resize(pixels, side, side)
        faces = detector.detect(Frame(pixels=enlarged), effort="glance")
        large = [face for face in faces if face.height_px >= SMALLEST_FACE * side]
        if not large:
            return None
        points: Points = max(large, key=lambda face: face.height_px).landmarks / side
        return points

    return find
