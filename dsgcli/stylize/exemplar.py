"""A picture of the user's as exemplar: picture -> face -> crop -> extrinsic code.

A translator has a style encoder for this. For a DualStyleGAN, the method makes an extrinsic code by
optimisation (`dsg destylize`); the encoder's z+ code of the picture is where that starts, and often
close enough (Yang et al., arXiv:2203.13248, section 3.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import UsageError
from dsgcli.faces.align import crop_face, crop_whole, looks_aligned
from dsgcli.media.images import read_opaque
from dsgcli.pipeline import USUAL_PX, TranslatorPipeline
from dsgcli.portraits import load_portraits
from dsgcli.stylize.refine import find_perceptual, loss_note, refine_codes

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.faces.detect import FaceDetector
    from dsgcli.portraits import Portraits
    from dsgcli.progress import Progress
    from dsgcli.store import ModelStore
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.types import Pixels


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
