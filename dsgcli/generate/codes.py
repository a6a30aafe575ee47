"""Codes to draw from: made from seeds, saved and read back.

Every picture has a seed of its own, so that the same seed gives the same picture whatever else is
drawn beside it. Content, structure and color are drawn apart and can each be held fixed.

Shapes: n pictures, L rows of a code, D style width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dsgcli.errors import SourceError, SourceMissingError, UsageError
from dsgcli.store.files import written_whole

if TYPE_CHECKING:
    from dsgcli.models.style_sampler import StyleSampler
    from dsgcli.types import LatentLayout

MAX_SEED = (1 << 60) - 1
"""Each seed makes three numbers of 64 bits."""
MAX_SEEDS = 100_000

# ── seeds ────────────────────────────────────────────────────────────────────────────────────────


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,4-6` -> (0, 4, 5, 6).

    Raises:
        UsageError: anything else, a range that runs backwards, or is longer than `MAX_SEEDS`.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--seeds takes numbers and ranges like 0,4-6, got {text!r}")
        low, high = int(first), int(last or first)
        if high < low or high - low >= MAX_SEEDS:
            raise UsageError(f"--seeds {part.strip()!r} is no range of at most {MAX_SEEDS:,} seeds")
        if high > MAX_SEED:
            raise UsageError(f"--seeds goes up to {MAX_SEED}, got {high}")
        seeds.extend(range(low, high + 1))
    return tuple(seeds)


Part = Literal["content", "structure", "color"]


def seeded_normal(seed: int, part: Part, *shape: int) -> Tensor:
    """N(0, 1) that depends on the seed and the part alone; on the CPU, so on any machine."""
    offset = {"content": 0, "structure": 1, "color": 2}[part]
    rng = torch.Generator().manual_seed(3 * seed + offset)
    return torch.randn(shape, generator=rng)


# ── codes ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SampleCodes:
    """Codes of a set of random portraits."""

    instyle: Tensor
    """(n, D) z or (n, L, D) z+: the person."""
    exstyle: Tensor
    """(n, L, D) z+: the style."""
    names: tuple[str, ...]
    """One for each picture, for file names."""
    one_style: bool = False
    """Whether all have the style of one exemplar, so that it can be bound."""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class ExemplarMixture:
    """Random mixtures of exemplars, for a style without a sampling network: a few of them in
    structure, and other ones in color."""

    codes: Tensor
    """(N, L, D)."""
    layout: LatentLayout
    sharpness: float = 2.0
    """0 mixes all exemplars alike; the larger, the fewer count."""

    @property
    def noise_dim(self) -> int:
        """Random numbers that a mixture takes, for structure and color each."""
        return len(self.codes)

    def __call__(self, structure_noise: Tensor, color_noise: Tensor) -> Tensor:
        """N(0, 1) twice, (B, N) each -> codes (B, L, D)."""
        # (B, N) weights of the N exemplars, apart for structure and color
        structure, color = (
            torch.einsum("bn,nld->bld", (self.sharpness * noise).softmax(dim=1), self.codes)
            for noise in (structure_noise, color_noise)
        )
        return torch.cat([structure[:, self.layout.structure], color[:, self.layout.color]], dim=1)


def draw_codes(
    seeds: Sequence[int],
    style_dim: int,
    style: Tensor | StyleSampler | ExemplarMixture,
    *,
    fixed: frozenset[Part] = frozenset(),
) -> SampleCodes:
    """Make the codes of one picture for each seed.

    Args:
        style: (L, D) code of an exemplar, or a network that draws a code for each picture.
        fixed: parts that all pictures take from the first seed.
    """

    def noise(part: Part, width: int) -> Tensor:
        used = [seeds[0]] * len(seeds) if part in fixed else seeds
        return torch.stack([seeded_normal(seed, part, width) for seed in used])

    names = tuple(f"seed{seed:04d}" for seed in seeds)
    # (n, D) z
    instyle = noise("content", style_dim)
    if isinstance(style, Tensor):
        return SampleCodes(instyle, style.expand(len(seeds), -1, -1), names, one_style=True)
    width = style.noise_dim if isinstance(style, ExemplarMixture) else style.config.noise_dim
    pairs = zip(noise("structure", width), noise("color", width), strict=True)
    with torch.inference_mode():  # one by one: the last bit depends on the size of a batch
        drawn = [style(structure[None], color[None])[0] for structure, color in pairs]
    return SampleCodes(instyle, torch.stack(drawn), names)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def save_codes(path: Path, codes: SampleCodes) -> None:
    """Write codes as safetensors: `instyle`, `exstyle`, and the names in the header."""
    with written_whole(path) as temporary:
        save_file(
            {"instyle": codes.instyle.contiguous(), "exstyle": codes.exstyle.contiguous()},
            temporary,
            metadata={"names": json.dumps(codes.names), "one_style": json.dumps(codes.one_style)},
        )


def load_codes(path: Path) -> SampleCodes:
    """Read a file of `save_codes`.

    Raises:
        SourceMissingError, SourceError: no such file, or another kind of file.
    """
    if not path.is_file():
        raise SourceMissingError(f"no codes at {path}; `dsg sample --save-codes` writes them")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            names, one_style = json.loads(header["names"]), json.loads(header["one_style"])
            instyle, exstyle = file.get_tensor("instyle"), file.get_tensor("exstyle")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path} holds no codes of `dsg sample --save-codes` ({error})") from None
    if not len(names) == len(instyle) == len(exstyle):
        raise SourceError(f"{path} names {len(names)} pictures and holds {len(exstyle)} codes")
    if not (instyle.isfinite().all() and exstyle.isfinite().all()):
        raise SourceError(f"{path} holds numbers that are not finite; save the codes again")
    for name in names:  # a file of codes must not decide into which folder pictures are written
        plain = isinstance(name, str) and name == Path(name).name and name not in ("", ".", "..")
        if not plain or names.count(name) > 1:
            raise SourceError(f"{path} has names of pictures that cannot be file names")
    return SampleCodes(instyle, exstyle, tuple(names), one_style is True)
