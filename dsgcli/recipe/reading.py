"""Read a recipe file, with every problem at once, and write the resolved recipe.

Flow: TOML text + `--set table.key=value` -> plain dictionaries -> checked frozen tables -> Recipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from dsgcli.errors import RecipeError, SourceMissingError, UsageError
from dsgcli.names import why_no_name
from dsgcli.recipe.rules import MAX_FLOAT, bare, hints_of, is_free, problems_of, required_of
from dsgcli.recipe.stages import (
    BaseRecipe,
    DestylizeRecipe,
    DistillRecipe,
    EncoderRecipe,
    EnlargeRecipe,
    EvaluateRecipe,
    FinetuneRecipe,
    PretrainRecipe,
    RefineRecipe,
    SamplerRecipe,
    TransferRecipe,
)
from dsgcli.recipe.tables import (
    DataRecipe,
    FeaturesRecipe,
    ModelRecipe,
    PrepareRecipe,
    RecipeTable,
    RunRecipe,
    StartRecipe,
)
from dsgcli.toml import parse_toml

Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run. A stage runs if the recipe has its table, even an empty one."""

    run: RunRecipe = field(default_factory=RunRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    features: FeaturesRecipe = field(default_factory=FeaturesRecipe)
    start: StartRecipe = field(default_factory=StartRecipe)
    prepare: PrepareRecipe | None = None
    base: BaseRecipe | None = None
    encoder: EncoderRecipe | None = None
    finetune: FinetuneRecipe | None = None
    destylize: DestylizeRecipe | None = None
    pretrain: PretrainRecipe | None = None
    transfer: TransferRecipe | None = None
    refine: RefineRecipe | None = None
    enlarge: EnlargeRecipe | None = None
    distill: DistillRecipe | None = None
    sampler: SamplerRecipe | None = None
    evaluate: EvaluateRecipe | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that the recipe has a table for, in the order they run."""
        return tuple(name for name in STAGES if getattr(self, name) is not None)


SHARED_TABLES: dict[str, type[RecipeTable]] = {
    "run": RunRecipe,
    "data": DataRecipe,
    "model": ModelRecipe,
    "features": FeaturesRecipe,
    "start": StartRecipe,
}
STAGE_TABLES: dict[str, type[RecipeTable]] = {
    "prepare": PrepareRecipe,
    "base": BaseRecipe,
    "encoder": EncoderRecipe,
    "finetune": FinetuneRecipe,
    "destylize": DestylizeRecipe,
    "pretrain": PretrainRecipe,
    "transfer": TransferRecipe,
    "refine": RefineRecipe,
    "enlarge": EnlargeRecipe,
    "distill": DistillRecipe,
    "sampler": SamplerRecipe,
    "evaluate": EvaluateRecipe,
}
TABLES = SHARED_TABLES | STAGE_TABLES
STAGES = tuple(STAGE_TABLES)
"""Every stage, in the order they run."""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file; `overrides` are `table.key=value`, as `--set` takes them.

    Args:
        path: a file, with its ending .toml or without, or the name of a recipe that is shipped:
            `quick`, `default/translator`.

    Raises:
        SourceMissingError: no such file.
        RecipeError: lists every problem of the file and of the overrides at once.
    """
    path = find_recipe(path)
    try:
        values = parse_toml(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(
            str(path), [f"is not text in UTF-8 (byte {error.start}); save it again as UTF-8"]
        ) from error
    except ValueError as error:
        raise RecipeError(str(path), [f"is no TOML: {error}"]) from error
    recipe = build(values, overrides, where=str(path))
    if recipe.run.name:
        return recipe
    return replace(recipe, run=replace(recipe.run, name=path.stem))


def find_recipe(path: Path) -> Path:
    """The file itself, or the shipped recipe of that name.

    Raises:
        SourceMissingError: neither is there; with near names.
    """
    beside = path.with_name(f"{path.name}.toml")
    if path.is_file() or beside.is_file():
        return path if path.is_file() else beside
    shipped = shipped_recipes()
    name = path.as_posix().removesuffix(".toml").removeprefix("recipes/")
    if name in shipped:
        return shipped[name]
    hint = _near(name, shipped) or f"; shipped are {', '.join(shipped)}"
    if path.parent == Path() and not why_no_name(path.stem):
        hint += f"; `dsg train --init {path.stem}` writes one for a style of this name"
    raise SourceMissingError(f"no recipe at {path}{hint}")


TEMPLATE = "mystyle"
"""Shipped recipe that a new one is a copy of."""


def template_for(path: Path) -> str:
    """The text of a new recipe, for a style that is called as its file.

    Raises:
        UsageError: the file exists. RecipeError: no name for a style.
    """
    name = path.stem
    problem = why_no_name(name)
    if problem:
        raise RecipeError(str(path), [f"run.name: {problem}"])
    if path.exists():
        raise UsageError(f"{path} exists already; train it, or choose another name")
    text = shipped_recipes()[TEMPLATE].read_text("utf-8")
    title, _, rest = text.partition("\n\n")
    lines = [line.replace(TEMPLATE, name) for line in title.splitlines()]
    lines[1] = f"# Run:    dsg train {path.name} --data FOLDER"
    body = rest.replace(f'"{TEMPLATE}"', json.dumps(name, ensure_ascii=False))
    return "\n".join(lines) + "\n\n" + body


def shipped_recipes() -> dict[str, Path]:
    """Recipes that came with dsg, by name: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    folder = inside if inside.is_dir() else package.parent / "recipes"
    found = sorted(folder.rglob("*.toml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def build(
    values: Mapping[str, Any], overrides: Sequence[str] = (), where: str = "recipe"
) -> Recipe:
    """Check plain values and make the recipe.

    Raises:
        RecipeError: lists every problem at once, each with its table.
    """
    problems: list[str] = []
    merged = _with_overrides(values, overrides, problems)
    tables = {
        name: _table(name, content, problems)
        for name, content in merged.items()
        if _known_table(name, content, problems)
    }
    if problems:
        raise RecipeError(where, problems)
    return Recipe(**tables)


def _known_table(name: str, content: object, problems: list[str]) -> bool:
    if name not in TABLES:
        problems.append(f"unknown table [{name}]" + _near(name, TABLES))
    elif not isinstance(content, dict):
        problems.append(f"{name} must be a table, got {content!r}")
    else:
        return True
    return False


def _table(name: str, values: Values, problems: list[str]) -> Any:
    """One checked table, or None if it has problems, which are added to `problems`."""
    found: list[str] = []
    made = _make(TABLES[name], values, found)
    problems.extend(f"[{name}] {problem}" for problem in found)
    return made


def _make(kind: type, values: Values, problems: list[str]) -> Any:
    hints = hints_of(kind)
    found = [f"missing key {key!r}" for key in required_of(kind) if key not in values]
    ready: Values = {}
    for key, value in values.items():
        if key not in hints:
            found.append(f"unknown key {key!r}" + _near(key, hints))
        else:
            ready[key] = _value(key, value, hints[key], found)
    if not found:
        try:
            return kind(**ready)
        except RecipeError as error:
            found.extend(error.problems)
    problems.extend(found)
    return None


def _value(key: str, value: object, kind: Any, problems: list[str]) -> Any:
    """The value as its field wants it: lists become tuples, tables in lists dataclasses."""
    item = get_args(bare(kind))[0] if get_origin(bare(kind)) is tuple else None
    if item is not None and is_dataclass(item):
        return _nested(key, value, item, problems)
    problems.extend(problems_of(key, value, kind))
    if isinstance(value, list):
        return tuple(value)
    if bare(kind) is float and isinstance(value, int) and abs(value) <= MAX_FLOAT:
        return float(value)
    return value


def _nested(key: str, value: object, kind: Any, problems: list[str]) -> Any:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        names = ", ".join(f"{name} = ..." for name in required_of(kind))
        problems.append(f"{key} must be a list of tables like {{ {names} }}, got {value!r}")
        return ()
    made = []
    for index, item in enumerate(value):
        found: list[str] = []
        made.append(_make(kind, item, found))
        problems.extend(f"{key}[{index}]: {problem}" for problem in found)
    return tuple(made)


def _near(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _with_overrides(
    values: Mapping[str, Any], overrides: Sequence[str], problems: list[str]
) -> Values:
    merged: Values = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    for text in overrides:
        address, equals, written = text.partition("=")
        table, dot, key = address.strip().partition(".")
        if not (equals and dot and table and key):
            problems.append(f"--set {text}: write table.key=value")
        elif table in TABLES and isinstance(merged.setdefault(table, {}), dict):
            merged[table][key] = _parse(written.strip())
        else:
            problems.append(f"--set {text}: unknown table {table!r}" + _near(table, TABLES))
    return merged


def _parse(written: str) -> Any:
    """A TOML value; a bare word is a string, so that quotes need no quoting in a shell."""
    try:
        return parse_toml(f"value = {written}")["value"]
    except ValueError:
        return written


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def recipe_values(recipe: Recipe) -> dict[str, Values]:
    """Every value of every table that is there, defaults included, as plain data."""
    return {
        name: _plain(getattr(recipe, name)) for name in TABLES if getattr(recipe, name) is not None
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def write_toml(values: Mapping[str, Values]) -> str:
    """The values as a recipe file, which `read_recipe` reads back to the same recipe."""
    blocks = []
    for name, table in values.items():
        lines = [f"{key} = {_literal(value)}" for key, value in table.items()]
        blocks.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_literal(item)}" for key, item in value.items())
        return "{ " + inner + " }"
    return repr(value)


def changes(old: Mapping[str, Values], recipe: Recipe, tables: Iterable[str]) -> list[str]:
    """Differences between stored values and `recipe` in `tables`, free fields left out.

    Each difference reads `table.key was OLD, is NEW`.
    """
    new, found = recipe_values(recipe), []
    for name in tables:
        before, after = old.get(name, {}), new.get(name, {})
        for key, kind in hints_of(TABLES[name]).items():
            if not is_free(kind) and before.get(key) != after.get(key):
                found.append(f"{name}.{key} was {before.get(key)!r}, is {after.get(key)!r}")
    return found
