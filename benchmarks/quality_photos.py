"""People and exemplars for `quality.py`: files -> aligned crops with landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsgcli.errors import NoFaceError, UsageError
from dsgcli.faces import warp
from dsgcli.faces.align import crop_whole
from dsgcli.faces.detect import FaceDetector
from dsgcli.generate.people import FaceCutter
from dsgcli.media.images import identify, read_image
from dsgcli.store import ModelStore
from dsgcli.training.prepare import is_held_out
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


@dataclass(frozen=True, slots=True, eq=False)
class Exemplar:
    """A picture that is drawn after."""

    name: str
    pixels: Pixels | None
    """(S, S, 3); None where only its code is known."""

    @property
    def shown(self) -> Pixels:
        """For sheets: grey where there is no picture."""
        return np.full((8, 8, 3), 128, np.uint8) if self.pixels is None else self.pixels


def pictures_of(places: Sequence[Path]) -> list[Path]:
    """The pictures that files and folders stand for, in order."""
    found = []
    for place in places:
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        found += [path for path in inside if path.is_file() and identify(path)]
    if not found:
        raise UsageError(f"no picture in {', '.join(map(str, places))}")
    return found


def split(data: Path, folder: str, share: float) -> tuple[list[Path], list[Path]]:
    """Pictures of a folder of training data: those that were trained on, and those held out."""
    trained, held_out = [], []
    for path in sorted((data / folder).iterdir()):
        out = is_held_out(f"{folder}/{path.stem}", share)
        (held_out if out else trained).append(path)
    return trained, held_out


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` of them at equal distances, first and last included; all if they are fewer."""
    if count >= len(paths):
        return list(paths)
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]


def read_photographs(
    paths: Sequence[Path], size_px: int, store: ModelStore, find: Find
) -> list[Photograph]:
    """Those with a face; the others are named."""
    found = []
    with FaceCutter(store) as cutter:
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


def read_exemplars(paths: Sequence[Path], size_px: int) -> list[Exemplar]:
    """Pictures that are aligned already."""
    return [Exemplar(path.name, crop_whole(read_image(path), size_px).pixels) for path in paths]


def named_exemplars(folder: Path, names: Sequence[str], size_px: int) -> list[Exemplar]:
    """Exemplars of a style by their names, pictures of any suffix, where the folder has them."""
    there = {path.stem: path for path in folder.iterdir()} if folder.is_dir() else {}
    found = []
    for name in names:
        path = there.get(Path(name).stem, there.get(name))
        pixels = None if path is None else crop_whole(read_image(path), size_px).pixels
        found.append(Exemplar(name, pixels))
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
