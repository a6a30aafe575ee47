"""Results of a run of `dsg stylize`: for the table at its end, and for `--json`."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dsgcli.errors import DsgError
    from dsgcli.progress import Progress

Status = Literal["done", "skipped", "failed"]


class Stopwatch:
    """Seconds spent in each named stage. Stages overlap in threads, so the sum may exceed the
    elapsed time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block under `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[name] += time.perf_counter() - started

    def add(self, name: str, seconds: float) -> None:
        """Count what another process measured."""
        with self._lock:
            self._seconds[name] += seconds

    def seconds(self) -> dict[str, float]:
        """Stage -> seconds, in order of first use."""
        with self._lock:
            return dict(self._seconds)


@dataclass(slots=True, kw_only=True)
class FileResult:
    """One input: what became of it."""

    source: Path
    status: Status = "done"
    outputs: list[Path] = field(default_factory=list)
    frames: int = 0
    faces: int = 0
    """Faces drawn, summed over frames."""
    num_tracks: int = 0
    """Faces told apart over the whole input; 0 where none was looked for."""
    faces_found: int = 0
    """The most faces found in one frame, drawn or not; of the frames that this run looked at."""
    seconds: float = 0.0
    truncated: bool = False
    """The input ended in the middle; all frames that exist are in the output."""
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "source": str(self.source),
            "status": self.status,
            "outputs": [str(path) for path in self.outputs],
            "frames": self.frames,
            "faces": self.faces,
            "faces_found": self.faces_found,
            "seconds": round(self.seconds, 3),
            "truncated": self.truncated,
            "notes": self.notes,
            "error": self.error,
        }


def failed(source: Path, error: DsgError, progress: Progress) -> FileResult:
    """The message about one failed input of many."""
    told, path = str(error), str(source)
    progress.warn(told if path in told else f"{path}: {told}")
    return FileResult(source=source, status="failed", error=str(error), exit_code=error.exit_code)


@dataclass(slots=True, kw_only=True)
class Summary:
    """A whole run."""

    files: list[FileResult] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds, over all files."""
    seconds: float = 0.0
    machine: dict[str, str] = field(default_factory=dict)
    """Device, precision and so on, as chosen."""
    styles: tuple[str, ...] = ()
    """The styles and their exemplars, as `--style` takes them: `noir:3`."""

    @property
    def frames(self) -> int:
        return sum(result.frames for result in self.files)

    @property
    def failed(self) -> list[FileResult]:
        return [result for result in self.files if result.status == "failed"]

    @property
    def exit_code(self) -> int:
        """0 if all went well; the error's own code for a single input; 5 if some of many failed."""
        if not self.failed:
            return 0
        return self.failed[0].exit_code if len(self.files) == 1 else 5

    def as_json(self) -> dict[str, Any]:
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        return {
            "files": [result.as_json() for result in self.files],
            "frames": self.frames,
            "faces": sum(result.faces for result in self.files),
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(rate, 3),
            "stages": {name: round(seconds, 3) for name, seconds in self.stages.items()},
            "machine": self.machine,
            "styles": list(self.styles),
            "truncated": any(result.truncated for result in self.files),
            "exit_code": self.exit_code,
        }
