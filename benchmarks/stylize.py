"""How fast `dsg stylize` is against its generator alone, and whether memory grows with length.

    python benchmarks/stylize.py [--media CLIPS] [--style NAME] [--pretrained DIR] [--px 256]
                                 [--lengths 300 3000] [--batch-size 4] [--markdown FILE]

Speed: every clip of CLIPS (a drawn one without it) is stylized whole, with the real detector, and
the portraits a second are divided by those that the generator draws alone at the same batch size,
right after it in the same process. Wanted: 0.85. Without --style, a model of random weights with
the published widths of --px pixels is drawn with; numbers do not depend on what weights are.

Memory: two clips that differ in length alone, with faces where a script says (so that nothing but
the loop is measured), each in a fresh process. Wanted: at most 10 % more for the longer one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TARGET_RATIO, TARGET_GROWTH = 0.85, 1.10
SMALL = (160, 120)
"""Width and height of the clips that memory is measured on."""


def write_random_model(root: Path, size_px: int, *, tiny: bool) -> str:
    """A style of random weights; the name of it."""
    import torch

    from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
    from dsgcli.models.encoder import Encoder, EncoderConfig
    from dsgcli.models.stylegan2 import Generator, GeneratorConfig
    from dsgcli.store.codes import Codes
    from dsgcli.store.write import save_encoder, save_generator, save_style

    torch.manual_seed(0)
    folder = root / "random"
    folder.mkdir(parents=True)
    config = GeneratorConfig.official(size_px)
    small: dict[str, Any] = {}
    if tiny:
        config = GeneratorConfig.compact(
            size_px, base=1024, most=24, style_dim=32, mapping_layers=2
        )
        widths = {"stem_width": 8, "widths": (8, 12, 16, 24), "units": (1, 1, 1, 1)}
        small = {"input_px": size_px, "style_dim": 32, "head_width": 16, **widths}
    rows = config.layout.num_latents
    base = Generator(config).eval()
    save_generator(folder / "base.safetensors", base)
    encoder = Encoder(EncoderConfig(num_latents=rows, **small)).eval()
    save_encoder(folder / "encoder.safetensors", encoder)
    model = DualStyleGAN.of(DualConfig(generator=config))
    model.generator.load_state_dict(base.state_dict())
    codes = Codes(names=("one",), exstyle=torch.randn(1, rows, config.style_dim))
    save_style(folder / "noise.safetensors", model, codes, base=folder / "base.safetensors")
    return "noise"


def draw_long_clip(path: Path, num_frames: int) -> None:
    """A disc that swings, in H.264."""
    import numpy as np

    from dsgcli.media.base import SinkOptions
    from dsgcli.media.write import open_sink
    from dsgcli.types import Frame

    width, height = SMALL
    y, x = np.mgrid[0:height, 0:width]
    with open_sink(path, SinkOptions(preset="ultrafast"), None) as sink:
        for index in range(num_frames):
            pixels = np.full((height, width, 3), 70, np.uint8)
            pixels[np.hypot(x - _swing(index), y - 60) < 20] = (220, 170, 150)
            sink.write(Frame(pixels=pixels, index=index, time=Fraction(index, 25)))


def _swing(index: int) -> float:
    return float(80 + 30 * ((index % 100) / 50 - 1) * (1 if index % 200 < 100 else -1))


class ScriptedDetector:
    """Sees the disc as a face."""

    name = "script"

    def detect(self, frame: Any, **_: Any) -> list[Any]:
        import numpy as np

        from dsgcli.types import LEFT_EYE, MOUTH_CORNERS, NUM_LANDMARKS, RIGHT_EYE, Face

        turn = np.linspace(0, 2 * np.pi, NUM_LANDMARKS, endpoint=False)
        points = 20 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        points[list(LEFT_EYE)], points[list(RIGHT_EYE)] = (-8, -6), (8, -6)
        points[list(MOUTH_CORNERS)] = [[-6, 10], [6, 10]]
        return [Face(landmarks=points + np.array([_swing(frame.index), 60]))]

    def close(self) -> None:
        """Nothing to let go of."""


# ── what one process does ────────────────────────────────────────────────────────────────────────


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Stylize one clip; seconds, stages, peak memory, and the generator's own speed."""
    from dsgcli.stylize import studio
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.run import run

    if task["scripted"]:
        setattr(studio, "open_detector", lambda **_: ScriptedDetector())  # noqa: B010 - not its own
    options = StylizeOptions(
        style=(task["style"],),
        pretrained=None if task["pretrained"] is None else Path(task["pretrained"]),
        batch_size=task["batch_size"],
        mask="feather" if task["scripted"] else "auto",
        aligned="no",
        overwrite=True,
    )
    summary = run([task["clip"]], Path(task["target"]), options).as_json()
    found = {name: summary[name] for name in ("frames", "faces", "stages", "machine")}
    found |= {"seconds": summary["files"][0]["seconds"], "peak_mb": peak_mb()}
    if not task["scripted"]:
        found["alone"] = generator_alone(options, min(summary["faces"], 64))
    return found


def peak_mb() -> float:
    """Of this process alone: `ru_maxrss` of a child begins at its parent's, and would hide ours."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def generator_alone(options: Any, count: int) -> float:
    """Portraits a second of the generator, as the loop draws them."""
    import torch

    from dsgcli.store import ModelStore
    from dsgcli.stylize.output_styles import StyleCache

    role, _ = StyleCache(ModelStore.open(options.pretrained), options).role(options.style[0])
    layout, width = role.portraits.layout, role.look.exstyle.shape[1]
    codes = torch.randn(options.batch_size, layout.num_latents, width)
    role.portraits.draw(codes, role.look)  # bind, and warm up
    batches = max(2, count // options.batch_size)
    started = time.perf_counter()
    for _ in range(batches):
        role.portraits.draw(codes, role.look)
    return float(batches * options.batch_size / (time.perf_counter() - started))


def measure(**task: Any) -> dict[str, Any]:
    """`work`, in a fresh process."""
    words = [sys.executable, __file__, "--task", json.dumps(task, default=str)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def speed_table(clips: list[Path], model: dict[str, Any], folder: Path) -> list[str]:
    stages = ("find", "align", "encode", "draw", "paste", "write")
    head = ["clip", "frames", "faces", "faces/s", "generator alone", "ratio"]
    lines = [_row([*head, *(f"{stage} s" for stage in stages)]), _rule(len(head) + len(stages))]
    for clip in clips:
        found = measure(clip=clip, target=folder / "out.mp4", scripted=False, **model)
        rate = found["faces"] / found["seconds"]
        figures = [clip.name, found["frames"], found["faces"], f"{rate:.2f}"]
        figures += [f"{found['alone']:.2f}", f"{rate / found['alone']:.2f}"]
        lines.append(_row([*figures, *(f"{found['stages'].get(s, 0.0):.1f}" for s in stages)]))
    return lines


def memory_table(lengths: list[int], folder: Path) -> list[str]:
    model = {"style": write_random_model(folder / "tiny", 64, tiny=True), "batch_size": 4}
    lines, peaks = [_row(["frames", "frames/s", "peak MB"]), _rule(3)], []
    for length in lengths:
        draw_long_clip(clip := folder / f"{length}.mp4", length)
        found = measure(
            clip=clip, target=folder / "out.mp4", scripted=True, pretrained=folder / "tiny", **model
        )
        assert found["frames"] == length, found
        peaks.append(found["peak_mb"])
        rate = found["frames"] / found["seconds"]
        lines.append(_row([length, f"{rate:.0f}", f"{found['peak_mb']:.0f}"]))
    growth = peaks[-1] / peaks[0]
    verdict = "as wanted" if growth <= TARGET_GROWTH else "MORE THAN WANTED"
    return [*lines, "", f"Growth: {growth:.3f} ({verdict}: at most {TARGET_GROWTH:g})."]


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rule(columns: int) -> str:
    return _row(["---", *["---:"] * (columns - 1)])


def drawn_clip(path: Path) -> Path:
    from dsgcli.media.base import SinkOptions
    from dsgcli.media.write import open_sink
    from dsgcli.training.drawn_clip import draw_clip

    with open_sink(path, SinkOptions(), None) as sink:
        for frame in draw_clip(48, 640, 360, seed=2):
            sink.write(frame)
    return path


def speed_section(arguments: argparse.Namespace, folder: Path) -> list[str]:
    pretrained, style, drawn_with = arguments.pretrained, arguments.style, f"`{arguments.style}`"
    if style is None:
        pretrained, drawn_with = folder / "random", f"random weights, {arguments.px} px"
        style = write_random_model(pretrained, arguments.px, tiny=False)
    model = {"style": style, "pretrained": pretrained, "batch_size": arguments.batch_size}
    if arguments.media is None:
        clips = [drawn_clip(folder / "drawn.mp4")]
    else:
        endings = {".mp4", ".mkv", ".mov", ".webm"}
        clips = sorted(p for p in arguments.media.iterdir() if p.suffix in endings)
    return [
        "",
        f"## Speed: {drawn_with}, batches of {arguments.batch_size}",
        "",
        *speed_table(clips, model, folder),
        "",
        f"Stages overlap in threads. Wanted ratio: {TARGET_RATIO:g}.",
    ]


def report(arguments: argparse.Namespace) -> str:
    import torch

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        versions = f"Python {platform.python_version()}, torch {torch.__version__}"
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {gpu}, {versions}"
        lines = [
            "# Stylizing videos",
            "",
            f"{machine}, load {os.getloadavg()[0]:.1f} from other work at the start.",
        ]
        if not arguments.only_memory:
            lines += speed_section(arguments, folder)
        lines += ["", "## Memory: 64 px portraits, 160x120", ""]
        lines += memory_table(arguments.lengths, folder)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--media", type=Path, help="folder with clips")
    parser.add_argument("--style", help="of the store; random weights without it")
    parser.add_argument("--pretrained", type=Path, help="folder of models")
    parser.add_argument("--px", type=int, default=256, help="of random portraits")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs=2, default=[300, 3000])
    parser.add_argument("--only-memory", action="store_true")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(work(json.loads(arguments.task))))
        return
    text = report(arguments)
    print(text)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
