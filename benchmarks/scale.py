"""What more workers bring, what one costs in seconds, bytes and memory, and what a model of that
predicts for many.

    python benchmarks/scale.py [--photos 64] [--frames 0] [--px 256] [--pretrained DIR --style NAME]
                               [--workers 1 2] [--markdown FILE]

Photographs (and a video of --frames, if any) are drawn here and stylized by one process of one
thread, by one process with as many threads as the largest number of workers, by 1, 2, ... workers
of one thread each, and by --workers auto; every run is a process of its own. From the run of one
thread alone come seconds and bytes a frame by stage; from them the prediction of the others:

    seconds(N) = start(N) + frames * seconds_a_frame / N

where start(N) is what the same command takes for N photographs, less their drawing. docs/scale.md
says where the straight line ends. Run it when nothing else runs: workers are compared with cores
that they must have to themselves. Memory is the resident set of each process, sampled.

Last come as many processes of one thread as there are workers, each with all photographs, at the
same time: what the machine itself allows, whose cores may share caches and memory, or be shared
with others. Processor time is told beside elapsed time for the same reason.

Wanted: 2 workers draw 64 photographs 1.5 times as fast as one thread, and auto is no slower than
2 threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stylize import write_random_model

TARGET_SPEEDUP = 1.5
SAMPLE_S = 0.1
"""Between two looks at the memory of processes."""


@dataclass(frozen=True)
class Run:
    """One command, measured."""

    workers: int | str
    threads: int
    seconds: float
    processor_s: float
    """Of all its processes, the workers' too."""
    frames: int
    stages: dict[str, float]
    peak_mb: tuple[int, ...]
    """Of the process that was started, then of each worker, the largest first."""


def draw_inputs(folder: Path, photos: int, frames: int) -> None:
    """Drawn portraits, 640 x 360, and a clip of such."""
    from dsgcli.media.base import SinkOptions
    from dsgcli.media.images import write_image
    from dsgcli.media.write import open_sink
    from dsgcli.training.drawn_clip import draw_clip

    folder.mkdir()
    for number, frame in enumerate(draw_clip(photos, 640, 360, seed=1)):
        write_image(folder / f"{number:04d}.jpg", frame.pixels)
    if frames:
        with open_sink(folder / "clip.mp4", SinkOptions(), None) as sink:
            for frame in draw_clip(frames, 640, 360, seed=2):
                sink.write(frame)


def measure(inputs: list[Path], words: list[str], workers: int | str, threads: int) -> Run:
    """One command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "dsgcli", "stylize", *map(str, inputs), "-o", output]
        command += ["--workers", str(workers), "--json", *words]
        started, before = time.perf_counter(), os.times()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        memory = _Memory(process.pid)
        out, told = process.communicate()
        seconds, after = time.perf_counter() - started, os.times()
    worked = after.children_user + after.children_system
    worked -= before.children_user + before.children_system
    if process.returncode:
        raise SystemExit(told or out)
    summary = json.loads(out)
    peaks = memory.stop()
    return Run(workers, threads, seconds, worked, summary["frames"], summary["stages"], peaks)


def together(inputs: list[Path], words: list[str], count: int) -> float:
    """Seconds of so many processes at once, each with one thread and all inputs."""
    with ThreadPoolExecutor(count) as pool:
        begin = time.perf_counter()
        list(pool.map(lambda _: measure(inputs, words, 1, 1), range(count)))
        return time.perf_counter() - begin


class _Memory:
    """Largest resident sets of a process and its children, in MB; nothing without psutil."""

    def __init__(self, pid: int) -> None:
        self._pid, self._stop = pid, threading.Event()
        self._peaks: dict[int, int] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[int, ...]:
        self._stop.set()
        self._thread.join()
        own = self._peaks.pop(self._pid, 0)
        large = sorted((mb for mb in self._peaks.values() if mb > 100), reverse=True)
        return (own, *large)

    def _watch(self) -> None:
        try:
            import psutil
        except ImportError:
            return
        while not self._stop.wait(SAMPLE_S):
            try:
                first = psutil.Process(self._pid)
                for process in (first, *first.children(recursive=True)):
                    now = process.memory_info().rss >> 20
                    self._peaks[process.pid] = max(self._peaks.get(process.pid, 0), now)
            except psutil.Error:
                continue


def predict(alone: Run, start: Run, workers: int) -> float:
    """Seconds that so many workers should take, by what one thread took and how long they take to
    be ready."""
    loading = alone.stages.get("load", 0.0)
    a_frame = (alone.seconds - loading - IMPORT_S) / alone.frames
    ready = start.seconds - a_frame * start.frames / workers
    return ready + a_frame * alone.frames / workers


IMPORT_S = 0.0
"""Of the process itself, for `predict`; measured by `main`."""


def import_seconds() -> float:
    """What a command takes before it does anything."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import dsgcli.stylize.studio"],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begin


# ── what is written ──────────────────────────────────────────────────────────────────────────────


def table(runs: list[tuple[Run, float | None]]) -> list[str]:
    alone = runs[0][0]
    lines = [
        "| workers | threads each | seconds | predicted | processor s | speed-up | peak MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run, predicted in runs:
        worker = max(run.peak_mb[1:], default=run.peak_mb[0])
        lines.append(
            f"| {run.workers} | {run.threads} | {run.seconds:.1f} | "
            f"{'' if predicted is None else f'{predicted:.1f}'} | {run.processor_s:.1f} | "
            f"{alone.seconds / run.seconds:.2f} | {worker} |"
        )
    return lines


def costs(alone: Run, inputs: Path) -> list[str]:
    """Seconds a frame by stage, and bytes a frame."""
    read = sum(path.stat().st_size for path in inputs.iterdir()) / alone.frames
    lines = ["| stage | ms a frame |", "| --- | ---: |"]
    lines += [
        f"| {stage} | {1000 * seconds / alone.frames:.1f} |"
        for stage, seconds in alone.stages.items()
        if stage != "load"
    ]
    return [*lines, "", f"Read: {read / 1000:.0f} kB a frame."]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--frames", type=int, default=0, help="of a video beside them")
    parser.add_argument("--px", type=int, default=256)
    parser.add_argument("--tiny", action="store_true", help="a model of a few weights, to try it")
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--style", default="")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        style, models = arguments.style, arguments.pretrained
        if not style:
            models = root / "models"
            style = write_random_model(models, arguments.px, tiny=arguments.tiny)
        words = ["--style", style, "--device", "cpu", "--backend", "torch", "--mask", "feather"]
        words += ["--pretrained", str(models)] if models else []
        draw_inputs(root / "in", arguments.photos, arguments.frames)
        lines = compare(root / "in", words, arguments.workers)
    text = "\n".join([*head(arguments), "", *lines, ""])
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, "utf-8")


def compare(inputs: Path, words: list[str], workers: list[int]) -> list[str]:
    """One thread, then several, then workers."""
    global IMPORT_S
    IMPORT_S = import_seconds()
    most = max(workers)
    alone = measure([inputs], words, 1, 1)
    runs: list[tuple[Run, float | None]] = [
        (alone, None),
        (measure([inputs], words, 1, most), None),
    ]
    for count in sorted(set(workers) - {1}):
        some = sorted(inputs.glob("*.jpg"))[:count]
        start = measure(some, words, count, 1)
        runs.append((measure([inputs], words, count, 1), predict(alone, start, count)))
    threads, spread = runs[1][0], runs[-1][0]
    auto = measure([inputs], words, "auto", most)
    runs.append((auto, None))
    gain, against = alone.seconds / spread.seconds, threads.seconds / auto.seconds
    allowed = most * alone.seconds / together([inputs], words, most)
    told = (
        f"{spread.workers} workers of one thread against one thread: {gain:.2f} "
        f"(wanted: {TARGET_SPEEDUP}); auto against {most} threads: {against:.2f} (wanted: 1). "
        f"{most} processes at once do the work of {allowed:.2f} alone."
    )
    return [*table(runs), "", *costs(alone, inputs), "", told]


def head(arguments: argparse.Namespace) -> list[str]:
    import torch

    model = arguments.style or f"{arguments.px} px, random weights"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = (
        f"{platform.processor() or platform.machine()}, {cores} cores, load {load:.1f} at the end"
    )
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    work = f"{arguments.photos} photographs and {arguments.frames} frames of video of 640 x 360"
    return [f"{machine}; {versions}; {work}; {model}."]


if __name__ == "__main__":
    main()
