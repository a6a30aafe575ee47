"""The DualStyleGAN teacher: random people of a style's base, and their twins in the style.

As VToonify is taught (Yang et al., arXiv:2209.11224, section 4.2): the photographic generator's
picture of a code is the photograph, DualStyleGAN's picture of the same code and an exemplar is the
drawing. Published styles come with codes and without pictures, so what the style encoder sees of an
exemplar is a portrait that DualStyleGAN draws in its style.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dsgcli.runtime import keep_freed_memory
from dsgcli.store.networks import load_dualstylegan
from dsgcli.store.write import save_codes, save_dualstylegan
from dsgcli.training.data import Pack, open_pack, write_pack
from dsgcli.training.perceptual import fit
from dsgcli.training.stage import seeded_generator
from dsgcli.training.stages.codes import read_part
from dsgcli.training.teachers.base import PAIR_PX, PairChunk, random_degrees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dsgcli.models.dualstylegan import DualStyleGAN
    from dsgcli.recipe import DistillRecipe
    from dsgcli.store.codes import Codes
    from dsgcli.training.stage import Pictures, RunContext
    from dsgcli.types import Pixels

FACE_OF_EXEMPLARS = "exemplar"
"""Names the random person in whom all exemplars are drawn for the style encoder."""


@dataclass(frozen=True, kw_only=True)
class DualStyleGANTeacher:
    """Random people in the style of a DualStyleGAN's exemplars (`Teacher`)."""

    network: Path
    """The whole DualStyleGAN, as `save_dualstylegan` writes it."""
    codes: Path
    """Extrinsic codes of the exemplars, in the order of `pack`."""
    pack: Pack
    """Exemplars as the style encoder sees them."""

    @property
    def exemplars(self) -> Pictures:
        return self.pack

    @property
    def shipped(self) -> Sequence[int]:
        return range(len(self.pack))

    def draw(self, key: str, count: int) -> PairChunk:
        """`count` pairs; see `Teacher`."""
        dual, codes = _load(self.network, self.codes)
        rng = np.random.default_rng(_number(key))
        numbers = rng.integers(len(codes.names), size=count).tolist()
        degrees = [random_degrees(rng) for _ in range(count)]
        pixels = [
            _pair(dual, codes.default[number], f"{key}/{place}", degree)
            for place, (number, degree) in enumerate(zip(numbers, degrees, strict=True))
        ]
        return PairChunk(
            pixels=np.stack(pixels),
            exemplars=numbers,
            structure=[structure for structure, _ in degrees],
            color=[color for _, color in degrees],
            rejected=Counter(),
        )


def _number(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=1)
def _load(network: Path, codes: Path) -> tuple[DualStyleGAN, Codes]:
    keep_freed_memory()
    torch.set_num_threads(1)
    return load_dualstylegan(network).eval().requires_grad_(False), read_part(codes)


@torch.inference_mode()
def _pair(dual: DualStyleGAN, exstyle: Tensor, key: str, degrees: tuple[float, float]) -> Pixels:
    """(2, S, S, 3) uint8: a random person, and the same drawn.

    Args:
        exstyle: (L, D) z+ of the exemplar.
        degrees: of structure and color, in [0, 1].
    """
    layout, generator = dual.layout, dual.generator
    z = torch.randn(1, generator.config.style_dim, generator=seeded_generator(key))
    ws = generator.random_ws(z)
    weights = [degrees[0]] * layout.num_structure + [degrees[1]] * layout.num_color
    drawn = dual(ws, generator.map_plus(exstyle[None]), weights)
    both = torch.cat([dual.plain(ws), drawn])
    small = fit(both, min(PAIR_PX, both.shape[-1])).clamp(-1, 1)
    pixels: Pixels = ((small + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def dualstylegan_teacher(context: RunContext, recipe: DistillRecipe) -> DualStyleGANTeacher:
    """The teacher of a recipe; its exemplars are drawn first.

    Raises:
        ModelError: no such style in the store, or a file that cannot be used.
    """
    folder = context.folder / "teacher"
    network, codes_path = folder / "network.safetensors", folder / "codes.safetensors"
    if not codes_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        style = context.store.style(recipe.style)
        save_dualstylegan(network, context.store.generator(recipe.style))
        codes = style.codes
        save_codes(
            codes_path, codes, layout=context.store.info(recipe.style).layout, keep_order=True
        )
    dual, codes = _load(network, codes_path)

    def portraits(advance: Callable[[int, int, str], None]) -> Iterator[tuple[str, Pixels]]:
        for number, name in enumerate(codes.names):
            advance(number, len(codes.names), "exemplars")
            yield name, _pair(dual, codes.default[number], FACE_OF_EXEMPLARS, (1.0, 1.0))[1]

    exemplars = folder / "exemplars"
    if not (exemplars / "portraits.json").is_file():
        write_pack(exemplars, min(PAIR_PX, dual.layout.size_px), portraits(context.advance))
    return DualStyleGANTeacher(network=network, codes=codes_path, pack=open_pack(exemplars))
