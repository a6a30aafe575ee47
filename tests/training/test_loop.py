"""The loop must not care how a run is cut up: into starts, micro-batches or processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from training import toys
from training.toys import ToyGan, in_two_processes, run

import dsgcli
from dsgcli.console import exit_code_of
from dsgcli.errors import InterruptedRunError, TrainingError
from dsgcli.training import checkpoint
from dsgcli.training.checkpoint import find_checkpoint, read_progress
from dsgcli.training.loop import stop_signals
from dsgcli.training.record import METRICS, read_metrics

TOYS = Path(toys.__file__)


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, str(TOYS), str(folder), *more]


def environment() -> dict[str, str]:
    root = str(Path(dsgcli.__file__).parent.parent)
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def weights(toy: ToyGan) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": v for n, m in toy.modules.items() for k, v in m.state_dict().items()}


def assert_same(a: ToyGan, b: ToyGan) -> None:
    for (key, x), y in zip(weights(a).items(), weights(b).values(), strict=True):
        assert torch.equal(x, y), key
    assert a.state() == b.state()


def losses(folder: Path) -> list[dict[str, float]]:
    rows = list(read_metrics(folder / METRICS))
    return [{k: v for k, v in r.items() if k.startswith(("loss/", "grad/"))} for r in rows]


def test_loop_gives_the_same_weights_when_started_again_midway(tmp_path):
    whole = run(tmp_path / "whole", steps=20)
    for steps in (1, 7, 8, 20):
        parts = run(tmp_path / "parts", steps=steps)
    assert_same(whole, parts)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_loop_gives_the_same_weights_after_kill_9(tmp_path):
    """Killed from outside at whatever point it has reached, then the same command again."""
    whole = run(tmp_path / "whole", steps=150)
    folder = tmp_path / "killed"
    process = subprocess.Popen(command(folder, "--steps", "150"), env=environment())
    while find_checkpoint(folder / "toy.safetensors") is None:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    found = find_checkpoint(folder / "toy.safetensors")
    assert found is not None
    assert 0 < read_progress(found).iteration < 150
    again = run(folder, steps=150)
    assert_same(whole, again)
    assert losses(folder) == losses(tmp_path / "whole")


KILL_POINTS = {
    "in a phase": (ToyGan, "_g_loss"),
    "before the average": (ToyGan, "finish"),
    "before writing": (checkpoint, "save"),
    "while writing": (os, "fsync"),
    "between the renames": (Path, "replace"),
    "after the renames": (Path, "replace"),
    "between checkpoint and next step": (ToyGan, "begin"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be fast")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("point", KILL_POINTS)
@pytest.mark.parametrize("calls", [2, 5])
def test_loop_gives_the_same_weights_when_killed(tmp_path, monkeypatch, point, calls):
    """Killed at a named point, from within, in a forked process."""
    whole = run(tmp_path / "whole", steps=8)
    folder = tmp_path / "killed"
    child = os.fork()
    if child == 0:
        if "renames" in point:
            calls = 1 + 2 * calls  # the first save renames once, each later one twice
        _die_at(*KILL_POINTS[point], calls, after=point == "after the renames")
        run(folder, steps=8)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "was not killed"
    assert_same(whole, run(folder, steps=8))
    assert losses(folder) == losses(tmp_path / "whole")


def _die_at(owner: object, name: str, calls: int, *, after: bool) -> None:
    """Kill this process before, or after, the `calls`-th call of `owner.name`."""
    original = getattr(owner, name)
    left = [calls]

    def fatal(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and after:
            original(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, fatal)


def test_loops_of_two_plans_draw_other_numbers(tmp_path):
    """So that an autoencoder that grows does not see the random codes of its last resolution."""
    for label in ("small", "large"):
        run(tmp_path / label, steps=2, label=label)
    one, other = losses(tmp_path / "small"), losses(tmp_path / "large")
    assert one[0]["loss/d"] != other[0]["loss/d"]


def test_phase_that_couples_samples_and_does_not_say_so_is_found(tmp_path):
    toy = ToyGan()
    toy.phases = lambda iteration: [  # type: ignore[method-assign]
        replace(phase, couples=False) for phase in ToyGan.phases(toy, iteration)
    ]
    with pytest.raises(AssertionError, match="says couples=True"):
        run(tmp_path, steps=1, trainable=toy, device_batch=4)


def test_loop_is_done_when_its_checkpoint_is(tmp_path):
    first = run(tmp_path, steps=5)
    before = (tmp_path / "toy.safetensors").stat().st_mtime_ns
    again = run(tmp_path, steps=5)
    assert_same(first, again)
    assert (tmp_path / "toy.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("device_batch", [1, 2, 4])
def test_loop_accumulates_to_the_same_losses(tmp_path, device_batch):
    """Also in the phase that couples samples by a mean over the batch."""
    run(tmp_path / "whole", steps=10)
    run(tmp_path / "parts", steps=10, device_batch=device_batch)
    for a, b in zip(losses(tmp_path / "whole"), losses(tmp_path / "parts"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be fast")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loop_in_two_processes_gives_the_losses_of_one(tmp_path):
    run(tmp_path / "one", steps=10, batch_size=8)
    in_two_processes(lambda: run(tmp_path / "two", steps=10, batch_size=8))
    for a, b in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.slow
def test_loop_on_two_machines_gives_the_losses_of_one(tmp_path):
    """Two torchruns that meet over TCP, as on two machines with one folder of runs."""
    run(tmp_path / "one", steps=10, batch_size=8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    torchrun += ["--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "toys"]
    torchrun += ["--rdzv-endpoint", meet, "--local-addr", "127.0.0.1"]
    work = [str(TOYS), str(tmp_path / "two"), "--steps", "10", "--batch-size", "8"]
    machines = [subprocess.Popen([*torchrun, *work], env=environment()) for _ in range(2)]
    try:
        assert [machine.wait(120) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.kill()
    for a, b in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_loop_stops_on_nan_and_leaves_the_last_checkpoint(tmp_path):
    toy = ToyGan()
    toy.poison_at = 6
    with pytest.raises(TrainingError, match=r"nan in phase 'd' of step 7"):
        run(tmp_path, steps=10, trainable=toy)
    found = find_checkpoint(tmp_path / "toy.safetensors")
    assert found is not None
    assert read_progress(found).iteration == 6


def test_loop_saves_on_ctrl_c_and_goes_on(tmp_path):
    """In a process of its own, as the signal is for a whole process."""
    whole = run(tmp_path / "whole", steps=12)
    line = command(tmp_path / "stopped", "--steps", "12", "--interrupt-at", "5")
    ran = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=120)
    assert (ran.returncode, "after step 5 of 12" in ran.stderr) == (1, True), ran.stderr
    found = find_checkpoint(tmp_path / "stopped" / "toy.safetensors")
    assert found is not None
    assert read_progress(found).iteration == 5
    assert_same(whole, run(tmp_path / "stopped", steps=12))


def test_second_ctrl_c_acts_at_once():
    told = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt), stop_signals(told.set) as asked:
            signal.raise_signal(signal.SIGINT)
            assert asked()
            assert told.wait(5), "a step may take minutes: the first press is answered at once"
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_loop_draws_sheets_without_changing_the_run(tmp_path):
    plain = run(tmp_path / "plain", steps=6)
    drawn = run(tmp_path / "drawn", steps=6, sample_every=3, sample_count=4)
    assert_same(plain, drawn)
    names = sorted(p.name for p in (tmp_path / "drawn" / "sheets").iterdir())
    assert names == [f"toy-samples-{n:06d}.jpg" for n in (1, 3, 6)]


def test_metrics_have_every_step_once_after_a_second_start(tmp_path):
    run(tmp_path, steps=4)
    run(tmp_path, steps=9)
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == list(range(1, 10))


def test_checkpoint_is_the_same_whatever_the_process_drew_before(tmp_path):
    """A resumed run begins `transfer` in a new process, another one after stages that have drawn:
    the checkpoints differed in `rng/torch`, which training does not draw from."""
    stored = []
    for name, draws in (("fresh", 0), ("used", 7)):
        torch.manual_seed(draws)
        torch.randn(draws + 1)
        random.seed(draws)
        np.random.seed(draws)
        run(tmp_path / name, steps=3, trainable=toy_of_seed())
        with safe_open(tmp_path / name / "toy.safetensors", framework="pt") as file:
            header = json.loads(file.metadata()["dsg"])
            stored.append((header["rng"], {key: file.get_tensor(key) for key in file.keys()}))  # noqa: SIM118
    (words, tensors), (other_words, other_tensors) = stored
    assert words == other_words
    assert tensors.keys() == other_tensors.keys() and "rng/torch" in tensors
    assert all(torch.equal(tensors[key], other_tensors[key]) for key in tensors)


def toy_of_seed() -> ToyGan:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ToyGan()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_a_scheduler_sends_keeps_the_step_and_gives_its_code(tmp_path, name):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("this system has no such signal")
    before = signal.signal(number, signal.default_int_handler)  # a background job ignores SIGINT
    try:
        with pytest.raises(InterruptedRunError, match="stopped after step 3 of 9") as stopped:
            run(tmp_path, steps=9, trainable=StoppedToy(number))
    finally:
        signal.signal(number, before)
    code = exit_code_of(lambda: raise_(stopped.value))
    assert code == 128 + number
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == [1, 2, 3]
    resumed, whole = run(tmp_path, steps=9), run(tmp_path / "whole", steps=9)
    assert_same(resumed, whole)


class StoppedToy(ToyGan):
    """A training that receives a signal in its third step."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def finish(self, iteration: int) -> None:
        super().finish(iteration)
        if iteration == 2:
            signal.raise_signal(self.number)


def raise_(error: BaseException) -> int:
    raise error
