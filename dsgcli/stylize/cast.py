"""Who is drawn how: style references -> networks and looks, all of them found before work starts.

One output a style. Every output draws all faces in its style, except those that `--face-style`
gives another one. Networks are loaded once however many outputs and faces use them, and a face is
encoded once for each encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from dsgcli.errors import StyleRefError, UsageError
from dsgcli.pipeline import TranslatorPipeline, load_pipeline
from dsgcli.portraits import PRESERVE_COLOR_PRESETS, Look, Portraits, pick_weights

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.models.encoder import Encoder
    from dsgcli.pipeline import StylePipeline
    from dsgcli.store import ModelStore
    from dsgcli.stylize.options import StylizeOptions


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """How one face is drawn."""

    portraits: StylePipeline
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cast:
    """How all faces of one output are drawn."""

    label: str
    """For file names: `arcane-Jinx_02`."""
    role: Role
    """Of every face that has none of its own."""
    own: Mapping[int, Role] = field(default_factory=dict)
    """By the number of the face."""

    def role_of(self, face: int) -> Role:
        """The role of the face with this number."""
        return self.own.get(face, self.role)

    @property
    def roles(self) -> list[Role]:
        """All roles of the output."""
        return [self.role, *self.own.values()]


class Wardrobe:
    """Networks by style name, each loaded once; styles of one base share its encoder."""

    def __init__(self, store: ModelStore, options: StylizeOptions) -> None:
        self.store, self.options = store, options
        self._portraits: dict[str, Portraits | TranslatorPipeline] = {}

    def portraits(self, style: str) -> Portraits | TranslatorPipeline:
        """The networks of a style; those of one translator are one network.

        Raises:
            ModelError, UsageError: as `load_pipeline`, or an option that only a DualStyleGAN has.
        """
        info = self.store.info(style)
        if info.of_translator:
            if self.options.refine:
                raise UsageError(
                    f"--refine fits the code of a face, and {info.name} draws from the photograph "
                    f"itself; drop --refine"
                )
            style = self._same_translator(style)

        if style not in self._portraits:
            options = self.options
            loaded = load_pipeline(
                self.store,
                style,
                encoder=options.encoder,
                device=options.device,
                precision=options.precision,
                backend=options.backend,
                size=options.size,
            )
            if isinstance(loaded, Portraits):
                self._share_encoder(loaded)
            self._portraits[style] = loaded
        return self._portraits[style]

    def _same_translator(self, style: str) -> str:
        """A style that is loaded and has the translator of this one; this one, if none has."""
        base = self.store.info(style).base
        for other, loaded in self._portraits.items():
            if isinstance(loaded, TranslatorPipeline) and self.store.info(other).base == base:
                return other
        return style

    def _share_encoder(self, loaded: Portraits) -> None:
        """Take the encoder of a style that is there already, if it is the same network: a face is
        then encoded once for both."""
        for other in self._portraits.values():
            if isinstance(other, Portraits) and _same_weights(loaded.encoder, other.encoder):
                loaded.encoder = other.encoder

    def style_of(self, text: str) -> str:
        """The style that a reference names, by the name it has in the store."""
        return self.store.info(self.store.parse(text).style).name

    def role(self, text: str, exstyle: Tensor | None = None, label: str = "") -> tuple[Role, str]:
        """The role that a style reference stands for, and its label.

        Args:
            exstyle: (L, D) of a picture of the user's, instead of the style's exemplar.
        """
        options = self.options
        resolved = self.store.resolve(self.store.parse(text))
        portraits = self.portraits(resolved.style)
        look = Look(
            exstyle=resolved.exstyle if exstyle is None else exstyle,
            weights=pick_weights(
                portraits.layout,
                structure=options.structure,
                color=options.color,
                weights=options.weights,
                preset=options.preset,
                usual=portraits.usual_weight,
            ).scaled(options.strength),
            preserve_color=options.preserve_color or options.preset in PRESERVE_COLOR_PRESETS,
            truncation=options.truncation,
            label=label or resolved.label,
        )
        return Role(portraits, look), look.label


def make_casts(wardrobe: Wardrobe, styles: Sequence[str], face_styles: Sequence[str]) -> list[Cast]:
    """One cast an output.

    Raises:
        UsageError: a `--face-style` that cannot be read, or two for one face.
        ModelError, StyleRefError: styles or exemplars that are not there.
    """
    own: dict[int, Role] = {}
    for number, reference in map(parse_face_style, face_styles):
        if number in own:
            raise UsageError(f"--face-style names face {number} twice")
        own[number] = wardrobe.role(reference)[0]
    casts = []
    for style in styles:
        role, label = wardrobe.role(style)
        casts.append(Cast(label=label, role=role, own=own))
    labels = [cast.label for cast in casts]
    if len(set(labels)) < len(labels):
        raise StyleRefError("two --style are the same; name each once")
    return casts


def parse_face_style(text: str) -> tuple[int, str]:
    """`0=arcane:12` -> (0, "arcane:12")."""
    number, equals, style = text.partition("=")
    if not equals or not number.strip().isdigit() or not style:
        raise UsageError(f"--face-style takes NUMBER=STYLE such as 0=arcane:12, got {text!r}")
    return int(number), style


def _same_weights(one: Encoder | None, other: Encoder | None) -> bool:
    if one is None or other is None or one.config != other.config:
        return False
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
