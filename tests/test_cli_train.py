"""`dsg train` as a person meets it: plans, refusals, exit codes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from command import dsg

from dsgcli import bars
from dsgcli.recipe import read_recipe
from dsgcli.recipe.reading import shipped_recipes
from dsgcli.training.run import TrainOptions, train


@pytest.fixture(autouse=True)
def _empty_place(tmp_path, monkeypatch):
    """A working folder without data, runs or models, and no models of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_can_be_planned(name):
    result = dsg("train", name, "--dry-run", "-v")
    assert result.exit_code in (0, 2), result.stderr
    assert "# the resolved recipe" in result.stdout
    assert (result.exit_code == 2) == ("missing: " in result.stdout)


def test_plan_of_a_published_style_says_what_is_missing_and_where_to_get_it():
    result = dsg("train", "cartoon", "--dry-run", "--data", "portraits")
    assert "no folder portraits/cartoon" in result.stdout
    assert "dsg models pull stylegan2-ffhq" in result.stdout
    assert "dsg models pull vgg19" in result.stdout


def test_plan_begins_with_how_long_it_takes_and_what_to_do():
    plan = dsg("train", "tiny", "--dry-run")
    first = plan.stdout.splitlines()[0]
    said = r"about .* in all on this machine, about [\d.]+ GB of disk\. Run without --dry-run to .*"
    assert re.fullmatch(said, first)
    assert "resolved recipe" not in plan.stdout
    first = dsg("train", "cartoon", "--dry-run").stdout.splitlines()[0]
    assert re.search(r"about \d+ days in all .*; it can start when nothing is missing", first)


def test_plan_is_a_document_for_programs():
    document = dsg("train", "tiny", "--dry-run", "--json").json
    assert [line["stage"] for line in document["stages"]][:3] == ["prepare", "base", "encoder"]
    assert document["problems"] == []
    assert document["recipe"]["model"]["size_px"] == 32
    assert document["stages"][1]["hours"] > 0


def test_dry_run_starts_nothing(tmp_path):
    dsg("train", "tiny", "--dry-run")
    assert not list(tmp_path.iterdir())


def test_a_new_recipe_is_written_and_can_be_planned(tmp_path):
    result = dsg("train", "--init", "ink")
    assert result.exit_code == 0, result.stderr
    assert "dsg train ink.toml --data portraits --dry-run" in result.stdout
    recipe = read_recipe(tmp_path / "ink.toml")
    assert (recipe.run.name, recipe.data.style) == ("ink", "ink")
    assert "FOLDER/ink" in (tmp_path / "ink.toml").read_text("utf-8")
    plan = dsg("train", "ink", "--dry-run")  # without its ending
    assert plan.exit_code == 2
    assert "missing: no folder" in plan.stdout
    again = dsg("train", "--init", "ink")
    assert again.exit_code == 2
    assert "ink.toml exists already" in again.stderr


def test_a_new_recipe_has_a_name_that_a_style_can_have(tmp_path):
    result = dsg("train", "--init", "CON")
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_is_not_there_offers_a_new_one():
    message = dsg("train", "watercolor", "--data", "portraits").stderr
    assert "`dsg train --init watercolor` writes one for a style of this name" in " ".join(
        message.split()
    )


def test_the_disk_space_of_a_run_is_estimated():
    plan = dsg("train", "quick", "--dry-run", "--json").json
    assert 0.15 < plan["disk_gb"] < 0.6  # 0.29 was seen
    (line,) = [line for line in plan["stages"] if line["stage"] == "distill"]
    assert line["hours"] > 0 and line["memory_gib"] > 0


def test_run_that_lacks_something_does_not_start(tmp_path):
    result = dsg("train", "cartoon")
    assert result.exit_code == 1
    assert "the run cannot start, " in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "no recipe at nothing"),
        (["tiny", "--set", "transfer.lamda_id=4"], "did you mean 'lambda_id'?"),
        (["tiny", "--set", "base.steps=many"], "[base] steps must be int, got 'many'"),
        (["tiny", "--stage", "bases"], "no stage 'bases'"),
    ],
)
def test_wrong_use_is_told(words, told):
    result = dsg("train", *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_data_folder_comes_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("DSG_DATA", "elsewhere")
    assert "no folder elsewhere/cartoon" in dsg("train", "cartoon", "--dry-run").stdout


def test_one_stage_runs_alone_and_is_not_run_again(tmp_path):
    first = dsg("train", "tiny", "--stage", "prepare")
    assert first.exit_code == 0, first.stderr
    assert first.stdout.startswith("done: prepare\n")
    assert (tmp_path / "runs" / "tiny" / "prepare" / "style" / "report.html").is_file()
    again = dsg("train", "tiny", "--stage", "prepare")
    assert again.stdout.startswith("done: nothing left to do\n")
    plan = dsg("train", "tiny", "--dry-run", "--json").json
    assert [line["status"] for line in plan["stages"]][:2] == ["done", "to do"]


def test_precision_auto_is_what_the_machine_is_fast_in_and_stays_so(monkeypatch):
    tiny = ("train", "tiny", "--set", "run.precision=auto")

    def planned(*words, native):
        monkeypatch.setattr("dsgcli.training.run.has_native_bf16", lambda device: native)
        return dsg(*tiny, "--dry-run", "--json", *words).json["recipe"]["run"]["precision"]

    assert [planned(native=True), planned(native=False)] == ["bf16", "fp32"]
    monkeypatch.setattr("dsgcli.training.run.has_native_bf16", lambda device: True)
    assert dsg(*tiny, "--stage", "prepare").exit_code == 0
    assert planned(native=False) == "bf16"
    assert dsg(*tiny, "--stage", "prepare").stdout.startswith("done: nothing left to do\n")
    assert planned("-o", "runs/another", native=False) == "fp32"


def test_a_stage_is_seen_on_a_terminal(tmp_path):
    """Its bar lives as long as the stage, though the stage only says how far it is."""
    from rich.console import Console

    screen = io.StringIO()
    with bars.Bars(Console(file=screen, force_terminal=True, width=300)) as progress:
        options = TrainOptions(folder=tmp_path / "run", stages=("prepare",), device="cpu")
        train(read_recipe(Path("tiny")), options, progress)
    assert "prepare" in screen.getvalue()
    assert "report.html shows how it goes" in screen.getvalue().replace("\n", " ")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    link = re.search(r'href="(prepare/style/report\.html)"', page)
    assert link is not None and (tmp_path / "run" / link[1]).is_file()
    assert "24/24" in screen.getvalue()


@pytest.mark.parametrize("text", ["", '[run]\nname = "mine"\n'])
def test_recipe_without_a_stage_is_told(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    for more in ([], ["--dry-run"]):
        done = dsg("train", "mine.toml", *more)
        assert done.exit_code == 2
        assert "has no stage" in done.stderr
    assert not (tmp_path / "runs").exists()
