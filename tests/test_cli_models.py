"""`dsg models`, as a person types it: on a store of small files, and a web server of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import dsg
from small_models import save_npy, save_pt, small_codes, small_dual
from tiny_store import write_tiny_store
from web_server import WebServer


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_tiny_store(tmp_path / "pretrained")


@pytest.fixture
def published(tmp_path) -> Path:
    """A style as it is published, on this machine."""
    dual, codes = small_dual(), small_codes("b", "a")
    folder = tmp_path / "checkpoint" / "oil"
    save_pt(folder / "generator.pt", {"g_ema": dual.state_dict()})
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    return folder.parent


@pytest.fixture
def manifest(tmp_path, monkeypatch, published):
    """A manifest of one style, on a server of this test."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dsgcli.store.pull.hub_is_installed", lambda: False)
    with WebServer() as web:
        monkeypatch.setenv("HF_ENDPOINT", web.address)
        text = [
            "[licenses.nc]",
            'title = "Look only"\nsummary = "No trade."\nurl = "https://example.org"',
            "commercial = false",
        ]
        for name, kind in (("generator.pt", "dualstylegan"), ("exstyle_code.npy", "codes")):
            web.serve(f"/a/b/resolve/v1/{name}", (published / "oil" / name).read_bytes())
            text += [
                "[[file]]",
                f'name = "oil/{name}"\nfile = "oil/{name}"\nkind = "{kind}"\nlicense = "nc"',
                f'needed_for = "oil"\ngroups = ["oil"]\nsources = ["hf:a/b@v1/{name}"]',
            ]
        path = tmp_path / "manifest.toml"
        path.write_text("\n".join(text))
        from dsgcli.store.manifest import read_manifest

        read = read_manifest(path)
        for module in ("pull", "convert", "lookup"):
            monkeypatch.setattr(f"dsgcli.store.{module}.read_manifest", lambda: read)
        yield web


# ── what there is ────────────────────────────────────────────────────────────────────────────────


def test_list_says_what_is_here_and_where_it_is_from(store):
    result = dsg("models", "list")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if "default/toon " in line)
    assert line.split()[:3] == ["default/toon", "style", "64"]
    assert "./pretrained" in line


def test_list_is_one_document_in_json(store):
    models = dsg("models", "list", "--json").json["models"]
    base = next(model for model in models if model["qualified"] == "default/base")
    assert base["kind"] == "generator"
    assert base["path"] == "pretrained/default/base.safetensors"  # before the one that is shipped
    assert base["from"] == "./pretrained"


def test_list_of_the_published_names_every_style(store):
    result = dsg("models", "list", "--published", "--json")
    names = {item["name"] for item in result.json["published"]}
    assert {"encoder", "arcane/generator", "impasto/exstyle", "vgg19"} <= names
    told = dsg("models", "list", "--published").stdout
    assert len([line for line in told.splitlines() if " arcane" in line]) == 1, "a style, one row"
    assert "`dsg models pull NAME`" in told


def test_show_of_a_published_model_says_how_to_get_it(store):
    result = dsg("models", "show", "arcane")
    assert result.exit_code == 4
    assert "it is published, and `dsg models pull arcane` fetches it" in result.stderr


def test_show_says_what_is_in_a_file(store, published):
    result = dsg("models", "show", "default/toon")
    for part in (
        "a style (to go with its base), 64 px",
        "codes, color, structure, style_path",
        "MIT",
        "base (",
    ):
        assert part in result.stdout
    shown = dsg("models", "show", published / "oil" / "generator.pt", "--json").json
    assert (shown["kind"], shown["config"]["generator"]["size_px"]) == ("dualstylegan", 32)


def test_path_is_where_models_are_kept(store, tmp_path):
    assert dsg("models", "path").stdout.strip() == str(tmp_path / "home" / "pretrained")
    found = dsg("models", "path", "default/encoder").stdout.strip()
    assert found == "pretrained/default/encoder.safetensors"


def test_unknown_model_offers_near_names_and_exits_with_4(store):
    result = dsg("models", "show", "encodr")
    assert result.exit_code == 4
    assert "did you mean" in result.stderr


# ── verify ───────────────────────────────────────────────────────────────────────────────────────


def test_verify_finds_all_good(store):
    result = dsg("models", "verify", "toon", "encoder")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("as recorded") == 2
    assert result.stdout.count("good") == 2


def test_verify_finds_a_changed_bit_and_exits_with_4(store):
    path = store / "default" / "toon.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 4
    path.write_bytes(raw)
    result = dsg("models", "verify", "toon")
    assert result.exit_code == 4
    assert "was changed after it was written" in result.stdout
    assert "1 of 1 model file(s) are not good" in result.stderr


# ── import ───────────────────────────────────────────────────────────────────────────────────────


def test_import_says_what_was_recognized(store, published, tmp_path):
    result = dsg("models", "import", published)
    assert result.exit_code == 0, result.stderr
    assert "a DualStyleGAN, 32 px, 2 exemplars" in result.stdout
    assert (tmp_path / "home" / "pretrained" / "imported" / "oil.safetensors").is_file()
    listed = {item["name"] for item in dsg("styles", "list", "--json").json["styles"]}
    assert "oil" in listed


def test_import_of_a_file_with_code_in_it_exits_with_4_and_runs_nothing(store, tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"g_ema": Evil()}, tmp_path / "generator.pt")
    result = dsg("models", "import", tmp_path / "generator.pt")
    assert result.exit_code == 4
    assert "would run code" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "ran").exists()


def test_import_of_several_says_which_failed_and_exits_with_5(store, published):
    (published / "encoder.pt").write_bytes(b"<html>")
    result = dsg("models", "import", published)
    assert result.exit_code == 5
    assert "is a web page" in result.stderr
    assert "oil" in result.stdout


def test_import_does_not_overwrite_unless_told(store, published):
    assert dsg("models", "import", published).exit_code == 0
    again = dsg("models", "import", published / "oil")
    assert again.exit_code != 0
    assert "--overwrite" in again.stderr
    assert dsg("models", "import", published / "oil", "--overwrite", "--half").exit_code == 0


# ── pull ─────────────────────────────────────────────────────────────────────────────────────────


def test_pull_asks_for_the_license_first(store, manifest):
    result = dsg("models", "pull", "oil")
    assert result.exit_code == 2
    assert "Look only: No trade." in result.stderr
    assert "--accept-license" in result.stderr
    assert manifest.requests == []


def test_pull_fetches_a_style_that_can_be_used(store, manifest):
    result = dsg("models", "pull", "oil", "--accept-license")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("fetched") == 2
    styles = {s["name"]: s for s in dsg("styles", "list", "--json").json["styles"]}
    assert styles["oil"]["exemplars"] == ["b", "a"]
    again = dsg("models", "pull", "oil")
    assert again.stdout.count("present") == 2


def test_pull_of_what_is_not_served_exits_with_4_and_says_what_to_do(store, manifest, tmp_path):
    manifest.behaviors.clear()
    result = dsg("models", "pull", "oil", "--accept-license")
    assert result.exit_code == 4
    assert "answered 404" in result.stderr
    assert f"into {tmp_path / 'home' / 'pretrained' / 'oil'}" in result.stderr


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_pull_offline_says_where_to_get_the_files(store, manifest, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = dsg("models", "pull", "oil", *(["--offline"] if how == "flag" else []))
    assert result.exit_code == 4
    assert "in a browser" in result.stderr
    assert manifest.requests == []


# ── remove ───────────────────────────────────────────────────────────────────────────────────────


def test_remove_deletes_what_was_fetched_or_imported_and_nothing_else(store, published, tmp_path):
    dsg("models", "import", published)
    held = dsg("models", "remove", "imported/base")
    assert held.exit_code == 2
    assert "the style imported/oil needs imported/base" in held.stderr
    result = dsg("models", "remove", "oil", "imported/base")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("removed") == 2
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    kept = dsg("models", "remove", "toon")
    assert kept.exit_code == 2
    assert "dsg removes only files there" in kept.stderr
