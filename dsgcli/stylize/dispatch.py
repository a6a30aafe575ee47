"""A batch over many workers: each input is a piece, a long video many.

Pieces are handed out one by one, so a long video does not leave the others idle; results and errors
come as they finish. What dies with its worker is tried once more elsewhere (`workers/pieces.py`).

What splits videos is imported when there is one: for pictures, this process loads no networks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dsgcli.errors import DsgError, InterruptedRunError, WorkerLostError
from dsgcli.media.files import files_refused, locked_outputs
from dsgcli.progress import NULL_PROGRESS
from dsgcli.stylize import frame_state as sizes
from dsgcli.stylize.jobs import VIDEO_SUFFIXES, Job
from dsgcli.stylize.summary import FileResult, failed
from dsgcli.stylize.tasks import TaskResult, WorkerTask, run_task
from dsgcli.workers.pieces import Outcome, Workers, hand_out

if TYPE_CHECKING:
    from dsgcli.media.video_reader import VideoSource
    from dsgcli.progress import Progress, Task
    from dsgcli.stylize.desk import Desk
    from dsgcli.stylize.detection_log import DetectionLog
    from dsgcli.stylize.draw_segment import SegmentResult, SegmentWork
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.split import SplitVideo, TimeRange

MIN_SPLIT_SEGMENTS = 2
"""A video with fewer is one piece."""


def spread(
    jobs: Sequence[Job],
    desk: Desk,
    workers: Workers,
    progress: Progress = NULL_PROGRESS,
    *,
    only: bool | None = None,
    models: str | None = None,
) -> list[FileResult]:
    """Draw all inputs; what became of each, in their order.

    Args:
        only: as `batch.draw_jobs`.
        models: name of the models that the workers of a cluster were lent.

    Raises:
        DsgError: what went wrong with the only input, or no worker is left.
        InterruptedRunError: Ctrl-C; what is finished stays, and the same command goes on.
    """
    batch = _Batch(jobs, desk, workers, progress)
    batch.only = len(jobs) == 1 if only is None else only
    batch.models = models
    with progress.task("files", len(jobs), unit="files") as files:
        batch.files = files
        try:
            for outcome in hand_out(workers, run_task, batch.next_order):
                batch.take(outcome)
        except KeyboardInterrupt as error:
            workers.close()  # before the parts are counted that are whole
            raise InterruptedRunError(batch.how_to_go_on()) from error
        finally:
            batch.close()
    return [batch.results[job] for job in jobs]


class _Batch:
    def __init__(
        self, jobs: Sequence[Job], desk: Desk, workers: Workers, progress: Progress
    ) -> None:
        self.desk, self.workers, self.progress = desk, workers, progress
        self.only = False
        self.models: str | None = None
        self.jobs = list(jobs)
        self._numbers = {job: number for number, job in enumerate(jobs)}
        self.files: Task
        self.results: dict[Job, FileResult] = {}
        self._to_begin: deque[Job] = deque(jobs)
        self._in_one: deque[Job] = deque()
        self._split: dict[Job, SplitVideo] = {}

    # ── what is handed out ───────────────────────────────────────────────────────────────────────

    def next_order(self) -> WorkerTask | None:
        """The next task for a worker."""
        while True:
            if (order := self._of_begun()) is not None:
                return order
            if not self._to_begin:
                return None
            self._begin(self._to_begin.popleft())

    def _of_begun(self) -> WorkerTask | None:
        for job, video in self._split.items():
            if (work := video.next_work()) is not None:
                order = self._order(job, work)
                return replace(order, keys=video.keys, aligned=video.aligned)
        return self._order(self._in_one.popleft(), None) if self._in_one else None

    def _order(self, job: Job, work: TimeRange | SegmentWork | None) -> WorkerTask:
        options = for_workers(self.desk.options)
        source = replace(job.source, path=job.source.path.absolute())
        there = replace(job, source=source, outputs=tuple(p.absolute() for p in job.outputs))
        return WorkerTask(
            options=options,
            pretrained=options.pretrained,
            models=self.models,
            job=there,
            number=self._numbers[job],
            work=work,
        )

    def _begin(self, job: Job) -> None:
        """See what an input is: one piece, many, or done already."""
        try:
            with files_refused():
                source = open_splittable(job, self.desk.options)
                if source is None:
                    self._in_one.append(job)
                    return
                self._split_up(job, source)
        except DsgError as error:
            self._fail(job, error)

    def _split_up(self, job: Job, source: VideoSource) -> None:
        from dsgcli.stylize.batch import settle
        from dsgcli.stylize.split import SplitVideo

        with ExitStack() as held:
            held.callback(source.close)
            held.enter_context(locked_outputs(job.outputs))
            settled, keys = settle(job, self.desk.studio)
            if settled is not None:
                self._finish(job, settled)
                return
            capacity = self.workers.capacity
            video = SplitVideo(job, keys, source, self.desk.studio, self.progress, workers=capacity)
            video.held = held.pop_all()
            self._split[job] = video

    # ── what comes back ──────────────────────────────────────────────────────────────────────────

    def take(self, outcome: Outcome[WorkerTask, TaskResult]) -> None:
        """A piece has come to its end, one way or the other."""
        order = outcome.piece
        try:
            if isinstance(outcome.error, WorkerLostError):
                raise _died_twice(outcome.error)
            done = outcome.value
            for stage, seconds in done.stages.items():
                self.desk.clock.add(stage, seconds)
            if done.error is not None:
                raise done.error
            self._take(order, done.result)
        except DsgError as error:
            self._fail(self.jobs[order.number], error)

    def _take(
        self, order: WorkerTask, result: FileResult | DetectionLog | SegmentResult | None
    ) -> None:
        job = self.jobs[order.number]
        video = self._split.get(job)
        if isinstance(result, FileResult):
            outputs = list(job.outputs) if result.outputs else []
            self._finish(job, replace(result, source=job.source.path, outputs=outputs))
        if video is None:
            return  # of a video that has failed meanwhile
        from dsgcli.stylize.detection_log import DetectionLog
        from dsgcli.stylize.draw_segment import SegmentResult, SegmentWork
        from dsgcli.stylize.split import TimeRange

        if isinstance(order.work, TimeRange) and isinstance(result, DetectionLog):
            self._follow(job, video, order.work, result)
        elif isinstance(order.work, SegmentWork) and isinstance(result, SegmentResult):
            video.take_drawn(order.work, result)
        if video.is_done:
            self._finish(job, video.finish())
            self._split.pop(job).close()

    def _follow(self, job: Job, video: SplitVideo, part: TimeRange, watched: DetectionLog) -> None:
        from dsgcli.stylize.detection_log import UnreliableError

        try:
            video.take_watched(part, watched)
        except UnreliableError:
            self._split.pop(job).close()
            self._in_one.append(job)
            self.progress.note(f"{job.source.path.name} cannot be read in parts: one worker has it")

    def _finish(self, job: Job, result: FileResult) -> None:
        self.results[job] = result
        self.files.advance()

    def _fail(self, job: Job, error: DsgError) -> None:
        """An input has failed: what else is under way of it does not matter any more."""
        video = self._split.pop(job, None)
        if video is not None:
            video.close()
        if job in self.results:
            return
        if self.only or error.exit_code == 130:
            raise error
        self._finish(job, failed(job.source.path, error, self.progress))

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def how_to_go_on(self) -> str:
        """The message after Ctrl-C."""
        told = f"stopped after {len(self.results)} files; the same command does the others"
        for job in list(self._split):
            from dsgcli.stylize.file import how_to_go_on

            video = self._split.pop(job)
            told = how_to_go_on(video.result, video.close(), self.desk.options)
        return told

    def close(self) -> None:
        """Let go of what is open."""
        for video in self._split.values():
            with suppress(DsgError):
                video.close()
        self._split.clear()


def open_splittable(job: Job, options: StylizeOptions) -> VideoSource | None:
    """The source of a video that is long enough to be worth splitting, and says so itself."""
    path = job.source.path
    if options.preview or options.rate or path.suffix.lower() not in VIDEO_SUFFIXES:
        return None
    from dsgcli.stylize.detection_log import open_stretches

    source = open_stretches(path, start=options.start, end=options.end)
    if source is None:
        return None
    count = source.info.expected_frames or 0
    if source.info.duration is not None and count >= MIN_SPLIT_SEGMENTS * sizes.SEGMENT_FRAMES:
        return source
    source.close()
    return None


def for_workers(options: StylizeOptions) -> StylizeOptions:
    """The options for workers: all paths absolute, as they may run in another folder."""
    exemplar = options.exemplar and options.exemplar.absolute()
    pretrained = options.pretrained and options.pretrained.absolute()
    return replace(options, exemplar=exemplar, pretrained=pretrained, workers=1, cluster=None)


def _died_twice(error: WorkerLostError) -> WorkerLostError:
    return WorkerLostError(
        f"two workers died with it: {error}; if memory ran out, use fewer --workers, a smaller "
        f"--batch-size or --size"
    )
