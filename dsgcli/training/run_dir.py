"""Where a run keeps things, and what each of its stages has done.

RUN/recipe.toml             the resolved recipe of the last start
RUN/environment.json        versions and hardware of the last start
RUN/report.html             everything to look at
RUN/STAGE/state.json        recipe values it began with, when it was done
RUN/STAGE/ARTIFACT.safetensors
RUN/STAGE/checkpoints/, sheets/, metrics.jsonl
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dsgcli
from dsgcli.errors import TrainingError
from dsgcli.media.files import try_lock
from dsgcli.recipe import STAGES, Recipe, changes, recipe_values, write_toml
from dsgcli.store.files import write_text

RECIPE, ENVIRONMENT, REPORT, STATE = "recipe.toml", "environment.json", "report.html", "state.json"
LOCK = ".lock"

SHARED_BY_ALL = ("run", "model")
USES: dict[str, tuple[str, ...]] = {
    "prepare": ("data",),
    "base": ("data", "start"),
    "encoder": ("data", "features", "start"),
    "finetune": ("data", "start"),
    "destylize": ("data", "features", "start"),
    "pretrain": ("data", "features", "start"),
    "transfer": ("data", "features", "start"),
    "refine": ("data", "features", "start"),
    "enlarge": ("data", "start"),
    "distill": ("data", "features", "start"),
    "sampler": ("start",),
    "evaluate": ("data", "features", "start"),
}
"""Shared tables that a stage's results depend on, besides `run`, `model` and its own."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    def stage(self, name: str) -> Path:
        """Folder of a stage."""
        return self.path / name

    def artifact(self, stage: str, name: str) -> Path:
        """File of an artifact that a stage makes."""
        return self.path / stage / f"{name}.safetensors"

    def find(self, artifact: str, before: str) -> Path | None:
        """The artifact as a stage that comes earlier than `before` made it, the latest first."""
        earlier = STAGES[: STAGES.index(before)]
        paths = (self.artifact(stage, artifact) for stage in reversed(earlier))
        return next((path for path in paths if path.is_file()), None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder; a killed run's lock goes with it.

        Raises:
            TrainingError: another run is at work there.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("wb") as file:
            if not try_lock(file.fileno()):
                raise TrainingError(
                    f"another dsg train is at work in {self.path}; wait for it, or use another "
                    f"--output"
                )
            yield

    # ── the state of a stage ─────────────────────────────────────────────────────────────────────

    def state(self, stage: str) -> dict[str, Any]:
        """Notes about a stage; empty before its first start."""
        path = self.stage(stage) / STATE
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def is_done(self, stage: str) -> bool:
        return bool(self.state(stage).get("done"))

    def note(self, stage: str, **values: Any) -> None:
        """Add to what is noted of a stage."""
        state = self.state(stage) | values
        write_text(self.stage(stage) / STATE, json.dumps(state, indent=1))

    def begin(self, stage: str, recipe: Recipe) -> None:
        """Note what a stage is started with."""
        values = recipe_values(recipe)
        self.note(stage, recipe={name: values[name] for name in tables_of(stage)}, done=False)

    def set_aside(self, stage: str) -> None:
        """Make room to do a stage again; what it made is kept as STAGE.before, the last only."""
        folder = self.stage(stage)
        before = folder.with_name(f"{stage}.before")
        if folder.is_dir():
            shutil.rmtree(before, ignore_errors=True)
            folder.rename(before)

    def changes(self, stage: str, recipe: Recipe) -> list[str]:
        """Differences of `recipe` from the one that the stage was started with."""
        before = self.state(stage).get("recipe")
        return changes(before, recipe, tables_of(stage)) if before is not None else []

    # ── what a person reads ──────────────────────────────────────────────────────────────────────

    def describe(self, recipe: Recipe, device: str) -> None:
        """Write the resolved recipe and the environment."""
        write_text(self.path / RECIPE, write_toml(recipe_values(recipe)))
        write_text(self.path / ENVIRONMENT, json.dumps(environment(device), indent=1))


def tables_of(stage: str) -> tuple[str, ...]:
    """Tables of the recipe that the results of a stage depend on."""
    return (*SHARED_BY_ALL, *USES[stage], stage)


def environment(device: str) -> dict[str, Any]:
    """Versions and hardware, without names of users, machines or folders."""
    import torch

    return {
        "dsg": dsgcli.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "processor": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }
