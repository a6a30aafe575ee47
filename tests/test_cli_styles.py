"""`dsg styles` on a whole store of tiny models: what is printed, and what is written."""

from __future__ import annotations

import pytest
from command import dsg

pytestmark = pytest.mark.usefixtures("only_tiny_store")


def test_list_names_styles_with_exemplars_size_and_origin():
    result = dsg("styles", "list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[2:]}
    exemplars, px, megabytes, *rest = rows["toon"]
    assert (exemplars, px, rest) == ("5", "64", ["MIT", "DSG_PRETRAINED"])
    assert 0 < float(megabytes) < 2
    assert rows["ink"][:2] == ["5", "64"]


def test_list_as_json_has_what_a_program_wants():
    styles = {style["name"]: style for style in dsg("styles", "list", "--json").json["styles"]}
    assert styles["toon"]["exemplars"][0] == "ada.png"
    assert styles["toon"]["refined"]
    assert styles["toon"]["sampler"]
    assert not styles["ink"]["sampler"]
    assert styles["ink"]["problem"] is None


def test_an_empty_store_says_how_to_fill_it(monkeypatch, tmp_path):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("DSG_PRETRAINED", str(tmp_path / "nothing"))
    monkeypatch.setattr("dsgcli.store.places.shipped_folder", lambda: tmp_path / "nothing")
    result = dsg("styles", "list")
    assert result.exit_code == 0
    assert "dsg models pull" in result.stdout


def test_diff_tells_two_styles_apart():
    result = dsg("styles", "diff", "toon", "ink")
    assert result.exit_code == 0
    assert "Same base: yes" in result.stdout
    assert dsg("styles", "diff", "toon", "toon", "--json").json["changed"] == []


def test_export_writes_one_file_and_refuses_to_overwrite(tmp_path):
    target = tmp_path / "given.safetensors"
    first = dsg("styles", "export", "toon", "-o", target, "--json")
    assert first.exit_code == 0
    assert first.json["base"] == "base"
    assert target.stat().st_size > 1000
    second = dsg("styles", "export", "toon", "-o", target)
    assert second.exit_code == 2
    assert "--overwrite" in second.stderr


@pytest.mark.parametrize("words", [("diff", "toon", "tooon"), ("export", "tooon")])
def test_a_style_that_is_not_there_is_4_with_a_near_name(words):
    result = dsg("styles", *words)
    assert result.exit_code == 4
    assert "did you mean toon" in result.stderr
