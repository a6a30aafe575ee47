"""A run: the stages of a recipe, one after the other, each from where it stopped.

Flow: Recipe + folder -> plan (what is done, what is missing) -> stages -> artifacts and a report.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from dsgcli.errors import InterruptedRunError, TrainingError
from dsgcli.progress import NULL_PROGRESS, Progress, Task
from dsgcli.recipe import STAGES, Recipe, read_recipe, recipe_values
from dsgcli.runtime import has_native_bf16, keep_freed_memory, pick_device
from dsgcli.training.candidates import chosen_style, propose
from dsgcli.training.data import open_pack
from dsgcli.training.loop import Loop, LoopSettings
from dsgcli.training.package import package
from dsgcli.training.plan import RunPlan, hours_text, make_plan
from dsgcli.training.preflight import makes, start_file
from dsgcli.training.prepare import weights_of
from dsgcli.training.processes import TOGETHER, ProcessGroup, join, leave
from dsgcli.training.record import FileRecorder, NullRecorder
from dsgcli.training.report import write_report
from dsgcli.training.run_dir import RECIPE, RunFolder, tables_of
from dsgcli.training.stage import Pictures, Plan, Stage, Trainable

if TYPE_CHECKING:
    from dsgcli.store import ModelStore


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Choices of the command line that are not in the recipe."""

    folder: Path
    """The run folder."""
    stages: tuple[str, ...] = ()
    """Run only these; empty runs all that the recipe has."""
    again: tuple[str, ...] = ()
    """Run these although they are done."""
    force: bool = False
    """Go on although the recipe has changed."""
    device: str = "auto"
    pretrained: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """Result of a run."""

    folder: Path
    done: tuple[str, ...]
    """Stages that were run now."""
    skipped: tuple[str, ...]
    """Stages that were done before."""
    artifacts: dict[str, Path] = field(default_factory=dict)
    elapsed_s: float = 0.0


@dataclass
class Context:
    """The run as one stage sees it (`RunContext`)."""

    stage: str
    recipe: Recipe
    run: RunFolder
    store: ModelStore
    processes: ProcessGroup
    progress: Progress = NULL_PROGRESS
    scratch: Path | None = None
    _open: ExitStack = field(default_factory=ExitStack)
    _task: Task | None = None
    _done: int = 0

    @property
    def device(self) -> torch.device:
        return self.processes.device

    @property
    def folder(self) -> Path:
        """The processes after the first write the same files, into a place that is thrown away."""
        return self.run.stage(self.stage) if self.scratch is None else self.scratch

    def find(self, artifact: str) -> Path:
        """An artifact of an earlier stage, or of the recipe's [start].

        Raises:
            TrainingError: neither has it.
        """
        if artifact == "style":
            own = chosen_style(self.recipe, self.run, before=self.stage)
        else:
            own = self.run.find(artifact, before=self.stage)
        path = own or start_file(artifact, self.recipe, self.run, self.store)
        if path is None:
            raise TrainingError(
                f"stage {self.stage!r} needs {artifact!r}, which no earlier stage of the recipe "
                f"makes; name one in [start] or add the stage"
            )
        return path

    def target(self, artifact: str) -> Path:
        return self.folder / self.run.artifact(self.stage, artifact).name

    def pictures(self, name: str) -> Pictures:
        pack = open_pack(self.run.stage("prepare") / name)
        return pack.with_weights(weights_of(pack.names, name, self.recipe.data))

    def train(self, trainable: Trainable, pictures: Pictures, plan: Plan) -> None:
        run, first = self.recipe.run, self.processes.is_first
        settings = LoopSettings(
            checkpoint=self.run.stage(self.stage) / "checkpoints" / f"{plan.label}.safetensors",
            seed=run.seed,
            device_batch=run.device_batch,
            checkpoint_minutes=run.checkpoint_minutes,
            sample_every=run.sample_every,
            sample_count=run.sample_count,
            autocast=torch.bfloat16 if run.precision == "bf16" else None,
            recipe=self._values(),
        )
        plan = replace(plan, mirror=plan.mirror and self.recipe.data.mirror)
        recorder = FileRecorder(self.folder, plan.label) if first else NullRecorder()
        Loop(
            trainable,
            pictures,
            plan,
            settings,
            processes=self.processes,
            recorder=recorder,
            progress=self.progress,
            saved=lambda: write_report(self.run, self.recipe),
        ).run()

    def _values(self) -> dict[str, object]:
        values = recipe_values(self.recipe)
        return {name: values[name] for name in tables_of(self.stage)}

    def advance(self, done: int, total: int, message: str = "") -> None:
        if self._task is None:
            self._task = self._open.enter_context(self.progress.task(self.stage, total=total))
        self._task.set_total(total)
        self._task.advance(done - self._done, **({"now": message} if message else {}))
        self._done = done

    def close(self) -> None:
        """The stage shows nothing any more."""
        self._open.close()


def plan_of(recipe: Recipe, options: TrainOptions) -> RunPlan:
    """The plan of `train`, with all problems."""
    from dsgcli.store import ModelStore

    store = ModelStore.open(options.pretrained)
    run = RunFolder(options.folder)
    recipe = _with_precision(recipe, run, options.device)
    return make_plan(recipe, run, store, only=options.stages, again=options.again)


def _with_precision(recipe: Recipe, run: RunFolder, device: str) -> Recipe:
    """`auto` as what the run began with, so that it ends with the same numbers wherever it goes
    on; in a new run, as what the machine is fast in."""
    if recipe.run.precision != "auto":
        return recipe
    if (begun := run.path / RECIPE).is_file():
        precision = read_recipe(begun).run.precision
    else:
        precision = "bf16" if has_native_bf16(pick_device(device)) else "fp32"
    return replace(recipe, run=replace(recipe.run, precision=precision))


def train(
    recipe: Recipe, options: TrainOptions, progress: Progress = NULL_PROGRESS
) -> TrainSummary | None:
    """Run the recipe's stages; those that are done are skipped, a started one goes on.

    Returns:
        What has come of it; None in the processes that help the first one.

    Raises:
        TrainingError: before the first step, with everything that is missing or does not fit; or
            later, from a stage.
        InterruptedRunError: Ctrl-C; the same command goes on.
    """
    from dsgcli.store import ModelStore

    keep_freed_memory()
    plan = plan_of(recipe, options)
    plan.check(force=options.force)
    recipe = plan.recipe
    processes = join(pick_device(options.device))
    progress = progress if processes.is_first else NULL_PROGRESS
    store = ModelStore.open(options.pretrained)
    run = RunFolder(options.folder)
    started = time.monotonic()
    with run.locked() if processes.is_first else nullcontext():
        _run_stages(recipe, options, plan, run, store, processes, progress)
    if not processes.is_first:
        return None
    return TrainSummary(
        folder=run.path,
        done=tuple(plan.to_do),
        skipped=tuple(plan.skipped),
        artifacts=_artifacts(run, plan),
        elapsed_s=time.monotonic() - started,
    )


def _run_stages(
    recipe: Recipe,
    options: TrainOptions,
    plan: RunPlan,
    run: RunFolder,
    store: ModelStore,
    processes: ProcessGroup,
    progress: Progress,
) -> None:
    """Each stage that is to do, then the package; the report is written whatever happens."""
    try:
        if processes.is_first:
            run.describe(recipe, str(processes.device))
        for name in options.again:
            if processes.is_first and run.is_done(name):
                run.set_aside(name)
        if processes.is_first and plan.to_do:
            progress.note(f"{run.path / 'report.html'} shows how it goes")
        hours = {line.stage: line.hours or 0.0 for line in plan.lines} if processes.is_first else {}
        for number, name in enumerate(plan.to_do, 1):
            if processes.is_first:
                progress.note(_where(plan.to_do, number, hours))
            context = Context(name, recipe, run, store, processes, progress)
            _run_stage(plan.stages[name].stage, context)
        if processes.is_first and plan.to_do:
            for path in package(recipe, run, store):
                progress.note(f"packaged: {path}")
    finally:
        if processes.is_first:
            write_report(run, recipe)
        leave(processes)


def _where(to_do: Sequence[str], number: int, hours: Mapping[str, float]) -> str:
    """`stage 2 of 3, distill: about 12 min left of about 41 min`, by the estimates of the plan."""
    total = sum(hours[name] for name in to_do)
    left = sum(hours[name] for name in to_do[number - 1 :])
    where = f"stage {number} of {len(to_do)}, {to_do[number - 1]}"
    return f"{where}: {hours_text(left)} left of {hours_text(total)}" if left > 0 else where


def _run_stage(stage: Stage, context: Context) -> None:
    """Run one stage and note it done; the report is up to date after each."""
    first = context.processes.is_first
    if first:
        context.run.begin(context.stage, context.recipe)
    context.processes.wait()
    started = time.monotonic()
    if first:
        _stoppable(stage, context)
    elif context.stage in TOGETHER:
        with TemporaryDirectory() as scratch:
            _stoppable(stage, replace(context, scratch=Path(scratch)))
    if first and context.stage == "transfer":
        _propose(context)
    context.processes.wait()
    if first:
        spent = context.run.state(context.stage).get("elapsed_s", 0.0)
        elapsed_s = spent + time.monotonic() - started
        context.run.note(context.stage, done=True, elapsed_s=round(elapsed_s, 1))
        write_report(context.run, context.recipe)
        context.progress.note(f"{context.stage}: done in {_duration(elapsed_s)}")


def _stoppable(stage: Stage, context: Context) -> None:
    """Run it; Ctrl-C outside the loop, which has its own way, leaves by a message too."""
    try:
        stage.run(context)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"stopped in stage {stage.name!r}; the same command goes on from there"
        ) from None
    finally:
        context.close()


def _propose(context: Context) -> None:
    """Choose among the weights that `transfer` has kept on its way."""
    from dsgcli.training.evaluate import score_candidates

    scored = score_candidates(context)
    if scored:
        best = propose(scored)
        context.progress.note(
            f"step {best.step} is proposed of {len(scored)} candidates (style distance "
            f"{best.style:.4f}, identity distance {best.identity:.4f}); transfer.candidate takes "
            f"another"
        )


def _artifacts(run: RunFolder, plan: RunPlan) -> dict[str, Path]:
    return {
        artifact: run.artifact(name, artifact)
        for name in STAGES
        if name in plan.stages
        for artifact in makes(plan.stages[name].stage, plan.recipe)
        if run.artifact(name, artifact).is_file()
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )


def stage_names(chosen: Sequence[str], recipe: Recipe) -> tuple[str, ...]:
    """The chosen stages in the order they run; all of the recipe's if none is chosen."""
    return tuple(name for name in STAGES if name in (chosen or recipe.stages))
