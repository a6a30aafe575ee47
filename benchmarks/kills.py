"""Kills of a long video and of a training at random points, without a warning (SIGKILL): does what
comes out in the end equal what an uninterrupted run makes, and is nothing left over?

    python benchmarks/kills.py                            20 kills of a video, 10 of a training
    python benchmarks/kills.py --videos 5 --trainings 0   fewer
    python benchmarks/kills.py --frames 2000 --px 640     a longer video, a larger one

Each command is started, killed after a random part of the time that it takes alone, and started
again, until it ends by itself: one output may be killed several times. Then the video is compared
byte by byte, the weights of a training tensor by tensor, and a new output is begun, until there
were as many kills as asked for. Models are tiny, with random weights; frames are drawn.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT / "tests")  # whose `media` is not the one beside this

MOST_KILLS_IN_A_ROW = 4
"""Of one output; after that it is left to end."""
LIMIT_S = 3600
RECIPE = ("run.checkpoint_minutes=0", "refine.steps=3", "sampler.row_updates=400")


def main() -> int:
    """Print what became of each output; 1 if any differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=int, default=20, help="kills of a video")
    parser.add_argument("--trainings", type=int, default=10, help="kills of a training")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--px", type=int, default=256, help="width of the video")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, failed = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.videos:
            command = video_command(folder, given.frames, given.px)
            failed += trial("video", folder / "video", command, given.videos, rng, same_files)
        if given.trainings:
            command = training_command()
            failed += trial("training", folder / "run", command, given.trainings, rng, same_weights)
    return int(failed > 0)


def video_command(folder: Path, frames: int, px: int) -> list[str]:
    """A command without its output, for a clip of drawn people and tiny models."""
    from tiny_store import write_tiny_store

    from dsgcli.media.base import SinkOptions
    from dsgcli.media.write import open_sink
    from dsgcli.training.drawn_clip import draw_clip

    clip = folder / "clip.mkv"
    with open_sink(clip, SinkOptions(codec="mpeg4"), None) as sink:
        for frame in draw_clip(frames, px, px * 3 // 4, seed=2):
            sink.write(frame)
    store = write_tiny_store(folder / "models")
    words = ["--pretrained", str(store), "--style", "toon", "--device", "cpu", "--mask", "feather"]
    return ["stylize", str(clip), *words, "-q", "-o", "{folder}/out.mp4"]


def training_command() -> list[str]:
    """The tiny recipe, which saves after every step."""
    values = [word for value in RECIPE for word in ("--set", value)]
    recipe = str(ROOT / "recipes" / "tiny.toml")
    return ["train", recipe, *values, "--device", "cpu", "-q", "-o", "{folder}"]


def trial(
    name: str,
    folder: Path,
    command: Sequence[str],
    kills: int,
    rng: random.Random,
    differences: Callable[[Path, Path], list[str]],
) -> int:
    """Kill a command so many times; returns how many of its outputs were wrong."""
    whole = folder.with_name(f"{folder.name}-whole")
    started = time.monotonic()
    run(command, whole)
    alone_s = time.monotonic() - started
    print(f"{name}: {alone_s:.0f} s without a kill", flush=True)
    done = failed = 0
    while done < kills:
        folder.mkdir()
        points: list[str] = []
        while done < kills and len(points) < MOST_KILLS_IN_A_ROW:
            after_s = rng.uniform(0, alone_s)
            if not run(command, folder, kill_after_s=after_s):
                break  # ended before
            done += 1
            points.append(f"{after_s:.1f}")
        run(command, folder)
        wrong = differences(whole, folder)
        failed += bool(wrong)
        told = "; ".join(wrong) or "equal"
        print(f"{name}: killed after {', '.join(points) or 'nothing'} s: {told}", flush=True)
        shutil.rmtree(folder)
    print(f"{name}: {done} kills, {failed} outputs wrong", flush=True)
    return failed


def run(command: Sequence[str], folder: Path, *, kill_after_s: float | None = None) -> bool:
    """Run a command into a folder; returns whether it was killed.

    Raises:
        RuntimeError: it failed by itself.
    """
    words = [word.format(folder=folder) for word in command]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DSG_HOME": str(folder.parent / "home")}
    with subprocess.Popen(
        [sys.executable, "-m", "dsgcli", *words], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _, stderr = process.communicate(timeout=kill_after_s or LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
    if process.returncode:
        raise RuntimeError(f"dsg {' '.join(words)} ended with {process.returncode}: {stderr}")
    return False


def same_files(whole: Path, other: Path) -> list[str]:
    """What tells two folders apart: names, or bytes of a file."""
    ours, theirs = ({p.name for p in folder.iterdir()} for folder in (other, whole))
    wrong = [f"{name} is left over" for name in sorted(ours - theirs)]
    wrong += [f"{name} is missing" for name in sorted(theirs - ours)]
    return wrong + [
        f"{name} differs"
        for name in sorted(ours & theirs)
        if (whole / name).read_bytes() != (other / name).read_bytes()
    ]


def same_weights(whole: Path, other: Path) -> list[str]:
    """What tells two runs of training apart: files of weights, or tensors in them."""
    import torch
    from safetensors.torch import load_file

    ours, theirs = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}
        for folder in (other, whole)
    )
    wrong = [f"{name} is left over" for name in sorted(ours - theirs)]
    wrong += [f"{name} is missing" for name in sorted(theirs - ours)]
    for name in sorted(ours & theirs):
        one, two = load_file(whole / name), load_file(other / name)
        keys = [k for k in one.keys() | two.keys() if k not in one or k not in two]
        keys += [k for k in one.keys() & two.keys() if not torch.equal(one[k], two[k])]
        wrong += [f"{name}: {key} differs" for key in sorted(keys)]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
