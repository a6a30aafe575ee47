"""Ways between codes: positions along stops, and interpolation in Z+ and W+.

Conventions
    stop      a code (L, D) that the path passes through
    position  0 at the first stop, 1 at the second, ...; of a closed path of n stops, n is the first
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PARALLEL = 1e-4
"""Angle, in radians, below which two codes have no arc between them worth following."""


def positions(num_frames: int, *, closed: bool = False) -> Iterator[float]:
    """Shares of the way, 0 to 1: `num_frames` of them, the last one 1 (open) or one step before the
    first comes again (closed)."""
    last = num_frames if closed else max(1, num_frames - 1)
    yield from (index / last for index in range(num_frames))


def ease(share: float) -> float:
    """Slow away, slow in: 3t^2 - 2t^3, with no speed at 0 and 1."""
    return share * share * (3.0 - 2.0 * share)


def leg(position: float, num_stops: int, *, closed: bool, eased: bool) -> tuple[int, int, float]:
    """Stops before and after a share of the whole way (0 to 1), and how far between them."""
    legs = num_stops if closed else num_stops - 1
    if legs == 0:
        return 0, 0, 0.0
    index = min(int(position * legs), legs - 1)
    share = position * legs - index
    return index, (index + 1) % num_stops, ease(share) if eased else share


def lerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Straight from a (share 0) to b (share 1): right in W, where distances mean likeness."""
    return torch.lerp(a, b, share)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Along the arc, row by row: right in Z, where a code's length means nothing and a straight
    line would cut through the unlikely middle (White, arXiv:1609.04468, section 2.1).

    Lengths are interpolated too, so that both ends are met exactly.
    """
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    cosine = (unit_a * unit_b).sum(dim=-1, keepdim=True).clamp(-1.0, 1.0)
    angle = cosine.arccos()
    sine = angle.sin()
    arc = (((1 - share) * angle).sin() * unit_a + (share * angle).sin() * unit_b) / sine
    straight = torch.lerp(unit_a, unit_b, share)
    direction = torch.where(sine < PARALLEL, straight, arc)
    return direction * torch.lerp(length_a, length_b, share)


def along(
    stops: Sequence[Tensor],
    position: float,
    *,
    spherical: bool,
    closed: bool = False,
    eased: bool = True,
) -> Tensor:
    """The code (L, D) at a share of the way through all stops."""
    before, after, share = leg(position, len(stops), closed=closed, eased=eased)
    way = slerp if spherical else lerp
    return stops[before] if share == 0.0 else way(stops[before], stops[after], share)
