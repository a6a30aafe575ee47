"""How much faces tremble over time, and how far from the truth they lie, however they are steadied.

    python benchmarks/temporal.py [CLIPS] [--task-file FILE] [--markdown benchmarks/temporal.md]
                                  [--style NAME [--pretrained DIR]]

CLIPS is a folder with clips; `one_person.mp4` among them is a still that moves as `STILL` says, so
the truth is known. Without it, a drawn clip of known motion is measured.

Where the motion is known, each frame's points are mapped back to the still; their mean there is the
face, and the truth is where the motion puts it. Jitter is the standard deviation of the second
difference over time of what is left, so motion itself does not count. Of other clips the motion is
unknown and counts, so only ratios mean something there.

With a style, the flicker of what is drawn is measured, too: finished frames are mapped back to the
still, and successive ones compared there. Codes are steadied as the landmarks are.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from dsgcli.faces import warp
from dsgcli.faces.align import crop_face, ffhq_quad
from dsgcli.faces.composite import composite
from dsgcli.faces.detect import Backend, Effort, MeshDetector, open_detector
from dsgcli.faces.masks import make_mask
from dsgcli.faces.smooth import DEFAULT_SMOOTH_S, zero_phase
from dsgcli.faces.track import Tracker, describe
from dsgcli.media.read import open_source
from dsgcli.store import ModelStore
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.output_styles import FaceStyle, StyleCache
from dsgcli.training.drawn_clip import clip_matrix, draw_clip
from dsgcli.types import Face, Frame, Portrait

Array = NDArray[np.float64]
Motion = Callable[[float], Array]
"""Seconds -> (2, 3): still -> frame pixels."""

CROP_PX = 1024
FLICKER_PX, FLICKER_FRAMES = 256, 40
"""Side of the still that finished frames are compared in, and how many frames are drawn."""
REACHES_S = (0.075, 0.125, 0.2, 0.25, 0.375, 0.5)


def moving_still(time_s: float) -> Array:
    """The motion of `one_person.mp4`: a 1024 px still in a 960x540 frame."""
    scale = 0.50098 * (1 + 0.15 * np.sin(1.1 * time_s))
    turn = np.deg2rad(8 * np.sin(0.9 * time_s))
    center = [480 + 115.2 * np.sin(0.7 * time_s), 280.8 + 16.2 * np.sin(1.7 * time_s)]
    linear = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.concatenate([linear, (center - linear @ [512, 512])[:, None]], axis=1)


@dataclass(frozen=True)
class Followed:
    """One face over time."""

    times_s: Array
    points: Array
    """(n, 478, 2), frame pixels."""
    ms: float
    """Per frame, to find."""


def read_frames(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def find_once(detector: MeshDetector, frames: Sequence[Frame]) -> Followed:
    """What the finder says of the whole frame, as it is."""
    return _followed(frames, lambda frame: detector.finder.find(frame.pixels)[:1])


def follow(detector: MeshDetector, frames: Sequence[Frame]) -> Followed:
    """As in a video: looked at twice, with hints."""
    tracker = Tracker()

    def find(frame: Frame) -> list[Array]:
        effort: Effort = "glance" if tracker.hints else "search"
        faces = detector.detect(frame, hints=tracker.hints, effort=effort)
        return [
            face.landmarks for face in tracker.update(describe(frame, faces)) if face.track == 0
        ]

    return _followed(frames, find)


def _followed(frames: Sequence[Frame], find: Callable[[Frame], list[Array]]) -> Followed:
    times, points, started = [], [], time.process_time()
    for frame in frames:
        for found in find(frame):
            times.append(float(frame.time))
            points.append(found)
    ms = 1000 * (time.process_time() - started) / len(frames)
    return Followed(np.array(times), np.array(points), ms)


def looking_ahead(face: Followed, reach_s: float) -> Followed:
    steadied = [zero_phase(face.times_s, face.points, at=t, seconds=reach_s) for t in face.times_s]
    return replace(face, points=np.array(steadied))


def truth_of(face: Followed, motion: Motion) -> Array:
    """(n, 478, 2): where the mean face is in each frame."""
    matrices = [motion(t) for t in face.times_s]
    own = [warp.apply(warp.invert(m), p) for m, p in zip(matrices, face.points, strict=True)]
    mean = np.mean(own, axis=0)
    return np.array([warp.apply(m, mean) for m in matrices])


def quads(points: Array) -> Array:
    faces = [Face(landmarks=p) for p in points]
    return np.array([ffhq_quad(face.eyes, face.mouth) for face in faces])


def measure(face: Followed, truth: Array) -> list[str]:
    """Error and jitter of landmarks in frame pixels and of the crop's corners in crop pixels."""
    wanted = quads(truth)
    sides = np.hypot(*(wanted[:, 1] - wanted[:, 0]).T)[:, None, None]
    landmarks, corners = face.points - truth, (quads(face.points) - wanted) / sides * CROP_PX
    figures = [figure for e in (landmarks, corners) for figure in (_rms(e), _jitter(e))]
    return [f"{figure:.3f}" for figure in figures]


def _rms(error: Array) -> float:
    return float(np.sqrt((error**2).sum(-1).mean()))


def _jitter(error: Array, times_s: Array | None = None) -> float:
    """Of the second difference; with times, only where no frame is missing in between."""
    second = np.diff(error, 2, axis=0)
    if times_s is not None:
        steps = np.diff(times_s)
        usual = np.abs(steps - np.median(steps)) < 0.2 * np.median(steps)
        second = second[usual[1:] & usual[:-1]]
    return float(second.std())


def known_motion(detector: MeshDetector, frames: Sequence[Frame], motion: Motion) -> list[str]:
    """The table for a clip whose motion is known."""
    once, face = find_once(detector, frames), follow(detector, frames)
    truth = truth_of(face, motion)
    rows = [
        ["found once, off", f"{once.ms:.0f}", *measure(once, truth_of(once, motion))],
        ["looked at twice, off", f"{face.ms:.0f}", *measure(face, truth)],
    ]
    for reach_s in REACHES_S:
        mark = " (default)" if reach_s == DEFAULT_SMOOTH_S else ""
        name = f"zero-phase, {reach_s:g} s to both sides{mark}"
        rows.append([name, "", *measure(looking_ahead(face, reach_s), truth)])
    head = ["", "ms", "error px", "jitter px", "corner error", "corner jitter"]
    return table(head, rows)


def unknown_motion(detector: MeshDetector, clips: dict[str, Sequence[Frame]]) -> list[str]:
    """The table for clips whose motion is not known: second differences, motion included."""
    rows = []
    for name, frames in clips.items():
        face = follow(detector, frames)
        size = Face(landmarks=face.points[0]).height_px
        ways = (face, looking_ahead(face, DEFAULT_SMOOTH_S))
        figures = [f"{1000 * _jitter(way.points, face.times_s) / size:.2f}" for way in ways]
        rows.append([name, f"{len(face.points)}/{len(frames)}", f"{size:.0f}", *figures])
    return table(["clip", "found", "face px", "off", "zero-phase"], rows)


def flicker(
    frames: Sequence[Frame], motion: Motion, detector: MeshDetector, style: str, root: Path | None
) -> list[str]:
    """Mean absolute difference, in levels of 255, of successive finished frames on the still."""
    frames = frames[:FLICKER_FRAMES]
    face = follow(detector, frames)
    assert len(face.points) == len(frames), "the face of known motion is seen in every frame"
    role, _ = StyleCache(ModelStore.open(root), StylizeOptions(style=(style,))).role(style)
    ways: dict[str, Callable[[Followed], Followed]] = {
        "off": lambda found: found,
        f"zero-phase, {DEFAULT_SMOOTH_S:g} s": lambda found: looking_ahead(found, DEFAULT_SMOOTH_S),
    }
    rows = [["the input itself", f"{_change(frames, motion):.3f}"]]
    for name, way in ways.items():
        drawn = finished(frames, way(face), way, role)
        rows.append([name, f"{_change(drawn, motion):.3f}"])
    return table(["", "flicker"], rows)


def finished(
    frames: Sequence[Frame], face: Followed, way: Callable[[Followed], Followed], role: FaceStyle
) -> list[Frame]:
    """The frames with the portrait in them."""
    networks = role.portraits
    crops = [
        crop_face(frame, Face(landmarks=points), networks.crop_px)
        for frame, points in zip(frames, face.points, strict=True)
    ]
    codes = np.array([networks.encode([crop.pixels])[0].double().numpy() for crop in crops])
    steady = way(replace(face, points=codes)).points
    drawn = []
    for frame, crop, code in zip(frames, crops, steady, strict=True):
        pixels = networks.draw(torch.from_numpy(code)[None].float(), role.look)[0]
        portrait = Portrait(pixels=pixels, crop=crop)
        mask = make_mask(portrait, "feather", blend=0.08)
        drawn.append(composite(frame, [portrait], [mask]))
    return drawn


def _change(frames: Sequence[Frame], motion: Motion) -> float:
    to_still = np.array([CROP_PX / FLICKER_PX, CROP_PX / FLICKER_PX, 1.0])
    stills = np.array(
        [
            warp.warp(frame.pixels, motion(float(frame.time)) * to_still, FLICKER_PX, FLICKER_PX)
            for frame in frames
        ]
    )
    return float(np.abs(np.diff(stills, axis=0)).mean())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def drawn_frames(num_frames: int = 120) -> tuple[list[Frame], Motion]:
    def motion(time_s: float) -> Array:
        return clip_matrix(time_s, 0, 1, 960, 540) / CROP_PX * [1, 1, CROP_PX]

    frames = [
        replace(frame, time=Fraction(frame.index, 30))
        for frame in draw_clip(num_frames, 960, 540, seed=2, fps=30)
    ]
    return frames, motion


def report(clips: Path | None, task_file: Path | None, style: str | None, root: Path | None) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        "# Steadiness over time",
        "",
        f"{machine}, one thread, load {os.getloadavg()[0]:.1f} from all work; processor time.",
        "Jitter: standard deviation of the second difference over time.",
        f"Corners: of the FFHQ crop, in pixels of a {CROP_PX} px crop.",
    ]
    backends: list[Backend] = ["face_mesh"] if task_file is None else ["face_mesh", "tasks"]
    for backend in backends:
        with open_detector(backend, task_file) as detector:
            lines += ["", f"## {detector.name}", "", *sections(detector, clips, style, root)]
    return "\n".join(lines) + "\n"


def sections(
    detector: MeshDetector, clips: Path | None, style: str | None, root: Path | None
) -> list[str]:
    """What is measured with one detector."""
    others = [] if clips is None else sorted(clips.glob("*.m*"))
    still = next((path for path in others if path.name == "one_person.mp4"), None)
    if still is None:
        (frames, motion), what = drawn_frames(), "drawn clip"
    else:
        frames, motion, what = read_frames(still), moving_still, still.name
        others.remove(still)
    lines = [f"Known motion: {what}, 960x540, 30 fps", ""]
    lines += known_motion(detector, frames, motion)
    if style is not None:
        lines += [
            "",
            f"Flicker of {min(FLICKER_FRAMES, len(frames))} frames drawn by `{style}`",
            "",
        ]
        lines += flicker(frames, motion, detector, style, root)
    if others:
        lines += ["", "Unknown motion, in thousandths of the face's size", ""]
        lines += unknown_motion(detector, {path.name: read_frames(path) for path in others})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="?", help="folder with clips")
    parser.add_argument("--task-file", type=Path, help="measure the Tasks API as well")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--style", help="measure the flicker of what it draws")
    parser.add_argument("--pretrained", type=Path, help="folder of models")
    arguments = parser.parse_args()
    text = report(arguments.clips, arguments.task_file, arguments.style, arguments.pretrained)
    print(text)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
