"""Which pictures of a folder are fit to learn from, and what is wrong with the others.

Flow: paths -> Examined (figures of one picture, its aligned crop) -> Verdicts -> what is packed.
Nothing is deleted or changed: a picture that is left out is listed with its reason.

Conventions
    sharpness   variance of the Laplacian of the gray crop at 256 px, gray in 0 to 255
    phash       64 bits: which of the 8x8 lowest DCT coefficients of the crop lie above their median
                (as perceptual hashes do since Zauner, 2010)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import DsgError
from dsgcli.recipe import PrepareRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dsgcli.faces.detect import MeshDetector
    from dsgcli.types import Frame, Pixels

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
"""Endings of files that are tried; the content decides the format."""
SHARPNESS_PX = 256
HASH_PX, HASH_SIDE = 32, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Result of the check of one picture."""

    path: Path
    problem: str = ""
    """Why it is left out; empty if it is not."""
    crop: Pixels | None = None
    """(S, S, 3) uint8, aligned; None where it could not be made."""
    size_px: tuple[int, int] = (0, 0)
    faces: int = 0
    face_px: float = 0.0
    """Height of the face taken, in pixels of the picture; 0 if none was looked for."""
    sharpness: float = 0.0
    phash: int = 0

    def figures(self) -> dict[str, Any]:
        """For the audit's JSON."""
        return {
            "problem": self.problem,
            "size_px": list(self.size_px),
            "faces": self.faces,
            "face_px": round(self.face_px, 1),
            "sharpness": round(self.sharpness, 1),
            "phash": f"{self.phash:016x}",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """How pictures are examined; small, so that it can be sent to other processes."""

    recipe: PrepareRecipe
    size_px: int
    """Side of the crops."""
    task_file: Path | None = None
    """The face detector's model, where it is not bundled with MediaPipe."""

    def __call__(self, path: Path) -> Examined:
        """Look at one picture; every trouble with it becomes its `problem`."""
        from dsgcli.media.images import read_opaque

        try:
            frame = read_opaque(path)
        except (DsgError, OSError) as error:
            return Examined(path=path, problem=f"cannot be read ({error})")
        if self.recipe.aligned == "yes":
            found = Examined(path=path, crop=square(frame.pixels, self.size_px))
        else:
            found = self._aligned(path, frame)
        found = replace(found, size_px=frame.size_px)
        return found if found.crop is None else self._measured(found, found.crop)

    def _aligned(self, path: Path, frame: Frame) -> Examined:
        from dsgcli.faces.align import crop_face, looks_aligned

        faces = face_detector(self.task_file).detect(frame, effort="any")
        if not faces:
            kept = square(frame.pixels, self.size_px) if self.recipe.no_face == "keep" else None
            return Examined(path=path, crop=kept, problem="" if kept is not None else "no face")
        face = max(faces, key=lambda f: f.height_px)
        found = Examined(path=path, faces=len(faces), face_px=face.height_px)
        if len(faces) > 1 and self.recipe.several == "leave_out":
            return replace(found, problem=f"{len(faces)} faces")
        if self.recipe.aligned == "auto" and looks_aligned(frame, faces):
            return replace(found, crop=square(frame.pixels, self.size_px))
        return replace(found, crop=crop_face(frame, face, self.size_px).pixels)

    def _measured(self, found: Examined, crop: Pixels) -> Examined:
        gray = to_gray(crop)
        found = replace(found, sharpness=sharpness(gray), phash=perceptual_hash(gray))
        if found.problem:
            return found
        size = found.face_px or min(found.size_px) * FACE_SHARE
        if size < self.recipe.min_face_px:
            what = f"too small: the face is {size:.0f} px high"
            return replace(found, problem=f"{what}, and min_face_px is {self.recipe.min_face_px}")
        if found.sharpness < self.recipe.min_sharpness:
            return replace(found, problem=f"blurred: sharpness {found.sharpness:.0f}")
        return found


FACE_SHARE = 0.45
"""Height of the landmarks' square against the side of an FFHQ crop, for pictures taken as crops."""


@lru_cache(maxsize=1)
def face_detector(task_file: Path | None) -> MeshDetector:
    """One detector a process: it takes a second to start."""
    from dsgcli.faces.detect import open_detector

    return open_detector(task_file=task_file)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def square(pixels: Pixels, size_px: int) -> Pixels:
    """Shorter side to `size_px`, then the middle: how the published code reads its pictures."""
    from PIL import Image

    height, width, _ = pixels.shape
    scale = size_px / min(height, width)
    shape = (max(size_px, round(width * scale)), max(size_px, round(height * scale)))
    image = Image.fromarray(pixels)
    if shape != (width, height):
        image = image.resize(shape, Image.Resampling.LANCZOS)
    left, top = (shape[0] - size_px) // 2, (shape[1] - size_px) // 2
    middle = image.crop((left, top, left + size_px, top + size_px))
    return np.asarray(middle, dtype=np.uint8)


def to_gray(pixels: Pixels) -> NDArray[np.float32]:
    """(S, S, 3) uint8 -> (S, S) float32 in 0 to 255 (Rec. 601 luma)."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    gray: NDArray[np.float32] = pixels.astype(np.float32) @ weights
    return gray


def sharpness(gray: NDArray[np.float32]) -> float:
    """Variance of the Laplacian at 256 px: low for what is out of focus."""
    gray = _resized(gray, SHARPNESS_PX)
    inner = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float((around - 4 * inner).var())


def perceptual_hash(gray: NDArray[np.float32]) -> int:
    """64 bits that stay when a picture is scaled, compressed or brightened."""
    basis = _dct_basis()
    low = basis @ _resized(gray, HASH_PX) @ basis.T
    bits = (low > np.median(low)).reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@lru_cache(maxsize=1)
def _dct_basis() -> NDArray[np.float32]:
    """(8, 32): the lowest frequencies of the DCT-II after the mean."""
    k, n = np.arange(1, HASH_SIDE + 1)[:, None], np.arange(HASH_PX)[None]
    basis: NDArray[np.float32] = np.cos(math.pi * k * (2 * n + 1) / (2 * HASH_PX)).astype("f4")
    return basis


def _resized(gray: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    from PIL import Image

    if gray.shape == (size_px, size_px):
        return gray
    resized = Image.fromarray(gray).resize((size_px, size_px), Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.float32)


# ── duplicates ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Duplicates:
    """Finds pictures that are alike among those seen before."""

    most_bits: int
    _hashes: list[int] = field(default_factory=list)
    _paths: list[Path] = field(default_factory=list)

    def find(self, examined: Examined) -> Path | None:
        """The earlier picture that this one repeats; remembers it if there is none."""
        if self.most_bits >= 0 and self._hashes:
            known = np.array(self._hashes, dtype=np.uint64)
            distance = _count_bits(known ^ np.uint64(examined.phash))
            nearest = int(distance.argmin())
            if distance[nearest] <= self.most_bits:
                return self._paths[nearest]
        self._hashes.append(examined.phash)
        self._paths.append(examined.path)
        return None


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    octets = values.view(np.uint8).reshape(len(values), 8)
    counts: NDArray[np.int64] = np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)
    return counts


def without_duplicates(examined: Iterable[Examined], most_bits: int) -> Iterator[Examined]:
    """Yield the results in order; repetitions of an earlier good picture get that as their
    problem."""
    duplicates = Duplicates(most_bits)
    for found in examined:
        if not found.problem and (earlier := duplicates.find(found)) is not None:
            yield replace(found, problem=f"duplicate of {earlier.name}")
        else:
            yield found


def list_pictures(folder: Path) -> list[Path]:
    """Pictures of a folder and its sub-folders by name, in an order that is the same everywhere."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())
