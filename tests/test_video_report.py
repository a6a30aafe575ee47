"""`dsg report`: figures of pairs of videos whose answer is known."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import matplotlib
import numpy as np
import pytest
from command import dsg
from PIL import Image

FRAMES, SIDE = 14, 256


def portrait() -> Image.Image:
    """A public-domain portrait that matplotlib brings."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def moving(noise: float = 0.0, count: int = FRAMES) -> list[np.ndarray]:
    """A camera that moves over the portrait; noise differs from frame to frame."""
    rng, picture = np.random.default_rng(0), portrait()
    frames = []
    for k in range(count):
        left, top = 110 + 3 * k, 20 + 2 * k
        crop = picture.crop((left, top, left + 320, top + 320)).resize((SIDE, SIDE))
        pixels = np.asarray(crop, np.float32) + rng.normal(0, noise, (SIDE, SIDE, 3))
        frames.append(np.clip(pixels, 0, 255).astype(np.uint8))
    return frames


def write(path: Path, frames: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report") / "source.mp4", moving())


def figures(source: Path, drawn: Path, page: Path, *flags: str) -> dict:
    done = dsg("report", source, drawn, "-o", page, "--json", *flags)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_video_flickers_as_much_as_itself(source, tmp_path):
    found = figures(source, source, tmp_path / "page.html")
    assert found["flicker_face"] == pytest.approx(1.0)
    assert found["flicker_ground"] == pytest.approx(1.0)
    assert (found["frames"], found["people"], found["faces_kept"]) == (FRAMES, 1, 1.0)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 2 * 8  # source and drawing of eight frames
    for outside in ("src='http", 'src="http', "<link", "<script", "@import"):
        assert outside not in page  # it needs nothing else
    assert found["verdict"] in page


def test_noise_that_changes_is_flicker(source, tmp_path):
    drawn = write(tmp_path / "noisy.mp4", moving(noise=25.0))
    found = figures(source, drawn, tmp_path / "page.html")
    assert found["flicker_face"] > 1.5 and found["flicker_ground"] > 1.5
    assert "the face flickers" in found["verdict"]


def test_faces_that_vanish_are_counted(source, tmp_path):
    frames = moving()
    for pixels in frames[FRAMES // 2 :]:
        pixels[:] = 128
    found = figures(source, write(tmp_path / "blank.mp4", frames), tmp_path / "page.html")
    assert found["faces_kept"] == pytest.approx(0.5, abs=0.1)
    assert "not recognizable" in found["verdict"]


def test_a_part_is_compared_where_it_begins(source, tmp_path):
    part = write(tmp_path / "part.mp4", moving()[5:])
    found = figures(source, part, tmp_path / "page.html", "--start", "0.2")
    assert found["frames"] == FRAMES - 5
    assert found["flicker_face"] == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(
    ("drawn", "page", "message"),
    [
        ("picture.png", "page.html", "is a picture; a report compares two videos"),
        ("source", "page.txt", "ends in .html"),
        ("source", "old.html", "exists"),
        ("missing.mp4", "page.html", "missing.mp4"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(source, tmp_path, drawn, page, message):
    portrait().save(tmp_path / "picture.png")
    (tmp_path / "old.html").write_text("mine")
    other = source if drawn == "source" else tmp_path / drawn
    done = dsg("report", source, other, "-o", tmp_path / page)
    assert done.exit_code not in (0, 70)
    assert message in " ".join(done.stderr.split())
    assert (tmp_path / "old.html").read_text() == "mine"
    assert not (tmp_path / "page.html").exists()
