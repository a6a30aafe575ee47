"""Tasks for workers, and their results.

Flow: Order -> (in a worker process) Done. What a user can cause comes back in words, since errors
do not survive the way between processes; what is our mistake is raised.

The one who gives orders loads nothing of what it takes to carry them out: networks and detectors
are imported inside the functions that a worker runs.
"""

from __future__ import annotations

import atexit
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import DsgError
from dsgcli.runtime import gc_paused
from dsgcli.stylize.jobs import Job
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.summary import FileResult, Stopwatch

if TYPE_CHECKING:
    from dsgcli.media.video_reader import VideoSource
    from dsgcli.stylize.detection_log import DetectionLog
    from dsgcli.stylize.draw_segment import SegmentResult, SegmentWork
    from dsgcli.stylize.split import TimeRange
    from dsgcli.stylize.studio import Studio


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """A piece of a batch: one input, or a part of one."""

    options: StylizeOptions
    pretrained: Path | None
    """Where models are looked for first; not one of the options that are compared."""
    models: str | None = None
    """Name of those that this worker was lent (`model_bundle.py`), instead."""
    job: Job
    number: int
    """Index of the job in its batch."""
    work: TimeRange | SegmentWork | None = None
    """Part of a long video; None is the whole input."""
    keys: tuple[str, ...] = ()
    """Folders of the segments of a long video."""
    aligned: bool = False
    """Its frames are face crops."""


@dataclass(slots=True, kw_only=True)
class TaskResult:
    """Result of a task."""

    result: FileResult | DetectionLog | SegmentResult | None = None
    stages: dict[str, float]
    """Stage -> seconds."""
    problem: str | None = None
    exit_code: int = 0

    @property
    def error(self) -> DsgError | None:
        """The error, if it is one that a user can solve."""
        if self.problem is None:
            return None
        error = DsgError(self.problem)
        error.exit_code = self.exit_code
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The setup of workers, before their tasks."""

    options: StylizeOptions
    num_pictures: int
    """About how many the whole run draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """Labels and device of a worker that has loaded its models."""

    labels: tuple[str, ...]
    """Labels of the styles, for the names of outputs."""
    references: tuple[str, ...]
    """The styles as they are shown."""
    machine: dict[str, str]
    """For the summary."""

    @classmethod
    def of(cls, studio: Studio) -> WorkerInfo:
        return cls(
            labels=tuple(cast.label for cast in studio.casts),
            references=tuple(cast.reference for cast in studio.casts),
            machine=studio.machine,
        )


_one_at_a_time = threading.Lock()
"""A worker of a cluster may have several threads; networks and detectors are for one."""


def run_task(order: WorkerTask) -> TaskResult:
    """Do what an order says, in a worker."""
    from dsgcli.stylize.model_bundle import bundle_folder

    clock = Stopwatch()
    with _one_at_a_time:
        try:
            lent = order.models and bundle_folder(order.models)
            shared = open_once(order.options, lent or order.pretrained)
            studio = replace(shared, clock=clock)
            object.__setattr__(studio, "batches", shared.batches)  # what did not fit never will
            result = _carry_out(order, studio)
        except DsgError as error:
            return TaskResult(stages=clock.seconds(), problem=str(error), exit_code=error.exit_code)
        return TaskResult(result=result, stages=clock.seconds())


def get_ready(call: Call) -> WorkerInfo | None:
    """Load what orders with these options will need; None if that fails, as the one who gives the
    orders will find out by trying."""
    with gc_paused():
        try:
            studio = open_once(call.options, call.options.pretrained)
        except DsgError:
            return None
        studio.expect(call.num_pictures)
        return WorkerInfo.of(studio)


def _carry_out(order: WorkerTask, studio: Studio) -> FileResult | DetectionLog | SegmentResult:
    from dsgcli.stylize.batch import run_job
    from dsgcli.stylize.detection_log import open_stretches

    if order.work is None:
        return run_job(order.job, studio)
    path, options = order.job.source.path, order.options
    source = open_stretches(path, start=options.start, end=options.end)
    assert source is not None, "only what can be read in stretches is split"
    with source:
        return _part_of(order, source, studio)


def _part_of(
    order: WorkerTask, source: VideoSource, studio: Studio
) -> DetectionLog | SegmentResult:
    from dsgcli.stylize.checkpoint import Segments
    from dsgcli.stylize.detection_log import look_over
    from dsgcli.stylize.draw_segment import draw_segment
    from dsgcli.stylize.file import sink_options
    from dsgcli.stylize.split import TimeRange

    crew = studio.crew(order.job, source.info, aligned=order.aligned)
    work = order.work
    if isinstance(work, TimeRange):
        return look_over(source, crew, work.begin, work.end)
    assert work is not None
    outputs = order.job.outputs
    sinks = sink_options(studio, order.keys, outputs, source.info)
    segments = Segments(outputs, sinks, source.info, {}, joining=True)
    return draw_segment(work, source, crew, segments, studio.casts)


@cache
def open_once(options: StylizeOptions, pretrained: Path | None) -> Studio:
    """Everything that inputs are drawn with, for as long as this process lives."""
    from dsgcli.stylize.studio import open_studio

    stack = ExitStack()
    studio = stack.enter_context(open_studio(replace(options, pretrained=pretrained)))
    atexit.register(stack.close)
    return studio
