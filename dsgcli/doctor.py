"""Facts and problems of this machine, for `dsg doctor` and for bug reports.

Every check stands alone: what cannot be found out becomes a problem, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgcli.errors import DsgError, UsageError

if TYPE_CHECKING:
    import torch

PACKAGES = (
    *("torch", "mediapipe", "av", "numpy", "pillow", "safetensors", "joblib", "typer", "rich"),
)
WANTED_CODECS = ("h264", "hevc", "av1", "vp9", "prores", "ffv1")
"""Values of --codec: for players, for the web, for editing, lossless."""
MIN_FREE_DISK_GB = 2.0
MIN_FREE_MEMORY_GB = 2.0
"""A 1024 px model with its encoder takes about 1.5 GB while it draws."""
SPEED_TEST_S = 2.0
MANY_PICTURES = 1000
GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, and what to do about it."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


@dataclass(slots=True, kw_only=True)
class Report:
    """All that was found out; `None` is what could not be."""

    version: str
    python: str = ""
    system: str = ""
    installed: str = ""
    """How dsg was installed."""
    extras_by: str = ""
    """The command that adds an optional part here, such as openvino."""
    packages: dict[str, str | None] = field(default_factory=dict)
    device: str | None = None
    gpu: str | None = None
    precision: str | None = None
    precision_reason: str = ""
    backend: str | None = None
    backend_reason: str = ""
    backends: list[str] = field(default_factory=list)
    """Those that can be used here."""
    threads: int | None = None
    cores: int | None = None
    free_memory_gb: float | None = None
    memory_gb: float | None = None
    free_disk_gb: float | None = None
    codecs: dict[str, str | None] = field(default_factory=dict)
    face_detector: str | None = None
    models: list[dict[str, Any]] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def examine(
    pretrained: Path | None = None,
    *,
    device: str = "auto",
    precision: Any = "auto",
    backend: Any = "auto",
    speed_test_s: float = SPEED_TEST_S,
) -> Report:
    """Look at everything; takes a few seconds, mostly to load torch and for the speed test."""
    from dsgcli import __version__

    report = Report(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )
    report.installed, report.extras_by = installation()
    for check in (_packages, _memory_and_disk, _codecs):
        check(report)
    _face_detector(report, pretrained)
    style = _models(report, pretrained)
    _torch(report, device, precision, speed_test_s / 2)
    _backend(report, device, precision, backend)
    if style is not None and speed_test_s > 0:
        with _attempt(report, f"{style} cannot be drawn in", "dsg models verify"):
            rate = portraits_per_second(
                pretrained, style, device, precision, backend, speed_test_s / 2
            )
            report.speed[f"{style}_portraits"] = round(rate, 2)
    return report


@contextlib.contextmanager
def _attempt(report: Report, what: str, advice: str) -> Iterator[None]:
    """Turn errors inside the block into problems of the report."""
    try:
        yield
    except DsgError as error:
        report.problems.append(Problem(f"{what}: {error}", advice))
    except Exception as error:
        report.problems.append(Problem(f"{what}: {type(error).__name__}: {error}", advice))


# ── one check each ───────────────────────────────────────────────────────────────────────────────


def installation(
    prefix: Path | None = None, system_prefix: Path | None = None, container: Path | None = None
) -> tuple[str, str]:
    """How dsg was installed, and the command that adds an optional part there.

    Args:
        prefix: folder of the environment; None takes that of this process.
        system_prefix: that of the Python which it was made with.
        container: a file that is there in a container.
    """
    prefix, system = prefix or Path(sys.prefix), system_prefix or Path(sys.base_prefix)
    extra = "'dsgcli[openvino]'"
    if (prefix / "pipx_metadata.json").exists():
        return "with pipx", f"pipx install --force {extra}"
    if (prefix / "uv-receipt.toml").exists():
        return "with uv tool", f"uv tool install --force {extra}"
    if (prefix / "conda-meta").is_dir():
        return f"in the conda environment {prefix}", f"python -m pip install {extra}"
    if prefix != system:
        python = prefix / ("Scripts/python" if os.name == "nt" else "bin/python")
        return f"in the environment {prefix}", f"{python} -m pip install {extra}"
    if (container or Path("/.dockerenv")).exists():
        return "in a container", f"add to the Dockerfile: RUN pip install {extra}"
    return f"into the system's Python {prefix}", f"python -m pip install {extra}"


def _packages(report: Report) -> None:
    for name in PACKAGES:
        try:
            report.packages[name] = version(name)
        except PackageNotFoundError:
            report.packages[name] = None
            advice = f"pip install {name}, or install dsgcli again"
            report.problems.append(Problem(f"the package {name} is not installed", advice))


def _memory_and_disk(report: Report) -> None:
    report.free_memory_gb, report.memory_gb = memory_gb()
    report.cores = _cores()
    free = report.free_memory_gb
    if free is not None and free < MIN_FREE_MEMORY_GB:
        what = f"only {free:.1f} GB of memory are free"
        report.problems.append(Problem(what, "close other programs, or use a smaller --size"))
    with _attempt(report, "free disk space cannot be found out", "check the working folder"):
        report.free_disk_gb = round(shutil.disk_usage(Path.cwd()).free / GIB, 1)
        if report.free_disk_gb < MIN_FREE_DISK_GB:
            what = f"only {report.free_disk_gb} GB are free in {Path.cwd()}"
            report.problems.append(Problem(what, "free some, or work in another folder"))


def memory_gb() -> tuple[float | None, float | None]:
    """Free and total memory in GiB, as far as this system tells; a container's limit counts."""
    free, total = _linux_memory() if sys.platform == "linux" else _posix_memory()
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
        total = min(total or limit, limit)
        free = min(free or limit - used, limit - used)
    return tuple(None if v is None else round(v / GIB, 1) for v in (free, total))  # type: ignore[return-value]


def _linux_memory() -> tuple[int | None, int | None]:
    values: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
    return values.get("MemAvailable"), values.get("MemTotal")


def _posix_memory() -> tuple[int | None, int | None]:
    """The total only; macOS has no cheap notion of free memory, Windows no sysconf."""
    try:
        return None, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None, None


def _cores() -> int:
    from dsgcli.runtime import num_cpus

    return num_cpus()


def _codecs(report: Report) -> None:
    with _attempt(report, "PyAV cannot be used", "install it again: pip install --force av"):
        report.codecs = {name: _encoder(name) for name in WANTED_CODECS}
        if not report.codecs["h264"]:
            advice = "pass --codec with one that is there, or install av again"
            report.problems.append(Problem("this PyAV has no H.264 encoder", advice))


def _encoder(codec: str) -> str | None:
    """The encoder that writes a codec here, if there is one."""
    from dsgcli.media.base import SinkOptions
    from dsgcli.media.video_writer import choose_encoder

    try:
        return choose_encoder(Path("any.mkv"), SinkOptions(codec=codec))[0]
    except UsageError:
        return None


def _face_detector(report: Report, pretrained: Path | None) -> None:
    with _attempt(report, "no face detector", "or install mediapipe again"):
        from dsgcli.faces.detect import open_detector
        from dsgcli.store import ModelStore

        detector = open_detector(task_file=ModelStore.open(pretrained).face_landmarker())
        report.face_detector = detector.name
        detector.close()


def _models(report: Report, pretrained: Path | None) -> str | None:
    """Lists the models; returns a style to try, if there is one."""
    with _attempt(report, "the models cannot be listed", "dsg models verify"):
        from dsgcli.store import ModelStore

        store = ModelStore.open(pretrained)
        models = store.models()
        report.models = [_described(model) for model in models]
        for model in models:
            if model.kind == "unreadable":
                advice = (
                    "get the file again, or delete it; `dsg models verify` looks at all of them"
                )
                report.problems.append(Problem(model.problem, advice))
        usable = [style.name for style in store.styles() if not style.problem]
        if usable:
            return usable[0]
        advice = "pass --pretrained FOLDER, or fetch some: dsg models pull NAME"
        report.problems.append(Problem("there is no style to draw in", advice))
    return None


def _described(model: Any) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "path": str(model.path),
        "shadowed": model.shadowed,
    }


def _torch(report: Report, device: str, precision: Any, speed_test_s: float) -> None:
    with _attempt(report, "torch cannot be used", "install it again: pip install --force torch"):
        import torch

        from dsgcli.runtime import has_native_bf16, pick_device, pick_precision

        chosen = pick_device(device)
        dtype = pick_precision(precision, chosen)
        report.device, report.threads = str(chosen), torch.get_num_threads()
        report.precision = str(dtype).removeprefix("torch.")
        native = "multiplies" if has_native_bf16(chosen) else "does not multiply"
        report.precision_reason = f"the {chosen.type.upper()} {native} bfloat16 in hardware"
        if chosen.type == "cuda":
            report.gpu = torch.cuda.get_device_name(chosen)
        elif shutil.which("nvidia-smi"):
            advice = "install a torch that is built for CUDA (see pytorch.org), if there is a GPU"
            report.problems.append(Problem("nvidia-smi is here, but torch finds no GPU", advice))
        if speed_test_s > 0:
            report.speed = speed(chosen, dtype, speed_test_s)


def _backend(report: Report, device: str, precision: Any, backend: Any) -> None:
    """The backend of a long run, with the reason and the alternatives."""
    with _attempt(report, "the networks cannot be run", "dsg doctor --backend torch"):
        from typing import get_args

        from dsgcli.inference.backend import choose, pick_backend, problem_of
        from dsgcli.runtime import BackendName, pick_device, pick_precision

        place = pick_device(device)
        dtype = pick_precision(precision, place)
        names: tuple[BackendName, ...] = get_args(BackendName)[1:]
        report.backends = [name for name in names if problem_of(name, place) is None]
        pick_backend(backend, place, dtype)
        taken = choose(place, dtype)
        report.backend = taken.name if backend == "auto" else backend
        report.backend_reason = taken.reason if backend == "auto" else "as asked for"


# ── the speed test ───────────────────────────────────────────────────────────────────────────────


def speed(device: torch.device, dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """Rates of what the networks spend their time on, in GFLOP/s: a 3x3 convolution of 512
    channels at 32 px, in fp32 and in the chosen precision."""
    import torch

    formats = dict.fromkeys([torch.float32, dtype])
    return {
        f"{str(d).removeprefix('torch.')}_gflops": round(
            _convolution_gflops(device, d, seconds / len(formats)), 1
        )
        for d in formats
    }


def portraits_per_second(
    pretrained: Path | None,
    style: str,
    device: str,
    precision: Any,
    backend: Any,
    seconds: float,
) -> float:
    """How fast faces are drawn in a style in a long run, without finding, encoding and putting
    back."""
    import torch

    from dsgcli.pipeline import blank, load_pipeline
    from dsgcli.portraits import Look, pick_weights
    from dsgcli.store import ModelStore

    store = ModelStore.open(pretrained)
    portraits = load_pipeline(
        store, style, encoder=None, device=device, precision=precision, backend=backend
    )
    portraits.expect(MANY_PICTURES)
    exstyle = store.resolve(store.parse(style)).exstyle
    weights = pick_weights(portraits.layout, usual=portraits.usual_weight)
    look = Look(exstyle=exstyle, weights=weights)
    face = [blank(portraits.size_px)], torch.zeros(1, *exstyle.shape)
    portraits.draw_crops(*face, look, portraits.size_px)  # the first draw plans
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or count == 0:
        portraits.draw_crops(*face, look, portraits.size_px)
        count += 1
    return count / max(elapsed, 1e-9)


def _convolution_gflops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    import torch
    from torch.nn.functional import conv2d

    layout = torch.channels_last
    x = torch.randn(1, 512, 32, 32, device=device, dtype=dtype).to(memory_format=layout)
    weight = torch.randn(512, 512, 3, 3, device=device, dtype=dtype).to(memory_format=layout)
    flop = 2 * weight.numel() * 32 * 32
    with torch.inference_mode():
        conv2d(x, weight, padding=1).sum().item()  # the first call plans
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or count == 0:
            for _ in range(4):
                y = conv2d(x, weight, padding=1)
            y[0, 0, 0, 0].item()  # wait for a GPU
            count += 4
    return count * flop / max(elapsed, 1e-9) / 1e9
