"""MediaPipe's Tasks API: face landmarks from a `face_landmarker.task` file that the user has.

Works in MediaPipe 0.10 and 1.x, which differ below this file.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import ModelCorruptError, ModelMissingError
from dsgcli.faces.mediapipe_start import load_mediapipe, native_chatter_dropped
from dsgcli.faces.search import as_points
from dsgcli.memory import check_memory

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""Version 1 of the Face Landmarker bundle, float16."""
MIN_SCORE = 0.5
"""Below this a face is none. What passes is checked again (`search.py`), so it can be low."""


def is_available() -> bool:
    """Whether MediaPipe and its Tasks API can be imported."""
    try:
        load_mediapipe()
        from mediapipe.tasks.python import vision
    except (ImportError, OSError, SystemError) as error:
        check_memory(error)
        if not isinstance(error, ImportError):
            raise
        return False
    return hasattr(vision, "FaceLandmarker")


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a model file that must be this one, byte for byte: native code parses it.

    Raises:
        ModelMissingError: it is not there, or cannot be read.
        ModelCorruptError: it is another file, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelCorruptError(
            f"{path} is not the file that was tested (sha256 {found[:12]}…, expected "
            f"{sha256[:12]}…); delete it and download it again"
        )
    return content


def closed_with(owner: object, task: Any) -> Callable[[], object]:
    """Close a task when its owner goes, at the latest when the interpreter ends.

    Left to itself, MediaPipe notices that end too late and prints a traceback.

    Returns:
        Closes it now; calling it again is harmless.
    """
    return weakref.finalize(owner, _close, task)


def _close(task: Any) -> None:
    with suppress(RuntimeError):  # MediaPipe 1.x closes by a thread that has ended by then
        task.close()
    task._handle = None  # or its destructor tries once more


class TaskMesh:
    """A MeshFinder over `FaceLandmarker`, in its mode for single pictures."""

    name = "MediaPipe face landmarker"

    def __init__(self, task_file: Path, max_faces: int) -> None:
        content = read_verified(task_file, TASK_SHA256)
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
        self._seen = False
        with native_chatter_dropped():
            self._task: Any = vision.FaceLandmarker.create_from_options(options)
            self._task.detect(as_image(np.zeros((128, 128, 3), np.uint8)))
        self._close = closed_with(self, self._task)

    def find(self, pixels: Pixels) -> list[Points]:
        """(H, W, 3) uint8 RGB -> a (478, 2) array in pixels for each face."""
        image = as_image(pixels)
        with self._lock:
            if self._seen:
                result = self._task.detect(image)
            else:  # the first face still makes the core talk
                with native_chatter_dropped():
                    result = self._task.detect(image)
            self._seen = self._seen or bool(result.face_landmarks)
        size = (pixels.shape[1], pixels.shape[0])
        return [as_points(mesh, size) for mesh in result.face_landmarks]

    def close(self) -> None:
        """Free the native graph; calling it twice is harmless."""
        with self._lock:
            self._close()


def as_image(pixels: Pixels) -> Any:
    """MediaPipe's own picture type, of (H, W, 3) uint8 RGB."""
    import mediapipe

    return mediapipe.Image(
        image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels)
    )
