"""Keyframes and the transitions between them: interpolation in Z+ and W+, weights of a mixture.

Keyframes are people (photographs or seeds) and styles (exemplars). Styles of several models can
meet in one picture if the models share their photographic generator.

Conventions
    code      (L, D)
    position  share of the whole transition: 0 at the first keyframe, 1 at the last; in a closed one
              1 is the first keyframe again
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsgcli.generate.codes import seeded_normal
from dsgcli.generate.scenes import AnyRenderer, WeightedStyle
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.pipeline import TranslatorPipeline
from dsgcli.portraits import Portraits
from dsgcli.types import StyleWeights

if TYPE_CHECKING:
    from dsgcli.generate.people import Subject
    from dsgcli.models.translator import Translator

AnyPipeline = Portraits | TranslatorPipeline
SITTER, SITTER_TRUNCATION = 0, 0.7
"""Seed of the random person on whom a translator's exemplars are shown."""
PARALLEL = 1e-4
"""Angle, in radians, below which two codes have no arc between them worth following."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StyleKeyframe:
    """One exemplar, with the model it belongs to."""

    label: str
    model: DualStyleGAN | Translator
    exstyle: Tensor
    """(L, D) z+, or a translator's code."""
    exstyle_ws: Tensor
    """(L, D) w+; a translator's code as it is."""
    instyle_ws: Tensor
    """(L, D) w+: the intrinsic code behind the exemplar, or its extrinsic one if there is none; for
    a translator, whose exemplars have none, a random person's."""

    def weighted(self, share: float = 1.0) -> WeightedStyle:
        """This exemplar as a style of a scene."""
        return WeightedStyle(self.model, self.exstyle_ws, share)

    @classmethod
    def of(
        cls,
        label: str,
        portraits: AnyPipeline,
        exstyle: Tensor,
        instyle: Tensor | None,
        model: DualStyleGAN | None = None,
    ) -> StyleKeyframe:
        """Make a keyframe from the codes (L, D) of an exemplar, z+, or a translator's.

        Args:
            model: the DualStyleGAN of the exemplar; None is that of `portraits`.
        """
        if isinstance(portraits, TranslatorPipeline):
            code, network = exstyle.to(portraits.device), portraits.network
            z = seeded_normal(SITTER, "content", network.config.style_dim).to(portraits.device)
            with torch.inference_mode():
                ws = network.truncate(network.random_ws(z[None]), SITTER_TRUNCATION)[0]
            return cls(
                label=label, model=portraits.model, exstyle=code, exstyle_ws=code, instyle_ws=ws
            )
        model = model or portraits.generator
        device = model.generator.input.input.device
        both = torch.stack([exstyle, exstyle if instyle is None else instyle]).to(device)
        with torch.inference_mode():
            exstyle_ws, instyle_ws = model.generator.map_plus(both)
        return cls(
            label=label,
            model=model,
            exstyle=both[0],
            exstyle_ws=exstyle_ws,
            instyle_ws=instyle_ws,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keyframes:
    """The networks, people and styles of a transition or a figure."""

    renderer: AnyRenderer
    people: list[Subject]
    styles: list[StyleKeyframe]
    weights: StyleWeights
    truncation: float

    @property
    def portraits(self) -> AnyPipeline:
        return self.renderer.portraits

    def ws(self, person: Subject) -> Tensor:
        """(L, D) w+ of a person, truncated."""
        return person.ws(self.portraits, self.truncation)


def styles_at(
    styles: Sequence[StyleKeyframe], position: float, *, spherical: bool, closed: bool, eased: bool
) -> tuple[WeightedStyle, ...]:
    """The styles of a scene at a position among these keyframes.

    Between exemplars of one model the code moves; between models the styles cross-fade, each with
    its own exemplar.
    """
    before, after, share = leg(position, len(styles), closed=closed, eased=eased)
    one, other = styles[before], styles[after]
    if share == 0.0:
        return (one.weighted(),)
    if share == 1.0:
        return (other.weighted(),)
    # a transition between models: each draws its own exemplar, in shares
    if one.model is not other.model:
        return (one.weighted(1.0 - share), other.weighted(share))
    if not spherical:
        return (WeightedStyle(one.model, torch.lerp(one.exstyle_ws, other.exstyle_ws, share)),)
    if not isinstance(one.model, DualStyleGAN):  # the lengths of its codes mean something
        return (WeightedStyle(one.model, torch.lerp(one.exstyle, other.exstyle, share)),)
    code = slerp(one.exstyle, other.exstyle, share)
    return (WeightedStyle(one.model, one.model.generator.map_plus(code[None])[0]),)


# ── interpolation ────────────────────────────────────────────────────────────────────────────────


def positions(num_frames: int, num_keyframes: int, *, closed: bool = False) -> Iterator[float]:
    """Positions of `num_frames` pictures, as even as whole pictures allow: one is exactly at each
    keyframe. The last is 1 (open) or one step before the first keyframe comes again (closed)."""
    legs = num_keyframes if closed else max(1, num_keyframes - 1)
    last = num_frames if closed else max(1, num_frames - 1)
    marks = [round(k * last / legs) for k in range(legs + 1)]  # picture at each keyframe
    for index in range(num_frames):
        k = min(bisect_right(marks, index), legs) - 1
        yield (k + (index - marks[k]) / (marks[k + 1] - marks[k])) / legs


def leg(
    position: float, num_keyframes: int, *, closed: bool, eased: bool
) -> tuple[int, int, float]:
    """Keyframes before and after a position, and the share of the way between them. Eased is slow
    away and slow in: 3t^2 - 2t^3, with no speed at 0 and 1."""
    legs = num_keyframes if closed else num_keyframes - 1
    if legs == 0:
        return 0, 0, 0.0
    place = round(position * legs, 9)  # so that a keyframe is met exactly
    index = min(int(place), legs - 1)
    share = place - index
    eased_share = share * share * (3.0 - 2.0 * share)
    return index, (index + 1) % num_keyframes, eased_share if eased else share


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
    # parallel codes have no arc between them: then straight
    straight = torch.lerp(unit_a, unit_b, share)
    direction = torch.where(sine < PARALLEL, straight, arc)
    return direction * torch.lerp(length_a, length_b, share)


def along(
    codes: Sequence[Tensor],
    position: float,
    *,
    spherical: bool,
    closed: bool = False,
    eased: bool = True,
) -> Tensor:
    """The code (L, D) at a position among several: on the arc (Z), or straight (W, where distances
    mean likeness)."""
    before, after, share = leg(position, len(codes), closed=closed, eased=eased)
    if share == 0.0:
        return codes[before]
    interpolate = slerp if spherical else torch.lerp
    return interpolate(codes[before], codes[after], share)
