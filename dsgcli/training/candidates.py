"""Candidates of the stage `transfer`: the last weights are not always the best.

Flow: RUN/transfer/candidates/STEP.safetensors -> scores -> RUN/transfer/candidates.json, which
proposes one; `transfer.candidate` of the recipe overrides it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsgcli.errors import TrainingError
from dsgcli.recipe import Recipe
from dsgcli.store.files import write_text
from dsgcli.training.run_dir import RunFolder

SCORES = "candidates.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How a candidate does on fixed faces and exemplars."""

    step: int
    style: float
    """Distance of portraits to their exemplars, in features; lower is more style."""
    identity: float
    """1 - cosine between the portraits' faces and the plain ones; lower is more likeness."""


def propose(scored: list[Scored]) -> Scored:
    """The one whose style distance is least for the likeness that is left: a tenth less of it is
    worth a tenth of the likeness. (A product of both distances takes the first candidate wherever
    all keep the person, and so the one with the least style.)"""
    return min(scored, key=lambda s: (max(s.style, 0.0) / max(1.0 - s.identity, 1e-6), s.step))


def write_scores(folder: Path, scored: list[Scored]) -> None:
    """Keep the scores and the proposal in the stage's folder."""
    content = {"proposed": propose(scored).step, "scores": [asdict(s) for s in scored]}
    write_text(folder / SCORES, json.dumps(content, indent=1))


def read_scores(folder: Path) -> dict[str, Any]:
    """Read the file of `write_scores`; empty if there is none."""
    path = folder / SCORES
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def candidate_steps(folder: Path) -> list[int]:
    """Steps of the candidates in a stage's folder."""
    return sorted(int(path.stem) for path in (folder / "candidates").glob("*.safetensors"))


def chosen_style(recipe: Recipe, run: RunFolder, before: str = "evaluate") -> Path | None:
    """The style for the stages after `transfer`: enlarged, or the recipe's candidate, else
    the proposed one, else the last weights; None before there is one.

    Args:
        before: the stage that asks; what later ones made does not count.

    Raises:
        TrainingError: the recipe wants a candidate that is not there.
    """
    last, folder = run.find("style", before=before), run.stage("transfer")
    if last is not None and last.parent != folder:
        return last
    wanted = recipe.transfer.candidate if recipe.transfer is not None else 0
    proposed = read_scores(folder).get("proposed", 0)
    for step in (wanted, proposed):
        path = folder / "candidates" / f"{step:06d}.safetensors"
        if step and path.is_file():
            return path
        if step and step == wanted:
            there = ", ".join(map(str, candidate_steps(folder))) or "none"
            raise TrainingError(f"transfer.candidate = {step} is not there; there are: {there}")
    return last
