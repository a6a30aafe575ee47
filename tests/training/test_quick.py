"""`dsg train quick`: a run without pictures, on people of the base that comes with dsg."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import dsg

from dsgcli.media.images import read_image, write_image
from dsgcli.store import ModelStore
from dsgcli.training.base_people import base_people, styles_of
from dsgcli.training.sheets import to_pixels

SHIPPED = Path(__file__).parents[2] / "pretrained" / "default" / "translator.safetensors"
pytestmark = pytest.mark.skipif(not SHIPPED.is_file(), reason="no default model in this checkout")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    return ModelStore.open()


def test_a_name_says_which_styles_people_are_drawn_in():
    assert styles_of("people") == []
    assert styles_of("noir+neon") == ["noir", "neon"]


def test_people_of_the_base_are_always_the_same_and_differ(store):
    one, again = (list(base_people(store, "people", 3, 64)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert one[0].shape == (3, 64, 64)
    assert (one[0] - one[1]).abs().mean() > 0.05


def test_people_in_a_gray_style_are_gray(store):
    colors = []
    for folder in ("people", "noir"):
        pictures = torch.stack(list(base_people(store, folder, 2, 64)))
        colors.append(float((pictures.amax(dim=1) - pictures.amin(dim=1)).mean()))
    assert colors[1] < 0.4 * colors[0]


def test_a_new_exemplar_is_shown_on_a_person_with_how_near_it_came(store, tmp_path):
    (picture,) = base_people(store, "neon", 1, 256)
    write_image(tmp_path / "mine.png", to_pixels(picture[None])[0])
    added = dsg("styles", "add", "toon", "mine.png", "--as", "mine", "--json")
    assert added.exit_code == 0, added.stderr
    assert 0.2 < added.json["colors_moved"] <= 1.0
    sheet = read_image(tmp_path / "mine_in_toon.png").pixels
    assert sheet.shape[1] > 3 * 256
    again = dsg("styles", "add", "toon", "mine.png", "--as", "mine", "--overwrite")
    assert "mine_in_toon-2.png" in again.stdout
    assert "% of the way to your picture" in " ".join(again.stdout.split())


SMALL = {
    "data.drawn": 8,
    "distill.pairs": 12,
    "sampler.row_updates": 40,
    "distill.phases": (
        "[{size_px = 64, steps = 3, batch_size = 2, lr = 1e-5, lr_end = 1e-5, "
        "lambda_contrast = 1.0, lambda_strokes = 0.1}]"
    ),
}


@pytest.mark.slow
def test_a_small_form_of_the_quick_run_makes_a_style_that_draws_people(store, tmp_path):
    words = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    result = dsg("train", "quick", *words)
    assert result.exit_code == 0, result.stderr
    (picture,) = base_people(store, "people", 1, 256)
    write_image(tmp_path / "me.png", to_pixels(picture[None])[0])
    style = ["--style", "quick:3", "--pretrained", "runs/quick/pretrained"]
    drawn = dsg("stylize", "me.png", *style, "-o", "drawn.png")
    assert drawn.exit_code == 0, drawn.stderr
    before, after = (read_image(tmp_path / name).pixels for name in ("me.png", "drawn.png"))
    assert np.abs(before.astype(int) - after).mean() > 5
    edges = [np.abs(np.diff(p.mean(axis=2), axis=0)).ravel() for p in (before, after)]
    assert np.corrcoef(edges)[0, 1] > 0.3  # still the same person
