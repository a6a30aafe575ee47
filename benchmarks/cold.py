"""From the command line to the file: `dsg stylize` of one picture in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from stylize import write_random_model


def cold_start(size_px: int, rounds: int) -> Iterator[tuple[str, float]]:
    """(what, seconds): the whole command at its quickest, in elapsed and processor time, its stages
    (elapsed), and what the processor did besides drawing one picture.

    The face is looked for, as in any photograph. The model has random weights and the published
    widths; it is read once before, so that it lies in the system's cache as after the first use.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        style = write_random_model(root / "models", size_px, tiny=False)
        picture = _draw_face(root / "face.png", size_px)
        command = [sys.executable, "-m", "dsgcli", "stylize", str(picture), "--style", style]
        command += ["--pretrained", str(root / "models"), "--json"]
        command += ["--overwrite", "-o", str(root / "out.png")]
        found = [_timed(command) for _ in range(rounds)]
    elapsed, worked, stages = min(found, key=lambda one: one[1])
    yield "elapsed", elapsed
    for name, seconds in stages.items():
        yield f"of it {name}, elapsed", seconds
    yield "processor time, all threads", worked


def _timed(command: list[str]) -> tuple[float, float, dict[str, float]]:
    began, before = time.perf_counter(), os.times()
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    took, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    worked = after.children_user + after.children_system
    worked -= before.children_user + before.children_system
    return took, worked, json.loads(done.stdout)["stages"]


def _draw_face(path: Path, size_px: int) -> Path:
    from dsgcli.media.images import write_image
    from dsgcli.training.drawn import draw_portrait

    write_image(path, draw_portrait(1, size_px))
    return path
