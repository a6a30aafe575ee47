"""Everything a killed run needs to go on as if nothing had happened, in one safe file.

Flow: Trainable + iteration -> safetensors with a JSON header -> the same Trainable, bit for bit.
The file is written beside its target, fsynced and renamed; the one before it stays as `.previous`.
No pickle anywhere: what a checkpoint holds are tensors, numbers and words.

Keys
    modules/<module>/<entry of its state dict>
    optimizers/<optimizer>/<number of the parameter>/<entry of its state>
    rng/<kind>
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from dsgcli.errors import TrainingError
from dsgcli.training.stage import Trainable

FORMAT = "dsg-checkpoint-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """Where a run stands."""

    iteration: int
    """Iterations done."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Values of the recipe that it was made with."""
    elapsed_s: float = 0.0
    """Seconds of training so far, over all starts."""


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the last is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def save_checkpoint(path: Path, trainable: Trainable, progressed: Progressed) -> None:
    """Write the whole state; the checkpoint that was there is kept as `.previous`.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; what was there stays.
    """
    tensors = dict(_tensors(trainable))
    header = {
        "format": FORMAT,
        "iteration": progressed.iteration,
        "elapsed_s": progressed.elapsed_s,
        "recipe": dict(progressed.recipe),
        "state": trainable.state(),
        "groups": {k: _groups(o) for k, o in trainable.optimizers.items()},
        "rng": _rng_words(),
    }
    data = save(tensors, metadata={"dsg": json.dumps(header)})
    try:
        _replace(path, data)
    except OSError as error:
        raise TrainingError(
            f"cannot write the checkpoint {path} ({error.strerror}); free "
            f"{len(data) / 2**20:.0f} MiB there and start the same command again"
        ) from error


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    if path.exists():
        path.replace(previous_of(path))  # killed between the two renames: `.previous` is found
    partial.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renames last through a power cut, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tensors(trainable: Trainable) -> Iterator[tuple[str, Tensor]]:
    for name, module in trainable.modules.items():
        for key, value in module.state_dict().items():
            yield f"modules/{name}/{key}", _detached(value)
    for name, optimizer in trainable.optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                yield f"optimizers/{name}/{number}/{key}", _detached(torch.as_tensor(value))
    yield "rng/torch", torch.get_rng_state()
    if torch.cuda.is_available():
        for index, value in enumerate(torch.cuda.get_rng_state_all()):
            yield f"rng/cuda/{index}", value


def _detached(value: Tensor) -> Tensor:
    """A copy that shares memory with nothing, in plain layout: what the format can hold."""
    return value.detach().to("cpu", copy=True).contiguous()


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = optimizer.state_dict()["param_groups"]
    return groups


def _rng_words() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, normal = random.getstate()
    return {
        "python": [version, list(internal), normal],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, gauss],
    }


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def find_checkpoint(path: Path) -> Path | None:
    """The last complete checkpoint: `path`, or its `.previous` if a kill came between renames."""
    return next((p for p in (path, previous_of(path)) if p.is_file()), None)


def read_progress(path: Path) -> Progressed:
    """Where the run stood that wrote this checkpoint; cheap, reads no tensors.

    Raises:
        TrainingError: damaged, or not a checkpoint of ours.
    """
    header = _header(path)
    return Progressed(
        iteration=header["iteration"], recipe=header["recipe"], elapsed_s=header["elapsed_s"]
    )


def load_checkpoint(path: Path, trainable: Trainable) -> Progressed:
    """Put everything back: networks, optimizers, numbers, random states.

    Raises:
        TrainingError: damaged, or of other networks than these.
    """
    header = _header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for name, module in trainable.modules.items():
            module.load_state_dict(_under(tensors, f"modules/{name}/"))
        for name, optimizer in trainable.optimizers.items():
            _load_optimizer(optimizer, _under(tensors, f"optimizers/{name}/"), header, name)
    except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {path} does not fit this recipe's networks ({_first_line(error)}); "
            f"use another run folder, or delete it to begin again"
        ) from error
    trainable.load_state(header["state"])
    _restore_rng(header["rng"], tensors)
    return Progressed(
        iteration=header["iteration"], recipe=header["recipe"], elapsed_s=header["elapsed_s"]
    )


def _header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["dsg"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"{path} is damaged or no checkpoint of dsg; delete it to go on from "
            f"{previous_of(path).name}, or to begin again"
        ) from error
    if header.get("format") != FORMAT:
        raise TrainingError(f"{path} was written by another version of dsg; use a new run folder")
    return header


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], header: Mapping[str, Any], name: str
) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, entry = key.partition("/")
        state.setdefault(int(number), {})[entry] = value
    groups = [
        {k: tuple(v) if k == "betas" else v for k, v in group.items()}
        for group in header["groups"][name]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    _match_layouts(optimizer)


def _match_layouts(optimizer: Optimizer) -> None:
    """Give each state its parameter's memory layout, as it had before it was saved: another
    layout may take another path through the processor, and round otherwise."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def seed_everything(seed: int) -> None:
    """Set the random states of Python, NumPy and torch that a checkpoint stores.

    Training draws from none of them, but from generators of its own (`SeededDraws`). They are set
    when a stage begins, so that its checkpoints are the same whichever stages the process did
    before, or whether it was started for this one.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _restore_rng(words: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    version, internal, normal = words["python"]
    random.setstate((version, tuple(internal), normal))
    name, keys, position, has_gauss, gauss = words["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(tensors["rng/torch"])
    if torch.cuda.is_available():
        states = [tensors[k] for k in sorted(tensors) if k.startswith("rng/cuda/")]
        if len(states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if len(lines) < 2 else f"{lines[0]} {lines[1].strip()}"
