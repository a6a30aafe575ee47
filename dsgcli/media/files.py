"""Files on disk: checks before work starts, and outputs that appear whole or not at all.

An output is written beside its target under a temporary name, flushed to the disk, and renamed. No
two runs share such a name (`.NAME.MACHINE-PROCESS-NUMBER.part.EXT`); what a killed run leaves is
removed by the next one that writes into the same folder.

A run that works on an output for long holds a lock beside it (`locked_outputs`), so that a second
run is refused. The operating system releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import BinaryIO

from dsgcli.errors import (
    MediaError,
    OutputBusyError,
    OutputExistsError,
    SinkError,
    SourceError,
    SourceMissingError,
)

MAX_NAME_BYTES = 255
"""Longest file name that common file systems accept."""


def check_input(path: Path) -> None:
    """Make sure that there is a file to read.

    Raises:
        SourceMissingError: it does not exist, or is a folder.
        SourceError: it is empty, no regular file, or may not be read.
    """
    try:
        if path.is_dir():
            raise SourceMissingError(f"{path} is a folder; name a file")
        if not path.exists():
            raise SourceMissingError(f"{path} does not exist; check the name")
        if not path.is_file():
            raise SourceError(f"{path} is no regular file; give a picture or a video")
        with path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"{path} is empty (0 bytes); get the file again")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {reason(error)}") from error


def check_output(path: Path, *, overwrite: bool) -> None:
    """Make sure that a file may be written, before hours of work; make its folder.

    Raises:
        OutputExistsError: it exists and `overwrite` is False.
        SinkError: it is a folder, or its folder cannot be made or written.
    """
    if path.is_dir():
        raise SinkError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise OutputExistsError(path)
    make_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, and make sure that files can be put into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"the folder {folder} cannot be made: {reason(error)}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"the folder {folder} is not writable; choose another -o/--output")


@contextlib.contextmanager
def no_empty_folders(outputs: Iterable[Path]) -> Iterator[None]:
    """Remove the folders that the block makes for these outputs and leaves empty, as a run does
    that is refused, or that fails for all its inputs."""
    missing: dict[Path, None] = {}
    for folder in dict.fromkeys(output.parent for output in outputs):
        for above in (folder, *folder.parents):
            if above in missing or above.exists():
                break
            missing[above] = None
    try:
        yield
    finally:
        for folder in sorted(missing, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()  # refuses a folder that is not empty


def numbered_neighbors(path: Path) -> Iterator[Path]:
    """`a-2.png`, `a-3.png` and so on, beside `a.png`."""
    return (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))


def place_of(path: Path) -> str:
    """Key by which two files are compared. On a file system that ignores case, `A.png` and `a.png`
    are one file, and so are the two ways to write an accent. A link that leads back to itself is a
    file of its own, which cannot be written."""
    try:
        whole = path.resolve()
    except (RuntimeError, OSError):
        whole = path.absolute()
    if not ignores_case(whole.parent):
        return str(whole)
    return unicodedata.normalize("NFC", str(whole)).casefold()


@functools.cache
def ignores_case(folder: Path) -> bool:
    """Whether names differ by more than case there, as usual on Windows and macOS: asked of the
    nearest folder that exists."""
    for one in (folder, *folder.parents):
        swapped = one.with_name(one.name.swapcase()) if one.name else one
        if one.exists() and swapped != one:
            return swapped.exists() and swapped.samefile(one)
    return os.name == "nt"


def cut_name(name: str, max_bytes: int) -> str:
    """The beginning of a file name, in at most so many bytes of the file system; whole letters,
    and bytes that are no UTF-8 as they are."""
    raw = os.fsencode(name)
    for length in range(min(len(raw), max_bytes), -1, -1):
        if name.startswith(cut := os.fsdecode(raw[:length])):
            return cut
    return ""


def printable(text: str) -> str:
    """Escape bytes of a path that are no UTF-8 (`caf\\xe9.jpg`), so that it can be printed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    return text


def reason(error: OSError) -> str:
    """The operating system's own message: 'No space left on device'."""
    if error.errno:
        return os.strerror(error.errno)
    return error.strerror or str(error)


@contextlib.contextmanager
def files_refused() -> Iterator[None]:
    """Turn errors of the operating system about a file into errors for the user.

    Raises:
        MediaError: with the file that it names.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise MediaError(
            f"{error.filename} cannot be used: {reason(error)}; rename it, or name another output "
            f"with -o/--output or --output-pattern"
        ) from error


def sink_error(path: Path, error: OSError) -> SinkError:
    """A failed write, with what to do about the usual causes."""
    advice = {
        errno.ENOSPC: "free some space or choose another disk",
        errno.EFBIG: "the file system allows no larger file",
        errno.EROFS: "choose another -o/--output",
        errno.EACCES: "choose another -o/--output",
    }.get(error.errno or 0)
    text = f"{path} cannot be written: {reason(error)}"
    return SinkError(f"{text}; {advice}" if advice else text)


def hash_file(path: Path) -> str:
    """Content hash: BLAKE2b, 128 bits, 32 hexadecimal digits. Reads about 1 GB a second.

    Raises:
        SourceMissingError, SourceError: as `check_input`.
    """
    check_input(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class AtomicFile:
    """A file or a folder that is being written beside its target.

    Write to `.temporary`; then `commit` puts it in its place, `discard` leaves nothing.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        tail = f".{_machine()}-{os.getpid()}-{next(_numbers)}.part{target.suffix}"
        stem = cut_name(target.stem, MAX_NAME_BYTES - len(os.fsencode(tail)) - 1)
        self.temporary = target.with_name(f".{stem}{tail}")
        _remove_leftovers(target.parent)

    def commit(self) -> None:
        """Flush to the disk and rename; replaces what was there.

        Raises:
            SinkError: nothing was written, or it cannot be moved; nothing is left then.
        """
        try:
            if self.temporary.is_dir():
                for path in self.temporary.iterdir():
                    _flush(path)
                if self.target.exists():
                    shutil.rmtree(self.target)
                self.temporary.rename(self.target)
                _flush(self.target.parent)
            else:
                publish(self.temporary, self.target)
        except OSError as error:
            self.discard()
            raise sink_error(self.target, error) from error

    def discard(self) -> None:
        """Remove what was written so far; no error if there is nothing."""
        _remove(self.temporary)


def _remove(path: Path) -> None:
    """Delete a file, a folder with its content, or a link (not what it leads to), if it can be."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def publish(temporary: Path, target: Path) -> None:
    """Give a finished file its name, with its content on the disk first; replaces atomically."""
    _flush(temporary)
    mask = os.umask(0)  # rights that new files do not get; can only be read by setting it
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)  # some libraries make private files
    temporary.replace(target)
    _flush(target.parent)


_numbers = count()
"""Tells temporary files of one process apart."""


@functools.cache
def _machine() -> str:
    """A few digits for this machine, or this container, that do not name it."""
    where = platform.node()
    with contextlib.suppress(OSError):
        where += str(Path("/proc/self/ns/pid").readlink())  # process numbers mean something here
    return hashlib.blake2b(where.encode(), digest_size=3).hexdigest()


_swept: set[tuple[int, Path]] = set()
"""Processes, and the folders in which they have looked for leftovers: each looks once."""


def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files from processes of this machine that have ended."""
    if (os.getpid(), folder) in _swept:
        return
    _swept.add((os.getpid(), folder))
    ours = re.compile(rf"\..*\.{_machine()}-(\d+)-\d+\.part(\.[^.]*)?", re.DOTALL)
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]
    except OSError:
        return
    for name in names:
        if (match := ours.fullmatch(name)) and not _is_running(int(match[1])):
            _remove(folder / name)


def _is_running(process: int) -> bool:
    """Whether a process of this machine is there; True where that cannot be found out."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


# ── one run at a time ────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def locked_outputs(outputs: Sequence[Path]) -> Iterator[None]:
    """Keep other runs from writing these files, until the block ends.

    The lock is a file `.NAME.dsg-lock` beside each output, locked by the operating system: that of
    a killed run is free. Where the file system has no locks, nothing is locked.

    Raises:
        OutputBusyError: another run is writing one of them.
        SinkError: a folder that cannot be made or written.
    """
    with contextlib.ExitStack() as stack:
        for output in sorted(outputs, key=place_of):
            make_folder(output.parent)
            stack.enter_context(_locked(output))
        yield


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    ending = ".dsg-lock"
    stem = cut_name(output.name, MAX_NAME_BYTES - len(ending) - 1)
    path = output.with_name(f".{stem}{ending}")
    file = _open_lock(path, output)
    try:
        yield
    finally:
        if sys.platform != "win32":  # where an open file cannot be deleted
            with contextlib.suppress(OSError):
                path.unlink()
        file.close()
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                path.unlink()


def _open_lock(path: Path, output: Path) -> BinaryIO:
    """The lock file, locked, and still the one that others find under this name."""
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        except OSError as error:
            raise sink_error(path, error) from error
        if not try_lock(file.fileno()):
            file.close()
            raise OutputBusyError(output)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # deleted by the run that held it, just now


def try_lock(handle: int) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    Where the file system has no locks, True.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
    return True


def _flush(path: Path) -> None:
    """fsync, where the file system can. Windows flushes only what is open for writing, and opens no
    folders."""
    try:
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
