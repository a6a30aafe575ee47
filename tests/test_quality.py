"""The figures of `benchmarks/quality.py`, where their answer is known.

Source distributions come without benchmarks.
"""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from dsgcli.training.drawn import draw_portrait
from dsgcli.training.sheets import save_picture
from dsgcli.types import LEFT_EYE, MOUTH_CORNERS, NUM_LANDMARKS

FILE = Path(__file__).parents[1] / "benchmarks" / "quality_figures.py"

if not FILE.is_file():
    pytest.skip("benchmarks are not here", allow_module_level=True)

SPEC = importlib.util.spec_from_file_location("quality_figures", FILE)
assert SPEC is not None and SPEC.loader is not None
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)


def test_script_measures_the_styles_of_a_store(tiny_store, tmp_path, monkeypatch, capsys):
    for seed in (5, 6):
        save_picture(tmp_path / "photos" / f"{seed}.png", draw_portrait(seed, 256))
    words = [str(tmp_path / "photos"), "--pretrained", str(tiny_store), "--per-style", "2"]
    words += ["--json", str(tmp_path / "q.json"), "--sheets", str(tmp_path / "sheets")]
    monkeypatch.syspath_prepend(str(FILE.parent))
    monkeypatch.setattr(sys, "argv", ["quality.py", *words])
    importlib.import_module("quality").main()
    report = json.loads((tmp_path / "q.json").read_text("utf-8"))
    assert set(report) == {"default/toon", "default/ink"}
    for found in report.values():
        assert (found["photographs"], found["exemplars"]) == (2, 2)
        assert found["the best for yaw"] == pytest.approx(1.0, abs=0.1)
        assert found["weights 0 against plain, levels of 255"] == 0
        assert found["exemplars differ by, levels of 255"] > 1
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["ink.jpg", "toon.jpg"]
    assert "| photographs |  | 2 | 2 |" in capsys.readouterr().out


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).random((NUM_LANDMARKS, 2))


def test_yaw_is_zero_in_the_middle_and_one_at_the_side(points):
    points[[234, 454]] = [[0.2, 0.5], [0.8, 0.6]]
    for share, wanted in ((0.5, 0.0), (1.0, 1.0), (0.0, -1.0)):
        points[1] = points[234] + share * (points[454] - points[234])
        assert figures.yaw(points) == pytest.approx(wanted)


def test_yaw_and_mouth_opening_do_not_depend_on_size_place_and_tilt(points):
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    moved = 3 * points @ turn.T + 7
    assert figures.yaw(moved) == pytest.approx(figures.yaw(points))
    assert figures.mouth_opening(moved) == pytest.approx(figures.mouth_opening(points))


def test_features_off_is_the_mean_over_two_eyes_and_the_mouth(points):
    other = points.copy()
    other[list(MOUTH_CORNERS)] += [0.03, 0.04]
    assert figures.features_off(points, other) == pytest.approx(5 / 3)
    other[list(LEFT_EYE)] -= [0.0, 0.04]
    assert figures.features_off(points, other) == pytest.approx(3.0)


def test_decibels_count_only_where_the_mask_is():
    one, other = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    other[:4] = 51
    assert figures.decibels(one, other) == pytest.approx(10 * math.log10(25 * 2))
    assert figures.decibels(one, other, np.arange(8)[:, None].repeat(8, 1) < 4) == pytest.approx(
        10 * math.log10(25)
    )


def test_correlation_takes_channels_about_their_own_means():
    theirs = np.random.default_rng(1).random((9, 3))
    assert figures.correlation(theirs * 0.3 + [5, -2, 9], theirs) == pytest.approx(1.0)
    assert figures.correlation(-theirs[:, 0], theirs[:, 0]) == pytest.approx(-1.0)
    assert math.isnan(figures.correlation(np.ones(4), np.arange(4.0)))


def test_exemplars_that_differ_in_color_alone_do_not_differ_beyond_it():
    drawn = np.full((2, 3, 8, 8, 3), 100, np.uint8)
    drawn[1] += 20
    found = list(figures.differ(drawn).values())
    assert found == pytest.approx([20.0, 20.0, 0.0])


def test_table_marks_what_misses_the_mark():
    name = "reconstruction: PSNR of the crop, dB"
    text = figures.table({"noir": {name: 19.5}, "doll": {name: 18.0}, "grit": {name: math.nan}})
    assert text.splitlines()[-1] == f"| {name} | >= 19 | 19.5 | **18** | **nan** |"
