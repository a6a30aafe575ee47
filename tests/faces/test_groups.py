"""Group pictures: every clear face is found and drawn, large or small, wherever it is in the frame.

People of the shipped base, and photographs in the public domain where packages bring them.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import dsg
from PIL import Image

from dsgcli import sample
from dsgcli.faces.align import crop_face
from dsgcli.faces.detect import open_detector
from dsgcli.media.images import read_image, write_image
from dsgcli.store.places import shipped_folder
from dsgcli.types import Frame

SIZES = {"4K": (3840, 2160), "1080p": (1920, 1080), "720p": (1280, 720)}
PHOTOGRAPHS = {
    "matplotlib": "mpl-data/sample_data/grace_hopper.jpg",
    "skimage": "data/astronaut.png",
}
SEEDS = "26,33,32,8,12,40"
FACE_Y = 0.58
"""Height of the middle of a face in an aligned crop."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shipped_folder() / "default").is_dir(), reason="no model comes with this checkout"
    ),
]


@pytest.fixture(scope="module")
def detector():
    with open_detector() as opened:
        yield opened


@cache
def people():
    """Aligned portraits, (S, S, 3) each; photographs first."""
    found = []
    with open_detector() as detector:
        for package, name in PHOTOGRAPHS.items():
            spec = find_spec(package)
            path = Path(spec.origin).parent / name if spec and spec.origin else Path()
            if path.is_file():
                frame = read_image(path)
                face = max(detector.detect(frame), key=lambda face: face.height_px)
                found.append(crop_face(frame, face, 512).pixels)
    return [*found, *sample("default", seeds=SEEDS, plain=True, truncation=0.7, device="cpu")]


def canvas(size, count, seed, shares):
    """A frame with portraits that do not touch, and the center and side of each; sides lie within
    these shares of the frame's height."""
    rng = np.random.default_rng(seed)
    (width, height), placed = size, []
    pixels = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    while len(placed) < count:
        side = round(height * np.exp(rng.uniform(*np.log(shares))))
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        if any(x < a + s and a < x + side and y < b + s and b < y + side for a, b, s in placed):
            continue
        person = Image.fromarray(people()[len(placed) % len(people())])
        pixels[y : y + side, x : x + side] = person.resize((side, side), Image.Resampling.LANCZOS)
        placed.append((x, y, side))
    return pixels, [(x + side / 2, y + FACE_Y * side, side) for x, y, side in placed]


def missed(faces, placed):
    centers = np.array([face.landmarks.mean(axis=0) for face in faces]).reshape(-1, 2)
    return [
        (x, y, side)
        for x, y, side in placed
        if not (np.abs(centers - (x, y)) < side / 4).all(axis=1).any()
    ]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    ("count", "shares"), [(6, (0.2, 0.45)), (20, (0.12, 0.22))], ids=["six", "twenty"]
)
def test_every_face_of_a_group_is_found_once(detector, name, count, shares):
    for seed in (0, 1):
        pixels, placed = canvas(SIZES[name], count, seed, shares)
        faces = detector.detect(Frame(pixels=pixels))
        assert missed(faces, placed) == []
        assert len(faces) == count


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_face_that_the_border_cuts_is_found(detector, side):
    size, cut = 360, 80  # pixels of the portrait, and of what lies outside
    for person in people()[:4]:
        portrait = np.asarray(Image.fromarray(person).resize((size, size)))
        x = {"left": -cut, "right": 1280 - size + cut}.get(side, 400)
        y = {"top": -cut, "bottom": 720 - size + cut}.get(side, 200)
        pixels = np.full((720, 1280, 3), 120, np.uint8)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + size, 1280), min(y + size, 720)
        pixels[top:bottom, left:right] = portrait[top - y : bottom - y, left - x : right - x]
        assert len(detector.detect(Frame(pixels=pixels))) == 1


@pytest.mark.parametrize("name", SIZES)
def test_all_six_portraits_of_a_picture_are_drawn(tmp_path, name):
    pixels, placed = canvas(SIZES[name], 6, 2, (0.2, 0.45))
    write_image(tmp_path / "group.png", pixels)
    done = dsg("stylize", tmp_path / "group.png", "-o", tmp_path / "out.png", "--json")
    assert done.exit_code == 0
    assert done.json["faces"] == 6
    drawn = read_image(tmp_path / "out.png").pixels
    for x, y, side in placed:
        rows, columns = (slice(round(c - side / 8), round(c + side / 8)) for c in (y, x))
        before, after = (p[rows, columns].astype(float) for p in (pixels, drawn))
        assert np.abs(after - before).mean() > 3.0, (x, y, side)
