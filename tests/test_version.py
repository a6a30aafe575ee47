"""`dsg --version` says what a bug report needs, and reads checkouts as git writes them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from command import dsg

import dsgcli
from dsgcli.cli import version

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_first_line_is_the_version_and_the_rest_the_machine():
    first, second, third = dsg("--version").stdout.splitlines()
    assert first.split()[:2] == ["dsg", dsgcli.__version__]
    assert second.startswith(f"Python {platform.python_version()}, {platform.system()}")
    assert "torch 2." in third and "mediapipe" in third and "missing" not in third


def test_a_package_that_is_not_installed_is_called_missing(monkeypatch):
    monkeypatch.setattr(version, "SHOWN", ("no-such-package",))
    assert version.version_text().splitlines()[2] == "no-such-package missing"


def test_nothing_heavy_is_loaded():
    code = (
        "import sys; from dsgcli.__main__ import main; main(['--version'])\n"
        "assert not {'torch', 'numpy', 'mediapipe', 'av', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package folder in what may become a checkout."""
    monkeypatch.setattr(version, "_installed_from", lambda: None)
    (tmp_path / "dsgcli").mkdir()
    return tmp_path / "dsgcli"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_checkout_names_its_commit(package):
    write(package.parent / ".git/HEAD", "ref: refs/heads/main\n")
    write(package.parent / ".git/refs/heads/main", f"{COMMIT}\n")
    assert version.commit_of(package) == COMMIT
    assert f"(commit {COMMIT[:10]})" in version.version_text(package)


@pytest.mark.parametrize(
    "files",
    [
        {".git/HEAD": f"{COMMIT}\n"},
        {
            ".git/HEAD": "ref: refs/heads/main\n",
            ".git/packed-refs": f"# pack\n{'f' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n",
        },
        {
            ".git": "gitdir: elsewhere/.git/worktrees/a\n",
            "elsewhere/.git/worktrees/a/HEAD": "ref: refs/heads/side\n",
            "elsewhere/.git/worktrees/a/commondir": "../..\n",
            "elsewhere/.git/refs/heads/side": f"{COMMIT}\n",
        },
    ],
    ids=["detached", "packed", "worktree"],
)
def test_other_forms_of_checkout_are_read(package, files):
    for name, text in files.items():
        write(package.parent / name, text)
    assert version.commit_of(package) == COMMIT


@pytest.mark.parametrize("files", [{}, {".git/HEAD": "ref: refs/heads/gone\n"}, {".git": "?"}])
def test_what_is_no_checkout_has_no_commit(package, files):
    for name, text in files.items():
        write(package.parent / name, text)
    assert version.commit_of(package) is None
    assert "commit" not in version.version_text(package)


@pytest.mark.parametrize(
    ("noted", "commit"),
    [
        ('{"url": "https://example.org/dsg.git", "vcs_info": {"commit_id": "abc"}}', "abc"),
        ('{"url": "file:///home", "dir_info": {"editable": true}}', None),
        (None, None),
        ("{", None),
    ],
)
def test_an_installation_from_git_names_its_commit(monkeypatch, noted, commit):
    class Noted:
        def read_text(self, name):
            assert name == "direct_url.json"
            return noted

    monkeypatch.setattr(version.Distribution, "from_name", lambda name: Noted())
    assert version._installed_from() == commit
