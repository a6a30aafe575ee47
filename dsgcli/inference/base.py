"""Interfaces of networks that are ready to run, and of the engines that prepare them.

    Backend   binds a generator to a style, an encoder, a translator: functions of tensors come out
    Engine    makes one fixed network fast, however slowly

Shapes: B pictures, L rows of a code, D style width, S side, N modulation values a picture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from dsgcli.inference.dynamic_style import DynamicGenerator
from dsgcli.inference.encoder import FoldedEncoder
from dsgcli.inference.translator import FoldedTranslator
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.translator import Translator

T = TypeVar("T")

Run = Callable[[Tensor], Tensor]
"""A network made ready: codes (B, L, D) or modulation (B, N) -> pictures (B, 3, S, S) float32 in
about [-1, 1]; faces (B, 3, P, P) in [-1, 1] -> codes (B, L, D) float32; crops -> portraits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtrinsicStyle:
    """The style that a generator is bound to."""

    exstyle_ws: Tensor
    """(1, L, D), the exemplar in W+."""
    weights: Sequence[float]
    """One a row."""

    def to(self, device: torch.device) -> ExtrinsicStyle:
        return replace(self, exstyle_ws=self.exstyle_ws.to(device))


class Backend(Protocol):
    """Runs the networks of one style."""

    @property
    def name(self) -> str:
        """For summaries."""

    def bind(self, model: DualStyleGAN, style: ExtrinsicStyle | None, *, once: bool = False) -> Run:
        """Codes (B, L, D) to pictures; None is the photographic generator by itself.

        Args:
            once: for a picture or few, so that nothing is worth making ready for this style alone.
        """

    def bind_encoder(self, encoder: Encoder, rows: int | None = None) -> Run:
        """Faces to codes.

        Args:
            rows: how many rows are wanted, from the first: later ones are the encoder's mean, and
                cost nothing. None is all.
        """

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        """Crops (B, 3, S, S) in [-1, 1] to portraits of the same size, in one style.

        Args:
            code: (L, D).
            weights: one a row.
            once: as `bind`.
        """

    def expect(self, num_pictures: int) -> bool:
        """Hear how many pictures are to come; True if the networks should be bound again."""


class Engine(Protocol):
    """Makes one network ready to run fast."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the feature maps of the given network."""

    def generator(self, network: DynamicGenerator) -> Run:
        """Modulation (B, N) -> pictures."""

    def encoder(self, network: FoldedEncoder) -> Run:
        """Faces -> codes."""

    def translator(self, network: FoldedTranslator) -> Run:
        """Crops -> portraits, of any size."""


class LRUCache(Generic[T]):
    """The values that were used last, made on demand: memory stays bounded."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key; one too many lets go of the oldest before the new one is made."""
        if key not in self._values:
            while len(self._values) >= self.most:
                self._values.popitem(last=False)
            self._values[key] = make()
        self._values.move_to_end(key)
        return self._values[key]

    def clear(self) -> None:
        self._values.clear()

    def __len__(self) -> int:
        return len(self._values)


# ── networks for one batch size or side, for batches of any ──────────────────────────────────────

MOST_SIZES = 3
"""Sizes kept ready: a single picture, the usual batch, and one between."""


class BySize:
    """Rows (B, ...) -> rows (B, ...), by networks for fixed B.

    Args:
        prepare: makes the network for batches like the one it is given.
    """

    def __init__(self, prepare: Callable[[Tensor], Run], most: int = MOST_SIZES) -> None:
        self._prepare, self._most = prepare, most
        self._ready: dict[int, Run] = {}

    @property
    def sizes(self) -> list[int]:
        """The sizes that are ready, in rising order."""
        return sorted(self._ready)

    def __call__(self, rows: Tensor) -> Tensor:
        """The network's answer to each row."""
        count = len(rows)
        size = next((size for size in self.sizes if size >= count), count)
        if size > count:
            rows = torch.cat([rows, rows[-1:].expand(size - count, *rows.shape[1:])])
        if size not in self._ready:
            while len(self._ready) >= self._most:
                del self._ready[self.sizes[0]]
            self._ready[size] = self._prepare(rows)
        return self._ready[size](rows)[:count]


class BySide:
    """Pictures (B, 3, S, S) -> pictures, by networks for fixed S.

    Args:
        prepare: makes the network for pictures of this side.
    """

    def __init__(self, prepare: Callable[[int], Run]) -> None:
        self._prepare = prepare
        self._ready: dict[int, Run] = {}

    def __call__(self, pictures: Tensor) -> Tensor:
        side = pictures.shape[-1]
        if side not in self._ready:
            while len(self._ready) >= MOST_SIZES:
                del self._ready[next(iter(self._ready))]
            self._ready[side] = self._prepare(side)
        return self._ready[side](pictures)


def one_by_one(run: Run) -> Run:
    """Rows (B, ...) in batches of one: on a CPU more gain nothing, and a row's answer then does not
    depend on its neighbors, to the last bit."""

    def each(rows: Tensor) -> Tensor:
        return torch.cat([run(row) for row in rows.split(1)])

    return each
