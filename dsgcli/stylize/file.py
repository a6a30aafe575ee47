"""One input: frames in, drawn by the loop, frames out; a still at once, a video in segments."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dsgcli.errors import (
    FaceNumberError,
    InterruptedRunError,
    NoFaceError,
    SinkError,
    UsageError,
    no_such_faces,
)
from dsgcli.faces.track import FaceChoice
from dsgcli.media.base import FrameSink, FrameSource, SinkOptions, SourceInfo, abort_quietly
from dsgcli.media.read import open_source
from dsgcli.media.write import PictureSink, holds_alpha, open_sink
from dsgcli.stylize.checkpoint import LoopState, ResumePoint, Segments
from dsgcli.stylize.compare import check_page, page_beside, write_page
from dsgcli.stylize.flow import Crew, StylizedFrame
from dsgcli.stylize.jobs import WRITABLE_AS
from dsgcli.stylize.output_styles import parse_face_style
from dsgcli.stylize.refine import loss_note
from dsgcli.stylize.settings import metadata
from dsgcli.stylize.summary import FileResult

if TYPE_CHECKING:
    from pathlib import Path

    from dsgcli.progress import Progress, Task
    from dsgcli.stylize.frame_state import FrameState, GradeReference
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.studio import Studio
    from dsgcli.types import Frame


def stylize_file(job: Job, keys: Sequence[str], studio: Studio, progress: Progress) -> FileResult:
    """Draw one input, once for each cast, and write the outputs.

    Args:
        keys: of the outputs, see `settings.py`.

    Raises:
        SourceError, SinkError: it cannot be read or written.
        NoFaceError: there is nothing to draw in it; no output is written.
        InterruptedRunError: Ctrl-C; finished segments of a video stay for the next run.
    """
    started = time.monotonic()
    options = studio.options
    with open_source(
        job.source.path, start=options.start, end=options.end, rate=options.rate
    ) as source:
        sinks = sink_options(studio, keys, job.outputs, source.info)
        for path, sink in zip(job.outputs, sinks, strict=True):
            check_target(path, sink, source.info)
        if options.compare == "page" and source.info.kind != "picture":
            raise UsageError(
                f"--compare page is for photographs, and {job.source.path} is a video or an "
                f"animation; take --compare side or --compare split"
            )
        crew = studio.crew(job, source.info, aligned=studio.is_aligned(source))
        result = FileResult(source=job.source.path, outputs=list(job.outputs))
        if not options.crop:
            result.notes += alpha_note(sinks, job.outputs, source.info)
        if crew.refine_steps:
            result.notes.append(loss_note(crew.perceptual))
        name, total = job.source.path.name, source.info.expected_frames
        with progress.task(name, total, unit="frames") as task:
            if source.info.kind == "picture":
                _draw_still(job, source, crew, studio, sinks, result, task)
            else:
                _Video(job, source, crew, studio, sinks, result, task).draw(keys)
    result.notes += missing_faces_note(result, options)
    result.notes += [*faces_note(result, source.info), *dict.fromkeys(source.info.warnings)]
    result.truncated = source.info.truncated
    result.seconds = time.monotonic() - started
    return result


def check_target(path: Path, options: SinkOptions, info: SourceInfo) -> None:
    """Find out before hours of work whether such a file can be written.

    Raises:
        SinkError, UsageError: as `open_sink`, or a picture's name for many frames, or a video's
            for one.
    """
    sink = open_sink(path, options, info)
    sink.abort()
    if info.kind != "picture" and isinstance(sink, PictureSink):
        raise SinkError(
            f"{path} holds one picture, and {info.path} is a video or an animation; "
            f"name a .mp4, a .webm or a .gif with -o/--output"
        )
    if info.kind == "picture" and path.suffix.lower() in WRITABLE_AS["video"]:
        raise SinkError(
            f"{path} is the name of a video, and {info.path} is a picture; "
            f"name a .png, a .jpg or a .webp with -o/--output"
        )


def sink_options(
    studio: Studio, keys: Sequence[str], outputs: Sequence[Path], info: SourceInfo
) -> list[SinkOptions]:
    """How to write the outputs, one a cast; what is transparent in the input stays so where the
    output can hold it."""
    pairs = zip(keys, studio.casts, strict=True)
    options = [_sink_options(studio.options, metadata(key, cast)) for key, cast in pairs]
    if not info.has_alpha or studio.options.crop:
        return options
    return [
        replace(one, alpha=one.alpha or holds_alpha(path, one))
        for path, one in zip(outputs, options, strict=True)
    ]


def alpha_note(
    sinks: Sequence[SinkOptions], outputs: Sequence[Path], info: SourceInfo
) -> list[str]:
    """Which outputs lose the transparency of the input."""
    lost = [path.name for path, one in zip(outputs, sinks, strict=True) if not one.alpha]
    return [f"{', '.join(lost)} holds no transparency; the input's is left out"] * (
        info.has_alpha and bool(lost)
    )


def _sink_options(options: StylizeOptions, about: dict[str, str]) -> SinkOptions:
    return SinkOptions(
        codec=options.codec,
        crf=options.crf,
        preset=options.codec_preset,
        codec_options=dict(_pair(option) for option in options.codec_option),
        audio=options.audio,
        alpha=options.alpha,
        location=options.location,
        metadata=about,
        overwrite=True,  # whether it may be replaced was decided before
    )


def _pair(option: str) -> tuple[str, str]:
    key, _, value = option.partition("=")
    return key, value


def _draw_still(
    job: Job,
    source: FrameSource,
    crew: Crew,
    studio: Studio,
    sinks: Sequence[SinkOptions],
    result: FileResult,
    task: Task,
) -> None:
    pages = [page_beside(path) for path in job.outputs] if crew.options.compare == "page" else []
    for page in pages:
        check_page(page, overwrite=crew.options.overwrite)
    (drawn,) = crew.run(source, studio.casts)
    if not drawn.shot.crops:
        result.num_tracks = drawn.shot.num_tracks
        raise nothing_drawn(result, studio)
    with studio.clock.stage("write"), ExitStack() as stack:
        for path, options, picture in zip(job.outputs, sinks, drawn.pictures, strict=True):
            sink = stack.enter_context(open_sink(path, options, source.info))
            sink.write(picture)
    assert drawn.shot.frame is not None, "a picture is drawn whole"
    for number, page in enumerate(pages):
        title = f"{job.source.path.name}, {studio.casts[number].reference}"
        before = crew.paster.before(drawn.shot.frame, number)
        write_page(page, before, drawn.pictures[number].pixels, title)
        result.notes.append(f"before and after with a slider: {page}")
    _count(result, drawn, task)


def _count(result: FileResult, drawn: StylizedFrame, task: Task) -> None:
    result.frames += 1
    result.faces += len(drawn.shot.crops)
    result.faces_found = max(result.faces_found, drawn.shot.found)
    result.num_tracks = max(result.num_tracks, drawn.shot.num_tracks)
    task.advance(1, faces=result.faces)


def faces_note(result: FileResult, info: SourceInfo) -> list[str]:
    """How many faces were found, where there are several or not all were drawn."""
    found, drawn = result.faces_found, result.faces
    if info.kind != "picture":
        return [f"up to {found} faces found in a frame"] if found > 1 else []
    if drawn < found:
        return [f"{found} faces found, {drawn} drawn (--faces)"]
    return [f"{found} faces found and drawn"] if found > 1 else []


def missing_faces_note(result: FileResult, options: StylizeOptions) -> list[str]:
    """Numbers in `--faces` and `--face-style` that no face of the input has."""
    if result.num_tracks == 0:
        return []
    named = FaceChoice.parse(options.faces).tracks or frozenset()
    styled = {parse_face_style(text)[0] for text in options.face_style}
    return [
        f"{no_such_faces(missing, result.num_tracks)} ({option})"
        for option, numbers in (("--faces", named), ("--face-style", styled))
        if (missing := sorted(number for number in numbers if number >= result.num_tracks))
    ]


def nothing_drawn(result: FileResult, studio: Studio) -> NoFaceError:
    """The error of an input of which no face was drawn."""
    wanted = FaceChoice.parse(studio.options.faces).tracks
    if result.num_tracks and wanted and min(wanted) >= result.num_tracks:
        name, num_faces = str(result.source), result.num_tracks
        return FaceNumberError(name, wanted=sorted(wanted), num_faces=num_faces)
    return NoFaceError(str(result.source), detector=studio.detector.name)


def how_to_go_on(result: FileResult, frame: int, options: StylizeOptions) -> str:
    """The message after Ctrl-C: the same command continues from this frame."""
    stopped = f"stopped after {result.frames} frames of {result.source}"
    if frame == 0:
        return f"{stopped}, nothing saved yet; the same command starts again"
    same = "the same command" if options.resume else "it without --no-resume"
    return f"{stopped}; {same} goes on from frame {frame}"


@dataclass(slots=True)
class _Video:
    """A video that is being drawn: its segments, and what the next one has to remember."""

    job: Job
    source: FrameSource
    crew: Crew
    studio: Studio
    options: Sequence[SinkOptions]
    result: FileResult
    task: Task
    recent: deque[FrameState] = field(default_factory=deque)
    """Shots that smoothing may still look back at, without their pictures."""
    sinks: list[FrameSink] = field(default_factory=list)

    def draw(self, keys: Sequence[str]) -> None:
        """Draw what is not drawn yet, then join the segments; what a later run can go on from
        stays, if this one does not get so far."""
        segments = Segments(
            self.job.outputs,
            self.options,
            self.source.info,
            {"keys": list(keys)},
            fresh=not self.studio.options.resume,
        )
        try:
            self._draw(segments)
        except KeyboardInterrupt as error:
            self._stop()
            told = how_to_go_on(self.result, segments.stop(), self.studio.options)
            raise InterruptedRunError(told) from error
        except NoFaceError:  # as it would be the next time
            self._stop()
            segments.discard()
            raise
        except BaseException:
            self._stop()
            segments.stop()
            raise

    def _draw(self, segments: Segments) -> None:
        point = segments.resume_point()
        self._go_on(point)
        with self._open(point.frame) as rest:
            count = point.segment + self._write(segments, point, rest)
            self.source.info.warnings += rest.info.warnings
            self.source.info.truncated = rest.info.truncated
        if not self.result.faces:
            raise nothing_drawn(self.result, self.studio)
        with self.studio.clock.stage("write"):
            self.result.notes += segments.join(count)

    def _go_on(self, point: ResumePoint) -> None:
        if point.memory is None:
            return
        self.crew.memory, self.crew.read_frame = point.memory, self._read_again
        self.crew.paster.place = point.memory.place
        self.recent.extend(point.memory.recent)
        self.result.frames, self.result.faces = point.frame, int(point.memory.faces)
        self.result.notes.append(f"went on from frame {point.frame} of an interrupted run")
        self.task.advance(point.frame)

    def _open(self, first: int) -> FrameSource:
        """The source once more, from this frame on."""
        options = self.studio.options
        return open_source(
            self.job.source.path,
            start=options.start,
            end=options.end,
            skip=first,
            rate=options.rate,
        )

    def _read_again(self, reference: GradeReference) -> Frame:
        with self._open(reference.index) as again:
            return next(iter(again))

    def _write(self, segments: Segments, point: ResumePoint, frames: FrameSource) -> int:
        """Draw and write all frames that are left; the number of segments that they fill."""
        begun = 0
        with closing(self.crew.run(frames, self.studio.casts)) as drawn_frames:
            for drawn in drawn_frames:
                if drawn.shot.begins_segment:
                    self._close()
                    self.sinks = segments.begin(point.segment + begun, self._memory(drawn.shot))
                    begun += 1
                with self.studio.clock.stage("write"):
                    for sink, picture in zip(self.sinks, drawn.pictures, strict=True):
                        sink.write(picture)
                self._remember(drawn.shot)
                _count(self.result, drawn, self.task)
        self._close()
        return begun

    def _memory(self, shot: FrameState) -> LoopState:
        assert shot.tracker is not None, "every segment begins with what was known of the tracks"
        return LoopState(
            tracker=shot.tracker,
            recent=list(self.recent),
            faces=self.result.faces,
            place=self.crew.paster.place,
        )

    def _remember(self, shot: FrameState) -> None:
        """Keep what the smoothing of later frames looks back at: twice its reach, since codes are
        smoothed after faces."""
        self.recent.append(shot.without_pictures())
        reach_s = 2 * self.crew.smooth_s + 1.0
        while self.recent[0].time_s < shot.time_s - reach_s:
            self.recent.popleft()

    def _close(self) -> None:
        for sink in self.sinks:
            sink.close()
        self.sinks = []

    def _stop(self) -> None:
        """Drop the unfinished segment."""
        for sink in self.sinks:
            abort_quietly(sink)
        self.sinks = []
