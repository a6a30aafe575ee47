"""Crops -> portraits, whichever kind of network draws a style.

    StylePipeline        what the jobs know of the networks of one style
    Portraits            a DualStyleGAN and its encoder (portraits.py): crops become codes first
    TranslatorPipeline   a translator: the crops are themselves the content

`load_pipeline` chooses by the style; nothing above this module knows which kind runs.

Shapes: m faces, L rows of a code, D its width, S side of a crop in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dsgcli.errors import ModelMissingError, UsageError
from dsgcli.inference.backend import TorchBackend, pick_translator_backend
from dsgcli.inference.base import Backend, LRUCache, Run, one_by_one
from dsgcli.models.translator import STRIDE_PX
from dsgcli.portraits import Look, Portraits, area_resize, load_portraits, to_images, to_pixels
from dsgcli.runtime import BackendName, Precision, keep_freed_memory, pick_device, pick_precision
from dsgcli.types import LatentLayout

if TYPE_CHECKING:
    from dsgcli.models.encoder import CodeSpace, Encoder
    from dsgcli.models.stylegan2 import Generator
    from dsgcli.models.translator import Translator
    from dsgcli.store import ModelStore
    from dsgcli.types import Pixels

USUAL_PX, SHARP_PX = 256, 512
"""Side of a translator's crops, and of those of faces that are large in the picture."""
SHARP_FROM_PX = 352
"""Side of a crop in the picture from which on `SHARP_PX` is taken: at 256 px, a portrait would be
softer than what is around it. The face itself is 0.7 times as large."""
MOST_PX = 2048
"""Largest crop: sixty-four times the work of the usual one, and 2 GB of memory."""
MOST_STYLES = 8
"""Codes with weights that stay folded: some 20 MB each."""


class StylePipeline(Protocol):
    """The networks of one style, ready to run."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the feature maps."""

    @property
    def layout(self) -> LatentLayout:
        """Rows of a style's code."""

    @property
    def encoder(self) -> Encoder | None:
        """Encoder of crops; None if the crops themselves are the content."""

    @property
    def networks(self) -> list[nn.Module]:
        """All that a portrait depends on."""

    @property
    def num_weights(self) -> int:
        """Number of weights of all networks."""

    @property
    def size_px(self) -> int:
        """Side of the portraits, unless it depends on the face."""

    @property
    def usual_weight(self) -> float | None:
        """Weight of every row where none is asked for; None is the published default."""

    @property
    def keeps_content(self) -> bool:
        """Whether portraits show what their crops show, ground included, and not the face alone."""
        ...

    @property
    def backend_name(self) -> str:
        """Name of the backend, for summaries."""

    def crop_size(self, side_px: float) -> int:
        """Side of the crop, and of the portrait where both are the same, of a face whose crop has
        this side in the frame."""

    def face_rows(self, look: Look) -> int:
        """How many rows of a face's code, from the first, a look's pictures depend on."""

    def encode(self, crops: Sequence[Pixels], rows: int | None = None) -> Tensor:
        """(m, L, D) codes of crops (S, S, 3) of one size; no rows where there is no encoder."""

    def draw_crops(
        self, crops: Sequence[Pixels], codes: Tensor, look: Look, size_px: int
    ) -> Pixels:
        """(m, S, S, 3) uint8 portraits of crops of one size with their codes.

        Args:
            size_px: side of the portraits, as `crop_size` answered, where crops may be larger.
        """

    def expect(self, num_pictures: int) -> None:
        """Say how many pictures are to come, before they are drawn."""


@dataclass(eq=False)
class TranslatorPipeline:
    """A translator, folded for each look on first use."""

    keeps_content: ClassVar[bool] = True
    translator: Translator
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    size: int | None = None
    """Side of crops and portraits; None chooses by the size of the face."""
    backend: Backend | None = None
    """Backend of the network; None is plain torch."""
    people: Callable[[], Generator] | None = None
    """Loads the generator of random people."""
    people_encoder: Callable[[], Encoder] | None = None
    """Loads the encoder of photographs into that generator's codes."""
    encoder: None = None
    _bound: LRUCache[Run] = field(default_factory=lambda: LRUCache(MOST_STYLES))

    def __post_init__(self) -> None:
        self._runs: Backend = self.backend or TorchBackend(self.dtype)
        self.translator.eval().requires_grad_(False).to(self.device)
        if self.size is not None and (self.size % STRIDE_PX or not 0 < self.size <= MOST_PX):
            raise UsageError(
                f"--size of this style is a multiple of {STRIDE_PX} up to {MOST_PX}, got "
                f"{self.size}"
            )

    # ── what it is ───────────────────────────────────────────────────────────────────────────────

    @property
    def layout(self) -> LatentLayout:
        return self.translator.layout

    @property
    def model(self) -> Translator:
        return self.translator

    @property
    def networks(self) -> list[nn.Module]:
        return [self.translator]

    @property
    def num_weights(self) -> int:
        return sum(weight.numel() for weight in self.translator.parameters())

    @property
    def size_px(self) -> int:
        return self.size or USUAL_PX

    @property
    def crop_px(self) -> int:
        return self.size_px

    @property
    def usual_weight(self) -> float | None:
        return 1.0

    @property
    def backend_name(self) -> str:
        return self._runs.name

    @property
    def space(self) -> CodeSpace:
        """Latent space of random people."""
        return "z+"

    @cached_property
    def network(self) -> Generator:
        """The generator of random people, loaded when it is first asked for.

        Raises:
            ModelMissingError: there is none.
        """
        if self.people is None:
            raise ModelMissingError("no generator of random people is here; pass a photograph")
        return self.people().eval().requires_grad_(False).to(self.device)

    # ── crops -> portraits ───────────────────────────────────────────────────────────────────────

    def crop_size(self, side_px: float) -> int:
        return self.size or (SHARP_PX if side_px > SHARP_FROM_PX else USUAL_PX)

    def face_rows(self, look: Look) -> int:
        return 0

    def encode(self, crops: Sequence[Pixels], rows: int | None = None) -> Tensor:
        return torch.empty(len(crops), 0, self.translator.config.code_dim)

    @torch.inference_mode()
    def draw_images(self, images: Tensor, look: Look) -> Tensor:
        """(m, 3, S, S) float32 portraits in about [-1, 1], not clamped, of crops (m, 3, S, S)."""
        result: Tensor = self.bound(look)(images.to(self.device))
        return result

    def draw_crops(
        self, crops: Sequence[Pixels], codes: Tensor, look: Look, size_px: int
    ) -> Pixels:
        images = area_resize(to_images(crops, self.device), size_px)
        return to_pixels(self.draw_images(images, look))

    def expect(self, num_pictures: int) -> None:
        if self._runs.expect(num_pictures):
            self._bound.clear()

    def bound(self, look: Look | None) -> Run:
        """The translator made ready for one look: crops (m, 3, S, S) to portraits; None is no style
        at all, which gives the crops back."""
        if look is None:
            return lambda crops: crops
        weights = list(look.weights.layers)
        if look.preserve_color:
            weights[self.layout.color] = [0.0] * self.layout.num_color
        return self._bound.get(look, lambda: self.bound_once(look.exstyle, weights, once=False))

    @torch.no_grad()
    def bound_once(self, code: Tensor, weights: Sequence[float], *, once: bool = True) -> Run:
        """The translator for a code (L, D); `once` is for one picture or few."""
        code = code.to(self.device).float()
        run = self._runs.bind_translator(self.translator, code, weights, once=once)
        return one_by_one(run) if self.device.type == "cpu" else run

    # ── exemplars ────────────────────────────────────────────────────────────────────────────────

    @torch.inference_mode()
    def encode_style(self, crops: Sequence[Pixels]) -> Tensor:
        """(m, L, D) codes of exemplars' crops (S, S, 3) of one size."""
        images = to_images(crops, self.device)
        return self.translator.encode_style(images).float().clone()

    def style_ws(self, exstyle: Tensor) -> Tensor:
        """(m, L, D) -> (m, L, D): codes are mixed as they are."""
        return exstyle


def load_pipeline(
    store: ModelStore,
    style: str,
    *,
    encoder: Literal["auto", "z+", "w+"] | None = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    backend: BackendName = "auto",
    size: int | None = None,
) -> Portraits | TranslatorPipeline:
    """The networks of a style from the store.

    Args:
        encoder: latent space of the encoder; None loads none. Of no account for a translator.
        size: side of the portraits; None is the model's own, or chosen by the size of the face.

    Raises:
        UsageError: a device, precision or backend that is not here, or a size that the model
            cannot draw.
        ModelError: no such style, or files that are missing or cannot be used.
    """
    if not store.info(style).of_translator:
        return load_portraits(
            store,
            style,
            encoder=encoder,
            device=device,
            precision=precision,
            backend=backend,
            size=size,
        )
    keep_freed_memory()
    place = pick_device(device)
    dtype = pick_precision(precision, place)
    return TranslatorPipeline(
        store.translator(style, place, owned=False),
        device=place,
        dtype=dtype,
        size=size,
        backend=pick_translator_backend(backend, place, dtype),
        people=lambda: store.people(style, place),
        people_encoder=lambda: store.people_encoder(style, place),
    )


def from_pretrained(
    source: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    backend: BackendName = "auto",
    size: int | None = None,
) -> Portraits | TranslatorPipeline:
    """The networks of a style from a folder that `save_pretrained` wrote, or from the hub.

    Args:
        source: the folder, or OWNER/NAME on the Hugging Face hub, downloaded if it is not here.

    Raises:
        ModelError: no such folder or repository, or files that cannot be used.
        UsageError: as `load_pipeline`.
    """
    from dsgcli.store.hub import open_repository

    store, style = open_repository(source)
    return load_pipeline(
        store, style, device=device, precision=precision, backend=backend, size=size
    )


# ── crops of several sizes ───────────────────────────────────────────────────────────────────────


def by_group(keys: Sequence[object]) -> list[list[int]]:
    """Positions of equal keys, in the order in which each key first comes."""
    found: dict[object, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return list(found.values())


def blank(size_px: int) -> Pixels:
    """A gray crop (S, S, 3), for trying a network."""
    return np.full((size_px, size_px, 3), 128, np.uint8)
