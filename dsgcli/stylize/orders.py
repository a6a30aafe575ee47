"""What a worker is told to do, and what it says of it.

Flow: Order -> (in a worker process) Done. What a user can cause comes back in words, since errors
do not survive the way between processes; what is our mistake is raised.

The one who gives orders loads nothing of what it takes to carry them out (`work.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import DsgError
from dsgcli.runtime import uncollected
from dsgcli.stylize.jobs import Job
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.summary import FileResult

if TYPE_CHECKING:
    from dsgcli.stylize.desk import Ready
    from dsgcli.stylize.known import Drew, SegmentWork
    from dsgcli.stylize.record import Watched
    from dsgcli.stylize.split import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A piece of a batch: one input, or a part of one."""

    options: StylizeOptions
    pretrained: Path | None
    """Where models are looked for first; not one of the options that are compared."""
    models: str | None = None
    """Name of those that this worker was lent (`lent.py`), instead."""
    job: Job
    number: int
    """Of the job in its batch."""
    work: Part | SegmentWork | None = None
    """Of a long video; None is the whole input."""
    keys: tuple[str, ...] = ()
    """Of the outputs of a long video."""
    aligned: bool = False
    """Its frames are face crops."""


@dataclass(slots=True, kw_only=True)
class Done:
    """What became of an order."""

    result: FileResult | Watched | Drew | None = None
    stages: dict[str, float]
    """Stage -> seconds."""
    problem: str | None = None
    exit_code: int = 0

    @property
    def error(self) -> DsgError | None:
        """What a user can do something about."""
        if self.problem is None:
            return None
        error = DsgError(self.problem)
        error.exit_code = self.exit_code
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is said to workers before they are given orders."""

    options: StylizeOptions
    num_pictures: int
    """About how many the whole run draws."""


def carry_out(order: Order) -> Done:
    """Do what an order says."""
    from dsgcli.stylize import work

    return work.carry_out(order)


def get_ready(call: Call) -> Ready | None:
    """Load what orders with these options will need; None if that fails, as the one who gives the
    orders will find out by trying."""
    with uncollected():
        from dsgcli.stylize import work

        return work.get_ready(call)
