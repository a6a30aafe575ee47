"""Write docs/recipes.md from the dataclasses of recipes:  python docs/make_recipes.py

What a field means stands below it in dsgcli/recipe/; a test fails while the page is not what this
writes.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from dsgcli.recipe import SHARED_TABLES, STAGE_TABLES, write_toml
from dsgcli.recipe.reading import shipped_recipes
from dsgcli.recipe.rules import MAX_COUNT, Range, bare, hints_of, is_free, marks_of

PAGE = Path(__file__).parent / "recipes.md"

INTRODUCTION = """\
# Recipes

<!-- Written by docs/make_recipes.py from dsgcli/recipe/; change that, not this page. -->

A recipe is a TOML file for `dsg train`. [Training a style](training.md) explains one step by step;
this page has every table and every key.

Each table `[STAGE]` is a stage; a stage runs if the recipe has its table, even an empty one. All
problems of a recipe are reported together, before anything runs. `dsg train RECIPE --dry-run`
prints the recipe with all values filled in, and `--set TABLE.KEY=VALUE` changes one for this run.
Relative folders are relative to where the command runs. Keys marked *free* do not change results,
so they may differ between two starts of one run.

Recipes that come with dsg, which `dsg train NAME` finds by name:

"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION + "\n".join(f"- `{name}`: {line}" for name, line in _shipped()) + "\n"]
    parts.append("## Tables of the whole run\n")
    parts += [_table(f"[{name}]", kind) for name, kind in SHARED_TABLES.items()]
    parts.append("## Stages, in the order they run\n")
    parts += [_table(f"[{name}]", kind) for name, kind in STAGE_TABLES.items()]
    nested = {item for kind in (SHARED_TABLES | STAGE_TABLES).values() for item in _nested(kind)}
    parts.append("## Tables inside lists\n")
    parts += [_table(kind.__name__, kind) for kind in sorted(nested, key=lambda k: k.__name__)]
    return "\n".join(parts)


def _shipped() -> Iterator[tuple[str, str]]:
    """Each recipe with its first comment."""
    for name, path in shipped_recipes().items():
        first = path.read_text("utf-8").partition("\n")[0]
        yield name, first.removeprefix("#").strip()


def _nested(kind: type) -> Iterator[type]:
    for hint in hints_of(kind).values():
        for item in get_args(bare(hint)):
            if is_dataclass(item) and isinstance(item, type):
                yield item


def _table(title: str, kind: type) -> str:
    about = docstrings(kind)
    lines = [f"### `{title}`\n", f"{_cell(inspect.cleandoc(kind.__doc__ or ''))}\n"]
    if not fields(kind):
        return "\n".join([*lines, "No keys.\n"])
    lines += ["| key | value | default | |", "|---|---|---|---|"]
    hints = hints_of(kind)
    for one in fields(kind):
        free = " *(free)*" if is_free(hints[one.name]) else ""
        cells = (f"`{one.name}`{free}", _kind(hints[one.name]), _default(one), about[one.name])
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def docstrings(kind: type) -> dict[str, str]:
    """Field -> the string that stands below it, in this class or where it is inherited from."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        if not is_dataclass(parent):
            continue
        body = ast.parse(inspect.getsource(parent)).body[0]
        assert isinstance(body, ast.ClassDef)
        for one, below in zip(body.body, body.body[1:], strict=False):
            said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and said:
                found[one.target.id] = inspect.cleandoc(below.value.value)
    return found


def _kind(hint: Any) -> str:
    """What may be written, in words."""
    plain = bare(hint)
    ranges = [mark for mark in marks_of(hint) if isinstance(mark, Range)]
    if get_origin(plain) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(plain))
    if get_origin(plain) is tuple:
        item = get_args(plain)[0]
        return f"list of `{item.__name__}`" if is_dataclass(item) else f"list: {_kind(item)}"
    name = {"str": "text", "bool": "`true`, `false`", "int": "whole number", "float": "number"}
    return ", ".join([name[plain.__name__], *map(_bounds, ranges)])


def _bounds(span: Range) -> str:
    if span.high >= MAX_COUNT:  # no bound that anyone meets
        return "above 0" if 0 < span.low < 1e-6 else f"{span.low:g} or more"
    return f"{span.low:g} to {span.high:g}"


def _default(one: Field[Any]) -> str:
    if one.default is MISSING:
        return "required"
    value = list(one.default) if isinstance(one.default, tuple) else one.default
    written = write_toml({"t": {"k": value}}).partition("k = ")[2].strip()
    return f"`{written}`" if value != "" else f"`{json.dumps('')}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
