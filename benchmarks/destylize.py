"""Portraits a minute of destylization, one by one and in batches of 16.

    python benchmarks/destylize.py [--size 64] [--steps 10]

Random networks of the default model's widths, features and identity from discriminator and encoder,
as with nothing downloaded. Batches take turns, so that other work on the machine meets all alike.
Results: training.md beside this file.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import replace

import torch

from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Discriminator, Generator
from dsgcli.recipe import DestylizeRecipe, read_recipe
from dsgcli.recipe.reading import find_recipe
from dsgcli.runtime import keep_freed_memory
from dsgcli.training.perceptual import DiscriminatorFeatures, EncoderIdentity, frozen, mean_code
from dsgcli.training.stage import SeededDraws
from dsgcli.training.stages.base import encoder_config, generator_config
from dsgcli.training.stages.destylize import Destylizer

CPU = torch.device("cpu")


def destylizer(size_px: int, steps: int) -> Destylizer:
    """Random networks of recipes/default/base.toml, at another size."""
    from pathlib import Path

    model = replace(read_recipe(find_recipe(Path("default/base"))).model, size_px=size_px)
    torch.manual_seed(0)
    config = generator_config(model)
    base, finetuned, encoder = Generator(config), Generator(config), Encoder(encoder_config(model))
    with torch.no_grad():
        center = mean_code(encoder, torch.rand(8, 3, size_px, size_px) * 2 - 1)
    return Destylizer(
        frozen(base),
        frozen(finetuned),
        frozen(encoder),
        DiscriminatorFeatures(Discriminator(config)),
        EncoderIdentity(encoder, base.layout.structure, center),
        DestylizeRecipe(steps=steps),
        base.layout,
    )


def clock() -> float:
    """Seconds; of the processor where one thread works, so that other work does not count."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(work: Destylizer, batch: int) -> float:
    """One batch, from portraits to codes."""
    size_px = work.layout.size_px
    portraits = torch.rand(batch, 3, size_px, size_px) * 2 - 1
    draws = SeededDraws(0, 0, "benchmark", range(batch), CPU)
    noise = draws.noise(work.layout.noise_sizes_px, batch)
    began = clock()
    work.run(portraits, noise)
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), {options.steps} steps")
    print("| size | batch | portraits/min at 300 steps | against batch 1 |\n|---|---|---|---|")
    for size_px in options.sizes:
        work = destylizer(size_px, options.steps)
        for batch in options.batches:
            seconds(work, batch)
        turns = [{b: seconds(work, b) / b for b in options.batches} for _ in range(options.turns)]
        for batch in options.batches:
            one = statistics.median(turn[batch] for turn in turns)
            ratio = statistics.median(turn[options.batches[0]] / turn[batch] for turn in turns)
            rate = 60 / (one * 300 / options.steps)
            print(f"| {size_px} px | {batch} | {rate:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
