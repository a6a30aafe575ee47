"""How fast a translator draws:  python benchmarks/translator.py [--threads 1 2] [--batches 1 4]

Prints, for each side, batch, number of threads and form of the network, milliseconds a picture
(the best of several, by the processor's time of the process with one thread, by the clock with
more), the ratio to the unfolded module, and the ratio to the floor: the time that the network's
multiplications would take at the speed of one wide 3x3 convolution on the same machine.

The weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.inference.backend import pick_translator_backend, problem_of
from dsgcli.models.translator import Translator, TranslatorConfig
from dsgcli.runtime import BackendName, keep_freed_memory

CPU = torch.device("cpu")
REPEATS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    chosen = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    translator = Translator(TranslatorConfig()).eval().requires_grad_(False)
    code, weights = torch.randn(translator.layout.num_latents, 32), torch.ones(14)
    print(
        f"{'side':>5} {'batch':>5} {'threads':>7} {'form':>10} {'ms':>8} {'/unfolded':>9} "
        f"{'/floor':>7}"
    )
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        gflops = convolution_gflops(clock)
        for side, batch in product(chosen.sides, chosen.batches):
            x = torch.rand(batch, 3, side, side) * 2 - 1
            floor_ms = gflop(translator, code, weights, side) / gflops * 1e3
            many = code.expand(batch, -1, -1)
            unfolded = best_ms(lambda x=x, c=many: translator(x, c, weights), clock) / batch
            report(side, batch, threads, "module", unfolded, unfolded, floor_ms)
            names: tuple[BackendName, ...] = ("torch", "openvino")
            for name in names:
                if problem_of(name, CPU) is None:
                    backend = pick_translator_backend(name, CPU, torch.float32)
                    run = backend.bind_translator(translator, code, weights.tolist())
                    ms = best_ms(lambda x=x, run=run: run(x), clock) / batch
                    report(side, batch, threads, name, ms, unfolded, floor_ms)


def report(
    side: int, batch: int, threads: int, form: str, ms: float, unfolded: float, floor: float
) -> None:
    print(
        f"{side:5} {batch:5} {threads:7} {form:>10} {ms:8.1f} {ms / unfolded:9.2f} "
        f"{ms / floor:7.2f}"
    )


@torch.inference_mode()
def best_ms(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Of several runs, after two that plan."""
    run(), run()
    times = []
    for _ in range(REPEATS):
        started = clock()
        run()
        times.append(clock() - started)
    return 1e3 * min(times)


def convolution_gflops(clock: Callable[[], float]) -> float:
    """Speed of a 3x3 convolution of 96 channels at 64 px."""
    x = torch.randn(1, 96, 64, 64).to(memory_format=torch.channels_last)
    weight = torch.randn(96, 96, 3, 3).to(memory_format=torch.channels_last)
    ms = best_ms(lambda: F.conv2d(x, weight, None, 1, 1), clock)
    return 2 * weight.numel() * 64 * 64 / 1e6 / ms


def gflop(translator: Translator, code: Tensor, weights: Tensor, side: int) -> float:
    """Of all convolutions for one crop, two for each multiplication."""
    total = 0

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += 2 * module.weight.numel() * out.shape[2] * out.shape[3]

    convs = [m for m in translator.modules() if isinstance(m, nn.Conv2d)]
    hooks = [conv.register_forward_hook(count) for conv in convs]
    with torch.inference_mode():
        translator(torch.zeros(1, 3, side, side), code[None], weights)
    for hook in hooks:
        hook.remove()
    return total / 1e9


if __name__ == "__main__":
    main()
