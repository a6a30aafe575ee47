"""Files on disk: checks before work starts, and outputs that appear whole or not at all.

An output is written beside its target under a temporary name (`.NAME.part.EXT`), flushed to the
disk, and renamed. The temporary name is the same for every run, so what a killed run leaves behind
is overwritten by the next.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from dsgcli.errors import MediaError, OutputExistsError, SinkError, SourceError, SourceMissingError

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
            raise SourceMissingError(f"{path} is a folder; a file is wanted here")
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


def place_of(path: Path) -> str:
    """What tells two files apart. On a file system that ignores case, `A.png` and `a.png` are one
    file, and so are the two ways to write an accent."""
    whole = path.resolve()
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
    """The same with what is no UTF-8 in a path escaped (`caf\\xe9.jpg`), as text has to be."""
    return os.fsencode(text).decode("utf-8", "backslashreplace") if not _is_text(text) else text


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def reason(error: OSError) -> str:
    """What the operating system says, in its words: 'No space left on device'."""
    if error.errno:
        return os.strerror(error.errno)
    return error.strerror or str(error)


@contextlib.contextmanager
def files_refused() -> Iterator[None]:
    """What the operating system refuses for a file, as an error for the user.

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


class Beside:
    """A file, or a folder, in the making.

    Write to `.temporary`; then `commit` puts it in its place, `discard` leaves nothing.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(_temporary_name(target))
        self.discard()

    def commit(self) -> None:
        """Flush to the disk and rename; replaces what was there.

        Raises:
            SinkError: nothing was written, or it cannot be moved; nothing is left then.
        """
        try:
            if self.temporary.is_dir():
                _replace_folder(self.temporary, self.target)
                _flush(self.target.parent)
            else:
                publish(self.temporary, self.target)
        except OSError as error:
            self.discard()
            raise sink_error(self.target, error) from error

    def discard(self) -> None:
        """Remove what was written so far; no error if there is nothing."""
        if self.temporary.is_dir():
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)


def publish(temporary: Path, target: Path) -> None:
    """Give a finished file its name, with its content on the disk first; replaces atomically."""
    _flush(temporary)
    temporary.chmod(0o666 & ~_umask())  # some libraries make private files
    temporary.replace(target)
    _flush(target.parent)


def _umask() -> int:
    """What new files are not allowed, by the user's settings; can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _temporary_name(target: Path) -> str:
    tail = f".part{target.suffix}"
    stem = cut_name(target.stem, MAX_NAME_BYTES - len(os.fsencode(tail)) - 1)
    return f".{stem}{tail}"


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


def _replace_folder(temporary: Path, target: Path) -> None:
    for path in temporary.iterdir():
        _flush(path)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
