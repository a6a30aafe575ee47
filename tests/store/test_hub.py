"""A style goes to the hub and comes back: through the real client, to a server of this test."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from command import dsg
from tiny_store import write_tiny_store

from dsgcli import from_pretrained
from dsgcli.errors import OutputExistsError
from dsgcli.store import ModelStore
from dsgcli.store.hub import is_repository, save_pretrained
from dsgcli.store.places import Root
from dsgcli.types import StyleRef

pytest.importorskip("huggingface_hub")
COMMIT = "c" * 40


class Hub:
    """As much of the hub's protocol as huggingface_hub uses for one repository."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.read(self)

            def do_GET(self) -> None:
                hub.read(self)

            def do_POST(self) -> None:
                hub.write(self)

            def log_message(self, *_: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def read(self, to: BaseHTTPRequestHandler) -> None:
        path = to.path.partition("?")[0]
        self.asked.append(f"{to.command} {path}")
        if path.startswith("/api/models/me/noir/tree/"):
            self.answer(to, [self.entry(name) for name in self.files])
        elif path.startswith("/api/models/me/noir") and self.files:
            siblings = [{"rfilename": name} for name in self.files]
            self.answer(to, {"id": "me/noir", "sha": COMMIT, "siblings": siblings})
        elif path.startswith("/me/noir/resolve/") and path.rpartition("/")[2] in self.files:
            content = self.files[path.rpartition("/")[2]]
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.send(to, 200, content, headers)
        else:
            self.send(to, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}

    def write(self, to: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"POST {to.path}")
        body = to.rfile.read(int(to.headers["Content-Length"]))
        if to.path.endswith("/api/repos/create"):
            self.answer(to, {"url": f"{self.address}/me/noir"})
        elif "/preupload/" in to.path:
            wanted = json.loads(body)["files"]
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted
            ]
            self.answer(to, {"files": files})
        elif "/commit/" in to.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self.address}/me/noir/commit/{COMMIT}"
            self.answer(to, {"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self.answer(to, {})

    def answer(self, to: BaseHTTPRequestHandler, value: object) -> None:
        self.send(to, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(
        self, to: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        to.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            to.send_header(key, value)
        to.end_headers()
        if to.command != "HEAD":
            to.wfile.write(body)


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_tiny_store(tmp_path / "models")


@pytest.fixture
def hub(models, monkeypatch) -> Iterator[Hub]:
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.01,))
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def test_folder_has_all_that_a_style_needs(models, tmp_path):
    store = ModelStore.open(models)
    folder = save_pretrained(store, "toon", tmp_path / "out")
    alone = ModelStore([Root(folder, "")])
    assert torch.equal(alone.style("toon").default, store.style("toon").default)
    assert from_pretrained(folder, device="cpu").layout == store.info("toon").layout
    first, second = (s.generator("toon").state_dict() for s in (alone, store))
    assert all(torch.equal(first[key], second[key]) for key in second)
    assert alone.encoder("toon").config == store.encoder("toon").config
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert (config["style"], config["license"], config["size_px"]) == ("toon", "MIT", 64)
    card = (folder / "README.md").read_text("utf-8")
    assert "MIT" in card
    assert "random weights" in card
    with pytest.raises(OutputExistsError):
        save_pretrained(store, "toon", folder)


def test_style_goes_up_comes_down_and_draws(models, hub, tmp_path):
    done = dsg("models", "push", "toon", "me/noir", "--pretrained", models)
    assert done.exit_code == 0, done.stderr
    assert {"toon.safetensors", "base.safetensors", "encoder.safetensors"} < set(hub.files)
    assert b"--style me/noir:0" in hub.files["README.md"]
    hub.files["evil.pt"] = b"a pickle"
    done = dsg("models", "pull", "me/noir")
    assert done.exit_code == 0, done.stderr
    assert not list((tmp_path / "home").rglob("*.pt"))
    here = ModelStore.open()
    expected = ModelStore.open(models).resolve(StyleRef.parse("toon:2")).exstyle
    assert torch.equal(here.resolve(here.parse("me/noir:2")).exstyle, expected)
    assert here.generator("me/noir")
    asked = len(hub.asked)
    assert dsg("models", "pull", "me/noir").exit_code == 0
    assert len(hub.asked) == asked, "what is here is not fetched again"


def test_pulled_style_takes_no_name_from_another(models, hub):
    assert dsg("models", "push", "toon", "me/noir", "--pretrained", models).exit_code == 0
    assert dsg("models", "pull", "me/noir").exit_code == 0
    assert ModelStore.open().info("toon").set_name == "default"
    assert ModelStore.open().info("me/noir").set_name == "me--noir"


def test_damaged_repository_is_refused_and_leaves_nothing(models, hub, tmp_path):
    assert dsg("models", "push", "toon", "me/noir", "--pretrained", models).exit_code == 0
    hub.files["toon.safetensors"] = hub.files["toon.safetensors"][:-5]
    done = dsg("models", "pull", "me/noir")
    assert done.exit_code == 4
    assert "toon.safetensors" in done.stderr
    assert not (tmp_path / "home" / "hub").exists()


def test_what_the_hub_has_not_is_one_sentence(models, hub):
    done = dsg("models", "pull", "me/noir")
    assert done.exit_code == 4
    assert "gives no repository me/noir: check the name" in done.stderr
    done = dsg("models", "pull", "me/noir", "--offline")
    assert done.exit_code == 4
    assert "nothing is fetched while offline" in done.stderr
    done = dsg("stylize", "photo.jpg", "--style", "me/noir", "--pretrained", models)
    assert done.exit_code != 0


@pytest.mark.parametrize("name", ["../x", "a/..", "a/b/c", "a--b/c", "/etc/passwd", "a", "-a/b"])
def test_names_that_are_no_repository(name):
    assert not is_repository(name)
