"""Plan of a run: stages done and to do, and everything that is missing.

Flow: Recipe + run folder + store -> RunPlan -> `--dry-run` prints it, `train` carries it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsgcli.errors import TrainingError, UsageError
from dsgcli.recipe import ModelRecipe, Recipe, recipe_values
from dsgcli.training.checkpoint import find_checkpoint, read_progress
from dsgcli.training.preflight import (
    batch_problems,
    data_problems,
    model_problems,
    sizes_of,
    teacher_problems,
)
from dsgcli.training.prepare import SETS, list_set
from dsgcli.training.processes import planned_count
from dsgcli.training.registry import stage_named
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.stage import Stage

if TYPE_CHECKING:
    from dsgcli.store import ModelStore

Status = Literal["done", "started", "new"]
MANY_HOURS = 72
"""Times from this on are written in days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of the plan."""

    stage: Stage
    status: Status
    chosen: bool
    """True if the stage is to run unless it is done."""
    reached: str = ""
    """How far a started stage is, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """The plan of one stage."""

    stage: str
    status: str
    steps: str
    """How much there is to do, in words."""
    hours: float | None
    """Estimated; None where nothing is to do, or nothing is known."""
    memory_gib: float | None
    """Estimated, at the most."""

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The line as a row of a table."""
        hours = "-" if self.hours is None else hours_text(self.hours)
        memory = "-" if self.memory_gib is None else f"{self.memory_gib:.1f} GiB"
        return self.stage, self.status, self.steps, hours, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The whole run, with its problems."""

    recipe: Recipe
    stages: dict[str, StagePlan]
    problems: tuple[str, ...]
    """Problems that must be solved first."""
    changed: tuple[str, ...]
    """Differences from the recipe that stages were started with; `--force` continues in spite of
    them."""
    sizes: ModelRecipe
    """Size of the networks that will be trained, for estimates."""

    @property
    def to_do(self) -> list[str]:
        """Stages that will run."""
        return [name for name, p in self.stages.items() if p.chosen and p.status != "done"]

    @property
    def skipped(self) -> list[str]:
        """Stages that are done."""
        return [name for name, p in self.stages.items() if p.status == "done"]

    @property
    def lines(self) -> list[PlanLine]:
        """One line a stage, for people."""
        data = self.recipe.data
        portraits = data.drawn or len(list_set(Path(data.root), data, "style"))
        recipe = self.resolved
        return [_line(name, plan, recipe, portraits) for name, plan in self.stages.items()]

    @property
    def disk_gb(self) -> float:
        """About how much a run writes: packed portraits, pairs, checkpoints and models."""
        from dsgcli.training.estimate import disk_gb

        data = self.recipe.data
        sets = (len(list_set(Path(data.root), data, name)) for name in SETS)
        portraits = 2 * data.drawn if data.drawn else sum(sets)
        return disk_gb(self.resolved, list(self.stages), portraits)

    @property
    def resolved(self) -> Recipe:
        """The recipe with the sizes that the networks will have."""
        return replace(self.recipe, model=self.sizes)

    def as_document(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "stages": [asdict(line) for line in self.lines],
            "disk_gb": round(self.disk_gb, 2),
            "problems": list(self.problems),
            "changed": list(self.changed),
            "recipe": recipe_values(self.resolved),
        }

    def check(self, *, force: bool = False) -> None:
        """Raise TrainingError with all problems."""
        lines = list(self.problems)
        if self.changed and not force:
            lines += [
                f"{line}; pass --force to go on, or use another --output" for line in self.changed
            ]
        if lines:
            listed = "".join(f"\n  - {line}" for line in lines)
            raise TrainingError(f"the run cannot start, {len(lines)} problem(s):{listed}")


def make_plan(
    recipe: Recipe,
    run: RunFolder,
    store: ModelStore,
    *,
    only: Sequence[str] = (),
    again: Sequence[str] = (),
) -> RunPlan:
    """Look at everything and start nothing.

    Raises:
        UsageError: a stage that does not exist or that the recipe does not have.
    """
    for name in (*only, *again):
        if name not in recipe.stages:
            known = ", ".join(recipe.stages)
            raise UsageError(f"the recipe has no stage {name!r}; it has {known}")
    stages = {name: _stage_plan(name, run, only, again) for name in recipe.stages}
    to_do = [name for name, p in stages.items() if p.chosen and p.status != "done"]
    problems = [
        *data_problems(recipe, run, to_do, store),
        *batch_problems(recipe, to_do, planned_count()),
        *model_problems(recipe, run, store, {n: stages[n].stage for n in to_do}),
        *teacher_problems(recipe, store, to_do),
    ]
    changed = [
        f"[{name}] {change}"
        for name in stages
        if name not in again
        for change in run.changes(name, recipe)
    ]
    return RunPlan(
        recipe=recipe,
        stages=stages,
        problems=tuple(problems),
        changed=tuple(changed),
        sizes=sizes_of(recipe, run, store),
    )


def _stage_plan(name: str, run: RunFolder, only: Sequence[str], again: Sequence[str]) -> StagePlan:
    chosen = not only or name in only or name in again
    done = run.is_done(name) and name not in again
    reached = "" if done else _reached(run.stage(name) / "checkpoints")
    status: Status = "done" if done else "started" if reached else "new"
    return StagePlan(stage=stage_named(name), status=status, chosen=chosen, reached=reached)


def _line(name: str, plan: StagePlan, recipe: Recipe, portraits: int) -> PlanLine:
    from dsgcli.training.estimate import estimate

    to_run = plan.chosen and plan.status != "done"
    cost = estimate(name, recipe, portraits) if to_run else None
    status = "done" if plan.status == "done" else "to do" if to_run else "not chosen"
    return PlanLine(
        stage=name,
        status=f"started ({plan.reached})" if to_run and plan.reached else status,
        steps=amount_of(getattr(recipe, name)),
        hours=cost.hours if cost else None,
        memory_gib=cost.memory_gib if cost else None,
    )


def amount_of(table: Any) -> str:
    """How much a stage does, in words."""
    if table is None:
        return "-"
    phases = getattr(table, "phases", ())
    if phases:
        return f"{sum(p.steps for p in phases)} x {max(p.batch_size for p in phases)}"
    grown = sum(growth.steps for growth in getattr(table, "growth", ()))
    steps = getattr(table, "steps", 0) + grown
    if steps:
        return f"{steps} x {table.batch_size}"
    rows = getattr(table, "row_updates", 0) or getattr(table, "samples", 0)
    return f"{rows} rows" if rows else "-"


def hours_text(hours: float) -> str:
    """A time in words."""
    if hours >= MANY_HOURS:
        return f"about {hours / 24:.0f} days"
    return f"about {hours:.1f} h" if hours >= 1 else f"about {max(1, round(hours * 60))} min"


def _reached(folder: Path) -> str:
    """`transfer: step 400`, for each checkpoint of a stage."""
    labels = {p.stem.removesuffix(".previous") for p in folder.glob("*.safetensors")}
    latest = {label: find_checkpoint(folder / f"{label}.safetensors") for label in sorted(labels)}
    return ", ".join(
        f"{label}: step {read_progress(path).iteration}" for label, path in latest.items() if path
    )
