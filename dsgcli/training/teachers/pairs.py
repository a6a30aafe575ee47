"""A folder of pairs as a teacher: what any other tool drew of photographs.

    FOLDER/before/ann.jpg  ──▶  FOLDER/after/ann.png        the same name, the same size

The photographs are aligned as training portraits are, and each drawing through the same map. The
style encoder sees another drawing of the folder as the exemplar: a translator that learns from one
look alone has codes that all mean that look.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsgcli.errors import DsgError, TrainingError
from dsgcli.faces.align import crop_whole, cut, face_transform, looks_aligned
from dsgcli.faces.detect import TASK_NAME
from dsgcli.media.images import read_opaque
from dsgcli.training.audit import face_detector, list_pictures
from dsgcli.training.data import Pack, open_pack, write_pack
from dsgcli.training.teachers.base import PAIR_PX, PairChunk

if TYPE_CHECKING:
    from dsgcli.recipe import DistillRecipe
    from dsgcli.training.stage import Pictures, RunContext
    from dsgcli.types import Pixels

BEFORE, AFTER = "before", "after"
LEAST_PAIRS = 8


@dataclass(frozen=True, slots=True)
class PairFiles:
    """A photograph and its drawing."""

    name: str
    before: Path
    after: Path


@dataclass(frozen=True, kw_only=True)
class FolderTeacher:
    """Pairs that are there (`Teacher`)."""

    before: Pack
    after: Pack
    """Drawings of these names, aligned by the photographs' faces."""

    @property
    def exemplars(self) -> Pictures:
        return self.after

    @property
    def shipped(self) -> Sequence[int]:
        return range(len(self.after))

    def draw(self, key: str, count: int) -> PairChunk:
        """`count` pairs of the folder with another drawing as exemplar; see `Teacher`."""
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        size = self.before.size_px
        photos, drawings = self.before.level(size), self.after.level(size)
        chosen = rng.integers(len(self.before), size=count)
        others = (chosen + rng.integers(1, len(self.after), size=count)) % len(self.after)
        degrees = [0.0 if rng.random() < UNDRAWN else 1.0 for _ in range(count)]
        pixels = [
            np.stack([photos[i], drawings[i] if degree else photos[i]])
            for i, degree in zip(chosen, degrees, strict=True)
        ]
        return PairChunk(
            pixels=np.stack(pixels),
            exemplars=others.tolist(),
            structure=degrees,
            color=degrees,
            rejected=Counter(),
        )


UNDRAWN = 0.1
"""Share of the pairs at degree 0, where the drawing is the photograph."""


def list_pairs(folder: Path) -> list[PairFiles]:
    """The pairs of a folder, by name; files without a twin are left out."""
    before, after = (_by_name(folder / part) for part in (BEFORE, AFTER))
    both = sorted(before.keys() & after.keys())
    return [PairFiles(name, before[name], after[name]) for name in both]


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in list_pictures(folder)}


def pair_problems(folder: Path) -> Iterator[str]:
    """Everything that is wrong with a folder of pairs: folders or twins that are missing, twins of
    another size, pictures that cannot be read, too few pairs."""
    for part in (BEFORE, AFTER):
        if not (folder / part).is_dir():
            yield f"no folder {folder / part}: pairs lie in {BEFORE}/ and {AFTER}/"
            return
    names = {part: _by_name(folder / part) for part in (BEFORE, AFTER)}
    for part, other in ((BEFORE, AFTER), (AFTER, BEFORE)):
        for name in sorted(names[part].keys() - names[other].keys()):
            yield f"{names[part][name]} has no twin in {folder / other}: add it, or remove the file"
    pairs = list_pairs(folder)
    for pair in pairs:
        try:
            before, after = (read_opaque(path).size_px for path in (pair.before, pair.after))
        except (DsgError, OSError) as error:
            yield str(error)
            continue
        if before != after:
            yield (
                f"{pair.after} is {after[0]} x {after[1]} px and its photograph {before[0]} x "
                f"{before[1]}: a drawing has the size of its photograph"
            )
    if len(pairs) < LEAST_PAIRS:
        yield f"{folder} holds {len(pairs)} pair(s), and at least {LEAST_PAIRS} are needed"


def folder_teacher(context: RunContext, recipe: DistillRecipe) -> FolderTeacher:
    """The teacher of a recipe: its pictures are aligned and packed first.

    Raises:
        TrainingError: hardly a face in the photographs.
    """
    root = context.folder / "teacher"
    if not (root / AFTER / "portraits.json").is_file():
        pairs = list_pairs(Path(context.recipe.data.root) / recipe.pairs_folder)
        aligned = list(_aligned(pairs, context))
        if len(aligned) < LEAST_PAIRS:
            raise TrainingError(
                f"a face is found in {len(aligned)} of {len(pairs)} photographs of "
                f"{recipe.pairs_folder}, and at least {LEAST_PAIRS} are needed"
            )
        write_pack(root / BEFORE, PAIR_PX, ((name, photo) for name, photo, _ in aligned))
        write_pack(root / AFTER, PAIR_PX, ((name, drawn) for name, _, drawn in aligned))
    return FolderTeacher(before=open_pack(root / BEFORE), after=open_pack(root / AFTER))


def _aligned(pairs: list[PairFiles], context: RunContext) -> Iterator[tuple[str, Pixels, Pixels]]:
    """Name, photograph and drawing, both (S, S, 3) through the map of the photograph's face; pairs
    without a face are left out."""
    detector = face_detector(context.store.file(TASK_NAME))
    for number, pair in enumerate(pairs):
        context.advance(number, len(pairs), "pairs")
        photo, drawn = read_opaque(pair.before), read_opaque(pair.after)
        faces = detector.detect(photo)
        if not faces:
            continue
        if looks_aligned(photo, faces):
            yield pair.name, crop_whole(photo, PAIR_PX).pixels, crop_whole(drawn, PAIR_PX).pixels
            continue
        face = max(faces, key=lambda f: f.height_px)
        transform = face_transform(face, PAIR_PX)
        yield pair.name, cut(photo.pixels, transform), cut(drawn.pixels, transform)
