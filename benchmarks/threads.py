"""Threads of the networks beside other work: time and processor time of a picture.

Draws portraits of a style with one and two threads, with OpenMP's waiting threads active (they
spin) and passive (they sleep), alone, beside one busy loop, and beside a job that is bound by
memory. Each case is a process of its own, since a wait policy is read when torch is loaded.

    python benchmarks/threads.py [--style toon] [--pictures 20] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

BESIDE = {
    "alone": None,
    "busy loop": "while True: pass",
    "memory": "import numpy as n; a = n.ones(1 << 25); b = a.copy()\nwhile True: a[:] = b",
}


def draw(style: str, threads: int, pictures: int) -> None:
    """Draw some pictures; prints seconds and processor seconds of one as JSON."""
    import torch

    from dsgcli.pipeline import blank, load_pipeline
    from dsgcli.portraits import Look, pick_weights
    from dsgcli.store import ModelStore

    torch.set_num_threads(threads)
    store = ModelStore.open()
    pipeline = load_pipeline(store, style, encoder=None, device="cpu", backend="torch")
    exstyle = store.resolve(store.parse(style)).exstyle
    weights = pick_weights(pipeline.layout, usual=pipeline.usual_weight)
    look = Look(exstyle=exstyle, weights=weights)
    crop, codes = [blank(pipeline.size_px)], torch.zeros(1, *exstyle.shape)
    pipeline.draw_crops(crop, codes, look, pipeline.size_px)  # the first one folds
    started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(pictures):
        pipeline.draw_crops(crop, codes, look, pipeline.size_px)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    print(json.dumps([seconds / pictures, processor / pictures]))


def measure(style: str, threads: int, policy: str, pictures: int) -> tuple[float, float]:
    """Seconds and processor seconds of a picture."""
    command = [sys.executable, __file__, "--draw", str(threads), "--style", style]
    command += ["--pictures", str(pictures)]
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, processor = json.loads(done.stdout.splitlines()[-1])
    return seconds, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--style", default="toon")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="the smallest of these is taken")
    parser.add_argument("--draw", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        draw(options.style, options.draw, options.pictures)
        return
    print("| beside | threads | waiting | ms a picture | of processor | to the best here |")
    print("|---|---:|---|---:|---:|---:|")
    for beside, code in BESIDE.items():
        found = {}
        other = subprocess.Popen([sys.executable, "-c", code]) if code else None
        try:
            for threads, policy in ((1, "PASSIVE"), (2, "PASSIVE"), (2, "ACTIVE")):
                tries = [
                    measure(options.style, threads, policy, options.pictures)
                    for _ in range(options.rounds)
                ]
                found[threads, policy] = min(tries)
        finally:
            if other:
                other.kill()
        best = min(seconds for seconds, _ in found.values())
        for (threads, policy), (seconds, processor) in found.items():
            row = f"{1000 * seconds:.1f} | {1000 * processor:.1f} | {seconds / best:.2f}"
            print(f"| {beside} | {threads} | {policy.lower()} | {row} |", flush=True)


if __name__ == "__main__":
    main()
