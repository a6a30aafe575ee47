"""MediaPipe's segmentation of people: the bundled one, and the better one that has to be fetched.

The bundled model (MediaPipe 0.10) tells a person from the ground. The other, a file called
`selfie_multiclass_256x256.tflite`, also tells hair, skin and clothes apart, so that a head can be
cut out without its shoulders.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import ModelCorruptError
from dsgcli.faces import warp
from dsgcli.faces.masks import Segmenter, Segments
from dsgcli.faces.mediapipe_start import load_mediapipe, native_chatter_dropped
from dsgcli.faces.mediapipe_tasks import closed_with

if TYPE_CHECKING:
    from dsgcli.types import Pixels

MULTICLASS_NAME = "selfie_multiclass_256x256.tflite"
MODEL_PX = 256
"""Side of the models' input; larger pictures are shrunk to it first, which is faster."""
HAIR, FACE_SKIN, GROUND = 1, 3, 0
"""Classes of the multiclass model; 2 is skin of the body, 4 clothes, 5 other things worn."""


class BundledSegmenter:
    """`mp.solutions.selfie_segmentation`: person or not."""

    name = "MediaPipe selfie segmentation"

    def __init__(self) -> None:
        from mediapipe import solutions

        self._lock = threading.Lock()
        with native_chatter_dropped():
            self._model: Any = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self._model.process(np.zeros((MODEL_PX, MODEL_PX, 3), np.uint8))

    def segment(self, pixels: Pixels) -> Segments:
        small = np.ascontiguousarray(warp.resize(pixels, MODEL_PX, MODEL_PX))
        with self._lock:
            person = self._model.process(small).segmentation_mask
        return Segments(person=_enlarged(person, pixels))

    def close(self) -> None:
        with self._lock:
            if self._model is not None:
                self._model.close()
            self._model = None


class MulticlassSegmenter:
    """`selfie_multiclass_256x256.tflite` through the Tasks API."""

    name = "MediaPipe selfie multiclass"

    def __init__(self, model_file: Path) -> None:
        from mediapipe.tasks.python import BaseOptions
        from mediapipe.tasks.python.vision import ImageSegmenter, ImageSegmenterOptions

        self._lock = threading.Lock()
        self.close: Callable[[], object]
        options = ImageSegmenterOptions(
            base_options=BaseOptions(model_asset_buffer=model_file.read_bytes()),
            output_confidence_masks=True,
            output_category_mask=False,
        )
        try:
            with native_chatter_dropped():
                self._model: Any = ImageSegmenter.create_from_options(options)
            self.close = closed_with(self, self._model)
        except (RuntimeError, ValueError) as error:
            raise ModelCorruptError(
                f"{model_file} is no segmentation model that MediaPipe can read; fetch it again "
                f"with `dsg models pull selfie_multiclass`"
            ) from error

    def segment(self, pixels: Pixels) -> Segments:
        import mediapipe

        small = np.ascontiguousarray(warp.resize(pixels, MODEL_PX, MODEL_PX))
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=small)
        with self._lock:
            shares = [mask.numpy_view() for mask in self._model.segment(image).confidence_masks]
        shares = [share.reshape(MODEL_PX, MODEL_PX).astype(np.float32) for share in shares]
        return Segments(
            person=_enlarged(1.0 - shares[GROUND], pixels),
            head=_enlarged(shares[HAIR] + shares[FACE_SKIN], pixels),
        )


def open_segmenter(model_file: Path | None = None) -> Segmenter | None:
    """The best segmentation at hand: the file's if one is given, else the bundled one; None if
    this MediaPipe has none.

    Raises:
        ModelCorruptError: the file is no segmentation model.
    """
    if model_file is not None:
        return MulticlassSegmenter(model_file)
    return BundledSegmenter() if hasattr(load_mediapipe(), "solutions") else None


def _enlarged(mask: np.ndarray[Any, np.dtype[np.float32]], pixels: Pixels) -> Any:
    side = pixels.shape[0]
    grown = warp.resize(np.array(mask, np.float32)[:, :, None], side, side)[:, :, 0]
    return np.clip(grown, 0.0, 1.0)
