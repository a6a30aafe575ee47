"""Whether this terminal can draw pictures, and how large.

Nothing is asked of a stream that is no terminal, and no answer is waited for longer than
`PATIENCE_S`: a terminal that knows nothing of pictures stays silent.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from dsgcli.generate.gallery import Gallery, Shown
    from dsgcli.generate.terminal import Protocol

PATIENCE_S = 0.3
"""Enough for a terminal at the other end of a slow line."""
USUAL_COLUMN_PX = 8
THUMBNAIL_PX = 128
"""Side of the pictures of a gallery."""


def find_protocol(stdin: TextIO | None = None, stdout: TextIO | None = None) -> Protocol | None:
    """How to draw pictures on stdout; None if it is no terminal, or one that cannot."""
    from dsgcli.generate.terminal import ASK_ATTRIBUTES, knows_sixel, protocol_by_name

    stdin, stdout = stdin or sys.stdin, stdout or sys.stdout
    if not stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        return None
    if named := protocol_by_name(os.environ):
        return named
    return "sixel" if knows_sixel(ask(stdin, stdout, ASK_ATTRIBUTES, end="c")) else None


def ask(stdin: TextIO, stdout: TextIO, question: str, *, end: str) -> str:
    """What a terminal answers, up to `end`; empty if it does not answer, or cannot be asked."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import termios  # not on Windows

        if not stdin.isatty():
            return ""
        with _unechoed(stdin.fileno(), termios):
            stdout.write(question)
            stdout.flush()
            return _read_answer(stdin.fileno(), end.encode())
    return ""


@contextlib.contextmanager
def _unechoed(handle: int, termios: Any) -> Iterator[None]:
    """Characters as they come, and not shown; as it was, afterwards."""
    before = termios.tcgetattr(handle)
    changed = termios.tcgetattr(handle)
    changed[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(handle, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)


def _read_answer(handle: int, end: bytes) -> str:
    answer, patience_ends = b"", time.monotonic() + PATIENCE_S
    while (left := patience_ends - time.monotonic()) > 0 and not answer.endswith(end):
        if not select.select([handle], [], [], left)[0]:
            break
        answer += os.read(handle, 1)
    return answer.decode("ascii", "replace")


def size_of_terminal() -> tuple[int, int]:
    """Columns of text, and the same in pixels where the terminal says; else a guess."""
    columns = shutil.get_terminal_size().columns
    with contextlib.suppress(ImportError, OSError, ValueError):
        import fcntl
        import termios

        said = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        width_px = struct.unpack("HHHH", said)[2]
        if width_px:
            return columns, width_px
    return columns, columns * USUAL_COLUMN_PX


def draw_in_terminal(gallery: Gallery, pictures: Sequence[Shown], protocol: Protocol) -> None:
    """A gallery on stdout, as wide as it is or as the terminal is."""
    from dsgcli.generate.gallery import sheet_of
    from dsgcli.generate.terminal import picture_text

    columns, width_px = size_of_terminal()
    across = max(1, (width_px - 8) // (THUMBNAIL_PX + 4))
    sheet = sheet_of(gallery, pictures, columns=across, cell_px=THUMBNAIL_PX, most_px=width_px)
    taken = max(1, min(columns, round(sheet.shape[1] * columns / width_px)))
    sys.stdout.write(picture_text(sheet, protocol, taken))
    sys.stdout.flush()
