"""Long videos in parts that outlive an interruption.

AtomicFile each output lies, until it is finished, a folder `.NAME.dsg-parts` with

    job.json          what is being made: input, settings, segment length; another job starts anew
    00012.0.seg       the encoded frames of segment 12 of output 0 (media/segments.py)
    00012.state       what the loop knew where segment 12 begins: tracks, and the last moments of
                      faces and codes, so that the run goes on as if it had never stopped

A segment counts when its files for all outputs and the state of the next one are whole. Segments
begin at fixed frame numbers, and batches never cross them, so an interrupted run and an
uninterrupted one draw and encode the same pictures in the same company.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgcli.errors import SinkError
from dsgcli.media.base import FrameSink, SinkOptions
from dsgcli.media.files import AtomicFile, make_folder
from dsgcli.media.segments import join_segments, open_segment, segment_frames
from dsgcli.stylize import shots
from dsgcli.stylize.jobs import parts_folder
from dsgcli.stylize.memory import Memory, read_memory, write_memory

if TYPE_CHECKING:
    from dsgcli.media.base import SourceInfo


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a run begins or goes on."""

    segment: int = 0
    memory: Memory | None = None
    """What the loop knew there; None at the beginning."""

    @property
    def frame(self) -> int:
        """Number of the first frame that is still to be drawn."""
        return self.segment * shots.SEGMENT_FRAMES


class Segments:
    """The parts of one job on the disk.

    Args:
        outputs: final files, one a style.
        job: everything that decides what the frames look like; compared with what lies there.
        fresh: throw away what lies there.
        joining: take part in what another process began; nothing is thrown away.
    """

    def __init__(
        self,
        outputs: Sequence[Path],
        options: Sequence[SinkOptions],
        info: SourceInfo,
        job: dict[str, Any],
        *,
        fresh: bool = False,
        joining: bool = False,
    ) -> None:
        self.outputs, self.options, self.info = outputs, options, info
        self.folder = parts_folder(outputs[0])
        names = [output.name for output in outputs]
        fixed = {"segment_frames": shots.SEGMENT_FRAMES}
        job = {**job, **fixed, "outputs": names}
        if joining:
            return
        _check_place(self.folder)
        if fresh or self._job() != job:
            self.discard()
            if self.folder.exists():
                raise SinkError(f"{self.folder} cannot be removed; delete it, then run this again")
        if not self.folder.exists():
            try:
                make_folder(self.folder)
                _write_json(self.folder / "job.json", job)
            except SinkError:  # a full disk, or a limit on the size of files
                self.discard()
                raise

    def resume_point(self) -> ResumePoint:
        """The first segment that is not whole."""
        segment = self._num_whole()
        return ResumePoint(segment, read_memory(self._state(segment)) if segment else None)

    def begin(self, segment: int, memory: Memory | None) -> list[FrameSink]:
        """Sinks of the next segment, one an output. The state is written first: it makes the
        segment before it count."""
        if segment > 0 and memory is not None:
            write_memory(self._state(segment), memory)
        return [
            open_segment(self._part(segment, number), output, options, self.info)
            for number, (output, options) in enumerate(zip(self.outputs, self.options, strict=True))
        ]

    def is_drawn(self, segment: int, frames: int) -> bool:
        """Whether the files of a segment of so many frames are whole."""
        parts = (self._part(segment, number) for number in range(len(self.outputs)))
        return all(segment_frames(part) == frames for part in parts)

    def join(self, num_segments: int) -> list[str]:
        """Put the parts together into the outputs, and drop them. Returns notes for the user."""
        notes: list[str] = []
        for number, (output, options) in enumerate(zip(self.outputs, self.options, strict=True)):
            parts = [self._part(segment, number) for segment in range(num_segments)]
            notes += join_segments(parts, output, options, self.info)
        self.discard()
        return list(dict.fromkeys(notes))

    def stop(self) -> int:
        """Keep what a later run can go on from, if anything; the number of its first frame."""
        segment = self._num_whole()
        if segment == 0:
            self.discard()
        return segment * shots.SEGMENT_FRAMES

    def discard(self) -> None:
        """Remove all parts."""
        discard_parts(self.outputs[0])

    def _num_whole(self) -> int:
        """Segments from the first on that are whole."""
        return next(number for number in count() if not self._is_whole(number))

    def _is_whole(self, segment: int) -> bool:
        drawn = self.is_drawn(segment, shots.SEGMENT_FRAMES)
        return drawn and self._state(segment + 1).is_file()

    def _part(self, segment: int, output: int) -> Path:
        return self.folder / f"{segment:05d}.{output}.seg"

    def _state(self, segment: int) -> Path:
        return self.folder / f"{segment:05d}.state"

    def _job(self) -> object:
        try:
            return json.loads((self.folder / "job.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None


def discard_parts(output: Path) -> None:
    """Remove what an interrupted run has left beside its first output, as far as that is possible;
    a link in its place stays, and so does what it leads to."""
    shutil.rmtree(parts_folder(output), ignore_errors=True)


def _check_place(folder: Path) -> None:
    """Make sure that nothing but a folder of ours lies where the parts go.

    Raises:
        SinkError: a link or a file does.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a link" if folder.is_symlink() else "no folder"
        raise SinkError(
            f"{folder} is {what}, where the parts of a video are kept while it is made; delete it"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    beside = AtomicFile(path)
    try:
        beside.temporary.write_text(json.dumps(content, indent=1, default=str), "utf-8")
    except OSError as error:
        beside.discard()
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    beside.commit()
