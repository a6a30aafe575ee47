"""MediaPipe's bundled face mesh: no download, in MediaPipe 0.10 only.

The interface is deprecated upstream and absent from MediaPipe 1; `mediapipe_tasks.py` is its
successor, which needs a model file. Both find the same 478 points.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import ModelMissingError
from dsgcli.faces.mediapipe_start import load_mediapipe, native_chatter_dropped
from dsgcli.faces.search import as_points
from dsgcli.memory import check_memory

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

MIN_DETECTION_SCORE = 0.5
MIN_PRESENCE_SCORE = 0.5
"""Below these a face is none. What passes is checked again (`search.py`), so they can be low."""


def is_available() -> bool:
    """Whether this MediaPipe still has its bundled solutions."""
    try:
        return hasattr(load_mediapipe(), "solutions")
    except (ImportError, OSError, SystemError) as error:
        check_memory(error)
        if not isinstance(error, ImportError):
            raise
        return False


class BundledMesh:
    """A MeshFinder over `mp.solutions.face_mesh`, used frame by frame without memory.

    Its video mode trembles less but drifts (on a clip of known motion it is off by 0.71 px, looking
    twice by 0.30, see `search.py`), and what it finds depends on the frames before, so that a
    resumed run would differ.
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
        self._seen = False
        with native_chatter_dropped():
            self._mesh: Any = solutions.face_mesh.FaceMesh(
                static_image_mode=True,
                max_num_faces=max_faces,
                refine_landmarks=True,
                min_detection_confidence=MIN_DETECTION_SCORE,
                min_tracking_confidence=MIN_PRESENCE_SCORE,
            )
            self._mesh.process(np.zeros((128, 128, 3), np.uint8))

    def find(self, pixels: Pixels) -> list[Points]:
        """(H, W, 3) uint8 RGB -> a (478, 2) array in pixels for each face."""
        pixels = np.ascontiguousarray(pixels)
        with self._lock:
            if self._seen:
                result = self._mesh.process(pixels)
            else:  # the first face still makes the core talk
                with native_chatter_dropped():
                    result = self._mesh.process(pixels)
            meshes = result.multi_face_landmarks or []
            self._seen = self._seen or bool(meshes)
        size = (pixels.shape[1], pixels.shape[0])
        return [as_points(mesh.landmark, size) for mesh in meshes]

    def close(self) -> None:
        """Free the native graph; calling it twice is harmless."""
        with self._lock:
            if self._mesh is not None:
                self._mesh.close()
            self._mesh = None
