"""What a way or a figure is made of, found before anything is drawn: networks, people, styles.

Styles of several models can meet in one picture if the models share their photographic generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError, StyleRefError
from dsgcli.generate.codes import seeded_normal
from dsgcli.generate.contents import Person, check_contents, find_people
from dsgcli.generate.interpolate_options import InterpolateOptions
from dsgcli.generate.paths import leg, lerp, slerp
from dsgcli.generate.scenes import AnyPainter, Pull, make_painter
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.pipeline import TranslatorPipeline, load_pipeline
from dsgcli.portraits import Portraits, pick_weights
from dsgcli.progress import SILENT, Progress
from dsgcli.store import ModelStore
from dsgcli.types import StyleRef, StyleTerm, StyleWeights

if TYPE_CHECKING:
    from dsgcli.models.translator import Translator
    from dsgcli.store.codes import ResolvedStyle


AnyPipeline = Portraits | TranslatorPipeline
SITTER, SITTER_TRUNCATION = 0, 0.7
"""Seed of the random person on whom a translator's exemplars are shown."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StyleStop:
    """One exemplar, with the model it belongs to."""

    label: str
    model: DualStyleGAN | Translator
    exstyle: Tensor
    """(L, D) z+, or a translator's code."""
    exstyle_ws: Tensor
    """(L, D) w+; a translator's code as it is."""
    instyle_ws: Tensor
    """(L, D) w+: the intrinsic code behind the exemplar, or its extrinsic one if there is none; of
    a translator, whose exemplars have none, a random person's."""

    def pull(self, share: float = 1.0) -> Pull:
        """At this exemplar."""
        return Pull(self.model, self.exstyle_ws, share)

    @classmethod
    def of(
        cls, label: str, model: DualStyleGAN, exstyle: Tensor, instyle: Tensor | None
    ) -> StyleStop:
        """From the codes (L, D) of an exemplar, z+."""
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

    @classmethod
    def translated(cls, label: str, portraits: TranslatorPipeline, code: Tensor) -> StyleStop:
        """From a translator's code (L, D) of an exemplar, to be shown on `SITTER`."""
        code, network = code.to(portraits.device), portraits.network
        z = seeded_normal(SITTER, "content", network.config.style_dim).to(portraits.device)
        with torch.inference_mode():
            ws = network.truncate(network.random_ws(z[None]), SITTER_TRUNCATION)[0]
        return cls(label=label, model=portraits.model, exstyle=code, exstyle_ws=code, instyle_ws=ws)

    @classmethod
    def resolved(
        cls, style: ResolvedStyle, model: DualStyleGAN | Translator, portraits: AnyPipeline
    ) -> StyleStop:
        """From what a style reference stands for."""
        if isinstance(portraits, TranslatorPipeline):
            return cls.translated(style.label, portraits, style.exstyle)
        assert isinstance(model, DualStyleGAN)
        return cls.of(style.label, model, style.exstyle, style.instyle)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stops:
    """Everything that is drawn from."""

    painter: AnyPainter
    people: list[Person]
    styles: list[StyleStop]
    weights: StyleWeights
    truncation: float

    @property
    def portraits(self) -> AnyPipeline:
        return self.painter.portraits

    def ws(self, person: Person) -> Tensor:
        """(L, D) w+ of a person, truncated."""
        return person.ws(self.portraits, self.truncation)


def load_stops(options: InterpolateOptions, progress: Progress = SILENT) -> Stops:
    """Find, load, encode.

    Raises:
        UsageError, ModelError, MediaError, NoFaceError: something is not there, or does not fit.
    """
    photographs = check_contents(options.people)
    store = ModelStore.open(options.pretrained)
    styles = resolve_styles(store, options)
    check_related(store, [style.style for style in styles])
    portraits = load_pipeline(
        store,
        styles[0].style,
        encoder="auto" if photographs else None,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        size=options.size,
    )
    weights = pick_weights(
        portraits.layout,
        structure=options.structure,
        color=options.color,
        weights=options.weights,
        preset=options.preset,
        usual=portraits.usual_weight,
    )
    models = load_models(store, [style.style for style in styles], portraits)
    people = find_people(
        options.people,
        portraits,
        store,
        aligned=options.aligned,
        moving=options.kind == "path" and len(options.people) > 1,
        progress=progress,
    )
    return Stops(
        painter=make_painter(portraits, options.batch_size),
        people=people,
        styles=[StyleStop.resolved(style, models[style.style], portraits) for style in styles],
        weights=weights,
        truncation=options.truncation,
    )


def resolve_styles(store: ModelStore, options: InterpolateOptions) -> list[ResolvedStyle]:
    """The exemplars that are named; of a matrix with one style, its first ones.

    Raises:
        ModelError, StyleRefError: no such style or exemplar, or fewer than columns.
    """
    refs = [StyleRef.parse(text) for text in options.style]
    if options.matrix and options.matrix[1] > len(refs):
        refs = _first_exemplars(store, refs[0], options.matrix[1])
    return [store.resolve(ref) for ref in refs]


def _first_exemplars(store: ModelStore, ref: StyleRef, count: int) -> list[StyleRef]:
    if len(ref.terms) > 1 or ref.terms[0].exemplar is not None:
        raise StyleRefError(
            f"--style {ref} is one exemplar, and the matrix has {count} columns; name the style "
            f"alone for its first ones, or give --style {count} times"
        )
    names = store.style(ref.style).names
    if len(names) < count:
        raise StyleRefError(
            f"{ref.style} has {len(names)} exemplars, and the matrix has {count} columns; choose "
            f"at most {len(names)}"
        )
    return [StyleRef((StyleTerm(ref.style, name),)) for name in names[:count]]


def check_related(store: ModelStore, styles: Sequence[str]) -> None:
    """Refuse styles whose photographic generators differ: a code means another face in each.

    Raises:
        ModelMismatchError: names both.
    """
    first, *others = dict.fromkeys(styles)
    for other in others:
        if not store.same_base(first, other):
            raise ModelMismatchError(
                f"{first} and {other} were made on different bases, so no way leads from one to "
                f"the other; choose styles of one base (`dsg styles diff` tells)"
            )


def load_models(
    store: ModelStore, styles: Sequence[str], portraits: AnyPipeline
) -> dict[str, DualStyleGAN | Translator]:
    """The model of each style, all with one photographic generator in memory; of translators there
    is one.

    Raises:
        ModelError: missing, damaged, or of another layout than the first.
    """
    first = styles[0]
    if isinstance(portraits, TranslatorPipeline):
        return dict.fromkeys(styles, portraits.model)
    models: dict[str, DualStyleGAN | Translator] = {first: portraits.generator}
    for style in styles:
        if style not in models:
            model = store.generator(style, portraits.device).requires_grad_(False)
            if model.layout != portraits.layout:
                raise ModelMismatchError(
                    f"{first} and {style} divide structure from color at different layers, so no "
                    f"way leads from one to the other"
                )
            model.generator = portraits.generator.generator
            models[style] = model
    return models


def pulls_at(
    styles: Sequence[StyleStop], position: float, *, spherical: bool, closed: bool, eased: bool
) -> tuple[Pull, ...]:
    """What pulls at a share of the way (0 to 1) through the styles.

    Between exemplars of one model the code moves; between models the pull passes over from one to
    the other, each at its own exemplar.
    """
    before, after, share = leg(position, len(styles), closed=closed, eased=eased)
    one, other = styles[before], styles[after]
    if share == 0.0:
        return (one.pull(),)
    if share == 1.0:
        return (other.pull(),)
    if one.model is not other.model:
        return (one.pull(1.0 - share), other.pull(share))
    if not spherical:
        return (Pull(one.model, lerp(one.exstyle_ws, other.exstyle_ws, share)),)
    if not isinstance(one.model, DualStyleGAN):  # the lengths of its codes mean something
        return (Pull(one.model, lerp(one.exstyle, other.exstyle, share)),)
    code = slerp(one.exstyle, other.exstyle, share)
    return (Pull(one.model, one.model.generator.map_plus(code[None])[0]),)


def scaled(weights: StyleWeights, share: float) -> StyleWeights:
    """All weights times a number."""
    return replace(weights, layers=tuple(weight * share for weight in weights.layers))
