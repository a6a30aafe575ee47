"""People: photographs, or seeds of people who do not exist -> intrinsic codes.

Data flow: path -> Frame -> face -> crop -> encoder -> z+ or w+; seed -> z -> z+.
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
from dsgcli.media.images import read_image
from dsgcli.portraits import Portraits
from dsgcli.progress import SILENT, Progress

if TYPE_CHECKING:
    from dsgcli.models.encoder import CodeSpace
    from dsgcli.store import ModelStore
    from dsgcli.types import Crop, Frame, Pixels

Aligned = Literal["auto", "yes", "no"]
"""Whether a picture is a face crop already; `auto` looks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Person:
    """One face to draw."""

    label: str
    code: Tensor
    """(L, D) intrinsic code."""
    space: CodeSpace
    """Where the code lies."""
    photograph: Pixels | None = None
    """(S, S, 3) the aligned face it was encoded from; None for a seed."""

    def ws(self, portraits: Portraits, truncation: float) -> Tensor:
        """(L, D) w+ that drives the intrinsic path."""
        network = portraits.generator.generator
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
    """Make sure that all photographs are there; whether there are any.

    Raises:
        SourceMissingError, SourceError, UsageError: one is not, or cannot be read.
    """
    photographs = [Path(content) for content in contents if seed_of(content) is None]
    for path in photographs:
        check_input(path)
    return bool(photographs)


def find_people(
    contents: Sequence[str],
    portraits: Portraits,
    store: ModelStore,
    *,
    aligned: Aligned = "auto",
    progress: Progress = SILENT,
) -> list[Person]:
    """Encode photographs and draw seeds, in the order given.

    Raises:
        NoFaceError: a photograph without a face. MediaError: one that cannot be read.
        ModelError: no face detector.
    """
    people = []
    with FaceCutter(store, aligned, progress) as cutter:
        for content in contents:
            seed = seed_of(content)
            if seed is None:
                people.append(_photographed(Path(content), portraits, cutter))
            else:
                people.append(random_person(seed, portraits))
    return people


def random_person(seed: int, portraits: Portraits) -> Person:
    """The person that `dsg sample` draws from this seed."""
    network = portraits.generator.generator
    z = seeded_normal(seed, "content", network.config.style_dim)
    code = network.spread(z[None].to(portraits.device))[0]
    return Person(label=f"seed {seed}", code=code, space="z+")


def _photographed(path: Path, portraits: Portraits, cutter: FaceCutter) -> Person:
    crop = cutter.crop(read_image(path), str(path), portraits.crop_px)
    code = portraits.encode([crop.pixels])[0]
    return Person(label=path.stem, code=code, space=portraits.space, photograph=crop.pixels)


class FaceCutter:
    """Finds the face of a picture and cuts it out; opens the detector when it is first needed."""

    def __init__(
        self, store: ModelStore, aligned: Aligned = "auto", progress: Progress = SILENT
    ) -> None:
        self.store, self.aligned, self.progress = store, aligned, progress
        self._detector: FaceDetector | None = None

    def crop(self, frame: Frame, name: str, size_px: int) -> Crop:
        """The largest face, aligned; or the whole picture, where it is a face crop already.

        Args:
            name: of the picture, for messages.

        Raises:
            NoFaceError: there is none. ModelError, UsageError: no detector.
        """
        if self.aligned == "yes":
            return crop_whole(frame, size_px)
        detector = self._detector = self._detector or self._open()
        faces = detector.detect(frame, effort="any")
        if not faces:
            raise NoFaceError(name, detector=detector.name)
        if self.aligned == "auto" and looks_aligned(frame, faces):
            return crop_whole(frame, size_px)
        if len(faces) > 1:
            self.progress.note(f"{name} shows {len(faces)} faces; the largest is taken")
        return crop_face(frame, max(faces, key=lambda face: face.height_px), size_px)

    def _open(self) -> FaceDetector:
        return open_detector(task_file=self.store.face_landmarker())

    def __enter__(self) -> FaceCutter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._detector is not None:
            self._detector.close()
