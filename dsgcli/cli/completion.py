"""What the shell offers after TAB: names of styles and of their exemplars.

A shell waits for each key, so only file names and headers are read: no torch, no weights. What goes
wrong offers nothing; the command itself says what it is.
"""

from __future__ import annotations

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
