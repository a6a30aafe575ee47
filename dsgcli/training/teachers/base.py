"""The interface of a teacher, and its pairs on disk.

Flow: Teacher.draw(key, count) -> PairChunk -> pairs-0000.npy and .json -> PairSet, a memory-mapped
set of (photograph, drawn photograph, exemplar, degrees) that training reads.

Pairs are drawn in chunks, each a function of (seed, number), in worker processes; a chunk that is
on disk is not drawn again, so a stopped run goes on.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from dsgcli.runtime import parallel_map
from dsgcli.store.files import written_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dsgcli.training.stage import Pictures
    from dsgcli.types import Pixels

CHUNK = 128
"""Pairs that are asked of a teacher at once."""
PAIR_PX = 256
"""Side of the pictures of teachers that make their own."""
FULL, PARTLY = 0.6, 0.15
"""Shares of the pairs that are drawn at full degrees, and with one random degree (each of the two);
the rest has two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairChunk:
    """Pairs that were drawn together."""

    pixels: Pixels
    """(n, 2, S, S, 3) uint8: photographs, and what the teacher made of them."""
    exemplars: Sequence[int]
    """Positions in the teacher's exemplars, n."""
    structure: Sequence[float]
    """Degrees of structure, n, in [0, 1]."""
    color: Sequence[float]
    """Degrees of color, n, in [0, 1]."""
    rejected: Counter[str]
    """How many pairs were thrown away, by reason."""


class Teacher(Protocol):
    """Draws pairs. Is sent to worker processes, so it pickles small."""

    @property
    def exemplars(self) -> Pictures:
        """Everything that it may be asked to draw like."""
        ...

    @property
    def shipped(self) -> Sequence[int]:
        """Positions of the exemplars that the styles are made of; others only teach."""
        ...

    def draw(self, key: str, count: int) -> PairChunk:
        """About `count` pairs, fewer where bad ones are thrown away; a function of the key."""
        ...


def random_degrees(rng: np.random.Generator) -> tuple[float, float]:
    """Degrees of structure and color: mostly full, else one or both at random."""
    kind, structure, color = rng.random(), float(rng.random()), float(rng.random())
    if kind < FULL:
        return 1.0, 1.0
    if kind < FULL + PARTLY:
        return structure, 1.0
    if kind < FULL + 2 * PARTLY:
        return 1.0, color
    return structure, color


@dataclass(frozen=True)
class PairSet:
    """Pairs on disk: a `Pictures` of their photographs, with what belongs to each."""

    folder: Path
    count: int
    """Chunks."""

    @cached_property
    def _notes(self) -> list[dict[str, list[float]]]:
        return [
            json.loads(_notes_path(self.folder, k).read_text("utf-8")) for k in range(self.count)
        ]

    @cached_property
    def _starts(self) -> list[int]:
        sizes = [len(notes["exemplars"]) for notes in self._notes]
        return [0, *np.cumsum(sizes).tolist()]

    @cached_property
    def _pixels(self) -> list[Pixels]:
        return [np.load(_pixels_path(self.folder, k), mmap_mode="r") for k in range(self.count)]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def side_px(self) -> int:
        """Side of the pictures."""
        return int(self._pixels[0].shape[2])

    @property
    def names(self) -> Sequence[str]:
        return [str(number) for number in range(len(self))]

    @property
    def weights(self) -> Sequence[float]:
        return [1.0] * len(self)

    @cached_property
    def exemplars(self) -> Tensor:
        """(N,) int64: position of each pair's exemplar in the teacher's."""
        return torch.tensor([int(e) for notes in self._notes for e in notes["exemplars"]])

    @cached_property
    def degrees(self) -> Tensor:
        """(N, 2): degrees of structure and color."""
        both = [torch.tensor([n["structure"], n["color"]]).T for n in self._notes if n["exemplars"]]
        return torch.cat(both)

    def get(self, indices: Sequence[int], size_px: int) -> Tensor:
        """Photographs (n, 3, S, S) in [-1, 1]."""
        return self._read(indices, 0, size_px)

    def drawn(self, indices: Sequence[int], size_px: int) -> Tensor:
        """Drawings of the teacher, in the same shape."""
        return self._read(indices, 1, size_px)

    def _read(self, indices: Sequence[int], which: int, size_px: int) -> Tensor:
        pictures = []
        for index in indices:
            chunk = bisect_right(self._starts, index) - 1
            pictures.append(self._pixels[chunk][index - self._starts[chunk], which])
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        images = images.div_(127.5).sub_(1.0)
        side = images.shape[-1]
        return (
            images if side == size_px else torch.nn.functional.avg_pool2d(images, side // size_px)
        )


def draw_pairs(
    teacher: Teacher,
    folder: Path,
    count: int,
    seed: int,
    advance: Callable[[int, int], None],
) -> PairSet:
    """Ask for `count` pairs, in chunks and worker processes; those on disk stay.

    Args:
        advance: told how many pairs have been asked for, and of how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = range(-(-count // CHUNK))
    missing = [k for k in chunks if not _notes_path(folder, k).is_file()]
    done = len(chunks) - len(missing)
    advance(done * CHUNK, count)
    for _ in parallel_map(partial(_write_chunk, teacher, folder, seed, count), missing):
        done += 1
        advance(min(done * CHUNK, count), count)
    return PairSet(folder, len(chunks))


def rejected(pairs: PairSet) -> Counter[str]:
    """How many pairs of a set were thrown away, by reason."""
    total: Counter[str] = Counter()
    for k in range(pairs.count):
        total.update(json.loads(_notes_path(pairs.folder, k).read_text("utf-8"))["rejected"])
    return total


def _write_chunk(teacher: Teacher, folder: Path, seed: int, count: int, number: int) -> None:
    wanted = min(CHUNK, count - number * CHUNK)
    chunk = teacher.draw(f"{seed}/pairs/{number}", wanted)
    pixels: NDArray[np.uint8] = chunk.pixels
    with written_whole(_pixels_path(folder, number)) as partial, partial.open("wb") as file:
        np.save(file, pixels)
    notes = {
        "exemplars": list(chunk.exemplars),
        "structure": [round(v, 4) for v in chunk.structure],
        "color": [round(v, 4) for v in chunk.color],
        "rejected": dict(chunk.rejected),
    }
    with written_whole(_notes_path(folder, number)) as path:  # last: makes the chunk valid
        path.write_text(json.dumps(notes), "utf-8")


def _pixels_path(folder: Path, number: int) -> Path:
    return folder / f"pairs-{number:04d}.npy"


def _notes_path(folder: Path, number: int) -> Path:
    return folder / f"pairs-{number:04d}.json"
