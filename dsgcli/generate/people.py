"""Photographs, or seeds of people who do not exist -> intrinsic codes.

photograph -> Frame -> face -> crop -> encoder -> z+ or w+; seed -> z -> z+.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from dsgcli.errors import NoFaceError, UsageError
from dsgcli.faces.align import crop_face, crop_whole, looks_aligned
from dsgcli.faces.detect import FaceDetector, open_detector
from dsgcli.generate.codes import MAX_SEED, seeded_normal
from dsgcli.media.files import check_input
from dsgcli.media.images import read_opaque
from dsgcli.pipeline import TranslatorPipeline
from dsgcli.portraits import Portraits, area_resize, to_images
from dsgcli.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from dsgcli.models.encoder import CodeSpace
    from dsgcli.store import ModelStore
    from dsgcli.types import Crop, Frame, Pixels

Aligned = Literal["auto", "yes", "no"]
"""Whether a picture is a face crop already; `auto` looks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """One person to draw."""

    label: str
    code: Tensor
    """(L, D) intrinsic code; (3, S, S) in [-1, 1], the photograph itself, for a translator."""
    space: CodeSpace
    """Latent space of the code."""
    photograph: Pixels | None = None
    """(S, S, 3) the aligned face it was encoded from; None for a seed."""

    def ws(self, portraits: Portraits | TranslatorPipeline, truncation: float) -> Tensor:
        """(L, D) w+ that drives the intrinsic path; a photograph for a translator comes back as it
        is."""
        if self.code.ndim == 3:
            return self.code
        network = portraits.network
        code = self.code[None].to(portraits.device)
        ws = network.map_plus(code) if self.space == "z+" else code
        return network.truncate(ws, truncation)[0]


def seed_of(content: str) -> int | None:
    """The seed that `--content` names; None if it names a picture.

    Raises:
        UsageError: a seed that is too large.
    """
    if not (content.isdecimal() and content.isascii()) or Path(content).exists():
        return None
    if int(content) > MAX_SEED:
        raise UsageError(f"a seed lies between 0 and {MAX_SEED}, got {content}")
    return int(content)


def check_contents(contents: Sequence[str]) -> bool:
    """Make sure that all photographs are there; returns whether there are any.

    Raises:
        SourceMissingError, SourceError, UsageError: one is not, or cannot be read.
    """
    photographs = [Path(content) for content in contents if seed_of(content) is None]
    for path in photographs:
        check_input(path)
    return bool(photographs)


def find_people(
    contents: Sequence[str],
    portraits: Portraits | TranslatorPipeline,
    store: ModelStore,
    *,
    aligned: Aligned = "auto",
    moving: bool = False,
    progress: Progress = NULL_PROGRESS,
) -> list[Subject]:
    """Encode photographs and draw seeds, in the order given.

    Args:
        moving: a transition leads from person to person, so that a translator, too, needs their
            codes and not their pictures.

    Raises:
        NoFaceError: a photograph without a face. MediaError: one that cannot be read.
        ModelError: no face detector.
    """
    people = []
    with FaceCutter(store, aligned, progress) as cutter:
        for content in contents:
            seed = seed_of(content)
            if seed is not None:  # the person that `dsg sample` draws from this seed
                network = portraits.network
                z = seeded_normal(seed, "content", network.config.style_dim)
                code = network.spread(z[None].to(portraits.device))[0]
                people.append(Subject(label=f"seed {seed}", code=code, space="z+"))
                continue
            path = Path(content)
            pixels = cutter.crop(read_opaque(path), content, portraits.crop_px).pixels
            code, space = _encoded(pixels, portraits, moving)
            people.append(Subject(label=path.stem, code=code, space=space, photograph=pixels))
    return people


def _encoded(
    pixels: Pixels, portraits: Portraits | TranslatorPipeline, moving: bool
) -> tuple[Tensor, CodeSpace]:
    """The code of an aligned photograph (S, S, 3), and its latent space."""
    if not isinstance(portraits, TranslatorPipeline):
        return portraits.encode([pixels])[0], portraits.space
    image = to_images([pixels], portraits.device)
    # a translator draws from the photograph itself, unless the person changes on the way
    if not moving:
        return image[0], portraits.space
    assert portraits.people_encoder is not None
    encoder = portraits.people_encoder().eval().requires_grad_(False)
    code = encoder(area_resize(image, encoder.config.input_px))[0]
    return code, encoder.config.latent_space


class FaceCutter:
    """Finds the face of a picture and cuts it out; opens the detector when it is first needed."""

    def __init__(
        self, store: ModelStore, aligned: Aligned = "auto", progress: Progress = NULL_PROGRESS
    ) -> None:
        self.store, self.aligned, self.progress = store, aligned, progress
        self._detector: FaceDetector | None = None

    def crop(self, frame: Frame, name: str, size_px: int) -> Crop:
        """The largest face, aligned; or the whole picture, where it is a face crop already.

        Args:
            name: name of the picture, for messages.

        Raises:
            NoFaceError: there is none. ModelError, UsageError: no detector.
        """
        if self.aligned == "yes":
            return crop_whole(frame, size_px)
        if self._detector is None:
            self._detector = open_detector(task_file=self.store.face_landmarker())
        faces = self._detector.detect(frame, effort="any")
        if not faces:
            raise NoFaceError(name, detector=self._detector.name)
        if self.aligned == "auto" and looks_aligned(frame, faces):
            return crop_whole(frame, size_px)
        if len(faces) > 1:
            self.progress.note(f"{name} has {len(faces)} faces; the largest one is used")
        return crop_face(frame, max(faces, key=lambda face: face.height_px), size_px)

    def __enter__(self) -> FaceCutter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._detector is not None:
            self._detector.close()
