"""How long `dsg --help` takes, and what it loads.

    python benchmarks/help_time.py [--runs 9] [--markdown benchmarks/help_time.md]

Each figure is the median of several fresh processes; the target is 0.4 s. On a machine that does
other work too, the processor's time tells what a quiet one would take.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = ["", "stylize", "sample", "interpolate", "train", "models", "styles list", "doctor"]
TARGET_S = 0.4


def seconds(*words: str) -> tuple[float, float]:
    """One fresh process of `python WORDS`: seconds by the clock, and of the processor."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started, used = time.perf_counter(), os.times()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    took, now = time.perf_counter() - started, os.times()
    processor = now.children_user - used.children_user + now.children_system - used.children_system
    return took, processor


def table(runs: int) -> str:
    lines = ["| command | median s | worst s | processor s |", "|---|---:|---:|---:|"]
    for command in COMMANDS:
        words = ["-m", "dsgcli", *command.split(), "--help"]
        lines.append(row(" ".join(["dsg", *command.split(), "--help"]), words, runs))
    lines.append(row("python -c pass", ["-c", "pass"], runs))
    return "\n".join(lines)


def row(name: str, words: list[str], runs: int) -> str:
    times = [seconds(*words) for _ in range(runs + 1)][1:]  # the first fills the cache
    took, processor = zip(*times, strict=True)
    return (
        f"| `{name}` | {statistics.median(took):.2f} | {max(took):.2f} "
        f"| {statistics.median(processor):.2f} |"
    )


def machine() -> str:
    python = platform.python_version()
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {python}"


def busy() -> float:
    """Mean number of running processes of the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    text = (
        f"Target: {TARGET_S} s on a quiet machine. Here: {machine()}, with {busy():.0f} other "
        f"processes at work.\n\n"
        f"{table(arguments.runs)}\n"
    )
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(f"# How long help takes\n\n{text}", "utf-8")


if __name__ == "__main__":
    main()
