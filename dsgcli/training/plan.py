"""What a run will do, said before it does it: stages done and to do, and all that is missing.

Flow: Recipe + run folder + store -> RunPlan -> `--dry-run` prints it, `train` carries it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsgcli.errors import DsgError, TrainingError, UsageError
from dsgcli.recipe import STAGES, Recipe, StartRecipe, recipe_values
from dsgcli.training.checkpoint import find_checkpoint, read_progress
from dsgcli.training.folder import RunFolder
from dsgcli.training.prepare import SETS, fingerprint, list_set, read_audit, smallest_set
from dsgcli.training.registry import stage_named
from dsgcli.training.stage import Stage

if TYPE_CHECKING:
    from dsgcli.store import ModelStore

Status = Literal["done", "started", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of the plan."""

    stage: Stage
    status: Status
    chosen: bool
    """Whether it is to run, if it is not done."""
    reached: str = ""
    """How far a started stage is, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """What the plan says of a stage."""

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
        """As a row of a table."""
        hours = "-" if self.hours is None else _hours(self.hours)
        memory = "-" if self.memory_gib is None else f"{self.memory_gib:.1f} GiB"
        return self.stage, self.status, self.steps, hours, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The whole run, and what stands in its way."""

    recipe: Recipe
    stages: dict[str, StagePlan]
    problems: tuple[str, ...]
    """What must be put right first."""
    changed: tuple[str, ...]
    """Differences from the recipe that stages were started with; `--force` goes on with them."""

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
        return [_line(name, plan, self.recipe) for name, plan in self.stages.items()]

    def as_document(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "stages": [asdict(line) for line in self.lines],
            "problems": list(self.problems),
            "changed": list(self.changed),
            "recipe": recipe_values(self.recipe),
        }

    def check(self, *, force: bool = False) -> None:
        """Raise TrainingError with everything that stands in the way."""
        lines = list(self.problems)
        if self.changed and not force:
            lines += [
                f"{line}; pass --force to go on, or use another --run" for line in self.changed
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
        *_data_problems(recipe, run, to_do),
        *_missing(recipe, run, store, stages),
    ]
    changed = [
        f"[{name}] {change}"
        for name in stages
        if name not in again
        for change in run.changes(name, recipe)
    ]
    return RunPlan(recipe=recipe, stages=stages, problems=tuple(problems), changed=tuple(changed))


def _stage_plan(name: str, run: RunFolder, only: Sequence[str], again: Sequence[str]) -> StagePlan:
    chosen = not only or name in only or name in again
    done = run.is_done(name) and name not in again
    reached = "" if done else _reached(run.stage(name) / "checkpoints")
    status: Status = "done" if done else "started" if reached else "new"
    return StagePlan(stage=stage_named(name), status=status, chosen=chosen, reached=reached)


def _line(name: str, plan: StagePlan, recipe: Recipe) -> PlanLine:
    from dsgcli.training.estimate import estimate

    steps = amount_of(getattr(recipe, name))
    if plan.status == "done" or not plan.chosen:
        status = plan.status if plan.status == "done" else "not chosen"
        return PlanLine(stage=name, status=status, steps=steps, hours=None, memory_gib=None)
    cost = estimate(name, recipe)
    status = f"started ({plan.reached})" if plan.reached else "to do"
    return PlanLine(
        stage=name,
        status=status,
        steps=steps,
        hours=cost and cost.hours,
        memory_gib=cost and cost.memory_gib,
    )


def amount_of(table: Any) -> str:
    """How much a stage does, in words."""
    if table is None:
        return "-"
    grown = sum(growth.steps for growth in getattr(table, "growth", ()))
    steps = getattr(table, "steps", 0) + grown
    if steps:
        return f"{steps} of {table.batch_size}"
    rows = getattr(table, "row_updates", 0) or getattr(table, "samples", 0)
    return f"{rows} rows" if rows else "-"


def _hours(hours: float) -> str:
    return f"about {hours:.1f} h" if hours >= 1 else f"about {max(1, round(hours * 60))} min"


def _reached(folder: Path) -> str:
    """`transfer: step 400`, for each checkpoint of a stage."""
    labels = {p.stem.removesuffix(".previous") for p in folder.glob("*.safetensors")}
    latest = {label: find_checkpoint(folder / f"{label}.safetensors") for label in sorted(labels)}
    return ", ".join(
        f"{label}: step {read_progress(path).iteration}" for label, path in latest.items() if path
    )


# ── what is missing ──────────────────────────────────────────────────────────────────────────────


def _missing(
    recipe: Recipe, run: RunFolder, store: ModelStore, stages: dict[str, StagePlan]
) -> Iterator[str]:
    """Artifacts and models that a stage to do needs, and nobody has or will make."""
    made: set[str] = set()
    for name, plan in stages.items():
        if plan.chosen and plan.status != "done":
            for artifact in plan.stage.needs:
                if artifact not in made and run.find(artifact, name) is None:
                    yield from _start_problem(artifact, name, recipe, run, store)
            made.update(makes(plan.stage, recipe))


def makes(stage: Stage, recipe: Recipe) -> tuple[str, ...]:
    """Artifacts that a stage will make; an autoencoder makes the encoder with the base."""
    base = recipe.base
    if stage.name == "base" and base is not None and base.start == "autoencoder":
        return (*stage.makes, "encoder")
    return stage.makes


def _start_problem(
    artifact: str, stage: str, recipe: Recipe, run: RunFolder, store: ModelStore
) -> Iterator[str]:
    try:
        if find_start(artifact, recipe, run, store) is None:
            yield (
                f"stage {stage!r} needs {artifact!r}: add the stage that makes it, run that one "
                f"too, or name a file in [start]"
            )
    except DsgError as error:
        yield f"stage {stage!r} needs {artifact!r}: {error}"


def find_start(artifact: str, recipe: Recipe, run: RunFolder, store: ModelStore) -> Path | None:
    """The file that [start] names for an artifact; None if it names none.

    A value is a file, the folder of another run, the name of a run beside this one, or a name in
    the store.

    Raises:
        TrainingError: it names something that is not there.
    """
    if artifact not in {f.name for f in fields(StartRecipe)}:
        return None
    value = getattr(recipe.start, artifact)
    if not value:
        return None
    for place in (Path(value), run.path.parent / value):
        if place.is_file():
            return place
        if place.is_dir() and (found := _in_run(place, artifact)):
            return found
    return _in_store(value, artifact, store)


def _in_run(folder: Path, artifact: str) -> Path | None:
    other = RunFolder(folder)
    paths = (other.artifact(stage, artifact) for stage in reversed(STAGES))
    return next((path for path in paths if path.is_file()), None)


def _in_store(value: str, artifact: str, store: ModelStore) -> Path:
    for model in store.models():
        if value in (model.name, model.path.name):
            return Path(model.path)
    raise TrainingError(
        f"[start] {artifact} = {value!r} is no file, no run and not in the store; "
        f"`dsg models list` shows what is there"
    )


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def _data_problems(recipe: Recipe, run: RunFolder, to_do: Sequence[str]) -> Iterator[str]:
    if recipe.data.drawn:
        yield from _too_few_drawn(recipe)
        return
    for name in SETS:
        packed = run.is_done("prepare")
        users = [s for s in to_do if s in USERS[name]]
        if "prepare" in to_do or (users and packed):
            yield from _folder_problems(recipe, run, name, packed=packed)
        if users and not packed and "prepare" not in to_do:
            yield f"stage {users[0]!r} needs prepared portraits: run the stage 'prepare' first"


USERS = {
    "base": ("base", "encoder", "pretrain"),
    "style": ("finetune", "destylize", "transfer", "refine"),
}
"""Stages that read each data set."""


def _folder_problems(recipe: Recipe, run: RunFolder, name: str, *, packed: bool) -> Iterator[str]:
    from dsgcli.training.prepare import folders_of

    root = Path(recipe.data.root)
    wanted = smallest_set(recipe, name)
    folders = folders_of(recipe.data, name)
    missing = [f for f in folders if not (root / f).is_dir()]
    if packed and missing:
        return  # the pack is complete without its pictures
    yield from (f"no folder {root / f} ([data] root and {name})" for f in missing)
    listed = list_set(root, recipe.data, name)
    if folders and not missing and len(listed) < wanted:
        where = ", ".join(str(root / f) for f in folders)
        yield f"{len(listed)} picture(s) in {where}, and the recipe needs at least {wanted}"
    audit = read_audit(run.stage("prepare") / name)
    if packed and audit and audit["fingerprint"] != fingerprint(listed):
        yield f"the pictures of {name!r} have changed since `prepare`; pass --again prepare"


def _too_few_drawn(recipe: Recipe) -> Iterator[str]:
    for name in SETS:
        wanted = smallest_set(recipe, name)
        if recipe.data.drawn < wanted:
            yield f"[data] drawn is {recipe.data.drawn}, and the recipe needs at least {wanted}"
