"""`make demo`: the main job, for real, with nothing but this checkout.

Makes a short clip of two people who never lived, and stylizes it with `dsg stylize`: faces are
found, followed, encoded, drawn anew and pasted back, and the video is written. The model that is
shipped with dsg draws the people and the style. A checkout without it draws them by rule, and has a
model of random weights, which paints stains.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from dsgcli.__main__ import main
from dsgcli.console import Terminal
from dsgcli.errors import ModelError, ModelMissingError
from dsgcli.faces.detect import open_detector
from dsgcli.generate.codes import seeded_normal
from dsgcli.media.sinks import SinkOptions, open_sink
from dsgcli.portraits import Portraits, load_portraits
from dsgcli.store import ModelStore
from dsgcli.training.drawn_clip import draw_clip
from dsgcli.types import Frame

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "demo"
NUM_FRAMES, FPS = 72, 24
WIDTH, HEIGHT, SIDE = 640, 360, 300
PEOPLE = (29, 12)
"""Seeds of the two; `dsg sample --seeds 29,12 --plain` draws them too."""
RESTLESS = 0.3
"""How far they go from themselves: over axes of the prior, in standard deviations."""


def default_style() -> str | None:
    """The style of the shipped model, if it is in this checkout."""
    with contextlib.suppress(ModelError):
        return ModelStore.open().info("default").name
    return None


# ── people who never lived ───────────────────────────────────────────────────────────────────────


def moving_codes(portraits: Portraits, seed: int) -> Iterator[torch.Tensor]:
    """(1, L, D) z+ of one person, a frame each: they turn, and come back to where they began."""
    network = portraits.generator.generator
    width = network.config.style_dim
    still = seeded_normal(seed, "content", width)
    ways = [seeded_normal(100 * seed + k, "content", width) for k in (1, 2)]
    for number in range(NUM_FRAMES):
        turn = 2 * math.pi * number / NUM_FRAMES
        moved = still + RESTLESS * (math.sin(turn) * ways[0] + (math.cos(turn) - 1) * ways[1] / 2)
        yield network.spread(moved[None])


def soft_edge(side: int) -> np.ndarray:
    """(side, side, 1) in 0..1: a square that fades at its border."""
    place = np.minimum(np.arange(side), np.arange(side)[::-1]) / (0.12 * side)
    ramp = np.clip(place, 0.0, 1.0)
    smooth = ramp * ramp * (3 - 2 * ramp)
    return (smooth[:, None] * smooth[None, :])[..., None]


def people_clip(portraits: Portraits) -> Iterator[Frame]:
    """Two people of the shipped base, side by side before what is behind them."""
    edge = soft_edge(SIDE)
    top = (HEIGHT - SIDE) // 2
    lefts = [(WIDTH // 2 - SIDE) // 2, WIDTH // 2 + (WIDTH // 2 - SIDE) // 2]
    for number, codes in enumerate(zip(*(moving_codes(portraits, s) for s in PEOPLE), strict=True)):
        faces = [Image.fromarray(portraits.draw_plain(code)[0]) for code in codes]
        scene = np.asarray(background(faces), dtype=np.float32).copy()
        for face, left in zip(faces, lefts, strict=True):
            large = np.asarray(face.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
            place = scene[top : top + SIDE, left : left + SIDE]
            place += edge * (large - place)
        yield Frame(
            pixels=scene.round().clip(0, 255).astype(np.uint8),
            index=number,
            time=Fraction(number, FPS),
            duration=Fraction(1, FPS),
        )


def background(faces: list[Image.Image]) -> Image.Image:
    """What surrounds the faces, blurred until it is a wall."""
    row = Image.new("RGB", (WIDTH, HEIGHT))
    for number, face in enumerate(faces):
        row.paste(face.resize((WIDTH // len(faces), HEIGHT)), (number * WIDTH // len(faces), 0))
    return row.filter(ImageFilter.GaussianBlur(60))


def write_clip(path: Path, style: str | None) -> None:
    """Three seconds of two people."""
    if style is None:
        frames = draw_clip(NUM_FRAMES, WIDTH, HEIGHT, faces=2, seed=4)
    else:
        frames = people_clip(load_portraits(ModelStore.open(), style, encoder=None))
    with (
        open_sink(path, SinkOptions(overwrite=True)) as sink,
        Terminal().progress() as progress,
        progress.task("Drawing", NUM_FRAMES, "frames") as task,
    ):
        for frame in frames:
            sink.write(frame)
            task.advance()


# ── the demo ─────────────────────────────────────────────────────────────────────────────────────


def make_faces_findable() -> None:
    """Fetch the face model (4 MB) where MediaPipe comes without one: on Python 3.13 and later."""
    try:
        open_detector(task_file=ModelStore.open().face_landmarker()).close()
    except ModelMissingError:
        print("This MediaPipe comes without its face model, so it is fetched first.")
        main(["models", "pull", "face_landmarker", "--accept-license"])


def near(path: Path) -> Path:
    """As short as it can be written from here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def run_demo() -> int:
    """Returns the exit code of `dsg stylize`."""
    FOLDER.mkdir(exist_ok=True)
    source, target = near(FOLDER / "people.mp4"), near(FOLDER / "people_stylized.mp4")
    make_faces_findable()
    style = default_style()
    print(f"Drawing {NUM_FRAMES} frames of two people who never lived: {source}")
    write_clip(source, style)
    command = ["stylize", str(source), "-o", str(target), "--overwrite"]
    with tempfile.TemporaryDirectory() as models:
        if style is None:
            print(
                "No model is shipped in this checkout, so this demo makes a tiny one of RANDOM "
                "weights: everything runs as it would, but faces become stains."
            )
            sys.path.insert(0, str(ROOT / "tests"))  # where the tests' tiny models are made
            from tiny_store import write_tiny_store

            command += ["--pretrained", str(write_tiny_store(Path(models)))]
        print("$ dsg " + " ".join(command))
        code = main(command)
    if code == 0:
        print(f"\nLook at {target}, beside {source.name}. Then try a picture of yours:")
        print(f"$ {near(Path(sys.executable).parent / 'dsg')} stylize PHOTO")
    return code


if __name__ == "__main__":
    sys.exit(run_demo())
