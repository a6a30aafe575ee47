"""The report of a run: complete, well formed, and in need of nothing else."""

from __future__ import annotations

import json
import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from training.toys import run as run_toy

from dsgcli.recipe import build
from dsgcli.training.plots import plot, thinned, ticks
from dsgcli.training.record import METRICS, FileRecorder, read_metrics
from dsgcli.training.report import group_of, spread, write_report
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.sheets import GAP_PX, grid, save_sheet, to_pixels


@pytest.fixture
def page(tmp_path):
    recipe = build(
        {"run": {"name": "mine", "license": "a <b> & c"}, "transfer": {"steps": 30}, "sampler": {}}
    )
    run = RunFolder(tmp_path)
    run.begin("transfer", recipe)
    run_toy(run.stage("transfer"), steps=30, sample_every=2)
    run.note("transfer", done=True, elapsed_s=90.0)
    run.describe(recipe, "cpu")
    write_report(run, recipe)
    return (tmp_path / "report.html").read_text("utf-8")


def test_report_needs_no_network_and_no_other_file(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img")


def test_report_tells_what_was_done_how_and_on_what(page):
    assert "<td>transfer</td><td>done</td><td>1.5 min</td>" in page
    assert "<td>sampler</td><td>to do</td>" in page
    assert "a &lt;b&gt; &amp; c" in page
    assert "steps = 30" in page
    assert "<td>torch</td>" in page
    assert page.count("<svg") == 5  # loss, grad, score, norm, speed


def test_report_shows_the_first_the_last_and_some_sheets_between(page):
    assert page.count("<figcaption>toy-samples-") == 6 + 1  # the newest one is on top, too
    assert "toy-samples-000001" in page
    assert "toy-samples-000030" in page


def test_report_begins_with_what_is_drawn_and_folds_the_rest(page):
    top = page.partition("<h2>Stages</h2>")[0]
    assert 'class="large"' in top and "toy-samples-000030" in top
    assert "<svg" not in top
    folded = re.findall(r"<details><summary>(.*?)</summary>", page)
    assert folded == ["Pictures over time", "Curves", "Recipe", "Environment"]
    assert "type the same <code>dsg train</code> command again" in page


def test_report_of_a_finished_run_names_the_next_command(tmp_path):
    recipe = build({"run": {"name": "mine", "license": "x"}, "sampler": {}})
    run = RunFolder(tmp_path)
    run.begin("sampler", recipe)
    run.note("sampler", done=True, elapsed_s=1.0)
    (tmp_path / "pretrained" / "mine").mkdir(parents=True)
    (tmp_path / "pretrained" / "mine" / "mine.safetensors").touch()
    write_report(run, recipe)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"dsg stylize photo.jpg --style mine --pretrained {tmp_path / 'pretrained'}" in page
    assert "Nothing is drawn yet" in page


def test_report_says_in_words_what_was_learnt(tmp_path):
    recipe = build({"run": {"name": "mine", "license": "x"}, "transfer": {"steps": 30}})
    run = RunFolder(tmp_path)
    run.begin("transfer", recipe)
    rows = [{"run": "a", "step": n, "time_s": n, "pixel": 1.0 - 0.02 * n} for n in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run.stage("transfer") / METRICS).write_text(text, "utf-8")
    write_report(run, recipe)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "the difference from the teacher's picture fell by 36 %" in page


def test_plot_is_well_formed_and_keeps_inside_its_frame():
    curve = [(step, math.sin(step / 10) * 1e6) for step in range(2000)]
    figure = plot("a & b", {"x<y": curve, "one": [(3.0, 4.0)], "nan": [(1.0, math.nan)]})
    root = ElementTree.fromstring(figure.replace("<figure class=plot>", "<figure>"))
    svg = root.find("svg")
    assert svg is not None
    line = svg.find("polyline")
    assert line is not None
    points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    assert all(0 <= x <= 560 and 0 <= y <= 220 for x, y in points)
    assert len(points) <= 400
    assert svg.find("circle") is not None
    assert plot("nothing", {"nan": [(1.0, math.nan)]}) == ""


def test_thinned_curve_keeps_its_mean():
    curve = [(float(i), float(i % 7)) for i in range(1000)]
    short = thinned(curve, most=100)
    assert len(short) == 100
    assert sum(y for _, y in short) / 100 == pytest.approx(sum(y for _, y in curve) / 1000)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 17), (0.001, 0.0042), (5, 5)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)


def test_scalars_of_a_kind_share_a_plot():
    assert group_of("loss/d") == group_of("loss/g") == "loss"
    assert group_of("images_per_s") == "speed"
    assert group_of("pixel") == "pixel"


def test_spread_takes_the_first_and_the_last():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]


# ── metrics.jsonl and sheets ─────────────────────────────────────────────────────────────────────


def test_metrics_of_two_loops_share_a_file_and_rewind_apart(tmp_path):
    one, other = FileRecorder(tmp_path, "one"), FileRecorder(tmp_path, "other")
    for files in (one, other):
        for step in (1, 2, 3):
            files.scalars(step, 0.1, {"x": float(step)})
        files.flush()
    one.rewind(1)
    rows = [(row["run"], row["step"]) for row in read_metrics(tmp_path / METRICS)]
    assert rows == [("one", 1), ("other", 1), ("other", 2), ("other", 3)]


def test_line_that_a_kill_cut_short_is_left_out(tmp_path):
    (tmp_path / METRICS).write_text('{"run": "x", "step": 1}\n{"run": "x", "st')
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == [1]


def test_sheet_has_every_picture_in_its_place():
    images = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 3, 4, 6)
    sheet = grid(to_pixels(images), columns=2)
    assert sheet.shape == (3 * 4 + 2 * GAP_PX, 2 * 6 + GAP_PX, 3)
    assert [int(sheet[0, 0, 0]), int(sheet[0, 8, 0]), int(sheet[6, 0, 0])] == [0, 64, 128]
    assert int(sheet[4, 0, 0]) == 255  # the gap


@pytest.mark.parametrize(
    ("count", "together", "size"), [(4, 3, (3, 4)), (16, 2, (6, 6)), (1, 4, (4, 1))]
)
def test_pictures_that_belong_together_stay_in_one_row(tmp_path, count, together, size):
    save_sheet(tmp_path / "sheet.jpg", torch.zeros(count, together, 3, 8, 8))
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert tuple((side + GAP_PX) // (8 + GAP_PX) for side in sheet.size) == size


def test_tensorboard_gets_scalars_and_pictures_where_it_is_installed(tmp_path, monkeypatch):
    told = []

    class Board:
        def add_scalar(self, name, value, step):
            told.append((name, value, step))

        def add_image(self, name, pixels, step, dataformats):
            told.append((name, pixels.shape, step, dataformats))

        def flush(self):
            told.append("flush")

    tensorboard = SimpleNamespace(SummaryWriter=lambda folder: Board())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tensorboard)
    files = FileRecorder(tmp_path, "one")
    files.scalars(3, 0.5, {"loss/g": 1.5})
    files.sheet(3, "samples", torch.zeros(4, 3, 8, 8))
    files.flush()
    assert told == [("loss/g", 1.5, 3), ("samples", (8, 32, 3), 3, "HWC"), "flush"]
