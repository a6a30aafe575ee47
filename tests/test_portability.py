"""What differs between Linux, macOS and Windows, as far as it shows on one of them: names of files,
terminals that lack letters, calls that only some systems have."""

from __future__ import annotations

import ast
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import dsg
from over_all import below, over_all
from tiny_store import write_tiny_store

import dsgcli
from dsgcli.console import Table, Terminal, exit_code_of
from dsgcli.media.base import SinkOptions
from dsgcli.media.images import read_image, write_image
from dsgcli.media.write import open_sink
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.drawn_clip import draw_clip

PACKAGE = Path(dsgcli.__file__).parent
FOLDER = "Ünïcödé и 日本 – it's 100 % (two)"
QUICK = ("--style", "toon", "--mask", "feather", "--size", "32")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models and pictures whose names hold whatever file systems allow."""
    folder = tmp_path_factory.mktemp("names") / FOLDER
    write_tiny_store(folder / "Möbel & models")
    pixels = np.full((200, 260, 3), 90, np.uint8)
    pixels[20:180, 50:210] = draw_portrait(3, 160)
    write_image(folder / "Zoë – ½ #1 [a] {b}.jpg", pixels)
    write_image(folder / ("x" * 200 + ".png"), pixels)
    with open_sink(folder / "фильм.mp4", SinkOptions(preset="ultrafast")) as sink:
        for frame in draw_clip(4, 160, 120, seed=2):
            sink.write(frame)
    return folder


@pytest.fixture
def stylize(place, tmp_path, monkeypatch):
    """`dsg stylize` there, into a folder of its own."""
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "my höme"))
    target = tmp_path / "Aus gabe"

    def run(*words):
        models = ("--pretrained", place / "Möbel & models")
        result = dsg("stylize", *words, "-o", target, *models, *QUICK, "--json")
        assert result.exit_code == 0, result.stderr
        return [Path(path) for file in result.json["files"] for path in file["outputs"]]

    return run


def test_any_name_of_a_file_is_read_and_written(place, stylize):
    outputs = stylize(place / "Zoë – ½ #1 [a] {b}.jpg", place / "фильм.mp4")
    assert [p.name for p in outputs] == [
        "Zoë – ½ #1 [a] {b}_toon-ada.jpg",
        "фильм_toon-ada.mp4",
    ]
    assert read_image(outputs[0]).size_px == (260, 200)
    assert outputs[1].stat().st_size > 500


def test_a_folder_with_such_names_is_found_and_rebuilt(place, stylize):
    assert len(stylize(place)) == 3


def test_a_long_name_is_kept(place, stylize):
    (output,) = stylize(place / ("x" * 200 + ".png"))
    assert output.name == "x" * 200 + "_toon-ada.png"


def test_exemplars_and_sheets_may_be_called_anything(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "höme"))
    monkeypatch.setenv("DSG_PRETRAINED", str(place / "Möbel & models"))
    shutil.copy(place / "Zoë – ½ #1 [a] {b}.jpg", tmp_path / "Zoë.jpg")
    words = ("styles", "add", "toon", "Zoë.jpg", "--as", "Zoë – mein Bild", "--refine", "0")
    assert dsg(*words).exit_code == 0
    result = dsg("sample", "--n", "1", "--style", "toon:Zoë – mein Bild", "-o", "Bögen/Σ.png")
    assert result.exit_code == 0, result.stderr
    assert Path("Bögen/Σ.png").is_file()


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_terminal_that_lacks_letters_gets_question_marks(encoding, monkeypatch):
    said = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", said)

    def command():
        Terminal().show({}, Table(("name", "size"), [("Zoë 日本", 3)]), "faces → frames ✓")
        return 0

    assert exit_code_of(command, as_json=False) == 0
    said.flush()
    assert b"faces ? frames ?" in said.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_the_whole_command_line_runs_in_an_old_terminal(encoding, place, tmp_path):
    environment = {
        "PYTHONIOENCODING": encoding,
        "PYTHONUTF8": "0",
        "DSG_HOME": str(tmp_path),
        "DSG_PRETRAINED": str(place / "Möbel & models"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dsgcli", "models", "list"],
        env=os.environ | environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"toon" in done.stdout


# ── calls that only some systems have ────────────────────────────────────────────────────────────

POSIX_MODULES = {"fcntl", "termios", "resource", "pwd", "grp", "tty", "pty", "msvcrt", "winreg"}
POSIX_CALLS = {"fork", "getuid", "geteuid", "uname", "mkfifo", "killpg", "setsid", "sysconf"}
POSIX_CALLS |= {"sched_getaffinity", "fchmod", "chown", "getloadavg", "nice", "kill"}
LINKS = {"symlink_to", "hardlink_to", "symlink", "link"}
"""Windows gives the right to make them to few."""
SIGNALS = {"SIGINT", "SIGTERM"}
"""Those that every system has, and that Python can be told of."""
HANDLED = {"ImportError", "ModuleNotFoundError", "AttributeError", "OSError", "Exception"}


def parents_of(tree):
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def is_guarded(node, parents):
    """Whether a call lies in a `try` or `suppress`, or below a test of the system."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.Try):
            caught = {
                n.id for h in node.handlers if h.type for n in ast.walk(h.type) if hasattr(n, "id")
            }
            if caught & HANDLED:
                return True
        if isinstance(node, ast.With) and "suppress" in ast.unparse(node.items[0]):
            return True
        test = ast.unparse(node.test) if isinstance(node, ast.If | ast.IfExp) else ""
        if any(word in test for word in ("sys.platform", "os.name", "hasattr(os")):
            return True
    return False


@over_all(sorted(PACKAGE.rglob("*.py")), below(PACKAGE))
def test_what_only_some_systems_have_has_a_fallback(path):
    tree = ast.parse(path.read_text("utf-8"))
    parents, bare = parents_of(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = {alias.name for alias in node.names} & POSIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            named = {node.module} & POSIX_MODULES
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            named = {node.attr} & (POSIX_CALLS | LINKS)
        elif (
            isinstance(node, ast.Attribute) and node.attr.startswith("SIG") and node.attr.isupper()
        ):
            named = {node.attr} - SIGNALS - {"SIG_IGN", "SIG_DFL"}
        elif isinstance(node, ast.Attribute):
            named = {node.attr} & LINKS
        else:
            continue
        if named and not is_guarded(node, parents):
            bare += named
    assert not bare


@over_all(sorted(PACKAGE.rglob("*.py")), below(PACKAGE))
def test_text_is_read_and_written_in_utf_8(path):
    """Python's default on Windows is another encoding before 3.15."""
    bare = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        given = {k.arg for k in node.keywords}
        words = [a.value for a in node.args if isinstance(a, ast.Constant)]
        if node.func.attr == "read_text" and not (node.args or "encoding" in given):
            bare.append(ast.unparse(node))
        if node.func.attr == "write_text" and len(node.args) < 2 and "encoding" not in given:
            bare.append(ast.unparse(node))
        opens = node.func.attr == "open" and ast.unparse(node.func.value) != "av"
        mode = words[0] if opens and words else ""
        if (
            str(mode) in ("r", "w", "a", "x", "r+")
            and len(node.args) < 3
            and "encoding" not in given
        ):
            bare.append(ast.unparse(node))
    assert not bare
