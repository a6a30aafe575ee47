"""Map faces to styles: style references -> networks and looks, all of them found before work
starts.

One output a style. Every output draws all faces in its style, except those that `--face-style`
gives another one. Networks are loaded once however many outputs and faces use them, and a face is
encoded once for each encoder.

A picture of the user's may be the exemplar: picture -> face -> crop -> extrinsic code. A translator
has a style encoder for this. For a DualStyleGAN, the method makes an extrinsic code by optimisation
(`dsg destylize`); the encoder's z+ code of the picture is where that starts, and often close enough
(Yang et al., arXiv:2203.13248, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dsgcli.errors import StyleRefError, UsageError
from dsgcli.faces.align import crop_face, crop_whole, looks_aligned
from dsgcli.media.images import read_opaque
from dsgcli.pipeline import USUAL_PX, TranslatorPipeline, load_pipeline
from dsgcli.portraits import PRESERVE_COLOR_PRESETS, Look, Portraits, load_portraits, pick_weights
from dsgcli.stylize.refine import find_perceptual, loss_note, refine_codes

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.faces.detect import FaceDetector
    from dsgcli.models.encoder import Encoder
    from dsgcli.pipeline import StylePipeline
    from dsgcli.progress import Progress
    from dsgcli.store import ModelStore
    from dsgcli.store.codes import ResolvedStyle
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.types import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class FaceStyle:
    """How one face is drawn."""

    portraits: StylePipeline
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputStyle:
    """How all faces of one output are drawn."""

    label: str
    """For file names: `arcane-Jinx_02`."""
    reference: str
    """The exemplar as messages show it and `--style` takes it: `arcane:Jinx_02`."""
    role: FaceStyle
    """Style of every face that has none of its own."""
    own: Mapping[int, FaceStyle] = field(default_factory=dict)
    """By the number of the face."""

    def role_of(self, face: int) -> FaceStyle:
        """The role of the face with this number."""
        return self.own.get(face, self.role)

    @property
    def roles(self) -> list[FaceStyle]:
        """All roles of the output."""
        return [self.role, *self.own.values()]


class StyleCache:
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
        """Share the encoder of a loaded style, if it is the same network: a face is
        then encoded once for both."""
        for other in self._portraits.values():
            if isinstance(other, Portraits) and _same_weights(loaded.encoder, other.encoder):
                loaded.encoder = other.encoder

    def style_of(self, text: str) -> str:
        """The style that a reference names, by the name it has in the store."""
        return self.store.info(self.store.parse(text).style).name

    def role(
        self, text: str, exstyle: Tensor | None = None, label: str = ""
    ) -> tuple[FaceStyle, ResolvedStyle]:
        """The role that a style reference stands for, and what the store has of it.

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
        return FaceStyle(portraits, look), resolved


def make_casts(
    wardrobe: StyleCache, styles: Sequence[str], face_styles: Sequence[str]
) -> list[OutputStyle]:
    """One cast an output.

    Raises:
        UsageError: a `--face-style` that cannot be read, or two for one face.
        ModelError, StyleRefError: styles or exemplars that are not there.
    """
    own: dict[int, FaceStyle] = {}
    labels, references = [], []
    for number, reference in map(parse_face_style, face_styles):
        if number in own:
            raise UsageError(f"--face-style names face {number} twice")
        own[number], found = wardrobe.role(reference)
        labels.append(f"_{number}-{found.label}")
        references.append(f", face {number} {found.reference}")
    casts = []
    for style in styles:
        role, found = wardrobe.role(style)
        label, shown = found.label + "".join(labels), found.reference + "".join(references)
        casts.append(OutputStyle(label=label, reference=shown, role=role, own=own))
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


def encode_exemplar(
    path: Path,
    style: str,
    portraits: Portraits | TranslatorPipeline,
    store: ModelStore,
    options: StylizeOptions,
    detector: FaceDetector,
    progress: Progress,
) -> Tensor:
    """(L, D) code of the largest face in a picture: of a translator's style encoder, else the
    encoder's z+, refined if the options say so.

    Args:
        style: by its name in the store.
        portraits: its networks, with the encoder that photographs are encoded with.

    Raises:
        UsageError: no face in the picture.
        SourceError: no picture.
        ModelMissingError: the style has no z+ encoder.
    """
    if isinstance(portraits, TranslatorPipeline):
        return portraits.encode_style([_cut_face(path, USUAL_PX, detector)])[0]
    if portraits.space != "z+":  # as extrinsic codes are, whatever photographs are encoded to
        portraits = load_portraits(
            store,
            style,
            encoder="z+",
            device=options.device,
            precision=options.precision,
            backend=options.backend,
            size=options.size,
        )
    crop = _cut_face(path, portraits.crop_px, detector)
    code = portraits.encode([crop])
    if options.refine:
        perceptual = find_perceptual(store, portraits.device)
        code = refine_codes(portraits, [crop], code, options.refine, perceptual, progress)
        progress.note(f"{path.name}: {loss_note(perceptual)}")
    return code[0]


def _cut_face(path: Path, size_px: int, detector: FaceDetector) -> Pixels:
    frame = read_opaque(path)
    faces = detector.detect(frame, effort="any")
    if not faces:
        raise UsageError(
            f"no face found in the exemplar {path}; choose a picture whose face is larger or less "
            f"turned"
        )
    if looks_aligned(frame, faces):
        return crop_whole(frame, size_px).pixels
    largest = max(faces, key=lambda face: face.height_px)
    return crop_face(frame, largest, size_px).pixels
