"""`dsg train`: from a folder of portraits to a style, by a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgcli.cli.completion import complete_recipe
from dsgcli.cli.flags import expand
from dsgcli.cli.options import (
    FILES_GROUP,
    MACHINE_GROUP,
    Device,
    OutputFlags,
    Pretrained,
    output_to,
)

if TYPE_CHECKING:
    from dsgcli.console import Cell, Table
    from dsgcli.training.plan import PlanLine, RunPlan
    from dsgcli.training.run import TrainSummary

RUN_GROUP = "What to run"

EXAMPLES = """
Examples:
  dsg train tiny                                   a test run, in minutes
  dsg train mystyle --data faces/ --dry-run        only show the plan
  dsg train mystyle --data faces/                  start, or continue
  dsg train mystyle --stage transfer --set transfer.lambda_id=4
  torchrun --nproc-per-node 8 -m dsgcli train mystyle
"""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which part of the recipe runs, and how."""

    stage: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Run only this stage; may be repeated.",
            show_default="all of the recipe",
            rich_help_panel=RUN_GROUP,
        ),
    ] = field(default_factory=list)
    again: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Run this stage again; may be repeated.",
            show_default="",
            rich_help_panel=RUN_GROUP,
        ),
    ] = field(default_factory=list)
    set: Annotated[
        list[str],
        typer.Option(
            metavar="TABLE.KEY=VALUE",
            help="Change one value of the recipe; may be repeated.",
            show_default="",
            rich_help_panel=RUN_GROUP,
        ),
    ] = field(default_factory=list)
    init: Annotated[
        bool,
        typer.Option(
            "--init",
            help="Write RECIPE.toml, the recipe of a new style of this name, and end.",
            rich_help_panel=RUN_GROUP,
        ),
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only print time, disk space and what is missing; with -v the whole recipe, too.",
            rich_help_panel=RUN_GROUP,
        ),
    ] = False
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Continue although the recipe has changed since the run began.",
            rich_help_panel=RUN_GROUP,
        ),
    ] = False
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with the recipe's folders of portraits.",
            show_default="the recipe's data.root",
            rich_help_panel=FILES_GROUP,
        ),
    ] = None
    output: Annotated[
        Path | None,
        output_to("FOLDER", "Folder of the run.", "runs/NAME"),
    ] = None


@expand
def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE",
            autocompletion=complete_recipe,
            help="A recipe's file, or a bundled one: quick, cartoon, ablations/row_0, ...",
        ),
    ],
    *,
    choice: Choice,
    device: Device = "auto",
    pretrained: Pretrained = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Threads of the processor.",
            show_default="all cores",
            rich_help_panel=MACHINE_GROUP,
        ),
    ] = None,
    talk: OutputFlags,
) -> None:
    """Train a style, or a base, from a folder of portraits.

    Finished stages are skipped; an interrupted run continues where it stopped.
    """
    from dsgcli.errors import RecipeError
    from dsgcli.recipe import read_recipe, template_for
    from dsgcli.runtime import set_threads
    from dsgcli.store.files import write_text
    from dsgcli.training.run import TrainOptions, plan_of
    from dsgcli.training.run import train as run

    if choice.init:
        path = recipe if recipe.suffix == ".toml" else recipe.with_name(f"{recipe.name}.toml")
        write_text(path, template_for(path))
        talk.terminal.show(
            {"recipe": str(path)},
            f"Wrote {path}. Put pictures of the style into portraits/{path.stem}\n"
            f"and photographs of people into portraits/photos, then check:\n"
            f"  dsg train {path} --data portraits --dry-run",
        )
        return
    overrides = list(choice.set)
    if choice.data is not None:
        overrides.append(f"data.root={_quoted(choice.data)}")
    wanted = read_recipe(recipe, overrides)
    if not wanted.stages:
        missing = "has no stage: give it a table such as [distill] or [transfer] (recipes/*.toml)"
        raise RecipeError(str(recipe), [missing])
    set_threads(threads)
    options = TrainOptions(
        folder=choice.output or Path("runs") / wanted.run.name,
        stages=tuple(choice.stage),
        again=tuple(choice.again),
        force=choice.force,
        device=device,
        pretrained=pretrained,
    )
    if choice.dry_run:
        plan = plan_of(wanted, options)
        talk.terminal.show(plan.as_document(), *_plan_tables(plan, talk.verbose > 0))
        if plan.problems:
            raise typer.Exit(2)
        return
    with talk.terminal.progress() as progress:
        summary = run(wanted, options, progress)
    if summary is not None:
        talk.terminal.summary(summary, *_summary(summary, wanted.run.name))


def _quoted(path: Path) -> str:
    import json

    return json.dumps(str(path), ensure_ascii=False)


def _plan_tables(plan: RunPlan, whole: bool) -> list[Table | str]:
    """The answer first: time, space and problems; then the stages, and the recipe if asked for."""
    from dsgcli.console import Table
    from dsgcli.recipe import recipe_values, write_toml

    columns = ("stage", "status", "steps x batch", "time", "memory")
    lines = plan.lines
    rows: list[tuple[Cell, ...]] = [line.cells for line in lines]
    found = [f"missing: {problem}" for problem in plan.problems]
    found += [f"changed: {change}" for change in plan.changed]
    parts: list[Table | str] = ["\n".join([_total(plan, lines), *found]), Table(columns, rows)]
    if whole:
        parts.append("# the resolved recipe\n" + write_toml(recipe_values(plan.resolved)))
    return parts


def _total(plan: RunPlan, lines: Sequence[PlanLine]) -> str:
    """How long all of it takes, and what to do next."""
    from dsgcli.training.plan import hours_text

    known = [line.hours for line in lines if line.hours is not None]
    took = f"{hours_text(sum(known))} in all on this machine, " if known else ""
    needs = f"{took}about {max(0.1, plan.disk_gb):.1f} GB of disk"
    if plan.problems:
        return f"{needs}; it can start when nothing is missing"
    return f"{needs}. Run without --dry-run to start; Ctrl-C pauses"


def _summary(summary: TrainSummary, name: str) -> list[Table | str]:
    lines = [f"done: {', '.join(summary.done) or 'nothing left to do'}"]
    lines += [f"{name}: {path}" for name, path in summary.artifacts.items()]
    lines.append(f"report: {summary.folder / 'report.html'}")
    models = summary.folder / "pretrained"
    if (models / name / f"{name}.safetensors").is_file():
        lines.append(f"draw with it: dsg stylize PHOTO --style {name} --pretrained {models}")
    return ["\n".join(lines)]
