"""The interface by which long work reports its progress.

Library code takes a `Progress` and defaults to `NULL_PROGRESS`; the command line passes one that
draws bars or writes events (`console.py`). Nothing here draws, and nothing depends on what is
drawn.

    with progress.task("Stylizing", total=source.info.num_frames, unit="frames") as task:
        for frames in batches:
            ...
            task.advance(len(frames), faces=num_faces)
    progress.note("audio copied without re-encoding")
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

Figure = float | int | str
"""A value beside a progress bar: a loss, a learning rate, a count."""


class Task(Protocol):
    """A task that is running."""

    def advance(self, steps: float = 1, **figures: Figure) -> None:
        """Report that `steps` more are done; `figures` replace earlier ones of the same name."""

    def set_total(self, total: float | None) -> None:
        """Change the number of steps; None if it is not known."""


class Progress(Protocol):
    """Receives reports: a terminal, a log, or nothing. Safe to call from several threads."""

    def task(
        self, name: str, total: float | None = None, unit: str = "steps", done: float = 0
    ) -> AbstractContextManager[Task]:
        """Begin something with `total` steps (None: unknown), `done` of which an earlier run did.

        Leaving the context ends it; tasks may overlap.
        """

    def note(self, message: str) -> None:
        """Show a note to the user; one sentence."""

    def warn(self, message: str) -> None:
        """Show a warning to the user; one sentence."""


class _SilentTask:
    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, steps: float = 1, **figures: Figure) -> None:
        return None

    def set_total(self, total: float | None) -> None:
        return None


class _Silent:
    def task(
        self, name: str, total: float | None = None, unit: str = "steps", done: float = 0
    ) -> AbstractContextManager[Task]:
        return _SilentTask()

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        return None


NULL_PROGRESS: Progress = _Silent()
"""Ignores all reports: the default of library code."""
