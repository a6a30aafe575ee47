"""What a worker does: one order after the other, with networks that it loads once."""

from __future__ import annotations

import atexit
import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import DsgError
from dsgcli.stylize.batch import run_job
from dsgcli.stylize.desk import Ready
from dsgcli.stylize.file import sink_options
from dsgcli.stylize.known import Drew, draw_segment
from dsgcli.stylize.lent import bundle_folder
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.orders import Call, Done, Order
from dsgcli.stylize.record import Watched, look_over, open_stretches
from dsgcli.stylize.segments import Segments
from dsgcli.stylize.split import Part
from dsgcli.stylize.studio import Studio, open_studio
from dsgcli.stylize.summary import FileResult, Stopwatch

if TYPE_CHECKING:
    from dsgcli.media.video_reader import VideoSource

_one_at_a_time = threading.Lock()
"""A worker of a cluster may have several threads; networks and detectors are for one."""


def carry_out(order: Order) -> Done:
    """See `orders.carry_out`."""
    clock = Stopwatch()
    with _one_at_a_time:
        try:
            lent = order.models and bundle_folder(order.models)
            shared = _studio(order.options, lent or order.pretrained)
            studio = replace(shared, clock=clock)
            object.__setattr__(studio, "batches", shared.batches)  # what did not fit never will
            result = _carry_out(order, studio)
        except DsgError as error:
            return Done(stages=clock.seconds(), problem=str(error), exit_code=error.exit_code)
        return Done(result=result, stages=clock.seconds())


def get_ready(call: Call) -> Ready | None:
    """See `orders.get_ready`."""
    try:
        studio = _studio(call.options, call.options.pretrained)
    except DsgError:
        return None
    studio.expect(call.num_pictures)
    return Ready.of(studio)


def _carry_out(order: Order, studio: Studio) -> FileResult | Watched | Drew:
    if order.work is None:
        return run_job(order.job, studio)
    path, options = order.job.source.path, order.options
    source = open_stretches(path, start=options.start, end=options.end)
    assert source is not None, "only what can be read in stretches is split"
    with source:
        return _part_of(order, source, studio)


def _part_of(order: Order, source: VideoSource, studio: Studio) -> Watched | Drew:
    crew = studio.crew(order.job, source.info, aligned=order.aligned)
    work = order.work
    if isinstance(work, Part):
        return look_over(source, crew, work.begin, work.end)
    assert work is not None
    outputs = order.job.outputs
    sinks = sink_options(studio, order.keys, outputs, source.info)
    segments = Segments(outputs, sinks, source.info, {}, joining=True)
    return draw_segment(work, source, crew, segments, studio.casts)


@cache
def _studio(options: StylizeOptions, pretrained: Path | None) -> Studio:
    """Everything that inputs are drawn with, for as long as this process lives."""
    stack = ExitStack()
    studio = stack.enter_context(open_studio(replace(options, pretrained=pretrained)))
    atexit.register(stack.close)
    return studio
