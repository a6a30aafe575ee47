"""Settings: command line > environment > dsg.toml here > dsg.toml of the user > default."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import dsg
from typer.main import get_command

from dsgcli.cli.app import build_app
from dsgcli.cli.settings import NOT_SETTINGS, flags_of, read_settings, unknown_variables
from dsgcli.errors import RecipeError

FLAGS = {
    (): {},
    ("stylize",): {"device": False, "crf": False, "style": True, "pretrained": False},
    ("models",): {},
    ("models", "pull"): {"offline": False, "pretrained": False},
}


@pytest.fixture
def folders(tmp_path):
    """The working folder and the user's; `write(folder, text)` puts a dsg.toml there."""
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    return here, home


def write(folder: Path, text: str) -> None:
    (folder / "dsg.toml").write_text(text, "utf-8")


def read(folders, **environ):
    here, home = folders
    return read_settings(FLAGS, {"DSG_HOME": str(home), **environ}, here)


LAYERS = ["environment", "here", "user"]


@pytest.mark.parametrize("strongest", range(len(LAYERS)))
def test_stronger_layer_wins(folders, strongest):
    here, home = folders
    environ = {"DSG_CRF": "1"} if strongest == 0 else {}
    if strongest <= 1:
        write(here, "crf = 2")
    write(home, "crf = 3")
    settings = read(folders, **environ)
    assert settings.lookup(("stylize",), "crf").value == str(strongest + 1)


def test_within_a_layer_the_nearer_table_wins(folders):
    write(folders[0], 'device = "cpu"\n[stylize]\ndevice = "mps"')
    settings = read(folders)
    assert settings.lookup(("stylize",), "device").value == "mps"


def test_a_stronger_layer_wins_even_over_a_nearer_table(folders):
    write(folders[0], '[stylize]\ndevice = "mps"')
    assert read(folders, DSG_DEVICE="cpu").lookup(("stylize",), "device").value == "cpu"


def test_nested_commands_have_nested_tables(folders):
    write(folders[0], "[models.pull]\noffline = true")
    assert read(folders).default_map(FLAGS)["models"] == {"pull": {"offline": True}}


def test_nothing_written_is_nothing_set(folders):
    assert read(folders).default_map(FLAGS) == {"stylize": {}, "models": {"pull": {}}}


def test_all_problems_at_once_with_near_matches(folders):
    here, home = folders
    write(here, 'devise = "cpu"\n[stylise]\ncrf = 3\n[stylize]\ncrff = 4\nstyle = [[1]]')
    write(home, "crf = = 3")
    with pytest.raises(RecipeError) as caught:
        read(folders).check()
    assert len(caught.value.problems) == 5
    text = str(caught.value)
    for part in ("'device'", "'stylize'", "'crf'", "style must be", str(home)):
        assert part in text


def test_unknown_variables_are_told_but_do_not_stop(folders):
    environ = {"DSG_DEVCE": "cpu", "DSG_HOME": "x", "OTHER": "y"}
    assert unknown_variables(FLAGS, environ) == [
        "environment variable DSG_DEVCE sets nothing; did you mean 'DSG_DEVICE'?"
    ]
    read(folders, DSG_DEVCE="cpu").check()


def test_dsg_pretrained_beats_a_file(folders):
    """The store reads that variable itself, so the file must not come in before it."""
    write(folders[0], 'pretrained = "models"')
    assert read(folders).lookup(("stylize",), "pretrained") is not None
    assert read(folders, DSG_PRETRAINED="m").lookup(("stylize",), "pretrained") is None


def test_every_origin_is_named(folders):
    write(folders[0], "crf = 2")
    origins = {s.key: s.origin for s in read(folders, DSG_DEVICE="cpu").in_force()}
    assert origins == {"device": "DSG_DEVICE", "crf": str(folders[0] / "dsg.toml")}


# ── in the command ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def here(folders, monkeypatch):
    monkeypatch.setenv("DSG_HOME", str(folders[1]))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    monkeypatch.chdir(folders[0])
    return folders[0]


def test_a_setting_is_the_default_that_help_shows(here):
    write(here, "[stylize]\ntruncation = 0.25")
    assert "[0.25]" in dsg("stylize", "--help").stdout


def test_a_wrong_value_says_where_it_was_set(here):
    write(here, '[stylize]\ntruncation = "much"')
    result = dsg("stylize", "x.jpg")
    assert result.exit_code == 2
    assert str(here / "dsg.toml") in result.stderr


def test_the_command_line_is_stronger_than_a_setting(here):
    write(here, '[stylize]\ntruncation = "much"')
    assert str(here) not in dsg("stylize", "x.jpg", "--truncation", "0.5").stderr


@pytest.mark.parametrize("text", ['style = "arcane:12"', 'style = ["arcane:12"]'])
def test_one_word_is_enough_for_a_flag_that_repeats(folders, text):
    write(folders[0], text)
    assert read(folders).default_map(FLAGS)["stylize"] == {"style": ["arcane:12"]}


def test_a_broken_file_stops_commands_but_not_help_and_doctor(here):
    write(here, "no = = toml")
    assert dsg("styles", "list").exit_code == 2
    assert dsg("stylize", "--help").exit_code == 0
    assert "unknown key" not in dsg("doctor").stderr


def test_what_belongs_to_one_run_is_no_setting():
    flags = flags_of(get_command(build_app()))
    assert not NOT_SETTINGS & {name for names in flags.values() for name in names}
    assert {"style", "device", "seed"} <= set(flags[("stylize",)])
