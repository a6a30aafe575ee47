"""The seam between networks and what runs them.

    Backend   binds a generator to a style, and an encoder: functions of tensors come out
    Engine    makes one fixed network fast, however slowly; `SteeredBackend` makes a Backend of it

An engine may take seconds or a minute to make a network ready, so it gets one that serves all
styles of a model (`models/steered.py`); to bind a style is then a matter of a few numbers.

Shapes: B pictures, L rows of a code, D style width, S side, N numbers that steer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from dsgcli.inference.translator import fold
from dsgcli.models.steered import Steering, StyleNumbers

if TYPE_CHECKING:
    from dsgcli.inference.translator import FoldedTranslator
    from dsgcli.models.bound_encoder import BoundEncoder
    from dsgcli.models.dualstylegan import DualStyleGAN
    from dsgcli.models.encoder import Encoder
    from dsgcli.models.steered import SteeredGenerator
    from dsgcli.models.translator import Translator

T = TypeVar("T")

Run = Callable[[Tensor], Tensor]
"""A network made ready: codes (B, L, D) or numbers (B, N) -> pictures (B, 3, S, S) float32 in about
[-1, 1]; faces (B, 3, P, P) in [-1, 1] -> codes (B, L, D) float32; crops -> portraits."""

MOST_NETWORKS = 3
"""Networks that a backend keeps: one for each set of rows that are bent, of which a run has one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Style:
    """The style that a generator is bound to."""

    exstyle_ws: Tensor
    """(1, L, D), the exemplar in W+."""
    weights: Sequence[float]
    """One a row."""

    def to(self, device: torch.device) -> Style:
        return replace(self, exstyle_ws=self.exstyle_ws.to(device))


class Backend(Protocol):
    """Runs the networks of one style."""

    @property
    def name(self) -> str:
        """For summaries."""

    def bind(self, model: DualStyleGAN, style: Style | None, *, once: bool = False) -> Run:
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

    def generator(self, network: SteeredGenerator) -> Run:
        """Numbers (B, N) -> pictures."""

    def encoder(self, network: BoundEncoder) -> Run:
        """Faces -> codes."""

    def translator(self, network: FoldedTranslator) -> Run:
        """Crops -> portraits, of any size."""


class Recent(Generic[T]):
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


class TorchBackend:
    """Plain torch: always there, ready at once; styles are folded into weights.

    Args:
        dtype: of the feature maps.
        size_px: side of the pictures; None is the model's own.
    """

    name = "torch"

    def __init__(self, dtype: torch.dtype = torch.float32, size_px: int | None = None) -> None:
        self.dtype, self.size_px = dtype, size_px
        self._unfolded = SteeredBackend(PlainEngine(dtype), size_px)

    def bind(self, model: DualStyleGAN, style: Style | None, *, once: bool = False) -> Run:
        if once:
            return self._unfolded.bind(model, style)
        if style is None:
            return model.generator.bind(dtype=self.dtype, size_px=self.size_px)
        return model.bind(style.exstyle_ws, style.weights, dtype=self.dtype, size_px=self.size_px)

    def bind_encoder(self, encoder: Encoder, rows: int | None = None) -> Run:
        return encoder.bind(self.dtype, rows)

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        return fold(translator, code, weights, self.dtype)

    def expect(self, num_pictures: int) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class PlainEngine:
    """Leaves networks as they are."""

    dtype: torch.dtype
    name: str = "torch"

    def generator(self, network: SteeredGenerator) -> Run:
        return network

    def encoder(self, network: BoundEncoder) -> Run:
        return network

    def translator(self, network: FoldedTranslator) -> Run:
        return network


class SteeredBackend:
    """Networks made ready by an engine, one for all styles that bend the same rows of a model.

    Args:
        size_px: side of the pictures; None is the model's own.
    """

    def __init__(self, engine: Engine, size_px: int | None = None) -> None:
        self.engine, self.size_px = engine, size_px
        self._networks: Recent[tuple[DualStyleGAN, Steering, Run]] = Recent(MOST_NETWORKS)

    @property
    def name(self) -> str:
        return self.engine.name

    def bind(self, model: DualStyleGAN, style: Style | None, *, once: bool = False) -> Run:
        numbers = StyleNumbers()
        if style is not None:
            numbers = model.style_numbers(style.exstyle_ws, style.weights)
        bent = tuple(numbers.bends)
        _, steering, run = self._networks.get((id(model), bent), lambda: self._make(model, bent))
        return Steered(steering, numbers, run)

    def bind_encoder(self, encoder: Encoder, rows: int | None = None) -> Run:
        return self.engine.encoder(encoder.bind(self.engine.dtype, rows))

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        network = fold(translator, code, weights, self.engine.dtype)
        return network if once or network.is_identity else self.engine.translator(network)

    def expect(self, num_pictures: int) -> bool:
        return False

    @torch.no_grad()
    def _make(self, model: DualStyleGAN, bent: Sequence[int]) -> tuple[DualStyleGAN, Steering, Run]:
        """The model is kept with what was made of it, so that no other takes its id."""
        network = model.steered(bent, dtype=self.engine.dtype, size_px=self.size_px).eval()
        steering = Steering(model.generator, bent, size_px=self.size_px)
        return model, steering, self.engine.generator(network)


@dataclass(frozen=True, slots=True, eq=False)
class Steered:
    """One style of a network that serves all."""

    steering: Steering
    style: StyleNumbers
    run: Run

    def __call__(self, ws: Tensor) -> Tensor:
        """ws (B, L, D) -> (B, 3, S, S)."""
        return self.run(self.steering(ws, self.style))
