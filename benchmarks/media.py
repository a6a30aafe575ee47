"""How fast videos are read and written, and whether memory grows with their length.

    python benchmarks/media.py [--frames 3000] [--size 640x360] [--markdown benchmarks/media.md]

A clip with sound is drawn, then read, and copied through source and sink, each in a fresh process;
the copy of a tenth of it is the measure for memory. Wall time depends on what else the machine
does, so the processor's time is given too.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET_GROWTH = 1.10
"""Peak memory of the whole clip against a tenth of it."""


def draw_clip(path: Path, frames: int, width: int, height: int) -> None:
    """A moving pattern with a tone, in H.264 and AAC."""
    import av
    import numpy as np

    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = out.add_stream("aac", rate=48_000)
        for number in range(frames):
            wave = 127 + 120 * np.sin((x + 3 * number) / 40) * np.cos(y / 30)
            pixels = np.stack([wave, wave[::-1], 255 - wave], -1).astype(np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(video.encode(None))
        for block in range(frames * 1920 // 1024):
            samples = np.zeros((2, 1024), np.float32)
            tone = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            tone.sample_rate, tone.pts = 48_000, block * 1024
            tone.time_base = Fraction(1, 48_000)
            out.mux(sound.encode(tone))
        out.mux(sound.encode(None))


def work(task: str, path: Path, target: Path, end: Fraction | None) -> None:
    """What one process does; prints frames, wall and processor seconds, and peak megabytes."""
    import resource

    from dsgcli.media.base import SinkOptions
    from dsgcli.media.read import open_source
    from dsgcli.media.write import open_sink

    started, count = time.perf_counter(), 0
    with open_source(path, end=end) as source:
        if task == "read":
            count = sum(1 for _ in source)
        else:
            options = SinkOptions(overwrite=True, preset="veryfast" if task == "copy" else None)
            with open_sink(target, options, source.info) as sink:
                for frame in source:
                    sink.write(frame)
            count = sink.num_frames
    usage = resource.getrusage(resource.RUSAGE_SELF)
    wall, busy = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    print(count, wall, busy, peak_mb())


def peak_mb() -> float:
    """Of this process alone: `ru_maxrss` of a child begins at its parent's, and would hide ours."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(task: str, path: Path, target: Path, end: Fraction | None) -> tuple[float, ...]:
    words = [sys.executable, __file__, "--task", task, str(path), str(target), str(end or "")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return tuple(float(word) for word in done.stdout.split())


def table(frames: int, width: int, height: int) -> str:
    lines = [
        "| task | frames | frames/s | processor ms a frame | peak MB |",
        "|---|---:|---:|---:|---:|",
    ]
    tenth = Fraction(frames, 250)
    tasks = [
        ("read", "read", None),
        ("copy a tenth, preset veryfast", "copy", tenth),
        ("copy, preset veryfast", "copy", None),
        ("copy a tenth, default settings", "default", tenth),
    ]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        draw_clip(clip, frames, width, height)
        for name, task, end in tasks:
            count, wall, busy, peak = measure(task, clip, Path(folder) / "out.mp4", end)
            peaks[name] = peak
            rate, cost = count / wall, 1000 * busy / count
            lines.append(f"| {name} | {count:.0f} | {rate:.0f} | {cost:.1f} | {peak:.0f} |")
    growth = peaks[tasks[2][0]] / peaks[tasks[1][0]]
    verdict = "as wanted" if growth <= TARGET_GROWTH else "more than wanted"
    lines.append(
        f"\nMemory of the whole against a tenth: {growth:.3f} ({verdict}: {TARGET_GROWTH})."
    )
    return "\n".join(lines)


def machine() -> str:
    load = f", load {os.getloadavg()[0]:.1f} from other work" if hasattr(os, "getloadavg") else ""
    python = platform.python_version()
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {python}{load}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--task"]:
        task, path, target, end = sys.argv[2:6]
        work(task, Path(path), Path(target), Fraction(end) if end else None)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    where = machine()
    text = f"# Reading and writing videos\n\n{options.size}, {where}\n\n"
    text += table(options.frames, width, height) + "\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
