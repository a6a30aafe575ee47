"""What the loop knows where a segment begins, and how that is kept on the disk.

Everything that a frame owes to the frames before it: the tracks, and the last moments of faces,
codes and colors as they were found, before they were steadied. A run that goes on feeds these
moments through the loop again, without drawing them, and is then where the interrupted one was, to
the bit.

The file is safetensors with a JSON header; nothing in it is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dsgcli.errors import SinkError
from dsgcli.media.files import AtomicFile
from dsgcli.stylize.shots import Shot
from dsgcli.types import CropTransform, Face

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The loop's past, as far as it matters."""

    tracker: dict[str, Any]
    """`Tracker.state()`: plain values and arrays."""
    recent: Sequence[Shot] = ()
    """The shots of the last moments, without their pictures, oldest first."""
    faces: int = 0
    """Drawn so far."""
    place: CropTransform | None = None
    """Where the last portrait was, see `Paster`."""


def write_memory(path: Path, memory: Memory) -> None:
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


def read_memory(path: Path) -> Memory:
    """What `write_memory` wrote.

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


def _memory(header: dict[str, Any], arrays: Arrays) -> Memory:
    return Memory(
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


def _shot_header(shot: Shot, arrays: Arrays, name: str) -> dict[str, Any]:
    if shot.seen:
        arrays[f"{name}.landmarks"] = np.stack([face.landmarks for face in shot.seen])
    for encoder, codes in enumerate(shot.encoded):
        if codes:
            arrays[f"{name}.codes{encoder}"] = torch.stack(list(codes)).float().cpu().numpy()
    for cast, fit in enumerate(shot.fits):
        if fit is not None:
            arrays[f"{name}.fit{cast}"] = np.ascontiguousarray(fit)
    return {
        "index": shot.index,
        "scene": shot.scene,
        "casts": len(shot.fits),
        "time_s": shot.time_s.hex(),
        "faces": [[face.score.hex(), face.track, face.held] for face in shot.seen],
        "encoders": len(shot.encoded),
    }


def _shot(values: dict[str, Any], arrays: Arrays, name: str) -> Shot:
    landmarks = arrays.get(f"{name}.landmarks", ())
    faces = [
        Face(landmarks=points, score=float.fromhex(score), track=track, held=held)
        for points, (score, track, held) in zip(landmarks, values["faces"], strict=True)
    ]
    encoded = [
        list(torch.from_numpy(np.array(arrays.get(f"{name}.codes{encoder}", ()))))
        for encoder in range(values["encoders"])
    ]
    return Shot(
        frame=None,
        index=values["index"],
        time_s=float.fromhex(values["time_s"]),
        scene=values["scene"],
        seen=faces,
        encoded=encoded,
        fits=[arrays.get(f"{name}.fit{cast}") for cast in range(values["casts"])],
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
