"""`make demo`: the main job, for real, with nothing but this checkout.

Takes an official photograph of Grace Hopper that MediaPipe's packages bring (real_people.py), and
draws it with `dsg stylize` in three pictures of each style. Then a virtual camera moves over the
photograph, and the clip is drawn in one style. Where no such photograph is installed, a person of
the model's base stands in. A checkout without the model has one of random weights, which paints
stains.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dsgcli import sample
from dsgcli.__main__ import main
from dsgcli.console import Terminal
from dsgcli.errors import ModelError, ModelMissingError
from dsgcli.faces.detect import open_detector
from dsgcli.media.base import SinkOptions
from dsgcli.media.images import read_image, write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.media.write import open_sink
from dsgcli.store import ModelStore
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "demo"
EXEMPLARS = 3
"""Pictures of each style."""
NUM_FRAMES, FPS = 48, 24
WIDTH, HEIGHT = 480, 480
NEAREST, SWING, TURN = 1.35, 0.05, 6.0
"""The camera: how far it zooms in, how far it swings to the sides, in widths of the picture, and
how far it turns, in degrees."""
PERSON = 26
"""Seed of the person who stands in; `dsg sample --seeds 26 --plain` draws him too."""


# ── the photograph ───────────────────────────────────────────────────────────────────────────────


def find_photographs() -> list[Path]:
    """Those that are installed; else one of a person who never lived."""
    sys.path.insert(0, str(Path(__file__).parent))
    from real_people import photographs

    found = photographs()
    if found:
        return found
    path = near(FOLDER / "person.png")
    print(f"No photograph is installed, so the model draws a person who never lived: {path}")
    write_image(path, sample(seeds=str(PERSON), plain=True, truncation=0.9)[0], overwrite=True)
    return [path]


# ── the clip ─────────────────────────────────────────────────────────────────────────────────────


def camera(picture: Image.Image, number: int) -> Pixels:
    """(HEIGHT, WIDTH, 3) uint8: what the camera sees of a picture at one frame. It zooms in on the
    upper middle and out again, swings, and turns; the last frame meets the first."""
    turn = 2 * math.pi * number / NUM_FRAMES
    near_by = 1.15 + (NEAREST - 1.15) * (1 - math.cos(turn)) / 2  # 1 would show the border
    side = min(picture.width, picture.height) / near_by
    angle = math.radians(TURN) * math.sin(turn)
    x = picture.width / 2 + SWING * picture.width * math.sin(turn)
    y = 0.44 * min(picture.width, picture.height)
    cosine, sine = math.cos(angle) * side / WIDTH, math.sin(angle) * side / WIDTH
    map_back = (
        *(cosine, -sine, x - cosine * WIDTH / 2 + sine * HEIGHT / 2),
        *(sine, cosine, y - sine * WIDTH / 2 - cosine * HEIGHT / 2),
    )
    seen = picture.transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, map_back, Image.Resampling.BICUBIC
    )
    return np.asarray(seen)


def moving(photo: Path) -> Iterator[Frame]:
    """Two seconds before the camera."""
    picture = Image.fromarray(read_image(photo).pixels)
    for number in range(NUM_FRAMES):
        yield Frame(
            pixels=camera(picture, number),
            index=number,
            time=Fraction(number, FPS),
            duration=Fraction(1, FPS),
        )


def write_clip(path: Path, photo: Path) -> None:
    with (
        open_sink(path, SinkOptions(overwrite=True)) as sink,
        Terminal().progress() as progress,
        progress.task("Moving the camera", NUM_FRAMES, "frames") as task,
    ):
        for frame in moving(photo):
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


def has_model() -> bool:
    """Whether the shipped model is in this checkout."""
    try:
        ModelStore.open().info("default")
    except ModelError:
        return False
    return True


def model_flags(stack: ExitStack) -> list[str]:
    """None for the shipped model; in a checkout without it, those of one of random weights."""
    if has_model():
        return []
    print(
        "No model is shipped in this checkout, so this demo makes a tiny one of RANDOM weights: "
        "everything runs as it would, but faces become stains."
    )
    sys.path.insert(0, str(ROOT / "tests"))  # where the tests' tiny models are made
    from tiny_store import write_tiny_store

    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return ["--pretrained", str(write_tiny_store(Path(folder)))]


def shown_styles(flags: list[str]) -> list[str]:
    """The styles that belong together: of the default style's set, and drawn as it is."""
    store = ModelStore.open(Path(flags[1]) if flags else None)
    styles = [style for style in store.styles() if not style.shadowed]
    first = store.info("default" if not flags else styles[0].name)
    alike = (first.set_name, first.of_translator)
    names = [s.name for s in styles if (s.set_name, s.of_translator) == alike]
    return sorted(names, key=lambda name: name != first.name)  # the default style comes first


def dsg(*words: str) -> int:
    """Run a command of dsg, and show it."""
    print("$ dsg " + " ".join(words))
    return main(list(words))


def drawn_of(photo: Path, style: str) -> list[Path]:
    """The drawings of a photograph in a style, in the order of their names."""
    return sorted(FOLDER.glob(f"{photo.stem}_{style}-*"))


def draw_sheet(path: Path, photos: list[Path], styles: list[str], flags: list[str]) -> int:
    """A row a style: each photograph, and its drawings beside it. Returns the exit code."""
    for photo in photos:
        for old in FOLDER.glob(f"{photo.stem}_*"):
            old.unlink()
    chosen = [w for s in styles for k in range(EXEMPLARS) for w in ("--style", f"{s}:{k}")]
    code = dsg("stylize", *map(str, photos), "-o", f"{near(FOLDER)}/", *chosen, *flags)
    if code:
        return code
    pictures, labels = [], []
    for style in styles:
        for photo in photos:
            row = [photo, *drawn_of(photo, style)]
            pictures += [read_image(p).pixels for p in row]
            labels += ["", *(p.stem.removeprefix(f"{photo.stem}_") for p in row[1:])]
    columns = len(photos) * (1 + EXEMPLARS)
    sheet = make_sheet(pictures, columns=columns, labels=labels, cell_px=320)
    write_image(path, sheet, overwrite=True)
    return 0


def run_demo() -> int:
    """Returns the exit code of what failed, or 0."""
    FOLDER.mkdir(exist_ok=True)
    sheet, clip = near(FOLDER / "sheet.jpg"), near(FOLDER / "clip.mp4")
    target = clip.with_stem("clip_stylized")
    make_faces_findable()
    with ExitStack() as stack:
        flags = model_flags(stack)
        photos, styles = [near(p) for p in find_photographs()], shown_styles(flags)
        print(f"1. A photograph in {EXEMPLARS} pictures of each style ({', '.join(styles)}):")
        code = draw_sheet(sheet, photos, styles, flags)
        if code:
            return code
        print(f"\n2. A clip of {NUM_FRAMES / FPS:g} seconds: a camera moves over the photograph.")
        write_clip(clip, photos[0])
        look = ["--style", f"{styles[0]}:0"]
        code = dsg("stylize", str(clip), "-o", str(target), *look, "--overwrite", *flags)
    if code == 0:
        print("\nLook at:")
        print(f"  {sheet}: the photograph and its drawings, in one picture")
        print(f"  {near(FOLDER)}: each drawing by itself")
        print(f"  {target}: the clip, drawn; {clip} is what it was made from")
        print("Then try a photograph of yours:")
        print(f"$ {near(Path(sys.executable).parent / 'dsg')} stylize PHOTO")
    return code


if __name__ == "__main__":
    sys.exit(run_demo())
