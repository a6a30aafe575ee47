"""Recipes: what a good file means, and that a bad one is told everything at once."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from over_all import below, over_all

import dsgcli
from dsgcli.errors import RecipeError, SourceMissingError
from dsgcli.recipe import (
    STAGES,
    TABLES,
    DistillPhase,
    DistillRecipe,
    ExemplarSource,
    Growth,
    Recipe,
    Source,
    TransferRecipe,
    build,
    changes,
    read_recipe,
    recipe_values,
    stages,
    tables,
    write_toml,
)
from dsgcli.recipe.rules import hints_of

ROOT = Path(dsgcli.__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
PUBLISHED = (
    *("anime", "arcane", "caricature", "cartoon", "comic"),
    *("fantasy", "illustration", "impasto", "pixar", "slamdunk"),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


# ── the files of recipes/ ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_file_reads_and_survives_writing(path, tmp_path):
    recipe = read_recipe(path)
    again = read_recipe(write(tmp_path, write_toml(recipe_values(recipe))))
    assert again == recipe


@over_all(RECIPES, below(ROOT))
def test_recipe_file_opens_with_how_to_run_it(path):
    head = path.read_text("utf-8").split("\n\n")[0]
    assert head.startswith("# ")
    assert f"dsg train {path.relative_to(ROOT).as_posix()}" in head


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_style_has_a_recipe_of_all_its_stages(name):
    recipe = read_recipe(ROOT / "recipes" / f"{name}.toml")
    wanted = ("prepare", "finetune", "destylize", "transfer", "refine", "sampler", "evaluate")
    assert recipe.stages == wanted
    assert recipe.data.style == recipe.run.name == name


@pytest.mark.parametrize(
    ("style", "lambda_id", "lambda_reg"),
    [("cartoon", 1.0, 0.015), ("caricature", 4.0, 0.005), ("anime", 1.0, 0.02)],
)
def test_published_weights_are_those_of_the_facts(style, lambda_id, lambda_reg):
    transfer = read_recipe(ROOT / "recipes" / f"{style}.toml").transfer
    assert transfer is not None
    assert (transfer.lambda_id, transfer.lambda_reg) == (lambda_id, lambda_reg)


def test_tiny_recipe_has_every_stage_that_needs_no_other_run():
    apart = ("enlarge", "distill")  # of a larger base; of a translator, with recipes of its own
    others = tuple(stage for stage in STAGES if stage not in apart)
    assert read_recipe(ROOT / "recipes" / "tiny.toml").stages == others


@pytest.mark.parametrize(
    "name", ["a:b", "a+b", "a*2", "../up", "a\\b", "con", "NUL.old", "x.", " x", "-x", "a\nb"]
)
def test_a_name_that_some_system_or_the_style_flag_cannot_take_is_refused(name):
    with pytest.raises(RecipeError, match=r"\[run\] name "):
        build({"run": {"name": name}})


@pytest.mark.parametrize("name", ["mystyle", "Zoë – mein Stil", "日本", "v1.2", "console"])
def test_any_other_name_will_do(name):
    assert build({"run": {"name": name}}).run.name == name


def test_a_recipe_whose_file_cannot_name_the_run_says_so(tmp_path):
    path = tmp_path / "a+b.toml"
    path.write_text("[data]\nstyle = 'x'\n", "utf-8")
    with pytest.raises(RecipeError, match=r"name 'a\+b' must not have \+ in it"):
        read_recipe(path)
    assert read_recipe(path, ["run.name='ab'"]).run.name == "ab"


# ── fields ───────────────────────────────────────────────────────────────────────────────────────


def documented(module: object) -> dict[str, set[str]]:
    """Class -> fields with a docstring under them."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):  # type: ignore[arg-type]
        if isinstance(node, ast.ClassDef):
            pairs = zip(node.body, node.body[1:], strict=False)
            found[node.name] = {
                a.target.id
                for a, b in pairs
                if isinstance(a, ast.AnnAssign)
                and isinstance(a.target, ast.Name)
                and isinstance(b, ast.Expr)
                and isinstance(b.value, ast.Constant)
            }
    return found


@pytest.mark.parametrize(
    "table",
    [*TABLES.values(), Growth, Source, DistillPhase, ExemplarSource],
    ids=lambda t: t.__name__,
)
def test_recipe_field_is_documented(table):
    known = documented(tables) | documented(stages)
    inherited = set().union(*(known.get(base.__name__, set()) for base in table.__mro__))
    assert {f.name for f in fields(table)} <= inherited


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.__name__)
def test_recipe_defaults_are_in_their_own_ranges(table):
    needed: dict[str, object] = {"steps": 1} if "steps" in hints_of(table) else {}
    if table is DistillRecipe:
        phase = DistillPhase(size_px=64, steps=1)
        needed = {"phases": (phase,), "exemplars": (ExemplarSource(folder="ink"),)}
    table(**needed)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_stage_runs_if_its_table_is_there():
    recipe = build({"transfer": {}, "finetune": {"steps": 3}})
    assert recipe.stages == ("finetune", "transfer")
    assert recipe.transfer == TransferRecipe()


def test_name_is_the_file_name_unless_the_recipe_says_otherwise(tmp_path):
    assert read_recipe(write(tmp_path, "")).run.name == "mine"
    assert read_recipe(write(tmp_path, '[run]\nname = "other"')).run.name == "other"


def test_bad_recipe_is_told_every_problem_at_once(tmp_path):
    text = """
        [run]
        seed = -1
        precision = "fp8"
        [trnsfer]
        [data]
        source = ["photos"]
        [base]
        step = 3
        batch_size = "four"
        mixing = 1.5
        growth = [{ size_px = 64 }]
        [model]
        size_px = 100
        last_structure = 5
    """
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(tmp_path, text), ["transfer.lamda_id=4", "nowhere.x=1", "bad"])
    message = str(caught.value)
    assert f"{tmp_path / 'mine.toml'} has 13 problem(s):" in message
    for problem in (
        "[run] seed must not be negative, got -1",
        "[run] precision must be one of 'auto', 'fp32', 'bf16', got 'fp8'",
        "unknown table [trnsfer]; did you mean 'transfer'?",
        "[data] source must be a list of tables like { folder = ... }, got ['photos']",
        "[base] unknown key 'step'; did you mean 'steps'?",
        "[base] batch_size must be int, got 'four'",
        "[base] mixing must be from 0 to 1, got 1.5",
        "[base] growth[0]: missing key 'steps'",
        "[model] size_px must be a power of two from 32 to 1024, got 100",
        "[model] last_structure must be even, got 5",
        "[transfer] unknown key 'lamda_id'; did you mean 'lambda_id'?",
        "--set nowhere.x=1: unknown table 'nowhere'",
        "--set bad: write table.key=value",
    ):
        assert f"- {problem}" in message


def test_file_that_is_no_toml_is_told_where(tmp_path):
    with pytest.raises(RecipeError, match="is no TOML"):
        read_recipe(write(tmp_path, "steps ="))
    with pytest.raises(SourceMissingError, match="no recipe at"):
        read_recipe(tmp_path / "nothing.toml")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_file_in_another_encoding_is_told_so(tmp_path, encoding):
    """What some editors on Windows write."""
    path = tmp_path / "r.toml"
    path.write_bytes('[run]\nname = "é"\n'.encode(encoding))
    with pytest.raises(RecipeError, match="save it again as UTF-8"):
        read_recipe(path)


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_file_of_any_system_is_read(tmp_path, newline, start):
    path = tmp_path / "r.toml"
    path.write_bytes(f'{start}[run]\nname = "é"\n'.replace("\n", newline).encode())
    assert read_recipe(path).run.name == "é"


def test_shipped_recipe_is_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "recipes/tiny.toml", "tiny.toml"):
        assert read_recipe(Path(name)).run.name == "tiny"
    assert read_recipe(Path("default/neon-dual")).run.name == "neon-dual"
    with pytest.raises(SourceMissingError, match="did you mean 'cartoon'"):
        read_recipe(Path("cartoons"))


def test_recipe_built_in_python_is_checked_too():
    with pytest.raises(RecipeError, match="lambda_id must not be negative, got -1"):
        TransferRecipe(lambda_id=-1.0)


@pytest.mark.parametrize(
    ("value", "fits"), [("3", True), ("3.0", True), ("true", False), ('"3"', False), ("nan", False)]
)
def test_int_stands_for_a_float_and_nothing_else_does(value, fits, tmp_path):
    path = write(tmp_path, f"[transfer]\nlambda_id = {value}")
    if fits:
        transfer = read_recipe(path).transfer
        assert transfer is not None
        assert transfer.lambda_id == 3.0
        assert type(transfer.lambda_id) is float
    else:
        with pytest.raises(RecipeError, match="lambda_id"):
            read_recipe(path)


def test_override_wins_and_makes_a_table(tmp_path):
    path = write(tmp_path, "[transfer]\nlambda_id = 2")
    overrides = ["transfer.lambda_id=4", "run.name=word", "data.style='a b'", "sampler.rows=7"]
    recipe = read_recipe(path, overrides)
    assert recipe.transfer is not None
    assert recipe.transfer.lambda_id == 4.0
    assert (recipe.run.name, recipe.data.style) == ("word", "a b")
    assert recipe.stages == ("transfer", "sampler")


def test_text_with_anything_in_it_survives_writing(tmp_path):
    text = 'quote " back\\slash\ttab é 🙂 \x7f'
    recipe = build({"run": {"license": text}})
    assert read_recipe(write(tmp_path, write_toml(recipe_values(recipe)))).run.license == text


def test_changes_name_what_matters_and_leave_out_what_does_not():
    before = recipe_values(build({"transfer": {"lambda_id": 1}}))
    after = build({"transfer": {"lambda_id": 4, "keep_every": 5}, "run": {"device_batch": 2}})
    assert changes(before, after, ["run", "transfer"]) == [
        "transfer.lambda_id was 1.0, is 4.0",
    ]
    assert changes(before, Recipe(transfer=TransferRecipe()), ["run", "transfer"]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[finetune]\nsteps = 99999999999999999999", "steps must be at most 2147483647"),
        ("[finetune]\nsteps = " + "9" * 400, "steps must be at most 2147483647"),
        ("[run]\nseed = 99999999999999999999", "seed must be at most 9223372036854775807"),
        ("[finetune]\nlr = inf", "lr must be finite"),
        ("[finetune]\nlr = nan", "lr must be"),
        ("[finetune]\nlr = 1" + "0" * 400, "lr must be finite"),
        ("[run]\nsample_every = 99999999999999999999", "sample_every must be at most"),
        ("[sampler]\nsamples = 99999999999999999999", "samples"),
    ],
)
def test_numbers_that_no_run_can_mean_are_refused_before_it(tmp_path, text, message):
    """`steps = 99999999999999999999` passed a dry run."""
    with pytest.raises(RecipeError, match=message):
        read_recipe(write(tmp_path, text))
