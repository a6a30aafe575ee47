"""Listeners to progress: bars on a terminal, one JSON event a line, or sentences only.

Each is a `dsgcli.progress.Progress`. rich draws the bars; nothing else of the package draws.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.text import Text

from dsgcli.names import visible
from dsgcli.progress import NULL_PROGRESS, Figure, Task

if TYPE_CHECKING:
    from rich.console import Console

MIN_EVENT_INTERVAL_S = 0.25
"""Between two events of one task: often enough to draw a bar from, rare enough to log."""
RATE_WINDOW_S = 30.0
"""The rate of a bar is that of the last half minute, so that a slow start is soon forgotten."""

# ── bars ─────────────────────────────────────────────────────────────────────────────────────────


class _CountColumn(ProgressColumn):
    """`120/3000 frames  24.1/s`."""

    def render(self, task: RichTask) -> Text:
        if not task.fields["unit"]:
            return Text("")  # nothing that could be counted: getting ready
        total = "" if task.total is None else f"/{task.total:g}"
        rate = task.finished_speed or task.speed
        speed = "" if not rate else f"  {_rate_text(rate)}"
        return Text(f"{task.completed:g}{total} {task.fields['unit']}{speed}")


class _FiguresColumn(ProgressColumn):
    """`loss 0.31  faces 2`, in the order in which they came."""

    def render(self, task: RichTask) -> Text:
        figures: dict[str, Figure] = task.fields["figures"]
        return Text("  ".join(f"{name} {_figure_text(v)}" for name, v in figures.items()), "dim")


def _rate_text(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


def _figure_text(value: Figure) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Bar:
    def __init__(self, drawn: RichProgress, task: TaskID) -> None:
        self._drawn, self._task = drawn, task
        self._figures: dict[str, Figure] = {}

    def advance(self, steps: float = 1, **figures: Figure) -> None:
        self._figures = {**self._figures, **figures}
        self._drawn.update(self._task, advance=steps, figures=self._figures)

    def set_total(self, total: float | None) -> None:
        self._drawn.update(self._task, total=total)


class Bars:
    """One line a task on a terminal; they go when the work is done, the summary stays.

    Until the first task there is a line that moves: networks are being loaded.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            _CountColumn(),
            TimeRemainingColumn(compact=True),
            _FiguresColumn(),
            console=console,
            transient=True,
            expand=True,
            speed_estimate_period=RATE_WINDOW_S,
        )
        self._ready = threading.Lock()  # held from the first task on

    def __enter__(self) -> Bars:
        self._waiting = self._drawn.add_task("getting ready", total=None, unit="", figures={})
        self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._drawn.stop()

    @contextmanager
    def task(
        self, name: str, total: float | None = None, unit: str = "steps", done: float = 0
    ) -> Iterator[Task]:
        if self._ready.acquire(blocking=False):
            self._drawn.remove_task(self._waiting)
        task = self._drawn.add_task(visible(name), total=total, unit=unit, figures={})
        self._drawn.update(task, completed=done)
        try:
            yield _Bar(self._drawn, task)
        finally:
            self._drawn.refresh()  # how far it came, though it came there between two redrawings
            self._drawn.remove_task(task)

    def note(self, message: str) -> None:
        self._console.print(visible(message), markup=False, highlight=False)

    def warn(self, message: str) -> None:
        self._console.print(Text.assemble(("warning: ", "bold yellow"), visible(message)))


# ── events ───────────────────────────────────────────────────────────────────────────────────────


class _EventTask:
    def __init__(self, send: Callable[..., None], name: str, total: float | None, done: float):
        self._send, self._name, self._total = send, name, total
        self._lock = threading.Lock()
        self._figures: dict[str, Figure] = {}
        self._done, self._done_before = done, done
        self._start = self._last_sent = time.monotonic()

    def advance(self, steps: float = 1, **figures: Figure) -> None:
        with self._lock:
            self._done += steps
            self._figures.update(figures)
            if time.monotonic() - self._last_sent >= MIN_EVENT_INTERVAL_S:
                self.send("advance")

    def set_total(self, total: float | None) -> None:
        self._total = total

    def send(self, event: str) -> None:
        self._last_sent = time.monotonic()
        elapsed_s = self._last_sent - self._start
        rate = (self._done - self._done_before) / elapsed_s if elapsed_s > 0 else 0.0
        left = None if self._total is None or not rate else (self._total - self._done) / rate
        self._send(
            event,
            task=self._name,
            done=self._done,
            total=self._total,
            elapsed_s=round(elapsed_s, 3),
            rate=round(rate, 3),
            eta_s=None if left is None else round(max(left, 0.0), 1),
            **({"figures": self._figures} if self._figures else {}),
        )


class Events:
    """One JSON object a line: `begin`, `advance`, `end` of a task; `note` and `warning`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    @contextmanager
    def task(
        self, name: str, total: float | None = None, unit: str = "steps", done: float = 0
    ) -> Iterator[Task]:
        self._send("begin", task=name, done=done, total=total, unit=unit)
        task = _EventTask(self._send, name, total, done)
        try:
            yield task
        finally:
            task.send("end")

    def note(self, message: str) -> None:
        self._send("note", message=message)

    def warn(self, message: str) -> None:
        self._send("warning", message=message)

    def _send(self, event: str, **values: object) -> None:
        line = visible(json.dumps({"event": event, **values}, ensure_ascii=False), keep="")
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


# ── sentences ────────────────────────────────────────────────────────────────────────────────────


class Sentences:
    """Notes and warnings only: for logs and pipes, where a bar would be noise."""

    def __init__(self, note: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.note, self.warn = note, warn

    def task(
        self, name: str, total: float | None = None, unit: str = "steps", done: float = 0
    ) -> AbstractContextManager[Task]:
        return NULL_PROGRESS.task(name, total, unit, done)
