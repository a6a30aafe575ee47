"""A checkpoint holds everything, survives everything, and runs no code."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch
from training.toys import ToyGan, run

from dsgcli.errors import TrainingError
from dsgcli.training import checkpoint
from dsgcli.training.checkpoint import (
    Progressed,
    find_checkpoint,
    load_checkpoint,
    previous_of,
    read_progress,
    save_checkpoint,
)


@pytest.fixture
def trained(tmp_path):
    return run(tmp_path / "run", steps=4)


def save(folder, toy, iteration=4):
    path = folder / "toy.safetensors"
    recipe = {"transfer": {"lambda_id": 0.1 + 0.2}}
    save_checkpoint(path, toy, Progressed(iteration=iteration, recipe=recipe, elapsed_s=1.5))
    return path


def test_checkpoint_brings_back_networks_optimizers_and_numbers(tmp_path, trained):
    path = save(tmp_path, trained)
    fresh = ToyGan()
    with torch.no_grad():
        for module in fresh.modules.values():
            for parameter in module.parameters():
                parameter.zero_()
    done = load_checkpoint(path, fresh)
    assert done.iteration == 4
    assert done.recipe == {"transfer": {"lambda_id": 0.1 + 0.2}}
    assert fresh.state() == trained.state()
    for name, module in trained.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(fresh.modules[name].state_dict()[key], value)
    for name, optimizer in trained.optimizers.items():
        ours = fresh.optimizers[name].state_dict()
        theirs = optimizer.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        for number, state in theirs["state"].items():
            for key, value in state.items():
                assert torch.equal(torch.as_tensor(ours["state"][number][key]), value), key


def test_checkpoint_keeps_the_memory_layout_of_optimizer_states(tmp_path, trained):
    """Another layout may take another path through the processor, and round otherwise."""
    path = save(tmp_path, trained)
    fresh = ToyGan()
    load_checkpoint(path, fresh)
    weight = fresh.critic[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    moments = fresh.d_optim.state[weight]["exp_avg"]
    assert moments.stride() == weight.stride()


def test_checkpoint_brings_back_random_states_of_every_kind(tmp_path, trained):
    path = save(tmp_path, trained)

    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    expected = draw()
    draw()
    load_checkpoint(path, ToyGan())
    assert draw() == expected


def test_checkpoint_keeps_the_one_before(tmp_path, trained):
    path = save(tmp_path, trained, iteration=1)
    save(tmp_path, trained, iteration=2)
    assert read_progress(path).iteration == 2
    assert read_progress(previous_of(path)).iteration == 1
    path.unlink()
    found = find_checkpoint(path)
    assert found is not None
    assert read_progress(found).iteration == 1


def test_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, trained, monkeypatch):
    path = save(tmp_path, trained, iteration=1)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*MiB there and start"):
        save(tmp_path, trained, iteration=2)
    assert read_progress(path).iteration == 1
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["toy.safetensors"]
    assert not list(tmp_path.glob(".*"))


def test_damaged_checkpoint_is_told_with_what_to_do(tmp_path, trained):
    path = save(tmp_path, trained)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingError, match=r"damaged or no checkpoint of dsg; delete it"):
        load_checkpoint(path, ToyGan())


def test_checkpoint_of_other_networks_is_told(tmp_path, trained):
    path = save(tmp_path, trained)
    other = ToyGan()
    other.generator = torch.nn.Linear(5, 7)
    with pytest.raises(TrainingError, match="does not fit this recipe's networks"):
        load_checkpoint(path, other)


def test_model_file_is_no_checkpoint(tmp_path, trained):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(TrainingError, match="no checkpoint of dsg"):
        read_progress(path)


def test_run_goes_on_from_the_previous_checkpoint_if_the_last_is_deleted(tmp_path):
    whole = run(tmp_path / "whole", steps=6)
    run(tmp_path / "part", steps=4)
    (tmp_path / "part" / "toy.safetensors").unlink()
    shutil.copy(tmp_path / "part" / "toy.previous.safetensors", tmp_path / "kept.safetensors")
    again = run(tmp_path / "part", steps=6)
    for name, module in whole.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(again.modules[name].state_dict()[key], value)
