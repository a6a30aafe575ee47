"""How fast portraits are drawn and faces encoded, against the plain formulation: `make bench`.

    python benchmarks/speed.py [--size 1024] [--rounds 3] [--threads N] [--parts generator encoder
                               sizes video cold memory] [--results FOLDER]

All forms of a network run in turns in one process, so that what disturbs one disturbs all; a figure
is the median, with the smallest and largest beside it. With one thread, time is that of the
processor, so that other programs do not count. Weights are random: what they are does not matter.

The table is printed and written to FOLDER/<machine>.md, cost by batch and by size beside it as PNG.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from chart import draw_chart
from plain import formulation
from torch import Tensor
from torch.nn.functional import conv2d

from dsgcli.inference.backend import pick_backend, problem_of
from dsgcli.inference.base import ExtrinsicStyle
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.runtime import keep_freed_memory

HERE = Path(__file__).parent
CPU = torch.device("cpu")
PARTS = ("generator", "encoder", "sizes", "video", "cold", "memory")
FORMS = {
    "torch fp32": ("torch", torch.float32),
    "torch bf16": ("torch", torch.bfloat16),
    "openvino fp32": ("openvino", torch.float32),
    "openvino bf16": ("openvino", torch.bfloat16),
}
PLAIN = "plain fp32"
PUBLISHED_WEIGHT = 0.75
"""Of the structure rows; colors follow the exemplar wholly."""

# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def clock() -> float:
    """Seconds; of the processor where one thread works."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass
class Timing:
    """Seconds for one picture, in several rounds."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({min(self.seconds):.3f} to {max(self.seconds):.3f})"


def in_turns(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Seconds of a call of each; the first round prepares and is not counted."""
    found = {name: Timing() for name in forms}
    for number in range(rounds + 1):
        for name, call in forms.items():
            began = clock()
            call()
            if number:
                found[name].seconds.append(clock() - began)
    return found


def ratio(one: Timing, other: Timing) -> float:
    """How many times faster `other` is: the median of the rounds."""
    pairs = zip(one.seconds, other.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def bf16_gflops(seconds: float = 2.0) -> float:
    """What this machine reaches in its best convolution, 3x3 over 512 channels."""
    x = torch.randn(1, 512, 64, 64).to(torch.bfloat16, memory_format=torch.channels_last)
    weight = torch.randn(512, 512, 3, 3).to(torch.bfloat16, memory_format=torch.channels_last)
    with torch.inference_mode():
        conv2d(x, weight, padding=1)
        best, began = float("inf"), clock()
        while clock() - began < seconds:
            start = clock()
            conv2d(x, weight, padding=1)
            best = min(best, clock() - start)
    return 2 * weight.numel() * 64 * 64 / best / 1e9


def gflop(network: DualStyleGAN, ws: Tensor, exstyle_ws: Tensor) -> float:
    """Of one picture, in convolutions and products, as the module draws it."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(ws, exstyle_ws, weights_of(network))
    return counter.get_total_flops() / 1e9


# ── networks ─────────────────────────────────────────────────────────────────────────────────────


def weights_of(network: DualStyleGAN) -> list[float]:
    layout = network.layout
    return [PUBLISHED_WEIGHT] * layout.num_structure + [1.0] * layout.num_color


def generator(size_px: int) -> tuple[DualStyleGAN, Tensor, Tensor]:
    """A network of the published widths, codes of a face (1, L, D) and of an exemplar."""
    torch.manual_seed(0)
    network = DualStyleGAN(GeneratorConfig.official(size_px)).eval().requires_grad_(False)
    for conv in network.generator.styled_convs:
        conv.noise.weight.fill_(0.1)
    shape = 1, network.layout.num_latents, 512
    codes = network.generator.map_plus(torch.randn(shape))
    return network, codes, network.generator.map_plus(torch.randn(shape))


def usable_forms() -> dict[str, tuple[str, torch.dtype]]:
    return {name: form for name, form in FORMS.items() if problem_of(form[0], CPU) is None}


def drawn_by(name: str, network: DualStyleGAN, exstyle_ws: Tensor, px: int | None = None):  # type: ignore[no-untyped-def]
    """ws -> pictures."""
    backend, dtype = FORMS[name]
    style = ExtrinsicStyle(exstyle_ws=exstyle_ws, weights=weights_of(network))
    return pick_backend(backend, CPU, dtype, px).bind(network, style)  # type: ignore[arg-type]


# ── parts: rows of tables ────────────────────────────────────────────────────────────────────────


def generator_part(size_px: int, rounds: int) -> list[str]:
    network, ws, exstyle_ws = generator(size_px)
    runs = {name: drawn_by(name, network, exstyle_ws) for name in usable_forms()}

    def plain() -> Tensor:
        with formulation("plain"):
            return network(ws, exstyle_ws, weights_of(network))

    calls = {PLAIN: plain} | {name: lambda run=run: run(ws) for name, run in runs.items()}
    found = in_turns(calls, rounds)
    rate, work = bf16_gflops(), gflop(network, ws, exstyle_ws)
    floor = work / rate
    rows = [f"{work:.0f} GFLOP; best bf16 convolution {rate:.0f} GFLOP/s: floor {floor:.3f} s.", ""]
    rows += [
        "| generator | s a picture | times plain | times the bf16 floor |",
        "|---|---:|---:|---:|",
    ]
    for name, timing in found.items():
        above = f"{timing.median / floor:.2f}" if "bf16" in name else ""
        rows.append(f"| {name} | {timing} | {ratio(found[PLAIN], timing):.2f} | {above} |")
    return rows


def encoder_part(size_px: int, rounds: int) -> list[str]:
    """The baseline decodes what it has encoded, as is usual; the decoder is a plain generator."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig()).eval().requires_grad_(False)
    decoder, ws, _ = generator(size_px)
    faces = torch.rand(1, 3, 256, 256) * 2 - 1
    runs = {
        name: pick_backend(backend, CPU, dtype).bind_encoder(encoder)  # type: ignore[arg-type]
        for name, (backend, dtype) in usable_forms().items()
        if name != "openvino fp32"
    }
    rows_taken = decoder.layout.num_structure  # colors follow the exemplar wholly, by default
    for name in [name for name in runs if "bf16" in name]:
        backend = pick_backend(FORMS[name][0], CPU, torch.bfloat16)  # type: ignore[arg-type]
        runs[f"{name}, {rows_taken} rows"] = backend.bind_encoder(encoder, rows_taken)

    def decoded() -> Tensor:
        encoder(faces)
        with formulation("plain"):
            return decoder.generator(ws)

    both = "plain fp32, encoder and decoder"
    calls = {both: decoded, PLAIN: lambda: encoder(faces)}
    calls |= {name: lambda run=run: run(faces) for name, run in runs.items()}
    found = in_turns(calls, rounds)
    rows = ["| encoder | s a face | times encoder and decoder |", "|---|---:|---:|"]
    return rows + [f"| {n} | {t} | {ratio(found[both], t):.1f} |" for n, t in found.items()]


def sizes_part(size_px: int, rounds: int, chart: Path) -> list[str]:
    """Cost by size (by stopping early) and by batch, in bf16."""
    network, ws, exstyle_ws = generator(size_px)
    names = [name for name in usable_forms() if "bf16" in name]
    sizes = [px for px in (64, 128, 256, 512, 1024) if px <= size_px][-4:]
    batches, small = (1, 2, 4), min(256, size_px)
    by_size: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    by_batch: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for px in sizes:
        runs = {name: drawn_by(name, network, exstyle_ws, px) for name in names}
        for name, timing in in_turns(
            {name: lambda run=run: run(ws) for name, run in runs.items()}, rounds
        ).items():
            by_size[name].append((px, timing.median))
        if px == small:
            for batch in batches:
                several = ws.expand(batch, -1, -1)
                calls = {name: lambda run=run, x=several: run(x) for name, run in runs.items()}
                for name, timing in in_turns(calls, rounds).items():
                    by_batch[name].append((batch, timing.median / batch))
    panels = {
        "s a picture, by size in px": by_size,
        f"s a picture of {small} px, by batch": by_batch,
    }
    draw_chart(chart, panels)
    rows = [f"![cost by size and by batch]({chart.name})", ""]
    rows += [
        "| s a picture | "
        + " | ".join([f"{px} px" for px in sizes] + [f"{small} px, {b} at once" for b in batches])
        + " |"
    ]
    rows += ["|---|" + "---:|" * (len(sizes) + len(batches))]
    for name in names:
        values = [y for _, y in by_size[name] + by_batch[name]]
        rows.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return rows


PROBE = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads({threads})
from dsgcli.runtime import keep_freed_memory
keep_freed_memory()
from speed import drawn_by, generator
network, ws, exstyle_ws = generator({size_px})
run = drawn_by({name!r}, network, exstyle_ws)
run(ws.expand({batch}, -1, -1))
status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory
print(int(status.partition("VmHWM:")[2].split()[0]) / 2**20)
"""


def memory_part(size_px: int, batch: int = 4) -> list[str]:
    """Peak of a process of its own that makes the network, binds it and draws a batch."""
    rows = [f"| {batch} pictures at once | peak of the process, GiB |", "|---|---:|"]
    for name in usable_forms():
        if "bf16" not in name:
            continue
        code = PROBE.format(
            here=str(HERE), threads=torch.get_num_threads(), size_px=size_px, name=name, batch=batch
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        rows.append(f"| {name} | {float(done.stdout):.2f} |")
    return rows


def video_part(size_px: int, rounds: int) -> list[str]:
    """Whole `dsg stylize` of a crop video against its networks alone; start does not count."""
    from video import NUM_FRAMES, RUNS, video_calls

    with ExitStack() as stack:
        taken = in_turns(video_calls(size_px, stack), rounds)
    found = {what: Timing([s / NUM_FRAMES for s in t.seconds]) for what, t in taken.items()}
    alone = found["generator"]
    pairs = zip(alone.seconds, found["encoder"].seconds, strict=True)
    both = Timing([one + other for one, other in pairs])
    rows = [
        f"| video of {NUM_FRAMES} frames | s a frame | generator's share | both networks' share |",
        "|---|---:|---:|---:|",
        f"| generator alone | {alone} | | |",
        f"| encoder alone, rows that the style takes from the face | {found['encoder']} | | |",
    ]
    for what, label in RUNS.items():
        whole = found[what]
        shares = f"{ratio(alone, whole):.2f} | {ratio(both, whole):.2f}"
        rows.append(f"| {label} | {whole} | {shares} |")
    return rows


def cold_part(size_px: int, rounds: int) -> list[str]:
    """`dsg stylize` of one aligned picture, from the command line to the file, against drawing."""
    from cold import cold_start

    rows = ["| one picture, cold | s |", "|---|---:|"]
    return rows + [f"| {what} | {seconds:.2f} |" for what, seconds in cold_start(size_px, rounds)]


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def processor() -> str:
    """Its name, as the system tells it."""
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def heading() -> list[str]:
    names = [f"{n} {version(n)}" for n in ("torch", "openvino") if n == "torch" or _has(n)]
    threads = torch.get_num_threads()
    timed = "processor time" if threads == 1 else "elapsed time"
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return [
        f"# {processor()}, {threads} thread{'s' if threads > 1 else ''}",
        "",
        ", ".join([platform.machine(), torch.backends.cpu.get_cpu_capability(), *names])
        + f", Python {platform.python_version()}; {timed}; load {busy} at the start.",
        "Medians, smallest and largest in brackets. Written by `make bench`, in several runs;",
        "the line above is of the last.",
    ]


def _has(package: str) -> bool:
    try:
        return bool(version(package))
    except ImportError:
        return False


def merged(before: str, head: list[str], sections: dict[str, list[str]]) -> str:
    """The page with these sections, by title, and those of an earlier run that are not measured
    anew."""
    kept = {text.partition("\n")[0]: f"## {text}" for text in before.split("\n## ")[1:]}
    kept |= {title: "\n".join([f"## {title}", "", *rows]) for title, rows in sections.items()}
    titles = [title for part in PARTS for title in kept if title.startswith(part.capitalize())]
    return "\n\n".join(["\n".join(head), *(kept[title].strip() for title in titles)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{processor()} {options.threads} thread".lower()).strip("-")
    px, rounds, head = options.size, options.rounds, heading()
    parts: dict[str, Callable[[], list[str]]] = {
        "generator": lambda: generator_part(px, rounds),
        "encoder": lambda: encoder_part(px, rounds),
        "sizes": lambda: sizes_part(px, rounds, options.results / f"{slug}.png"),
        "video": lambda: video_part(px, rounds),
        "memory": lambda: memory_part(px),
        "cold": lambda: cold_part(px, rounds),
    }
    sections: dict[str, list[str]] = {}
    with torch.inference_mode():
        for name in options.parts:
            sections[f"{name.capitalize()}, {px} px"] = rows = parts[name]()
            print("\n".join(["", name, *rows]), flush=True)
    target = options.results / f"{slug}.md"
    before = target.read_text("utf-8") if target.exists() else ""
    target.write_text(merged(before, head, sections), "utf-8")
    print(f"written to {target}")


if __name__ == "__main__":
    main()
