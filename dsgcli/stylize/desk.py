"""The process in which a run begins.

It finds the inputs, plans the outputs and hands out the work. Where other processes draw, they say
what it needs to know (`WorkerInfo`), and it loads no networks, nor the libraries that run them;
where it has to draw or to look for itself, it opens a studio of its own.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from dsgcli.runtime import gc_paused
from dsgcli.stylize.summary import Stopwatch
from dsgcli.stylize.tasks import WorkerInfo

if TYPE_CHECKING:
    from dsgcli.progress import Progress
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.studio import Studio
    from dsgcli.workers.processes import ProcessPool


@dataclass(frozen=True, slots=True)
class Called:
    """Processes that get ready while this one does something else."""

    workers: ProcessPool
    answers: Sequence[Future[WorkerInfo | None]]
    """Answer of each worker, once it has loaded its models."""

    @property
    def are_ready(self) -> bool:
        return all(answer.done() for answer in self.answers)


class Desk:
    """Options and clock at once; a studio when it is asked for.

    Args:
        helpers: processes that get ready meanwhile, if any were called.
    """

    def __init__(self, options: StylizeOptions, helpers: Called | None, progress: Progress) -> None:
        self.options, self.helpers, self._progress = options, helpers, progress
        self.clock = Stopwatch()
        self._stack = ExitStack()

    @cached_property
    def studio(self) -> Studio:
        """This process's own.

        Raises:
            UsageError, ModelError: as `open_studio`.
        """
        with gc_paused():
            from dsgcli.stylize.studio import fitting_threads, open_studio

            self._stack.callback(gc.unfreeze)
            opening = open_studio(self.options, self._progress, self.clock)
            studio = self._stack.enter_context(opening)
        self._stack.enter_context(fitting_threads(studio))
        return studio

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the styles, once a worker has loaded them.

        Raises:
            UsageError, ModelError: they cannot be.
        """
        return self._ready.labels

    @property
    def references(self) -> tuple[str, ...]:
        """The styles as they are shown: `noir:3`."""
        return self._ready.references

    @property
    def machine(self) -> dict[str, str]:
        """Device, precision and so on of those who draw."""
        return WorkerInfo.of(self.studio).machine if "studio" in vars(self) else self._ready.machine

    @cached_property
    def _ready(self) -> WorkerInfo:
        """Answer of the first helper; problems of the models are found, and raised, by
        trying it here."""
        for answer in as_completed(self.helpers.answers if self.helpers else ()):
            if answer.exception() is None and (ready := answer.result()) is not None:
                return ready
        return WorkerInfo.of(self.studio)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
