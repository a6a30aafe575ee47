"""MediaPipe's models: face meshes (`detect.MeshFinder`) and segmentation (`masks.Segmenter`).

MediaPipe 0.10 bundles a face mesh and a segmentation of people behind an interface that is
deprecated upstream and absent from MediaPipe 1. Its successor, the Tasks API, works in both, and
needs a file for each model. Both meshes have the same 478 points. The segmentation with a file,
`selfie_multiclass_256x256.tflite`, also separates hair, skin and clothes, so that a head can be cut
out without its shoulders.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import ModelCorruptError, ModelMissingError
from dsgcli.faces import warp
from dsgcli.faces.masks import Segmentation, Segmenter
from dsgcli.faces.mediapipe_start import load_mediapipe, native_chatter_dropped
from dsgcli.memory import check_memory

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""Version 1 of the Face Landmarker bundle, float16."""
MULTICLASS_NAME = "selfie_multiclass_256x256.tflite"
MIN_SCORE = 0.5
"""Below this a face is none. Faces that pass are checked again (`detect.confirm`), so it is low."""
MODEL_PX = 256
"""Side of the segmentation's input; larger pictures are shrunk to it first, which is faster."""
HAIR, FACE_SKIN, GROUND = 1, 3, 0
"""Classes of the multiclass model; 2 is skin of the body, 4 clothes, 5 other things worn."""


def has_face_mesh() -> bool:
    """Whether this MediaPipe still has its bundled solutions."""
    return _imports(lambda: hasattr(load_mediapipe(), "solutions"))


def has_tasks() -> bool:
    """Whether MediaPipe and its Tasks API can be imported."""

    def found() -> bool:
        load_mediapipe()
        from mediapipe.tasks.python import vision

        return hasattr(vision, "FaceLandmarker")

    return _imports(found)


def _imports(check: Callable[[], bool]) -> bool:
    """The result of a check that imports MediaPipe; False without it.

    Raises:
        MemoryShortError: it cannot be loaded for lack of memory.
    """
    try:
        return check()
    except (ImportError, OSError, SystemError) as error:
        check_memory(error)
        if not isinstance(error, ImportError):
            raise
        return False


# ── faces ────────────────────────────────────────────────────────────────────────────────────────


class BundledMesh:
    """A MeshFinder over `mp.solutions.face_mesh`, used frame by frame without memory.

    Its video mode trembles less but drifts (on a clip of known motion it is off by 0.71 px, looking
    twice by 0.30, see `detect.py`), and its results depend on the frames before, so that a resumed
    run would differ.
    """

    name = "MediaPipe face mesh"

    def __init__(self, max_faces: int) -> None:
        try:
            from mediapipe import solutions
        except ImportError as error:
            raise ModelMissingError(
                "this MediaPipe has no bundled face mesh (versions before 0.10.30 have one)"
            ) from error
        self._lock = threading.Lock()
        with native_chatter_dropped():
            self._mesh: Any = solutions.face_mesh.FaceMesh(
                static_image_mode=True,
                max_num_faces=max_faces,
                refine_landmarks=True,
                min_detection_confidence=MIN_SCORE,
                min_tracking_confidence=MIN_SCORE,
            )
            self._mesh.process(np.zeros((128, 128, 3), np.uint8))
        self._process = quiet_until_found(self._mesh.process, "multi_face_landmarks")

    def find(self, pixels: Pixels) -> list[Points]:
        """(H, W, 3) uint8 RGB -> a (478, 2) array in pixels for each face."""
        pixels = np.ascontiguousarray(pixels)
        with self._lock:
            meshes = self._process(pixels)
        return [as_points(mesh.landmark, pixels) for mesh in meshes]

    def close(self) -> None:
        """Free the native graph; calling it twice is harmless."""
        with self._lock:
            if self._mesh is not None:
                self._mesh.close()
            self._mesh = None


class TaskMesh:
    """A MeshFinder over `FaceLandmarker` (Tasks), in its mode for single pictures.

    Raises:
        ModelMissingError: the file is not there or cannot be read, or MediaPipe has no Tasks API.
        ModelCorruptError: it is another file than the tested one, which native code would parse.
    """

    name = "MediaPipe face landmarker"

    def __init__(self, task_file: Path, max_faces: int) -> None:
        try:
            content = task_file.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise ModelMissingError(f"{task_file} cannot be read: {reason}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != TASK_SHA256:
            raise ModelCorruptError(
                f"{task_file} is not the file that was tested (sha256 {found[:12]}…, expected "
                f"{TASK_SHA256[:12]}…); delete it and download it again"
            )
        try:
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise ModelMissingError("this MediaPipe has no Tasks API; install another") from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=content),
            num_faces=max_faces,
            min_face_detection_confidence=MIN_SCORE,
            min_face_presence_confidence=MIN_SCORE,
        )
        self._lock = threading.Lock()
        with native_chatter_dropped():
            task = vision.FaceLandmarker.create_from_options(options)
            task.detect(as_image(np.zeros((128, 128, 3), np.uint8)))
        self._detect = quiet_until_found(task.detect, "face_landmarks")
        self._close = closed_with(self, task)

    def find(self, pixels: Pixels) -> list[Points]:
        """(H, W, 3) uint8 RGB -> a (478, 2) array in pixels for each face."""
        image = as_image(pixels)
        with self._lock:
            meshes = self._detect(image)
        return [as_points(mesh, pixels) for mesh in meshes]

    def close(self) -> None:
        """Free the native graph; calling it twice is harmless."""
        with self._lock:
            self._close()


def quiet_until_found(run: Callable[[Any], Any], faces: str) -> Callable[[Any], list[Any]]:
    """Call MediaPipe and return the result's `faces`; its core writes to stderr up to and with the
    first face, which is held back."""
    seen = False

    def found(picture: Any) -> list[Any]:
        nonlocal seen
        if seen:
            return getattr(run(picture), faces) or []
        with native_chatter_dropped():
            meshes = getattr(run(picture), faces) or []
        seen = bool(meshes)
        return meshes

    return found


def as_points(landmarks: Iterable[Any], pixels: Pixels) -> Points:
    """MediaPipe's landmarks, in widths and heights of the picture -> (478, 2) in pixels."""
    points: Points = np.array([(point.x, point.y) for point in landmarks], np.float64)
    points *= (pixels.shape[1], pixels.shape[0])
    return points


# ── segmentation ─────────────────────────────────────────────────────────────────────────────────


class BundledSegmenter:
    """A Segmenter over `mp.solutions.selfie_segmentation`: person or not."""

    name = "MediaPipe selfie segmentation"

    def __init__(self) -> None:
        from mediapipe import solutions

        self._lock = threading.Lock()
        with native_chatter_dropped():
            self._model: Any = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self._model.process(np.zeros((MODEL_PX, MODEL_PX, 3), np.uint8))

    def segment(self, pixels: Pixels) -> Segmentation:
        small = np.ascontiguousarray(warp.resize(pixels, MODEL_PX, MODEL_PX))
        with self._lock:
            person = np.array(self._model.process(small).segmentation_mask, np.float32)
        return Segmentation(person=warp.resize_mask(person, pixels.shape[0]))

    def close(self) -> None:
        with self._lock:
            if self._model is not None:
                self._model.close()
            self._model = None


class MulticlassSegmenter:
    """A Segmenter over `selfie_multiclass_256x256.tflite` (Tasks).

    Raises:
        ModelCorruptError: the file is no segmentation model.
    """

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

    def segment(self, pixels: Pixels) -> Segmentation:
        image = as_image(warp.resize(pixels, MODEL_PX, MODEL_PX))
        with self._lock:
            shares = [mask.numpy_view() for mask in self._model.segment(image).confidence_masks]
        shares = [share.reshape(MODEL_PX, MODEL_PX).astype(np.float32) for share in shares]
        return Segmentation(
            person=warp.resize_mask(1.0 - shares[GROUND], pixels.shape[0]),
            head=warp.resize_mask(shares[HAIR] + shares[FACE_SKIN], pixels.shape[0]),
        )


def open_segmenter(model_file: Path | None = None) -> Segmenter | None:
    """Open the segmentation model of a file if one is given, else the bundled one; None if this
    MediaPipe has none.

    Raises:
        ModelCorruptError: the file is no segmentation model.
    """
    if model_file is not None:
        return MulticlassSegmenter(model_file)
    return BundledSegmenter() if hasattr(load_mediapipe(), "solutions") else None


# ── the Tasks API ────────────────────────────────────────────────────────────────────────────────


def as_image(pixels: Pixels) -> Any:
    """MediaPipe's own picture type, of (H, W, 3) uint8 RGB."""
    import mediapipe

    return mediapipe.Image(
        image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels)
    )


def closed_with(owner: object, task: Any) -> Callable[[], object]:
    """Close a task when its owner goes, at the latest when the interpreter ends.

    Left to itself, MediaPipe notices that end too late and prints a traceback.

    Returns:
        Closes it now; calling it again is harmless.
    """

    def close(task: Any) -> None:
        with suppress(RuntimeError):  # MediaPipe 1.x closes by a thread that has ended by then
            task.close()
        task._handle = None  # or its destructor tries once more

    return weakref.finalize(owner, close, task)
