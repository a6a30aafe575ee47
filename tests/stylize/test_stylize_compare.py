"""`--compare`: before and after in one picture, and pages with a slider."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from PIL import Image
from stylize.staging import HEIGHT, WIDTH, Actor, Play, read_clip, still, write_clip

from dsgcli.errors import OutputExistsError, RecipeError, UsageError

PLAY = Play(6, still(Actor(110, 70)))


@pytest.fixture
def photo(stage, tmp_path):
    stage(PLAY)
    path = tmp_path / "photo.png"
    Image.fromarray(PLAY.frame(0).pixels).save(path)
    return path


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def drawn(stage, photo, tmp_path):
    """The drawing itself."""
    stage.run(photo, output="drawn.png")
    return pixels_of(tmp_path / "drawn.png")


def test_side_by_side_the_source_is_on_the_left(stage, photo, drawn, tmp_path):
    stage.run(photo, output="both.png", compare="side")
    both = pixels_of(tmp_path / "both.png")
    assert both.shape == (HEIGHT, 2 * WIDTH, 3)
    np.testing.assert_array_equal(both[:, :WIDTH], pixels_of(photo))
    np.testing.assert_array_equal(both[:, WIDTH:], drawn)


def test_in_two_halves_each_has_its_own(stage, photo, drawn, tmp_path):
    stage.run(photo, output="halves.png", compare="split")
    halves, half = pixels_of(tmp_path / "halves.png"), WIDTH // 2
    np.testing.assert_array_equal(halves[:, :half], pixels_of(photo)[:, :half])
    np.testing.assert_array_equal(halves[:, half:], drawn[:, half:])
    assert not np.array_equal(halves, pixels_of(photo))


def test_a_crop_is_compared_with_its_crop(stage, photo, tmp_path):
    stage.run(photo, output="crop.png", compare="side", crop=True)
    stage.run(photo, output="alone.png", crop=True)
    both, alone = pixels_of(tmp_path / "crop.png"), pixels_of(tmp_path / "alone.png")
    assert both.shape == (32, 64, 3)
    np.testing.assert_array_equal(both[:, 32:], alone)
    assert np.abs(both[:, :32].mean((0, 1)) - pixels_of(photo).mean((0, 1))).max() < 80


def test_a_page_holds_both_pictures_and_nothing_from_elsewhere(stage, photo, drawn, tmp_path):
    summary = stage.run(photo, output="me.png", compare="page")
    np.testing.assert_array_equal(pixels_of(tmp_path / "me.png"), drawn)
    page = (tmp_path / "me.compare.html").read_text("utf-8")
    assert "me.compare.html" in " ".join(summary.files[0].notes)
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    sizes = []
    for number, data in enumerate(found):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(base64.b64decode(data))
        sizes.append(pixels_of(path).shape[1::-1])
    assert sizes == [(WIDTH, HEIGHT)] * 2
    assert np.abs(pixels_of(tmp_path / "0.jpg").astype(int) - pixels_of(photo)).mean() < 4
    assert np.abs(pixels_of(tmp_path / "1.jpg").astype(int) - drawn).mean() < 4
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import", page)


def test_a_name_cannot_add_to_a_page(stage, tmp_path):
    stage(PLAY)
    path = tmp_path / "<script>alert(1)<script>.png"
    Image.fromarray(PLAY.frame(0).pixels).save(path)
    stage.run(path, output="me.png", compare="page")
    assert "<script>alert" not in (tmp_path / "me.compare.html").read_text("utf-8")


def test_a_page_of_somebody_else_stays(stage, photo, tmp_path):
    (tmp_path / "me.compare.html").write_text("mine")
    with pytest.raises(OutputExistsError):
        stage.run(photo, output="me.png", compare="page")
    assert (tmp_path / "me.compare.html").read_text() == "mine"
    assert not (tmp_path / "me.png").exists()


def test_a_video_shows_its_source_in_the_left_half(stage, tmp_path):
    stage(PLAY)
    clip = write_clip(tmp_path / "clip.mkv", PLAY.frames, codec="ffv1")
    for kind in ("split", "side"):
        stage.run(clip, output=f"{kind}.mkv", compare=kind, codec="ffv1")
    before, split, side = (
        read_clip(path) for path in (clip, tmp_path / "split.mkv", tmp_path / "side.mkv")
    )
    assert len(split) == len(side) == 6
    half = WIDTH // 2
    for one, halves, both in zip(before, split, side, strict=True):
        assert both.pixels.shape[1] == 2 * WIDTH
        np.testing.assert_allclose(halves.pixels[:, : half - 2], one.pixels[:, : half - 2], atol=3)
        np.testing.assert_allclose(both.pixels[:, : WIDTH - 2], one.pixels[:, : WIDTH - 2], atol=3)


def test_a_page_of_a_video_is_refused_before_it_is_drawn(stage, tmp_path):
    stage(PLAY)
    clip = write_clip(tmp_path / "clip.mkv", PLAY.frames)
    with pytest.raises(UsageError, match="--compare page is for photographs"):
        stage.run(clip, output="out.mp4", compare="page")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("options", [{"alpha": True}, {"preview": 4}])
def test_what_does_not_go_together_is_told(stage, photo, options):
    with pytest.raises(RecipeError, match="drop"):
        stage.run(photo, output="me.png", compare="side", **options)
