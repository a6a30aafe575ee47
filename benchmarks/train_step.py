"""Images per second of a whole generator and discriminator step, and that it learns the same.

    python benchmarks/train_step.py                      speed at 64, 128 and 256 px
    python benchmarks/train_step.py --curves --sizes 64  losses of 200 steps, overlaid

Compared, in one process and in turns, so that other work on the machine meets all alike:
    plain   weights modulated per sample, grouped convolutions, resampling by inserted zeros; fp32,
            NCHW: the formulation of the paper, as it is usually written
    fp32    ours: channels scaled before and after one shared convolution; channels last
    bf16    ours, passes forward and backward in bf16

The step is what `dsg train` runs (training/loop.py) without the lazy penalties. Widths are those of
recipes/default/base.toml. Results: training.md beside this file.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from plain import formulation
from torch import Tensor

from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.recipe import FinetuneRecipe
from dsgcli.runtime import keep_freed_memory
from dsgcli.training.loop import Loop, LoopSettings
from dsgcli.training.plots import plot
from dsgcli.training.record import METRICS, FileRecorder, read_metrics
from dsgcli.training.stage import Plan
from dsgcli.training.stages.base import AdversarialTraining, Players

HERE = Path(__file__).parent
BATCH = {32: 16, 64: 8, 128: 8, 256: 4}
VARIANTS = ("plain", "fp32", "bf16")
CPU = torch.device("cpu")

# ── one training ─────────────────────────────────────────────────────────────────────────────────


class Faces:
    """Drawn portraits, kept in memory."""

    def __init__(self, count: int, size_px: int) -> None:
        from dsgcli.training.drawn import draw_portrait

        pixels = [torch.from_numpy(draw_portrait(seed, size_px)) for seed in range(count)]
        self.images = torch.stack(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        self.names = [str(i) for i in range(count)]
        self.weights = [1.0] * count

    def __len__(self) -> int:
        return len(self.names)

    def get(self, indices: list[int], size_px: int) -> Tensor:
        return self.images[indices]


def training(variant: str, size_px: int, base: int, most: int) -> AdversarialTraining:
    """The same networks for each variant."""
    torch.manual_seed(0)
    config = GeneratorConfig.compact(size_px, base=base, most=most, style_dim=256, mapping_layers=4)
    players = Players.fresh(config, "stylegan2")
    if variant != "plain":
        players = players.to(CPU)
    recipe = FinetuneRecipe(steps=1, batch_size=BATCH[size_px], r1_every=0, path_every=0)
    return AdversarialTraining(players, recipe)


class PlainLoop(Loop):
    """Gives the plain variant its pictures in the layout it knows."""

    def _feed(self, start: int):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        for batch in super()._feed(start):
            yield replace(batch, images=batch.images.contiguous())


def loop_of(variant: str, size_px: int, steps: int, folder: Path, base: int, most: int) -> Loop:
    kind = PlainLoop if variant == "plain" else Loop
    settings = LoopSettings(
        checkpoint=folder / f"{variant}.safetensors",
        checkpoint_minutes=600,
        autocast=torch.bfloat16 if variant == "bf16" else None,
    )
    plan = Plan(label=variant, steps=steps, batch_size=BATCH[size_px], size_px=size_px)
    pictures = Faces(4 * BATCH[size_px], size_px)
    trainable = training(variant, size_px, base, most)
    return kind(trainable, pictures, plan, settings, recorder=FileRecorder(folder, variant))


def clock() -> float:
    """Seconds; of the processor where one thread works, so that other work does not count."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


# ── speed ────────────────────────────────────────────────────────────────────────────────────────


def seconds_a_step(loops: dict[str, Loop], turns: int) -> dict[str, list[float]]:
    """Each variant's step in turn, so that what disturbs one disturbs all."""
    feeds = {variant: loop._feed(0) for variant, loop in loops.items()}
    took: dict[str, list[float]] = {variant: [] for variant in loops}
    for turn in range(turns + 1):
        for variant, loop in loops.items():
            batch = next(feeds[variant])
            with formulation(variant):
                began = clock()
                loop._step(turn, batch)
            if turn > 0:  # the first one prepares
                took[variant].append(clock() - began)
    return took


def speed(sizes: list[int], turns: int, base: int, most: int) -> None:
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), "
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    )
    print("| size (batch) | plain fp32 | ours fp32 | ours bf16 | fp32 / plain | bf16 / plain |")
    print("|---|---|---|---|---|---|")
    for size_px in sizes:
        with tempfile.TemporaryDirectory() as folder:
            loops = {v: loop_of(v, size_px, 1000, Path(folder), base, most) for v in VARIANTS}
            took = seconds_a_step(loops, turns)
        rate = {v: BATCH[size_px] / statistics.median(t) for v, t in took.items()}
        ratio = {
            v: statistics.median(p / o for p, o in zip(took["plain"], took[v], strict=True))
            for v in VARIANTS
        }
        print(
            f"| {size_px} px ({BATCH[size_px]}) | {rate['plain']:.2f} | {rate['fp32']:.2f} | "
            f"{rate['bf16']:.2f} | {ratio['fp32']:.2f} | {ratio['bf16']:.2f} |",
            flush=True,
        )


# ── curves ───────────────────────────────────────────────────────────────────────────────────────


def curves(size_px: int, steps: int, base: int, most: int) -> None:
    """Train each variant from the same start on the same draws, and lay their losses over."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, dict[str, list[tuple[float, float]]]] = {"loss/d": {}, "loss/g": {}}
        for variant in VARIANTS:
            with formulation(variant):
                loop_of(variant, size_px, steps, Path(folder) / variant, base, most).run()
            rows = list(read_metrics(Path(folder) / variant / METRICS))
            for name, lines in found.items():
                lines[variant] = [(row["step"], row[name]) for row in rows]
    figures = [plot(f"{name}, {size_px} px", lines) for name, lines in found.items()]
    (HERE / "train_step.html").write_text("<!doctype html>" + "".join(figures), "utf-8")
    for name, lines in found.items():
        means = {v: statistics.mean(y for _, y in line[steps // 2 :]) for v, line in lines.items()}
        apart = statistics.mean(
            abs(a - b) for (_, a), (_, b) in zip(lines["plain"], lines["bf16"], strict=True)
        )
        shown = ", ".join(f"{v} {mean:.4f}" for v, mean in means.items())
        print(f"{name}: mean of the second half {shown}; plain and bf16 apart by {apart:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, help="for all sizes")
    parser.add_argument("--channel-base", type=int, default=6144)
    parser.add_argument("--max-channels", type=int, default=128)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    if options.batch:
        BATCH.update(dict.fromkeys(BATCH, options.batch))
    if options.curves:
        curves(options.sizes[0], options.steps, options.channel_base, options.max_channels)
    else:
        speed(options.sizes, options.turns, options.channel_base, options.max_channels)


if __name__ == "__main__":
    main()
