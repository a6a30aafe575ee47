"""What the stylizer is tested with: scripted faces in painted frames, clips of them, and readings
of what was written.

A `Play` is a scene whose every face is known: who is where in which frame, and whether the detector
sees it. Its frames are painted cheaply, each face as an oval of its own color, so that tracks tell
them apart as they would tell people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scripted_faces import face

from dsgcli.media.base import HeldFrames, SinkOptions, SourceInfo
from dsgcli.media.read import open_source
from dsgcli.media.write import open_sink
from dsgcli.store import ModelStore
from dsgcli.stylize.jobs import InputFile, Job
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.output_styles import StyleCache, make_casts
from dsgcli.stylize.studio import Studio
from dsgcli.stylize.summary import Stopwatch
from dsgcli.types import Frame

WIDTH, HEIGHT = 160, 120
FACE_PX = 40
"""Of a face; its crop's side is 1.44 times that."""
RATE = 25
PLAIN = {"style": ("toon",), "mask": "feather", "device": "cpu", "precision": "fp32"}
"""Options that need no segmentation and give the same numbers everywhere."""


@dataclass(frozen=True)
class Actor:
    """One face: where it is, and how it looks."""

    x: float
    y: float = 60.0
    size: float = FACE_PX
    color: tuple[int, int, int] = (230, 180, 150)
    degrees: float = 0.0
    seen: bool = True
    """By the detector."""


RED, BLUE = (235, 90, 60), (60, 110, 240)
Script = Callable[[int], Sequence[Actor]]


@dataclass(frozen=True)
class Play:
    """`num_frames` frames of what `script` says of each."""

    num_frames: int
    script: Script
    times: Sequence[Fraction] | None = None
    """Of the frames; a steady rate if None."""
    scene: Callable[[int], int] = lambda index: 0
    """Number of the backdrop."""

    @property
    def frames(self) -> list[Frame]:
        return [self.frame(index) for index in range(self.num_frames)]

    def frame(self, index: int) -> Frame:
        time = Fraction(index, RATE) if self.times is None else self.times[index]
        return Frame(pixels=paint(self.script(index), self.scene(index)), index=index, time=time)

    @property
    def detector(self) -> ScriptedDetector:
        return ScriptedDetector(self.script)


class ScriptedDetector:
    """Sees the actors of a script, by the number of the frame."""

    name = "script"

    def __init__(self, script: Script, pause: Callable[[], None] = lambda: None) -> None:
        self.script, self.pause = script, pause
        self.efforts: list[str] = []

    def detect(self, frame, *, hints=(), effort="search"):
        self.pause()
        self.efforts.append(effort)
        seen = sorted((a for a in self.script(frame.index) if a.seen), key=lambda a: a.x)
        return [face((a.x, a.y), a.size, a.degrees) for a in seen]

    def close(self):
        pass


def still(*actors: Actor) -> Script:
    """The same in every frame."""
    return lambda index: actors


def paint(actors: Sequence[Actor], scene: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)):
    """(H, W, 3): ovals with eyes and a mouth before a backdrop."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    ramps = [40 + 120 * x / width, 60 + 90 * y / height, 90 + 40 * (x + y) / (width + height)]
    pixels = np.stack(np.roll(ramps, scene, axis=0), axis=-1)
    if scene % 2:
        pixels = 255 - pixels[:, ::-1]
    for actor in actors:
        u, v = (x + 0.5 - actor.x) / actor.size, (y + 0.5 - actor.y) / actor.size
        pixels[(u / 0.42) ** 2 + (v / 0.5) ** 2 < 1] = actor.color
        for side in (-0.2, 0.2):
            pixels[(u - side) ** 2 + (v + 0.15) ** 2 < 0.004] = 20
        pixels[(np.abs(u) < 0.15) & (np.abs(v - 0.25) < 0.03)] = 60
    return pixels.round().astype(np.uint8)


# ── running the loop ─────────────────────────────────────────────────────────────────────────────


def make_studio(models: Path, detector, **options) -> Studio:
    """What a run is made with, without a segmentation model."""
    chosen = StylizeOptions(**{**PLAIN, **options})
    store = ModelStore.open(models)
    return Studio(
        detector=detector,
        segmenter=None,
        mask=chosen.mask,
        kept_mask=chosen.mask,
        casts=make_casts(StyleCache(store, chosen), chosen.style, chosen.face_style),
        options=chosen,
        clock=Stopwatch(),
        store=store,
    )


def make_crew(studio: Studio, kind: str = "memory", *, aligned: bool = False):
    info = SourceInfo(kind=kind, size_px=(WIDTH, HEIGHT))
    return studio.crew(Job(source=InputFile(path=Path("clip")), outputs=()), info, aligned=aligned)


def perform(models: Path, play: Play, *, aligned: bool = False, **options):
    """Every frame of a play, drawn."""
    studio = make_studio(models, play.detector, **options)
    crew = make_crew(studio, aligned=aligned)
    return list(crew.run(HeldFrames(play.frames), studio.casts))


# ── listeners ────────────────────────────────────────────────────────────────────────────────────


class Listener:
    """Keeps what is said."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def task(self, name, total=None, unit="steps", done=0):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, steps=1, **figures):
        pass

    def set_total(self, total):
        pass

    def note(self, message):
        self.notes.append(message)

    def warn(self, message):
        self.warnings.append(message)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def write_clip(path: Path, frames: Sequence[Frame], **options) -> Path:
    """A video of these frames at their times."""
    options = {"codec": "mpeg4", **options} if path.suffix in (".mp4", ".mkv") else options
    with open_sink(path, SinkOptions(**options), None) as sink:
        for frame in frames:
            sink.write(frame)
    return path


def read_clip(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def same_clip(one: Path, other: Path) -> bool:
    """Whether two videos hold the same frames at the same times."""
    frames, others = read_clip(one), read_clip(other)
    return len(frames) == len(others) and all(
        a.time == b.time and np.array_equal(a.pixels, b.pixels)
        for a, b in zip(frames, others, strict=True)
    )


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in levels of 255."""
    return float(np.abs(one.astype(int) - other).mean())


def around(pixels: np.ndarray, actor: Actor, reach: float = 0.25) -> np.ndarray:
    """The middle of an actor's face."""
    r = int(actor.size * reach)
    x, y = round(actor.x), round(actor.y)
    return pixels[max(0, y - r) : y + r, max(0, x - r) : x + r]


def shifted(frames: Sequence[Frame], start: Fraction) -> list[Frame]:
    return [replace(frame, time=frame.time + start) for frame in frames]
