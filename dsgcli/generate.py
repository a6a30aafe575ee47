"""Codes -> pictures: random portraits (`dsg sample`).

Every picture has a seed of its own, so that the same seed gives the same picture whatever else is
drawn beside it. Content, structure and color are drawn apart and can each be held fixed.

Shapes: n pictures, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from dsgcli.errors import UsageError
from dsgcli.portraits import Look, Portraits
from dsgcli.runtime import batched

if TYPE_CHECKING:
    from dsgcli.models.style_sampler import StyleSampler

# ── seeds ────────────────────────────────────────────────────────────────────────────────────────


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,4-6` -> (0, 4, 5, 6).

    Raises:
        UsageError: anything else, a range that runs backwards, or more than 100,000 seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--seeds takes numbers and ranges like 0,4-6, got {text!r}")
        low, high = int(first), int(last or first)
        if high < low or high - low >= 100_000:
            raise UsageError(f"--seeds {part.strip()!r} is no range of at most 100,000 seeds")
        seeds.extend(range(low, high + 1))
    return tuple(seeds)


Part = Literal["content", "structure", "color"]


def _normal(seed: int, part: Part, *shape: int) -> Tensor:
    """N(0, 1) that depends on the seed and the part alone; on the CPU, so on any machine."""
    offset = {"content": 0, "structure": 1, "color": 2}[part]
    rng = torch.Generator().manual_seed(3 * seed + offset)
    return torch.randn(shape, generator=rng)


# ── codes ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SampleCodes:
    """What a set of random portraits is drawn from."""

    instyle: Tensor
    """(n, D) z or (n, L, D) z+: the person."""
    exstyle: Tensor
    """(n, L, D) z+: the style."""
    names: tuple[str, ...]
    """One a picture, for file names."""

    def __len__(self) -> int:
        return len(self.names)


def draw_codes(
    seeds: Sequence[int],
    style_dim: int,
    style: Tensor | StyleSampler,
    *,
    fixed: frozenset[Part] = frozenset(),
) -> SampleCodes:
    """Codes of one picture a seed.

    Args:
        style: (L, D) z+ of an exemplar, or the network that draws one a picture.
        fixed: parts that all pictures take from the first seed.
    """

    def noise(part: Part, width: int) -> Tensor:
        used = [seeds[0]] * len(seeds) if part in fixed else seeds
        return torch.stack([_normal(seed, part, width) for seed in used])

    instyle = noise("content", style_dim)
    if isinstance(style, Tensor):
        drawn = style.expand(len(seeds), -1, -1)
    else:
        width = style.config.noise_dim
        with torch.inference_mode():
            drawn = style(noise("structure", width), noise("color", width))
    return SampleCodes(instyle, drawn, tuple(f"seed{seed:04d}" for seed in seeds))


@torch.inference_mode()
def draw_samples(
    portraits: Portraits, codes: SampleCodes, look: Look, *, batch_size: int = 4
) -> Iterator[Tensor]:
    """(3, S, S) pictures in about [-1, 1], one after the other; not clamped.

    z codes are mapped and repeated for all layers, z+ codes are mapped row by row; both are then
    truncated as `look` says. `look.exstyle` is not used: each picture has its own.
    """
    network = portraits.generator.generator
    for rows in batched(range(len(codes)), batch_size):
        z = codes.instyle[rows].to(portraits.device)
        ws = network.broadcast(network.map(z)) if z.ndim == 2 else network.map_plus(z)
        exstyle_ws = network.map_plus(codes.exstyle[rows].to(portraits.device))
        yield from portraits.draw_ws(network.truncate(ws, look.truncation), exstyle_ws, look)
