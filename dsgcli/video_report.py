"""One page on one drawn video: frames side by side, who was found when, flicker, expression.

Flow: source + drawing ──▶ pairs of frames at the same time ──▶ faces of both, optical flow of the
source ──▶ figures over time ──▶ a self-contained HTML page with a verdict on top.

Frames are read once, one pair after the other, so memory does not grow with the video. Distances
between the lids and between the lips are measured in the same way in both; flicker is the change
from frame to frame along the source's DIS optical flow (Kroeger et al., arXiv:1603.03590), of the
drawing over that of the source: compression, and what comes into sight, counts in both.
"""

from __future__ import annotations

import html
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsgcli.errors import OutputExistsError, SourceError, UsageError
from dsgcli.faces.detect import Effort, FaceDetector
from dsgcli.faces.track import Tracker, describe
from dsgcli.media.base import FrameSource
from dsgcli.media.images import data_url
from dsgcli.media.read import open_source
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.store.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dsgcli.types import Face, Frame, Pixels, Points

Floats = NDArray[np.float64]

JPEG_QUALITY = 85
FLOW_PX = 512
"""Longer side at which frames are compared: flow of larger ones costs more and says no more."""
STRIP_FRAMES, STRIP_PX = 8, 240
"""Frames on the page, evenly spread, and their height."""
SAME_TIME_S = 0.02
"""Frames of source and drawing belong together if their times differ by less."""
STEADY, FOLLOWS = 1.1, 0.8
"""Flicker up to this is called steady; a correlation from this on is called followed."""
LEAST_CHANGE = 0.02
"""A mouth or an eye that moves less, as standard deviation, has no expression to follow."""

# landmarks of MediaPipe's face mesh
INNER_LIPS = (13, 14)
EYES = ((33, 133, 159, 145), (362, 263, 386, 374))
"""Corners, upper and lower lid of each eye."""


def mouth_opening(points: Points) -> float:
    """Distance of the inner lips in widths of the face, from landmarks (478, 2)."""
    width = np.hypot(*(points[454] - points[234]))
    return float(np.hypot(*(points[INNER_LIPS[0]] - points[INNER_LIPS[1]])) / max(width, 1e-6))


def eye_opening(points: Points) -> float:
    """Distance of the lids in widths of the eye, mean of both; falls in a blink, and stays the same
    if an eye is drawn larger."""
    found = []
    for left, right, upper, lower in EYES:
        width = np.hypot(*(points[right] - points[left]))
        found.append(np.hypot(*(points[upper] - points[lower])) / max(width, 1e-6))
    return float(np.mean(found))


def proportions(points: Points) -> Floats:
    """Landmarks (478, 2) without place, size and rotation, for comparing two faces: (478,) complex,
    of mean 0 and length 1."""
    z = points[:, 0] + 1j * points[:, 1]
    z = z - z.mean()
    length = np.linalg.norm(z)
    shape: Floats = z / max(float(length), 1e-9)
    return shape


def likeness(a: Floats, b: Floats) -> float:
    """1 for the same proportions, at any rotation (Procrustes)."""
    return float(abs(np.vdot(a, b)))


@dataclass(slots=True)
class PersonRecord:
    """One person of the source over time."""

    times_s: list[float] = field(default_factory=list)
    """Times of the frames in which the person was found in the source, in seconds."""
    drawn: list[bool] = field(default_factory=list)
    """Whether a face was found at the same place in the drawing."""
    mouth: list[tuple[float, float]] = field(default_factory=list)
    """Opening in source and drawing; NaN where the drawing has no face."""
    eyes: list[tuple[float, float]] = field(default_factory=list)
    shapes: list[tuple[Floats, Floats]] = field(default_factory=list)
    """Proportions in source and drawing, of at most SHAPES frames."""


SHAPES = 200


@dataclass(slots=True)
class VideoFigures:
    """Everything that is measured on a pair of videos."""

    frames: int = 0
    without_face: int = 0
    """Frames in which the source shows no face."""
    cuts: list[float] = field(default_factory=list)
    """Seconds at which a new scene begins."""
    people: dict[int, PersonRecord] = field(default_factory=lambda: defaultdict(PersonRecord))
    flicker_s: list[float] = field(default_factory=list)
    """Times of the rows of `change`."""
    change: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Mean change along the flow: face of source and drawing, ground of source and drawing."""
    strip: list[tuple[float, Pixels, Pixels]] = field(default_factory=list)

    def flicker(self, where: str) -> float:
        """Change of the drawing over that of the source, `face` or `ground`; NaN if unknown."""
        column = 0 if where == "face" else 2
        pairs = np.array([row[column : column + 2] for row in self.change]).reshape(-1, 2)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        total = pairs.sum(axis=0)
        return float(total[1] / total[0]) if len(pairs) and total[0] > 0 else math.nan

    def faces_kept(self) -> float:
        """Share of the source's faces for which the drawing shows a face at the same place."""
        found = [there for person in self.people.values() for there in person.drawn]
        return float(np.mean(found)) if found else math.nan

    def expression(self, what: str) -> float:
        """Correlation of `mouth` or `eyes` between source and drawing, mean over people whose own
        moves; NaN if none moves."""
        found = []
        for person in self.people.values():
            pairs = np.array(getattr(person, what), dtype=float).reshape(-1, 2)
            pairs = pairs[np.isfinite(pairs).all(axis=1)]
            if len(pairs) > 4 and pairs[:, 0].std() > LEAST_CHANGE and pairs[:, 1].std() > 0:
                found.append(float(np.corrcoef(pairs.T)[0, 1]))
        return float(np.mean(found)) if found else math.nan

    def recognized(self) -> float:
        """Share of drawn faces whose proportions are nearer to their own person's mean than to any
        other's; NaN for fewer than two people."""
        means = {
            number: proportions_mean([source for source, _ in person.shapes])
            for number, person in self.people.items()
            if person.shapes
        }
        if len(means) < 2:
            return math.nan
        hits = []
        for number, person in self.people.items():
            for _, drawn in person.shapes:
                nearest = max(means, key=lambda other: likeness(means[other], drawn))
                hits.append(nearest == number)
        return float(np.mean(hits)) if hits else math.nan


def proportions_mean(shapes: Sequence[Floats]) -> Floats:
    """Mean of shapes (478,) complex, each turned to the first."""
    first = shapes[0]
    turned = [s * np.exp(-1j * np.angle(np.vdot(first, s))) for s in shapes]
    mean: Floats = np.mean(turned, axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


def pairs_of(source: FrameSource, drawn: FrameSource) -> Iterator[tuple[Frame, Frame]]:
    """Frames of both that are shown at the same time; those that only one has are left out."""
    right = iter(drawn)
    other = next(right, None)
    for frame in source:
        while other is not None and other.time < frame.time - Fraction(SAME_TIME_S):
            other = next(right, None)
        if other is None:
            return
        if abs(float(other.time - frame.time)) <= SAME_TIME_S:
            yield frame, other


def measure(
    source: Path,
    drawn: Path,
    detector: FaceDetector,
    *,
    start: Fraction | None = None,
    progress: Progress = NULL_PROGRESS,
) -> VideoFigures:
    """Compare a video with its drawing, from the first frame to the last.

    Args:
        start: seconds of the source at which the drawing begins (`dsg stylize --start`).

    Raises:
        SourceError: one of them is no video, they differ in shape, or no frame of one is shown at
            the time of a frame of the other.
    """
    figures, flow_of = VideoFigures(), cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    tracker, scene = Tracker(), 0
    before: tuple[Pixels, Pixels, NDArray[np.bool_]] | None = None
    with open_source(source, start=start) as left, open_source(drawn) as right:
        check_pair(left, right, source, drawn)
        expected = left.info.expected_frames
        wanted = strip_places(expected)
        with progress.task("compare", expected, "frames") as task:
            for a, b in pairs_of(left, right):
                effort: Effort = "glance" if tracker.hints else "search"
                found = detector.detect(a, hints=tracker.hints, effort=effort)
                faces = tracker.update(describe(a, found))
                time_s = float(a.time)
                if tracker.scene != scene:
                    scene, before = tracker.scene, None
                    if figures.frames:
                        figures.cuts.append(time_s)
                record_faces(figures, faces, b, detector, time_s)
                small_a, small_b = reduced(a.pixels), reduced(b.pixels)
                inside = face_area(faces, a.size_px, small_a.shape[:2])
                if before is not None:
                    figures.flicker_s.append(time_s)
                    figures.change.append(change_along(flow_of, before, (small_a, small_b)))
                before = small_a, small_b, inside
                if figures.frames in wanted:
                    figures.strip.append((time_s, thumbnail(a.pixels), thumbnail(b.pixels)))
                figures.frames += 1
                figures.without_face += not faces
                task.advance()
    if not figures.frames:
        raise SourceError(
            f"{drawn} shows no frame at the time of a frame of {source}; if a part was drawn, give "
            f"its beginning with --start"
        )
    return figures


def check_pair(left: FrameSource, right: FrameSource, source: Path, drawn: Path) -> None:
    """Raises SourceError for pictures, and for videos of two shapes."""
    for path, one in ((source, left), (drawn, right)):
        if one.info.kind == "picture":
            raise SourceError(f"{path} is a picture; a report compares two videos")
    (w, h), (w2, h2) = left.info.size_px, right.info.size_px
    if abs(w / h - w2 / h2) > 0.02:
        raise SourceError(
            f"{drawn} has {w2} x {h2} pixels and {source} has {w} x {h}; a report needs two videos "
            f"of one shape: the source, and what dsg stylize made of it"
        )


def strip_places(expected: int | None) -> frozenset[int]:
    """Numbers of the frames on the page."""
    total = expected or 250
    return frozenset((2 * i + 1) * total // (2 * STRIP_FRAMES) for i in range(STRIP_FRAMES))


def record_faces(
    figures: VideoFigures, faces: Sequence[Face], drawn: Frame, detector: FaceDetector, t: float
) -> None:
    """Look for each face of the source in the drawing, and note both."""
    found = detector.detect(drawn, hints=faces, effort="glance") if faces else []
    scale = drawn.size_px[0]
    for face in faces:
        person = figures.people[face.track]
        near = [other for other in found if is_same_place(face, other)]
        person.times_s.append(t)
        person.drawn.append(bool(near))
        if not near:
            person.mouth.append((mouth_opening(face.landmarks), math.nan))
            person.eyes.append((eye_opening(face.landmarks), math.nan))
            continue
        best = min(near, key=lambda o: float(np.hypot(*(center(o) - center(face)))) / scale)
        person.mouth.append((mouth_opening(face.landmarks), mouth_opening(best.landmarks)))
        person.eyes.append((eye_opening(face.landmarks), eye_opening(best.landmarks)))
        if len(person.shapes) < SHAPES:
            person.shapes.append((proportions(face.landmarks), proportions(best.landmarks)))


def center(face: Face) -> Floats:
    """(2,): mean of the landmarks."""
    mean: Floats = face.landmarks.mean(axis=0)
    return mean


def is_same_place(a: Face, b: Face) -> bool:
    """Whether two faces lie within half a face of each other."""
    return float(np.hypot(*(center(a) - center(b)))) < 0.5 * max(a.height_px, 1.0)


def reduced(pixels: Pixels) -> Pixels:
    """A frame with a longer side of at most FLOW_PX."""
    height, width = pixels.shape[:2]
    scale = min(1.0, FLOW_PX / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    return resized(pixels, size)


def thumbnail(pixels: Pixels) -> Pixels:
    """A frame of STRIP_PX height."""
    height, width = pixels.shape[:2]
    size = max(1, round(width * STRIP_PX / height)), STRIP_PX
    return resized(pixels, size)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """A frame in another width and height, without aliasing."""
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def face_area(
    faces: Sequence[Face], size_px: tuple[int, int], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """(h, w): inside the hull of any face, for a frame of `size_px` reduced to `shape`."""
    mask = np.zeros(shape[:2], np.uint8)
    scale = shape[1] / size_px[0]
    for face in faces:
        hull = cv2.convexHull((face.landmarks * scale).astype(np.float32))
        cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), (1.0,))
    area: NDArray[np.bool_] = mask > 0
    return area


def change_along(
    flow_of: cv2.DISOpticalFlow,
    before: tuple[Pixels, Pixels, NDArray[np.bool_]],
    now: tuple[Pixels, Pixels],
) -> tuple[float, float, float, float]:
    """Mean absolute change, in levels of 255, from one pair of frames to the next along the flow of
    the source: of the faces in source and drawing, of the rest in source and drawing."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before[0], now[0])]
    flow: Floats = flow_of.calc(gray[0], gray[1], None)  # type: ignore[call-overload]  # (h, w, 2)
    height, width = flow.shape[:2]
    y, x = np.indices((height, width), np.float32)
    places = flow + np.stack([x, y], axis=-1)
    visible = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=2)
    found: list[float] = []
    for area in (before[2] & visible, ~before[2] & visible):
        for was, later in ((before[0], now[0]), (before[1], now[1])):
            if was.shape != (*flow.shape[:2], 3):
                # the drawing may be larger or smaller than the source
                was, later = (resized(frame, (width, height)) for frame in (was, later))
            moved = cv2.remap(
                later.astype(np.float32), places.astype(np.float32), np.empty(0), cv2.INTER_LINEAR
            )
            change = np.abs(moved - was).mean(axis=2)
            found.append(float(change[area].mean()) if area.any() else math.nan)
    return found[0], found[1], found[2], found[3]


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def verdict(figures: VideoFigures) -> str:
    """One line: what is good, and what to look at."""
    if not figures.people:
        return "No face was found in the source, so nothing was drawn."
    checks: list[tuple[float, Callable[[float], bool], str, str]] = [
        (figures.flicker("face"), lambda v: v <= STEADY, "the face is steady", "the face flickers"),
        (
            figures.flicker("ground"),
            lambda v: v <= STEADY,
            "the background is steady",
            "the background flickers",
        ),
        (
            figures.faces_kept(),
            lambda v: v >= 0.97,
            "every face is still a face",
            "some drawn faces are not recognizable as faces",
        ),
        (
            figures.expression("mouth"),
            lambda v: v >= FOLLOWS,
            "the mouth follows the person",
            "the mouth does not follow the person closely",
        ),
    ]
    good: list[str] = []
    bad: list[str] = []
    for value, passes, well, badly in checks:
        if math.isfinite(value):
            (good if passes(value) else bad).append(well if passes(value) else badly)
    if not bad:
        return f"Good: {join(good)}."
    kept = f" {join(good).capitalize()}." if good else ""
    return f"Look at this: {join(bad)}.{kept}"


def join(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def write_report(
    page: Path,
    source: Path,
    drawn: Path,
    figures: VideoFigures,
    *,
    stages: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page, complete or not at all.

    Args:
        stages: stage -> seconds of the run that drew the video, if known.

    Raises:
        OutputExistsError: the page is there and `overwrite` is false.
        UsageError: the name of the page does not end in .html.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"a report is a page: give it a name that ends in .html, not {page.name}")
    if page.exists() and not overwrite:
        raise OutputExistsError(page)
    name = html.escape(drawn.name)
    rows = [
        ("frames compared", f"{figures.frames}"),
        ("people", f"{len(figures.people)}"),
        ("frames without a face", f"{figures.without_face}"),
        ("cuts", f"{len(figures.cuts)}"),
        ("faces still found in the drawing", percent(figures.faces_kept())),
        ("flicker of the face, drawing / source", number(figures.flicker("face"))),
        ("flicker of the background, drawing / source", number(figures.flicker("ground"))),
        ("mouth follows (correlation)", number(figures.expression("mouth"))),
        ("blinks follow (correlation)", number(figures.expression("eyes"))),
        ("drawn face is most like its own person", percent(figures.recognized())),
    ]
    table = "".join(f"<tr><td>{label}</td><td>{value}</td></tr>" for label, value in rows)
    strip = ""
    for time_s, *pair in figures.strip:
        source_url, drawn_url = (data_url(pixels, "JPEG", JPEG_QUALITY) for pixels in pair)
        strip += (
            f"<figure><img src='{source_url}' alt='source'><img src='{drawn_url}' "
            f"alt='drawing'><figcaption>{time_s:.1f} s</figcaption></figure>"
        )
    parts = [
        f"<h1>{name}</h1><p class=verdict>{html.escape(verdict(figures))}</p>",
        f"<p>Source: {html.escape(source.name)}</p><div class=strip>{strip}</div>",
        f"<table>{table}</table>",
        section(
            "Who is seen when",
            "One line a person; red where no face was found in the drawing; dashed lines are cuts.",
            plot_tracks(figures),
        ),
        section(
            "Flicker",
            "How much neighboring frames differ along the motion of the source, drawing over "
            "source. Up to 1.1 it cannot be seen.",
            plot_flicker(figures),
        ),
        section(
            "Expression",
            "How far the mouth is open, in widths of the face, in source and drawing.",
            plot_mouth(figures),
        ),
    ]
    if stages:
        parts.append(
            section("Time by stage", "Seconds; stages run side by side.", plot_stages(stages))
        )
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>"
        f"<style>{STYLE}</style>{''.join(parts)}</html>\n"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text)


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222;
  padding: 0 1em }
.verdict { font-size: 1.2em; font-weight: 600 }
.strip { display: flex; overflow-x: auto; gap: 8px }
.strip img { display: block; height: 200px } figure { margin: 0 } figcaption { font-size: 12px }
table { border-collapse: collapse; margin: 1em 0 } td { padding: 2px 16px 2px 0 }
td:last-child { text-align: right } svg { max-width: 100%; height: auto }
"""


def section(title: str, sentence: str, picture: str) -> str:
    """A heading, a sentence that says how to read the plot, and the plot; empty without one."""
    return f"<h2>{title}</h2><p>{sentence}</p>{picture}" if picture else ""


def percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "cannot be measured"


def number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "cannot be measured"


def svg_of(figure: Figure) -> str:
    """The figure as inline SVG."""
    memory = io.StringIO()
    figure.savefig(memory, format="svg", metadata={"Date": None})
    text = memory.getvalue()
    return text[text.index("<svg") :]


def new_plot(height: float = 2.2) -> tuple[Figure, Axes]:
    """An empty plot over time, `height` inches high."""
    figure = Figure(figsize=(10, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("seconds")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def plot_tracks(figures: VideoFigures) -> str:
    if not figures.people:
        return ""
    figure, axes = new_plot(0.8 + 0.35 * len(figures.people))
    for row, (_, person) in enumerate(sorted(figures.people.items())):
        times, there = np.array(person.times_s), np.array(person.drawn)
        axes.plot(times[there], np.full(there.sum(), row), "|", color="#2563eb", markersize=9)
        axes.plot(times[~there], np.full((~there).sum(), row), "|", color="#dc2626", markersize=9)
    for cut in figures.cuts:
        axes.axvline(cut, color="#888", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(figures.people)))
    axes.set_yticklabels([f"person {k + 1}" for k in range(len(figures.people))])
    axes.set_ylim(-0.6, len(figures.people) - 0.4)
    return svg_of(figure)


def plot_flicker(figures: VideoFigures) -> str:
    if not figures.change:
        return ""
    figure, axes = new_plot()
    change = np.array(figures.change)  # (N, 4)
    for column, label, color in ((0, "face", "#dc2626"), (2, "background", "#2563eb")):
        ratio = smoothed(change[:, column + 1]) / np.maximum(smoothed(change[:, column]), 1e-6)
        axes.plot(figures.flicker_s, ratio, label=label, color=color)
    axes.axhline(1.0, color="#888", linewidth=1)
    axes.set_ylabel("drawing / source")
    axes.legend(frameon=False)
    return svg_of(figure)


def smoothed(values: Floats, width: int = 9) -> Floats:
    """Running mean that leaves NaN out."""
    known = np.isfinite(values)
    kernel = np.ones(min(width, len(values)))
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")
    count = np.convolve(known.astype(float), kernel, "same")
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def plot_mouth(figures: VideoFigures) -> str:
    if not figures.people:
        return ""
    person = max(figures.people.values(), key=lambda p: len(p.times_s))
    figure, axes = new_plot()
    pairs = np.array(person.mouth)  # (N, 2)
    axes.plot(person.times_s, pairs[:, 0], label="source", color="#222")
    axes.plot(person.times_s, pairs[:, 1], label="drawing", color="#dc2626")
    axes.legend(frameon=False)
    return svg_of(figure)


def plot_stages(stages: Mapping[str, float]) -> str:
    figure, axes = new_plot(0.6 + 0.3 * len(stages))
    names = list(stages)
    axes.barh(range(len(names)), [stages[name] for name in names], color="#2563eb")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    return svg_of(figure)
