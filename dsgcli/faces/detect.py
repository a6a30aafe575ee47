"""Find faces: Frame -> list of Face. The seam behind which MediaPipe's two interfaces stand.

A finder (`mediapipe_mesh.py`, `mediapipe_tasks.py`) sees large upright faces in a picture;
`MeshDetector` makes a detector of it that also finds small and turned ones and reports steadier
points (`search.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from dsgcli.errors import ModelMissingError, UsageError
from dsgcli.faces.search import Effort, MeshFinder, find_faces
from dsgcli.types import Face, Frame

Backend = Literal["auto", "face_mesh", "tasks"]
BACKENDS: tuple[Backend, ...] = ("auto", "face_mesh", "tasks")

TASK_NAME = "face_landmarker.task"
TASK_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
MAX_FACES = 16
"""Faces looked for in one view of the frame."""


class FaceDetector(Protocol):
    """Finds faces. No face is an empty list, not an error. May be shared between threads."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def detect(
        self, frame: Frame, *, hints: Sequence[Face] = (), effort: Effort = "search"
    ) -> list[Face]:
        """Find the faces of one frame, from left to right.

        Args:
            hints: where faces were a moment ago; makes small ones cheap to find again.
            effort: how long to go on looking, see `search.Effort`.

        Returns:
            Faces with 478 landmarks in frame pixels; depends on nothing but the arguments.
        """
        ...

    def close(self) -> None:
        """Free what native code holds."""
        ...


class MeshDetector:
    """A FaceDetector made of a MeshFinder."""

    def __init__(self, finder: MeshFinder) -> None:
        self.finder = finder

    @property
    def name(self) -> str:
        return self.finder.name

    def detect(
        self, frame: Frame, *, hints: Sequence[Face] = (), effort: Effort = "search"
    ) -> list[Face]:
        return find_faces(self.finder, frame.pixels, hints=hints, effort=effort)

    def close(self) -> None:
        self.finder.close()

    def __enter__(self) -> MeshDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NoDetectorError(ModelMissingError):
    """What MediaPipe finds faces with is not on this machine."""

    see = "docs/troubleshooting.md#no-face-detector"


def open_detector(
    backend: Backend = "auto", task_file: Path | None = None, *, max_faces: int = MAX_FACES
) -> MeshDetector:
    """Open a face detector.

    Args:
        backend: `face_mesh` is bundled with MediaPipe 0.10; `tasks` needs `task_file`; `auto` takes
            `tasks` if there is a file, and `face_mesh` otherwise.
        task_file: a `face_landmarker.task`, wherever the caller found it.
        max_faces: at most this many in one view of the frame.

    Raises:
        UsageError: no such backend.
        ModelMissingError: the backend cannot be used here; says what to get and where to put it.
        ModelCorruptError: the file is not the one that was tested.
    """
    from dsgcli.faces import mediapipe_mesh, mediapipe_tasks

    if backend not in BACKENDS:
        raise UsageError(f"no face detector {backend!r}; choose one of {', '.join(BACKENDS)}")
    bundled = mediapipe_mesh.is_available()
    if backend == "face_mesh" or (backend == "auto" and task_file is None and bundled):
        if not bundled:
            raise NoDetectorError(f"MediaPipe comes without its face mesh here; {_way_out()}")
        return MeshDetector(mediapipe_mesh.BundledMesh(max_faces))
    if task_file is None:
        raise NoDetectorError(
            f"MediaPipe comes without a face model here, and {TASK_NAME} is missing: {_way_out()}"
        )
    if not mediapipe_tasks.is_available():
        raise ModelMissingError("MediaPipe cannot be imported; reinstall dsgcli")
    return MeshDetector(mediapipe_tasks.TaskMesh(task_file, max_faces))


def _way_out() -> str:
    return (
        f"get it with `dsg models pull face_landmarker` (4 MB), or download {TASK_URL} and put it "
        f"into the folder that `dsg models path` prints"
    )
