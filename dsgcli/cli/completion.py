"""Shell completion: names of styles and of their exemplars.

A shell waits for each key, so only file names and headers are read: no torch, no weights. What goes
wrong offers nothing; the command itself says what it is.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dsgcli.errors import DsgError

if TYPE_CHECKING:
    from dsgcli.store.catalog import StyleInfo

MAX_OFFERED = 400
"""Exemplars of the largest published style: 317."""


def complete_style(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Styles with what they are; after a colon, the exemplars of the one before it."""
    styles = _styles(ctx)
    name, colon, _ = incomplete.partition(":")
    if colon:
        return [
            (f"{name}:{exemplar}", f"number {number}")
            for style in styles
            if style.name == name
            for number, exemplar in enumerate(style.exemplars[:MAX_OFFERED])
        ]
    return [(style.name, _described(style)) for style in styles]


def complete_exemplar(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Exemplars of the style that stands on the line already."""
    chosen = ctx.params.get("style") or ["default"]
    wanted = [chosen] if isinstance(chosen, str) else list(chosen)
    return [
        (exemplar, f"number {number} of {style.name}")
        for style in _styles(ctx)
        if style.name == wanted[0].partition(":")[0]
        for number, exemplar in enumerate(style.exemplars[:MAX_OFFERED])
    ]


def complete_published(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names and groups that `dsg models pull` takes and that are not on the line yet."""
    from dsgcli.store.manifest import EVERYTHING, read_manifest

    files = read_manifest().files
    names = {name for entry in files for name in (entry.name, *entry.groups)} | {EVERYTHING}
    taken = ctx.params.get("names") or ()
    return sorted(name for name in names if name.startswith(incomplete) and name not in taken)


def complete_recipe(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Recipes that came with dsg, with what each is for, and recipes in this folder."""
    from dsgcli.recipe.reading import shipped_recipes

    def purpose(path: Path) -> str:
        return path.read_text("utf-8").partition("\n")[0].removeprefix("# ")

    here = [(path.name, "in this folder") for path in sorted(Path().glob("*.toml"))]
    shipped = [(name, purpose(path)) for name, path in shipped_recipes().items()]
    return [item for item in [*here, *shipped] if item[0].startswith(incomplete)]


def _styles(ctx: typer.Context) -> list[StyleInfo]:
    from dsgcli.store import ModelStore

    try:
        found = ModelStore.open(ctx.params.get("pretrained")).styles()
    except (DsgError, OSError):
        return []
    return [style for style in found if not style.shadowed and not style.problem]


def _described(style: StyleInfo) -> str:
    size = f"{style.layout.size_px} px, " if style.layout else ""
    return f"{size}{len(style.exemplars)} exemplars"


# ── bash ─────────────────────────────────────────────────────────────────────────────────────────


def is_bash() -> bool:
    """Whether bash asks what could come next."""
    return os.environ.get("_DSG_COMPLETE") == "complete_bash"


def in_bash(run: Callable[[], int]) -> int:
    """Answer bash, for which `ink:fox` is three words: it wants only what follows the colon."""
    words, current = _joined(os.environ.get("COMP_WORDS", "").split(), _cursor())
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(current)
    typed = words[current] if current < len(words) else ""
    stays = len(typed[: typed.rfind(":") + 1])
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer), contextlib.suppress(SystemExit):
        run()
    print("\n".join(line[stays:] for line in answer.getvalue().splitlines()))  # noqa: T201
    return 0


def _cursor() -> int:
    return int(os.environ.get("COMP_CWORD") or 0)


def _joined(words: list[str], current: int) -> tuple[list[str], int]:
    """Words that bash split at colons, whole again, and which of them holds the cursor."""
    joined: list[str] = []
    at = current
    for index, word in enumerate(words):
        if joined and (word == ":" or joined[-1].endswith(":")):
            joined[-1] += word
            at -= index <= current
        else:
            joined.append(word)
    return joined, at
