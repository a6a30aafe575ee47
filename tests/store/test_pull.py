"""Published files come by name, under their license, once, and not while offline."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_models import save_npy, save_pt, small_codes, small_dual
from web_server import WebServer

from dsgcli.errors import ModelMissingError, UsageError
from dsgcli.store import ModelStore
from dsgcli.store.catalog import scan
from dsgcli.store.fetch import RetryPolicy
from dsgcli.store.files import one_writer
from dsgcli.store.manifest import Entry, License, Manifest
from dsgcli.store.places import Root
from dsgcli.store.pull import PullOptions, accept, pull, unaccepted
from dsgcli.store.verify import verify

LICENSES = {
    "free": License(id="free", title="Free", summary="Any use.", url="https://f", commercial=True),
    "nc": License(
        id="nc", title="Non-commercial", summary="Look only.", url="https://n", commercial=False
    ),
}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dsgcli.store.pull.hub_is_installed", lambda: False)
    with WebServer() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "pretrained"


def quick(**other) -> PullOptions:
    return PullOptions(patience=RetryPolicy(attempts=2, sleep=lambda _: None), **other)


def manifest_of(*entries: Entry) -> Manifest:
    return Manifest(files=entries, licenses=LICENSES)


def entry_of(name: str, content: bytes, *sources: str, **other) -> Entry:
    values = {
        "name": name,
        "file": name,
        "kind": "other",
        "license": "free",
        "needed_for": "tests",
        "sources": sources,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return Entry(**{**values, **other})


# ── what is fetched ──────────────────────────────────────────────────────────────────────────────


def test_style_is_fetched_and_draws(tmp_path, web, home):
    """A whole style, from a server to a network."""
    dual, codes = small_dual(), small_codes("b", "a")
    made = {
        "toon/generator.pt": save_pt(tmp_path / "g.pt", {"g_ema": dual.state_dict()}),
        "toon/exstyle_code.npy": save_npy(tmp_path / "e.npy", codes.names, codes.exstyle),
    }
    entries = []
    for name, path in made.items():
        url = web.serve(f"/{name}", path.read_bytes())
        kind = "codes" if path.suffix == ".npy" else "dualstylegan"
        entries.append(entry_of(name, path.read_bytes(), url, kind=kind, groups=("toon",)))
    done = pull(["toon"], quick(), manifest=manifest_of(*entries))
    assert [item.state for item in done] == ["fetched", "fetched"]
    store = ModelStore([Root(home, "")])
    assert store.info("toon").exemplars == ("b", "a")
    assert store.generator("toon").config == dual.config
    assert [found.hash_state for found in verify(scan([Root(home, "")]))] == ["as first seen"] * 2


def test_file_that_another_run_fetches_is_left_to_it(web, home):
    content = b"\x80model" * 50
    entry = entry_of("m.pt", content, web.serve("/m", content))
    with one_writer(home / "m.pt"):
        (done,) = pull(["m.pt"], quick(), manifest=manifest_of(entry))
    assert (done.state, web.requests) == ("failed", [])
    assert "another dsg is writing" in done.problem
    (done,) = pull(["m.pt"], quick(), manifest=manifest_of(entry))
    assert done.state == "fetched"


def test_mirror_is_asked_when_the_first_source_fails(web, home):
    content = b"\x80model" * 50
    entry = entry_of("m.pt", content, web.serve("/a", b"", status=403), web.serve("/b", content))
    (done,) = pull(["m.pt"], quick(), manifest=manifest_of(entry))
    assert (done.state, done.source) == ("fetched", web.address + "/b")
    assert (home / "m.pt").read_bytes() == content


def test_what_is_there_is_not_fetched_again_unless_told(web, home):
    content = b"\x80model" * 50
    entry = entry_of("m.pt", content, web.serve("/m", content))
    for state, again, asked in (("fetched", False, 1), ("present", False, 1), ("fetched", True, 2)):
        (done,) = pull(["all"], quick(again=again), manifest=manifest_of(entry))
        assert (done.state, len(web.requests)) == (state, asked)
    (home / "m.pt").write_bytes(b"short")
    (done,) = pull(["all"], quick(), manifest=manifest_of(entry))
    assert done.state == "fetched"


def test_what_another_searched_folder_has_is_not_fetched(tmp_path, web):
    content = b"\x80model" * 50
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "m.pt").write_bytes(content)
    entry = entry_of("m.pt", content, web.serve("/m", content))
    (done,) = pull(["all"], quick(), manifest=manifest_of(entry))
    assert (done.state, done.path) == ("present", Path("pretrained/m.pt"))


def test_file_that_is_no_model_is_refused_although_no_hash_is_known(web, home):
    url = web.serve("/m", b"Sorry, too many people have downloaded this.\n" * 9)
    entry = entry_of("encoder.pt", b"", url, kind="encoder", size=0, sha256="")
    (done,) = pull(["all"], quick(), manifest=manifest_of(entry))
    assert done.state == "failed"
    assert "is a text file" in done.problem
    assert not list(home.glob("*encoder*"))


def test_one_failure_does_not_stop_the_others_and_says_what_to_do(web, home):
    content = b"\x80model" * 50
    bad = entry_of("bad.pt", content, web.serve("/bad", b"", status=404))
    good = entry_of("good.pt", content, web.serve("/good", content))
    done = pull(["all"], quick(), manifest=manifest_of(bad, good))
    assert [item.state for item in done] == ["failed", "fetched"]
    assert "answered 404" in done[0].problem
    assert f"open {web.address}/bad in a browser and put bad.pt into {home}" in done[0].problem


def test_without_a_network_one_file_is_tried(home, monkeypatch):
    tried = []

    def no_names(host, *_, **__):
        tried.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_names)
    monkeypatch.setattr("dsgcli.store.pull.hub_is_installed", lambda: False)
    entries = [entry_of(f"{n}.pt", b"", f"http://models.example/{n}.pt") for n in range(3)]
    done = pull(["all"], quick(), manifest=manifest_of(*entries))
    assert [item.state for item in done] == ["failed"] * 3
    assert len(tried) == 2, "attempts at the first"
    assert done[2].problem.startswith("2.pt was not tried without a connection; open http://models")


def test_file_without_a_source_says_where_a_browser_gets_it(home):
    entry = entry_of("m.pt", b"", by_hand="https://drive.example/folder")
    (done,) = pull(["all"], quick(), manifest=manifest_of(entry))
    assert "can only be had with a browser" in done.problem
    assert (
        f"open https://drive.example/folder in a browser and put m.pt into {home}" in done.problem
    )


def test_unknown_name_is_told(web):
    with pytest.raises(ModelMissingError, match=r"called 'arcan'; did you mean .*arcane"):
        pull(["arcan"], quick())


# ── offline ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by", ["option", "environment"])
def test_offline_fetches_nothing_and_says_what_to_do(web, home, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    url = web.serve("/m", b"\x80model")
    with pytest.raises(ModelMissingError) as error:
        pull(["all"], quick(offline=by == "option"), manifest=manifest_of(entry_of("m", b"", url)))
    assert web.requests == []
    assert "while offline" in str(error.value)
    assert f"open {url} in a browser and put m into {home}" in str(error.value)


def test_offline_is_no_trouble_when_all_is_there(home):
    home.mkdir(parents=True)
    (home / "m").write_bytes(b"12345")
    entry = entry_of("m", b"12345", "https://nowhere.invalid/m")
    (done,) = pull(["all"], quick(offline=True), manifest=manifest_of(entry))
    assert done.state == "present"


# ── licenses ─────────────────────────────────────────────────────────────────────────────────────


def test_license_is_shown_and_accepted_once(web, home):
    content = b"\x80model" * 50
    url = web.serve("/m", content)
    entry = entry_of("m.pt", content, url, license="nc")
    manifest = manifest_of(entry)
    with pytest.raises(UsageError) as error:
        pull(["all"], quick(), manifest=manifest)
    for part in ("Non-commercial: Look only. https://n", "--accept-license"):
        assert part in str(error.value)
    assert web.requests == []
    pull(["all"], quick(accept_license=True), manifest=manifest)
    assert json.loads((home / "licenses.json").read_text())["nc"]["title"] == "Non-commercial"
    (done,) = pull(["all"], quick(again=True), manifest=manifest)
    assert done.state == "fetched"


def test_free_license_needs_no_accepting():
    free, restricted = entry_of("a", b""), entry_of("b", b"", license="nc")
    manifest = manifest_of(free, restricted)
    assert unaccepted([free], manifest) == []
    assert unaccepted([free, restricted], manifest) == [LICENSES["nc"]]
    accept([LICENSES["nc"]])
    assert unaccepted([free, restricted], manifest) == []


# ── Hugging Face ─────────────────────────────────────────────────────────────────────────────────


def test_hugging_face_is_asked_over_plain_https_where_its_library_is_missing(
    web, home, monkeypatch
):
    content = b"\x80model" * 50
    monkeypatch.setenv("HF_ENDPOINT", web.address + "/")
    web.serve("/some/where/resolve/v1/models/m.pt", content)
    entry = entry_of("m.pt", content, "hf:some/where@v1/models/m.pt")
    pull(["all"], quick(), manifest=manifest_of(entry))
    assert (home / "m.pt").read_bytes() == content


def test_hugging_face_library_is_used_where_it_is_installed(tmp_path, home, monkeypatch):
    content = b"\x80model" * 50
    asked = []

    def download(**what: str) -> str:
        asked.append(what)
        (tmp_path / "cached").write_bytes(content)
        return str(tmp_path / "cached")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    monkeypatch.setattr("dsgcli.store.pull.hub_is_installed", lambda: True)
    entry = entry_of("m.pt", content, "hf:some/where@v1/models/m.pt")
    (done,) = pull(["all"], quick(), manifest=manifest_of(entry))
    assert done.state == "fetched"
    assert (home / "m.pt").read_bytes() == content
    assert asked == [{"repo_id": "some/where", "filename": "models/m.pt", "revision": "v1"}]


@pytest.mark.parametrize("trouble", ["an error", "another file"])
def test_next_source_is_asked_when_the_library_fails(web, home, tmp_path, monkeypatch, trouble):
    content = b"\x80model" * 50

    def download(**_: str) -> str:
        if trouble == "an error":
            raise RuntimeError("no such repository")
        (tmp_path / "cached").write_bytes(b"other")
        return str(tmp_path / "cached")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    monkeypatch.setattr("dsgcli.store.pull.hub_is_installed", lambda: True)
    monkeypatch.setenv("HF_ENDPOINT", web.address)  # which has no such file over HTTP either
    entry = entry_of("m.pt", content, "hf:a/b@v1/m.pt", web.serve("/m", content))
    (done,) = pull(["all"], quick(), manifest=manifest_of(entry))
    assert done.source == web.address + "/m"
    assert (home / "m.pt").read_bytes() == content
