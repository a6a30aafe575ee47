"""Records of a run: metrics.jsonl, sample sheets, and TensorBoard if it is installed.

Flow: scalars and sheets of each step -> files in the stage's folder; report.py reads them back.
`metrics.jsonl` has one JSON object a line: {"run": label, "step": n, "time_s": t, NAME: ...}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from dsgcli.training.sheets import save_sheet, to_pixels

METRICS = "metrics.jsonl"


class Recorder(Protocol):
    """Records what happens; the processes after the first have one that ignores everything."""

    def scalars(self, step: int, time_s: float, values: Mapping[str, float]) -> None: ...

    def sheet(self, step: int, name: str, images: Tensor) -> None: ...

    def rewind(self, step: int) -> None:
        """Forget what was written after `step`: a killed run writes it again."""
        ...

    def flush(self) -> None: ...


class NullRecorder:
    """Writes nothing."""

    def scalars(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        return

    def sheet(self, step: int, name: str, images: Tensor) -> None:
        return

    def rewind(self, step: int) -> None:
        return

    def flush(self) -> None:
        return


class FileRecorder:
    """Writes metrics.jsonl and sheets of one loop, labelled `label`, under `folder`."""

    def __init__(self, folder: Path, label: str) -> None:
        self._folder, self._label = folder, label
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS
        self._lines: list[str] = []
        self._board = _open_board(folder / "tensorboard" / label)

    def scalars(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"run": self._label, "step": step, "time_s": round(time_s, 3)}
        self._lines.append(json.dumps(row | dict(values)))
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def sheet(self, step: int, name: str, images: Tensor) -> None:
        path = self._folder / "sheets" / f"{self._label}-{name}-{step:06d}.jpg"
        save_sheet(path, images)
        if self._board is not None:
            first = images.flatten(0, -4)[:8]
            pixels = np.concatenate(list(to_pixels(first)), axis=1)
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def rewind(self, step: int) -> None:
        self._lines.clear()
        if not self._path.exists():
            return
        kept = [
            json.dumps(row)
            for row in read_metrics(self._path)
            if row["run"] != self._label or row["step"] <= step
        ]
        partial = self._path.with_name(f".{METRICS}.partial")
        partial.write_text("".join(f"{line}\n" for line in kept), "utf-8")
        partial.replace(self._path)

    def flush(self) -> None:
        if self._lines:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in self._lines))
            self._lines.clear()
        if self._board is not None:
            self._board.flush()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line that a kill cut short is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _open_board(folder: Path) -> Any:
    """A TensorBoard writer, or None where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
