"""`dsg --version`: which dsg this is, of which commit, on what."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from dsgcli import __version__

SHOWN = ("torch", "av", "mediapipe", "numpy")
COMMIT_DIGITS = 10


def version_text(package: Path | None = None) -> str:
    """Three lines for a bug report; nothing heavy is imported for them."""
    commit = commit_of(package or Path(__file__).parents[1])
    built = f" (commit {commit[:COMMIT_DIGITS]})" if commit else ""
    packages = ", ".join(f"{name} {_installed(name)}" for name in SHOWN)
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    python = sys.version.partition(" ")[0]
    return f"dsg {__version__}{built}\nPython {python}, {system}\n{packages}"


def _installed(name: str) -> str:
    try:
        return Distribution.from_name(name).version
    except PackageNotFoundError:
        return "missing"


def commit_of(package: Path) -> str | None:
    """The commit that the code is of: of the checkout it lies in, or the one that pip installed it
    from; None for a wheel from an index."""
    return _checked_out(package.parent / ".git") or _installed_from()


def _checked_out(git: Path) -> str | None:
    """The commit of a checkout, read as git writes it (gitrepository-layout)."""
    try:
        if git.is_file():  # a worktree: `gitdir: PATH`
            git = git.parent / git.read_text("utf-8").partition(":")[2].strip()
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head
        name = head.partition(":")[2].strip()
        common = git / "commondir"
        home = git / common.read_text("utf-8").strip() if common.is_file() else git
        if (home / name).is_file():
            return (home / name).read_text("utf-8").strip()
        packed = (home / "packed-refs").read_text("utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except (OSError, UnicodeDecodeError):
        return None


def _installed_from() -> str | None:
    """The commit that `pip install git+...` noted (PEP 610)."""
    try:
        noted = Distribution.from_name("dsgcli").read_text("direct_url.json")
        commit = json.loads(noted or "{}").get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, ValueError):
        return None
    return str(commit) if commit else None
