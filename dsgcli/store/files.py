"""Files as such: what one holds by its first bytes, its hash, and how one is written whole.

Below everything else in the store; knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import string
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from dsgcli.errors import ModelCorruptError, ModelMissingError, OutputBusyError, UsageError
from dsgcli.media.files import (
    AtomicFile,
    locked_outputs,
    make_folder,
    no_empty_folders,
    sink_error,
)

FileFormat = Literal["torch-zip", "torch-legacy", "safetensors", "npy", "tflite", "zip"]

LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""The number that begins a checkpoint written by torch before 1.6 (or without zip)."""
_CHUNK_BYTES = 1 << 20
_TEXT = frozenset(string.printable.encode())


def require_file(path: Path) -> int:
    """Size in bytes of a file that is there and is not empty.

    Raises:
        ModelMissingError: nothing there, or a folder. ModelCorruptError: zero bytes, or unreadable.
    """
    if path.is_dir():
        raise ModelMissingError(f"{path} is a folder; name a model file in it")
    if not path.exists():
        raise ModelMissingError(f"{path} does not exist; check the name and the folder")
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise ModelCorruptError(f"{path} cannot be read: {error.strerror}") from error
    if size == 0:
        raise ModelCorruptError(f"{path} is empty (0 bytes); delete it and fetch it again")
    return size


def file_format(path: Path) -> FileFormat:
    """Recognize the file by its content, whatever its name is.

    Raises:
        ModelMissingError, ModelCorruptError: as `require_file`; also for what is no model at all.
    """
    size = require_file(path)
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return "torch-zip" if b"data.pkl" in head[:256] or _holds_pickle(path) else "zip"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head[:1] == b"\x80" and LEGACY_MAGIC in head[:32]:
        return "torch-legacy"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= max(size, 1 << 40):
        return "safetensors"
    raise ModelCorruptError(f"{path} {_what_else(head)}")


def _holds_pickle(path: Path) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except Exception:  # of many kinds, for a directory that is not whole
        return path.suffix in {".pt", ".pth"}  # let the reader of checkpoints say what is wrong


def _what_else(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return (
            "is a Git LFS pointer, not the file it stands for; run `git lfs pull` where it is from"
        )
    if head.lstrip()[:1] == b"<":
        return (
            "is a web page, not a model: its download was answered with a page (quota, sign-in); "
            "delete it and fetch it again"
        )
    if all(byte in _TEXT for byte in head):
        return "is a text file, not a model; fetch the model file itself"
    if head[:1] == b"\x80":
        return "is a pickle that is not a checkpoint, and such files are never opened"
    return "is no model file (no checkpoint, safetensors or code file begins like this)"


def sha256_of(path: Path) -> str:
    """Hash of the whole file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def one_writer(target: Path) -> Iterator[None]:
    """Keep other runs of dsg from writing a model file, or a folder of models, in this block. No
    folder made for it stays empty.

    Raises:
        UsageError: another run is writing it.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_empty_folders([target]))
        try:
            stack.enter_context(locked_outputs([target]))
        except OutputBusyError as error:
            raise UsageError(
                f"another dsg is writing {target}; run this again when it has ended"
            ) from error
        yield


def write_text(target: Path, text: str) -> None:
    """Write a text file whole (`written_whole`), in UTF-8."""
    with written_whole(target) as temporary:
        temporary.write_text(text, "utf-8")


def add_to_table(target: Path, additions: Mapping[str, object]) -> None:
    """Add entries to a JSON file that holds one object; a file that is missing or damaged starts
    empty. Runs that add at the same time take turns, so that no entry is lost.

    Raises:
        UsageError: another run has held the file for `TURN_S` seconds.
        DsgError: the folder cannot be made or written to.
    """
    give_up = time.monotonic() + TURN_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(one_writer(target))
                break
            except UsageError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
        try:
            table = dict(json.loads(target.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            table = {}
        with written_whole(target) as temporary:
            text = json.dumps(table | dict(additions), indent=1, sort_keys=True)
            temporary.write_text(text, "utf-8")


TURN_S = 10.0
"""How long to wait for a turn at a small file that several runs add to."""


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; it becomes `target` when the block ends well.

    What is written is on the disk before it gets its name, so that a crash leaves the old file or
    the new one, never half of one. The folder is made if it is missing.

    Raises:
        DsgError: the folder cannot be made or written to.
    """
    make_folder(target.parent)
    beside = AtomicFile(target)
    try:
        yield beside.temporary
        beside.commit()
    except OSError as error:
        raise sink_error(target, error) from error
    finally:
        beside.discard()
