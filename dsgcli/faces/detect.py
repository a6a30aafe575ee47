"""Find faces: Frame -> list of Face, in the whole frame, in parts of it, and turned.

A finder (`mediapipe_models.py`) sees large upright faces in a picture. It sees faces of a sixth of
its view or more, upright within some 60 degrees; so small faces need small views, and the others
need turning. And it takes most upside-down faces for upright ones, and places its points a percent
off at random; so `confirm` looks at each candidate again, upright and enlarged, until two looks
agree. That finds the right way up, rejects what is no face, and halves the jitter
(benchmarks/temporal.md).

Conventions
    points    (478, 2) float64, frame pixels if not noted otherwise
    shift     mean distance of two sets of points, in face sizes (`size_of`)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from dsgcli.errors import ModelMissingError, UsageError
from dsgcli.faces import warp
from dsgcli.faces.align import ffhq_quad
from dsgcli.types import CropTransform, Face, Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

Backend = Literal["auto", "face_mesh", "tasks"]
BACKENDS: tuple[Backend, ...] = ("auto", "face_mesh", "tasks")

TASK_NAME = "face_landmarker.task"
TASK_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
MAX_FACES = 16
"""Faces looked for in one view of the frame."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A share of a search that is spread over the frames of a video: the whole frame, the hints,
    and the parts whose turn comes between two times. All of them have had their turn after
    `SWEEP_S`."""

    begin_s: float
    """Time of the frame before."""
    end_s: float
    """Time of this frame."""


Effort = Literal["glance", "any", "search", "everywhere"] | Sweep
"""`glance`: the whole frame, and the hints. `any`: if that finds nothing, parts of the frame and
turned ones, until something is found. `search`: all parts, so that small faces beside large ones
are found, too; the smallest parts are turned only if nothing was found. `everywhere`: all parts,
all turned, whatever is found. A `Sweep` is a `search` of which each frame does a little."""

SWEEP_S = 10.0
"""Seconds in which a `Sweep` comes through all parts: a small face that walks in beside a large one
is found this soon; where a scene begins, all parts are searched at once. In a 1080p video at 25
frames a second that is a part every other frame, 5 ms a frame."""

TILE_STEP = 0.6
"""From one part to the next, in sides: a face of up to 0.4 lies wholly in one of them."""
TILE_LEVELS, MIN_TILE_PX = 3, 144
"""Parts of a half, a quarter and an eighth of the frame's long side: faces down to 1/48 of it,
40 px in a 1080p frame, whatever the resolution, so that the search is bounded."""
LOOK_SIDE, LOOK_PX = 1.2, 256
"""The second look: a square this much larger than the FFHQ crop, at this size. Of 1.0 to 1.5 sides
and 192 to 384 px it gives the steadiest points (benchmarks/temporal.md)."""
HINT_SIDE = 1.5
"""Side of the square where a face may have moved since the last frame."""
SURE_SHIFT, LIKELY_SHIFT, MAX_SHIFT = 0.0045, 0.009, 0.03
"""When to stop looking: two looks that agree within the first, or three of which the first two
agree within the second and the last two within the first. Measured on faces the right way up: they
agree within 0.018 at the second look and 0.006 at the third; meshes fitted to faces upside down
differ by 0.0097 at the second look or more. Beyond the last number there is no face."""
ODD_SHIFT, ODD_MOUTH = 0.003, 0.15
"""One way up is less likely than the other by such a disagreement of two looks, or by a mouth
narrower by this, in eye distances. 196 of 196 faces seen both ways were decided rightly."""
SAME_FACE_SHIFT = 0.22
"""Two meshes nearer than this are one face, the same way up; upside down they differ by 0.5."""
COVERED = 0.4
"""A mesh whose center is nearer than this to a face's, in sizes of the face, is another mesh of the
same face: upside down, or of a part of it."""
SIZE_IN_SPREADS = 3.1
"""Size of a face in root mean squares of its points' distances from their center: makes the size of
an upright, frontal face the side of the square with its box's area."""


# ── the seam ─────────────────────────────────────────────────────────────────────────────────────


class FaceDetector(Protocol):
    """Finds faces. No face is an empty list, not an error. May be shared between threads."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    def detect(
        self, frame: Frame, *, hints: Sequence[Face] = (), effort: Effort = "search"
    ) -> list[Face]:
        """Find the faces of one frame, from left to right.

        Args:
            hints: where faces were a moment ago; makes small ones cheap to find again.
            effort: how long to go on looking, see `Effort`.

        Returns:
            Faces with 478 landmarks in frame pixels; depends on nothing but the arguments.
        """
        ...

    def close(self) -> None:
        """Free what native code holds."""
        ...


class MeshFinder(Protocol):
    """Finds face meshes in one view."""

    @property
    def name(self) -> str: ...

    def find(self, pixels: Pixels) -> list[Points]:
        """(H, W, 3) uint8 RGB -> a (478, 2) array in pixels for each face."""
        ...

    def close(self) -> None: ...


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
    """MediaPipe has no face model on this machine."""

    see = "no-face-detector"


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
        ModelMissingError: the backend cannot be used here; the message has the file to get and its
            folder. ModelCorruptError: the file is not the one that was tested.
    """
    from dsgcli.faces import mediapipe_models

    if backend not in BACKENDS:
        raise UsageError(f"no face detector {backend!r}; choose one of {', '.join(BACKENDS)}")
    if backend == "face_mesh" or (backend == "auto" and task_file is None):
        if mediapipe_models.has_face_mesh():
            return MeshDetector(mediapipe_models.BundledMesh(max_faces))
    elif task_file is not None:
        if not mediapipe_models.has_tasks():
            raise ModelMissingError("MediaPipe cannot be imported; reinstall dsgcli")
        return MeshDetector(mediapipe_models.TaskMesh(task_file, max_faces))
    raise NoDetectorError(
        f"MediaPipe has no face model here; get one with `dsg models pull face_landmarker` (4 MB), "
        f"or download {TASK_URL} and put it into the folder that `dsg models path` prints"
    )


# ── the search ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class View:
    """A part of a frame, turned by quarters."""

    left: int
    top: int
    width: int
    height: int
    quarter_turns: int = 0
    """Counter-clockwise."""

    def pixels(self, frame: Pixels) -> Pixels:
        part = frame[self.top : self.top + self.height, self.left : self.left + self.width]
        return np.ascontiguousarray(np.rot90(part, self.quarter_turns))

    def to_frame(self, points: Points) -> Points:
        """Points in the turned view -> frame pixels."""
        x, y = points.T
        turned = {
            0: (x, y),
            1: (self.width - y, x),
            2: (self.width - x, self.height - y),
            3: (y, self.height - x),
        }[self.quarter_turns]
        moved: Points = np.stack(turned, axis=1)
        moved += (self.left, self.top)
        return moved


def find_faces(
    finder: MeshFinder, pixels: Pixels, *, hints: Sequence[Face] = (), effort: Effort = "search"
) -> list[Face]:
    """Find the faces of one picture (H, W, 3), from left to right."""
    faces: list[Face] = []
    height, width = pixels.shape[:2]

    def add(candidates: Iterable[Points]) -> None:
        """Add those that are faces at the second look, and new."""
        for points in candidates:
            center = points.mean(0)
            if any(  # whichever way up
                float(np.hypot(*(face.landmarks.mean(0) - center)))
                < COVERED * size_of(face.landmarks)
                for face in faces
            ):
                continue
            face = confirm(finder, pixels, points, expected=_is_one_of(points, hints))
            if face is not None and not _is_one_of(face.landmarks, faces):
                faces.append(face)

    def search(views: Iterable[View]) -> None:
        for view in views:
            add([view.to_frame(points) for points in finder.find(view.pixels(pixels))])

    # from cheap to dear: the whole frame, the places of a moment ago, then parts
    search([View(0, 0, width, height)])
    for hint in hints:
        if not _is_one_of(hint.landmarks, faces):
            found = look_again(finder, pixels, hint.landmarks, side=HINT_SIDE)
            add([] if found is None else [found])
    for views in _further_views(width, height, effort):
        if effort == "any" and faces:
            break
        search(views)
    # nothing upright anywhere: the smallest parts on their side and upside down, too
    if effort == "search" and not faces:
        search(_turned(_parts(width, height, max(width, height) >> TILE_LEVELS)))
    return sorted(faces, key=lambda face: float(face.landmarks[:, 0].mean()))


def _further_views(width: int, height: int, effort: Effort) -> Iterator[list[View]]:
    """Views to look at after the whole frame, from likely and cheap to unlikely and dear: the whole
    turned; ever smaller parts; the same parts turned."""
    if effort == "glance":
        return
    turned_whole = _turned([View(0, 0, width, height)])
    parts = [_parts(width, height, max(width, height) >> n) for n in range(1, TILE_LEVELS + 1)]
    if isinstance(effort, Sweep):  # those whose turn comes after begin_s and not after end_s
        views = turned_whole + [view for level in parts for view in level]
        rate = len(views) / SWEEP_S
        first, last = int(effort.begin_s * rate), int(effort.end_s * rate)
        turns = range(first, min(last, first + len(views)))
        yield [views[turn % len(views)] for turn in turns]
        return
    yield turned_whole
    yield from parts
    yield from (_turned(level) for level in (parts[:-1] if effort == "search" else parts))


def _parts(width: int, height: int, side: int) -> list[View]:
    """Overlapping squares of this side that cover the frame; none if they would be too small."""
    if side < MIN_TILE_PX:
        return []
    return [
        View(left, top, min(side, width), min(side, height))
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]


def _starts(length: int, side: int) -> list[int]:
    """Where parts of this side begin so that they cover the length, evenly spread."""
    if side >= length:
        return [0]
    count = int(np.ceil((length - side) / (side * TILE_STEP))) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _turned(views: Iterable[View]) -> list[View]:
    return [View(v.left, v.top, v.width, v.height, turns) for v in views for turns in (1, 3, 2)]


def size_of(points: Points) -> float:
    """Size of a face in pixels; unlike a box's, the same at any roll."""
    return float(((points - points.mean(0)) ** 2).sum(1).mean() ** 0.5) * SIZE_IN_SPREADS


def shift(points: Points, other: Points) -> float:
    """Mean distance between corresponding points, in sizes of the first face."""
    return float(np.hypot(*(points - other).T).mean()) / max(size_of(points), 1e-9)


def _is_one_of(points: Points, faces: Iterable[Face]) -> bool:
    return any(
        min(shift(face.landmarks, points), shift(points, face.landmarks)) < SAME_FACE_SHIFT
        for face in faces
    )


# ── the second look ──────────────────────────────────────────────────────────────────────────────


def confirm(
    finder: MeshFinder, pixels: Pixels, points: Points, *, expected: bool = False
) -> Face | None:
    """Look at a candidate again, and longer if that does not agree; None if it is no face.

    Args:
        expected: a face was here, this way up, a moment ago; then the second look decides.
    """
    second = look_again(finder, pixels, points)
    disagreement = np.inf if second is None else shift(second, points)
    # two looks agree closely, or the face was here a moment ago: no more looks
    if second is not None and (expected or disagreement < SURE_SHIFT):
        return _face(second, disagreement)

    def another_look(points: Points | None) -> tuple[Points, float] | None:
        """The points of one more look, and how far they shifted; None if there is nothing."""
        again = None if points is None else look_again(finder, pixels, points)
        return None if points is None or again is None else (again, shift(again, points))

    upright = another_look(second)
    if upright is not None and disagreement < LIKELY_SHIFT and upright[1] < SURE_SHIFT:
        return _face(*upright)
    # the mesh may be upside down on the face: try it the other way up
    upended = another_look(look_again(finder, pixels, points, upside_down=True))
    ways = [way for way in (upright, upended) if way is not None and way[1] < MAX_SHIFT]

    def oddness(way: tuple[Points, float]) -> float:
        """How little a mesh looks like one of a face the right way up."""
        face = Face(landmarks=way[0])
        (left, right), (corner, other_corner) = face.eyes, face.mouth
        mouth = np.hypot(*(corner - other_corner)) / max(np.hypot(*(left - right)), 1e-9)
        return float(way[1] / ODD_SHIFT - mouth / ODD_MOUTH)

    return _face(*min(ways, key=oddness)) if ways else None


def look_again(
    finder: MeshFinder,
    pixels: Pixels,
    points: Points,
    *,
    side: float = LOOK_SIDE,
    upside_down: bool = False,
) -> Points | None:
    """Find the face again in an upright, enlarged crop of itself; None if there is none."""
    face = Face(landmarks=points)
    quad = ffhq_quad(face.eyes, face.mouth)
    center, factor = quad.mean(0), -side if upside_down else side
    matrix = CropTransform(quad=center + factor * (quad - center), size_px=LOOK_PX).matrix()
    crop = warp.to_uint8(warp.warp(pixels, matrix, LOOK_PX, LOOK_PX))
    meshes = [warp.apply(matrix, mesh) for mesh in finder.find(crop)]
    if not meshes:
        return None
    # several faces may be in the crop: the one in its middle is meant
    return min(meshes, key=lambda mesh: float(np.hypot(*(mesh.mean(0) - points.mean(0)))))


def _face(points: Points, disagreement: float) -> Face:
    """A face whose score falls from 1 as its looks disagree, to 0.5 where it would be no face."""
    score = 0.5 ** min(disagreement / MAX_SHIFT, 1.0)
    return Face(landmarks=points, score=float(score))
