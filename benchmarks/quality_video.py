"""How much more a drawn video flickers than its source, for `quality.py`.

Frames next to each other are compared where things are: the later one is looked up along the DIS
optical flow of the source (Kroeger et al., arXiv:1603.03590), for source and drawing alike, and the
mean absolute difference of the drawing is divided by the source's. What the flow cannot explain in
the source, compression and what comes into sight, so counts on both sides.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from quality_figures import FLICKER_FACE, FLICKER_GROUND
from quality_models import Painter
from quality_photos import Exemplar

import dsgcli
from dsgcli.faces import warp
from dsgcli.faces.align import crop_face
from dsgcli.faces.detect import FaceDetector
from dsgcli.faces.smooth import DEFAULT_SMOOTH_S, zero_phase
from dsgcli.faces.track import Tracker, describe
from dsgcli.media.read import open_source
from dsgcli.types import Face, Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

Mask = NDArray[np.bool_]

FRAMES = 36
"""Looked at, from the first."""


def flicker(
    source: Sequence[Pixels], drawn: Sequence[Pixels], faces: Sequence[Mask]
) -> dict[str, float]:
    """Warped difference of neighboring frames, drawn over source.

    Args:
        source, drawn: frames (H, W, 3).
        faces: (H, W), where the face is in each.
    """
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    sums = {(name, where): 0.0 for name in ("source", "drawn") for where in ("face", "ground")}
    for now in range(len(source) - 1):
        greys = [cv2.cvtColor(source[i], cv2.COLOR_RGB2GRAY) for i in (now, now + 1)]
        flow = flow_of.calc(*greys, None)
        inside = _stays_inside(flow)
        for name, frames in (("source", source), ("drawn", drawn)):
            change = np.abs(_look_up(frames[now + 1], flow) - frames[now]).mean(axis=2)
            for where, mask in (("face", faces[now]), ("ground", ~faces[now])):
                sums[name, where] += float(change[mask & inside].sum())
    return {
        figure: sums["drawn", where] / sums["source", where] if sums["source", where] else math.nan
        for figure, where in ((FLICKER_FACE, "face"), (FLICKER_GROUND, "ground"))
    }


def _places(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = flow.shape[:2]
    y, x = np.indices((height, width), np.float32)
    return flow + np.stack([x, y], axis=-1)


def _stays_inside(flow: NDArray[np.float32]) -> Mask:
    height, width = flow.shape[:2]
    places = _places(flow)
    within: Mask = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=2)
    return within


def _look_up(frame: Pixels, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3): the frame where the flow leads to."""
    found: NDArray[np.float32] = cv2.remap(
        frame.astype(np.float32), _places(flow), None, cv2.INTER_LINEAR
    )
    return found


# ── clips ────────────────────────────────────────────────────────────────────────────────────────


def read_clip(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(islice(source, FRAMES))


def follow(frames: Sequence[Frame], detector: FaceDetector) -> list[tuple[Frame, Face]]:
    """Frames with the steadied face of the first track, as a video's are; those without are left
    out."""
    tracker, seen = Tracker(), []
    for frame in frames:
        effort = "glance" if tracker.hints else "search"
        faces = detector.detect(frame, hints=tracker.hints, effort=effort)  # type: ignore[arg-type]
        seen += [
            (frame, face) for face in tracker.update(describe(frame, faces)) if face.track == 0
        ]
    times = np.array([float(frame.time) for frame, _ in seen])
    points = np.array([face.landmarks for _, face in seen])
    return [
        (frame, replace(face, landmarks=zero_phase(times, points, at=t, seconds=DEFAULT_SMOOTH_S)))
        for (frame, face), t in zip(seen, times, strict=True)
    ]


def of_crops(
    seen: Sequence[tuple[Frame, Face]], painter: Painter, exemplar: Exemplar, size_px: int
) -> dict[str, float]:
    """Flicker of what is drawn on aligned crops, pasted nowhere."""
    crops = [crop_face(frame, face, size_px) for frame, face in seen]
    pixels = [crop.pixels for crop in crops]
    faces = [
        face_mask(warp.to_crop(crop.transform, face.landmarks), size_px, size_px)
        for crop, (_, face) in zip(crops, seen, strict=True)
    ]
    return flicker(pixels, list(painter.draw(pixels, exemplar)), faces)


def of_command(
    clip: Path, seen: Sequence[tuple[Frame, Face]], style: str, pretrained: Path | None
) -> dict[str, float]:
    """Flicker of what `dsg stylize` makes of a clip.

    Args:
        style: NAME:EXEMPLAR.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "drawn.mp4"
        dsgcli.stylize(clip, output, style=style, pretrained=pretrained)
        drawn = {frame.index: frame.pixels for frame in read_clip(output)}
    kept = [(frame, face) for frame, face in seen if frame.index in drawn]
    faces = [face_mask(face.landmarks, *frame.size_px) for frame, face in kept]
    return flicker(
        [frame.pixels for frame, _ in kept], [drawn[frame.index] for frame, _ in kept], faces
    )


def face_mask(points: Points, width: int, height: int) -> Mask:
    """(height, width): inside the hull of landmarks in pixels."""
    mask = np.zeros((height, width), np.uint8)
    hull = cv2.convexHull(points.astype(np.float32)).round().astype(np.int32)
    cv2.fillConvexPoly(mask, hull, 1)
    filled: Mask = mask > 0
    return filled
