"""Model files that a run needs, gathered on a worker: linked where they are there, or sent.

They lie in `DSG_HOME/cluster/<hash of them all>`, laid out as any folder of models. It stays, so
that models are sent once.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import ModelError
from dsgcli.faces.mediapipe_models import MULTICLASS_NAME
from dsgcli.media.files import hash_file
from dsgcli.store.places import user_folder
from dsgcli.stylize.output_styles import parse_face_style

if TYPE_CHECKING:
    from dsgcli.store import ModelStore
    from dsgcli.stylize.options import StylizeOptions

LANDMARKER = "face_landmarker.task"


@dataclass(frozen=True, slots=True)
class LentFile:
    """A model file, as the one who starts the run has it."""

    path: str
    """Absolute, there."""
    place: str
    """Where it belongs below a folder of models."""
    hash: str


def needed_files(store: ModelStore, options: StylizeOptions) -> list[LentFile]:
    """All model files that these options can make use of, each once."""
    references = [*options.style, *(parse_face_style(text)[1] for text in options.face_style)]
    found: dict[str, Path] = {}
    for reference in references:
        info = store.info(store.parse(reference).style)
        paths = [*info.files.values()]
        if not info.of_translator:
            paths.append(store.lookup.encoder_for(info, options.encoder))
        if options.exemplar is not None and not info.of_translator:
            paths.append(store.lookup.encoder_for(info, "z+"))
        if info.base is not None:
            paths.append(store.lookup.base_of(info))
        found |= {_place(path, store): path for path in paths}
    if options.refine:
        found |= _optional(store)
    for path, name in ((store.face_landmarker(), LANDMARKER), (store.file(MULTICLASS_NAME), "")):
        if path is not None:
            found[name or path.name] = path
    return [LentFile(str(path.absolute()), place, hash_file(path)) for place, path in found.items()]


def _optional(store: ModelStore) -> dict[str, Path]:
    """Models that refining uses, if they are installed."""
    found = {}
    for kind in ("lpips", "vgg16"):
        try:
            path = store.lookup.network_file(kind)
        except ModelError:
            continue
        found[_place(path, store)] = path
    return found


def _place(path: Path, store: ModelStore) -> str:
    """Below the root that it is in; in a folder of its own name's if it is in none."""
    for root in store.roots:
        if path.resolve().is_relative_to(root.path.resolve()):
            return path.resolve().relative_to(root.path.resolve()).as_posix()
    return f"{path.parent.name}/{path.name}"


# ── on a worker ──────────────────────────────────────────────────────────────────────────────────


def bundle_folder(bundle: str) -> Path:
    """Where the models of this name are kept."""
    return user_folder().parent / "cluster" / bundle


def gather_models(bundle: str, files: Sequence[LentFile]) -> list[str]:
    """Link existing files; the places of what is missing."""
    folder, missing = bundle_folder(bundle), []
    for file in files:
        target = folder / file.place
        if target.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        original = Path(file.path)
        if original.is_file() and hash_file(original) == file.hash:
            target.unlink(missing_ok=True)
            _link(original, target)
        else:
            missing.append(file.place)
    return missing


def _link(original: Path, target: Path) -> None:
    try:
        target.symlink_to(original)
    except FileExistsError:
        return  # by another worker of this machine, just now
    except OSError:  # Windows, without the right to
        shutil.copyfile(original, target)


def keep_model(bundle: str, file: LentFile, begin: int, block: bytes, last: bool) -> bool:
    """Put a block of a model where it belongs; after the last one the whole is checked.

    Raises:
        OSError: the disk is full, or the folder is not writable.
        ValueError: what came is not what was sent.
    """
    import os

    target = bundle_folder(bundle) / file.place
    making = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with making.open("wb" if begin == 0 else "r+b") as out:
            out.seek(begin)
            out.write(block)
        if last and hash_file(making) != file.hash:
            raise ValueError(f"{file.place} was damaged on its way")
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    if last:
        making.replace(target)
    return True
