"""How long `dsg --help` takes, and what it loads.

    python benchmarks/help_time.py [--runs 9] [--markdown benchmarks/help_time.md]

Each figure is the median of several fresh processes; the target is 0.4 s.
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


def seconds(words: list[str]) -> float:
    """One fresh process of `dsg WORDS --help`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dsgcli", *words, "--help"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    return time.perf_counter() - started


def table(runs: int) -> str:
    lines = ["| command | median s | worst s |", "|---|---:|---:|"]
    for command in COMMANDS:
        times = [seconds(command.split()) for _ in range(runs + 1)][1:]  # the first fills the cache
        name = " ".join(["dsg", *command.split(), "--help"])
        lines.append(f"| `{name}` | {statistics.median(times):.2f} | {max(times):.2f} |")
    bare = [_bare() for _ in range(runs)]
    lines.append(f"| `python -c pass`, for comparison | {statistics.median(bare):.2f} | |")
    return "\n".join(lines)


def _bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def machine() -> str:
    python = platform.python_version()
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {python}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    text = f"Target: {TARGET_S} s. Machine: {machine()}.\n\n{table(arguments.runs)}\n"
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(f"# How long help takes\n\n{text}", "utf-8")


if __name__ == "__main__":
    main()
