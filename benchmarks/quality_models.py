"""What `quality.py` draws with: a translator, or a DualStyleGAN style of the store.

    Painter.draw(photographs, exemplar, degree) -> pictures

A degree of 1 draws as `dsg stylize` does without a word about weights, 0 with all weights 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from quality_photos import Exemplar
from safetensors import safe_open

from dsgcli.faces import warp
from dsgcli.models.translator import Translator
from dsgcli.portraits import Look, Portraits, load_portraits, pick_weights, to_images, to_pixels
from dsgcli.store import ModelStore, Style
from dsgcli.store.architecture import translator_config
from dsgcli.store.contents import shapes_of
from dsgcli.store.networks import load_translator
from dsgcli.types import StyleWeights

if TYPE_CHECKING:
    from dsgcli.types import Pixels

BATCH = 8
AVERAGE = "modules/average/"
"""Where a checkpoint of the stage `distill` keeps the averaged translator."""
SAME_CODE = 0.05
"""Rounding to half precision moves codes by less, in standard deviations."""
CPU = torch.device("cpu")


class Painter(Protocol):
    """Draws aligned crops after an exemplar."""

    def draw(self, crops: Sequence[Pixels], exemplar: Exemplar, degree: float = 1.0) -> Pixels:
        """Crops (S, S, 3) -> (N, S, S, 3)."""
        ...


class TranslatorPainter:
    """A translator; codes that no style file holds are made by its style encoder."""

    def __init__(self, translator: Translator, codes: dict[str, torch.Tensor]) -> None:
        """
        Args:
            codes: (L, D) by the exemplar's name.
        """
        self.translator = translator.eval().requires_grad_(False)
        self.translator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.codes = codes

    @torch.inference_mode()
    def draw(self, crops: Sequence[Pixels], exemplar: Exemplar, degree: float = 1.0) -> Pixels:
        code = self.code(exemplar)[None]
        weights = torch.full((self.translator.layout.num_latents,), degree)
        drawn = []
        for start in range(0, len(crops), BATCH):
            images = to_images(crops[start : start + BATCH], CPU)
            images = images.contiguous(memory_format=torch.channels_last)
            drawn.append(
                to_pixels(self.translator(images, code.expand(len(images), -1, -1), weights))
            )
        return np.concatenate(drawn)

    @torch.inference_mode()
    def code(self, exemplar: Exemplar) -> torch.Tensor:
        """(L, D)."""
        if exemplar.name not in self.codes:
            picture = to_images([exemplar.pixels], CPU)
            self.codes[exemplar.name] = self.translator.encode_style(picture)[0]
        return self.codes[exemplar.name]


def find_by_codes(
    painter: TranslatorPainter, names: Sequence[str], pictures: Sequence[Exemplar]
) -> list[Exemplar]:
    """Exemplars that go by other names than their pictures: the picture whose code is the nearest,
    or none where that is no more alike than other pictures are."""
    theirs = torch.stack([painter.code(picture) for picture in pictures]).flatten(1)  # (M, L * D)
    found = []
    for name in names:
        apart = (theirs - painter.codes[name].flatten()).square().mean(dim=1).sqrt()
        nearest = int(apart.argmin())
        same = float(apart[nearest]) < SAME_CODE * float(theirs.std())
        found.append(Exemplar(name, pictures[nearest].pixels if same else None))
    return found


class StylePainter:
    """A DualStyleGAN style of the store."""

    def __init__(self, portraits: Portraits, style: Style) -> None:
        self.portraits, self.style = portraits, style
        self._codes: dict[int, tuple[Pixels, torch.Tensor]] = {}  # with crops, which keep their id

    def draw(self, crops: Sequence[Pixels], exemplar: Exemplar, degree: float = 1.0) -> Pixels:
        usual = pick_weights(self.portraits.layout)
        look = Look(
            exstyle=self.style.default[self.style.names.index(exemplar.name)],
            weights=StyleWeights(tuple(degree * weight for weight in usual.layers)),
        )
        model = self.portraits
        once = Portraits(  # one value keeps all looks that it has drawn
            generator=model.generator, encoder=model.encoder, device=model.device, dtype=model.dtype
        )
        drawn = []
        for start in range(0, len(crops), BATCH):
            codes = torch.stack([self._code(crop) for crop in crops[start : start + BATCH]])
            drawn += [warp.resize(p, *crops[0].shape[:2]) for p in once.draw(codes, look)]
        return np.stack(drawn)

    def _code(self, crop: Pixels) -> torch.Tensor:
        if id(crop) not in self._codes:
            self._codes[id(crop)] = crop, self.portraits.encode([crop])[0]
        return self._codes[id(crop)][1]


# ── opening ──────────────────────────────────────────────────────────────────────────────────────


def open_translator(path: Path) -> Translator:
    """A translator's file, or the average of a checkpoint of the stage `distill`."""
    with safe_open(path, "pt") as file:
        keys = [key for key in file.keys() if key.startswith(AVERAGE)]  # noqa: SIM118
        state = {key.removeprefix(AVERAGE): file.get_tensor(key) for key in keys}
    if not state:
        return load_translator(path)
    translator = Translator(translator_config(shapes_of(state), path))
    translator.load_state_dict(state)
    return translator.eval()


def step_of(path: Path) -> str:
    """`distill-192px-1, step 300` of a checkpoint; the name of any other file."""
    with safe_open(path, "pt") as file:
        words = json.loads((file.metadata() or {}).get("dsg", "{}"))
    step = words.get("iteration")
    return path.stem if step is None else f"{path.stem}, step {step}"


def open_painter(store: ModelStore, name: str) -> tuple[Painter, Style]:
    """A style of the store, of either kind, with the codes of its file."""
    style = store.style(name)
    if store.info(name).of_translator:
        codes = dict(zip(style.names, style.default, strict=True))
        return TranslatorPainter(store.translator(name), codes), style
    return StylePainter(load_portraits(store, name), style), style
