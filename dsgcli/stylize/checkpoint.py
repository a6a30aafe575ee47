"""Long videos in parts that outlive an interruption.

Beside each output lies, until it is finished, a folder `.NAME.dsg-parts` with

    job.json          what is being made: input, settings, segment length; another job starts again
    00012.0.seg       the encoded frames of segment 12 of output 0 (media/segments.py)
    00012.state       what the loop knew where segment 12 begins: tracks, and the last moments of
                      faces and codes, so that the run goes on as if it had never stopped

A segment counts when its files for all outputs and the state of the next one are whole. Segments
begin at fixed frame numbers, and batches never cross them, so an interrupted run and an
uninterrupted one draw and encode the same pictures in the same company.

The state is everything that a frame owes to the frames before it: the tracks, and the last moments
of faces and codes as they were found, before they were steadied. A run that goes on feeds
these moments through the loop again, without drawing them, and is then where the interrupted one
was, to the bit. The file is safetensors with a JSON header; nothing in it is ever executed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dsgcli.errors import SinkError
from dsgcli.media.base import FrameSink, SinkOptions
from dsgcli.media.files import AtomicFile, make_folder
from dsgcli.media.segments import join_segments, open_segment, segment_frames
from dsgcli.stylize import frame_state
from dsgcli.stylize.frame_state import FrameState
from dsgcli.stylize.jobs import parts_folder
from dsgcli.types import CropTransform, Face

if TYPE_CHECKING:
    from dsgcli.media.base import SourceInfo


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a run begins or goes on."""

    segment: int = 0
    memory: LoopState | None = None
    """State of the loop at that segment; None at the beginning."""

    @property
    def frame(self) -> int:
        """Number of the first frame that is still to be drawn."""
        return self.segment * frame_state.SEGMENT_FRAMES


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
        fixed = {"segment_frames": frame_state.SEGMENT_FRAMES}
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

    def begin(self, segment: int, memory: LoopState | None) -> list[FrameSink]:
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
        return segment * frame_state.SEGMENT_FRAMES

    def discard(self) -> None:
        """Remove all parts."""
        discard_parts(self.outputs[0])

    def _num_whole(self) -> int:
        """Segments from the first on that are whole."""
        return next(number for number in count() if not self._is_whole(number))

    def _is_whole(self, segment: int) -> bool:
        drawn = self.is_drawn(segment, frame_state.SEGMENT_FRAMES)
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


Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """The loop's past, as far as it matters."""

    tracker: dict[str, Any]
    """`Tracker.state()`: plain values and arrays."""
    recent: Sequence[FrameState] = ()
    """The shots of the last moments, without their pictures, oldest first."""
    faces: int = 0
    """Drawn so far."""
    place: CropTransform | None = None
    """Where the last portrait was, see `Paster`."""


def write_memory(path: Path, memory: LoopState) -> None:
    """Write whole or not at all.

    Raises:
        SinkError: the disk is full, or the folder is not writable.
    """
    arrays: Arrays = {}
    header = {
        "tracker": _plain(memory.tracker, arrays, "tracker"),
        "faces": memory.faces,
        "place_px": _place_header(memory.place, arrays),
        "recent": [_shot_header(shot, arrays, f"shot{i}") for i, shot in enumerate(memory.recent)],
    }
    beside = AtomicFile(path)
    try:
        beside.temporary.write_bytes(save(arrays, {"dsg": json.dumps(header)}))
    except OSError as error:
        beside.discard()
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    beside.commit()


def read_memory(path: Path) -> LoopState:
    """Read the file of `write_memory`.

    Raises:
        SinkError: the file is damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()["dsg"])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
        return _memory(header, arrays)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise SinkError(f"{path} is damaged ({error}); pass --no-resume to begin again") from error


def _memory(header: dict[str, Any], arrays: Arrays) -> LoopState:
    return LoopState(
        tracker=_restored(header["tracker"], arrays),
        recent=[_shot(values, arrays, f"shot{i}") for i, values in enumerate(header["recent"])],
        faces=int(header["faces"]),
        place=_place(header["place_px"], arrays),
    )


def _place_header(place: CropTransform | None, arrays: Arrays) -> int | None:
    if place is None:
        return None
    arrays["place"] = np.ascontiguousarray(place.quad)
    return place.size_px


def _place(size_px: int | None, arrays: Arrays) -> CropTransform | None:
    return None if size_px is None else CropTransform(quad=arrays["place"], size_px=size_px)


# ── shots ────────────────────────────────────────────────────────────────────────────────────────


def _shot_header(shot: FrameState, arrays: Arrays, name: str) -> dict[str, Any]:
    if shot.seen:
        arrays[f"{name}.landmarks"] = np.stack([face.landmarks for face in shot.seen])
    for encoder, codes in enumerate(shot.encoded):
        if codes:
            arrays[f"{name}.codes{encoder}"] = torch.stack(list(codes)).float().cpu().numpy()
    return {
        "index": shot.index,
        "scene": shot.scene,
        "time_s": shot.time_s.hex(),
        "faces": [[face.score.hex(), face.track, face.held] for face in shot.seen],
        "encoders": len(shot.encoded),
    }


def _shot(values: dict[str, Any], arrays: Arrays, name: str) -> FrameState:
    landmarks = arrays.get(f"{name}.landmarks", ())
    faces = [
        Face(landmarks=points, score=float.fromhex(score), track=track, held=held)
        for points, (score, track, held) in zip(landmarks, values["faces"], strict=True)
    ]
    encoded = [
        list(torch.from_numpy(np.array(arrays.get(f"{name}.codes{encoder}", ()))))
        for encoder in range(values["encoders"])
    ]
    return FrameState(
        frame=None,
        index=values["index"],
        time_s=float.fromhex(values["time_s"]),
        scene=values["scene"],
        seen=faces,
        encoded=encoded,
    )


# ── nested values ────────────────────────────────────────────────────────────────────────────────


def _plain(value: Any, arrays: Arrays, name: str) -> Any:
    """The value with each array put aside under a name of its own."""
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {"__array__": name}
    if isinstance(value, dict):
        return {key: _plain(item, arrays, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, arrays, f"{name}.{i}") for i, item in enumerate(value)]
    return value


def _restored(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, dict):
        if "__array__" in value:
            return arrays[value["__array__"]]
        return {key: _restored(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item, arrays) for item in value]
    return value
