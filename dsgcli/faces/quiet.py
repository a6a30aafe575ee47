"""Keep the start-up chatter of native libraries off the terminal, and let their errors through.

MediaPipe's C++ core writes to the process's stderr past every Python setting: which delegate it
made, that its logging is not set up, which tensors it will not watch. None of it concerns the user.
What is an error by its own mark, and whatever others write meanwhile, is passed on.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
"""The file descriptor that native code writes to."""

_CHATTER = re.compile(
    rb"""[IW]\d{4}\ [\d:. ]+\S+\.(cc|cpp|h):\d+\]          # glog and absl: information and warnings
       | (INFO|WARNING):\ (Created\ TensorFlow\ Lite|All\ log\ messages\ before|Logging\ before)""",
    re.VERBOSE,
)
_one_at_a_time = threading.RLock()


def is_chatter(line: bytes) -> bool:
    """Whether a line is information or a warning of the native logging."""
    return _CHATTER.match(line) is not None


@contextmanager
def native_chatter_dropped() -> Iterator[None]:
    """Hold back stderr for the duration of the block, then pass on all that is not chatter.

    Not for long blocks: a progress bar would stand still meanwhile.
    """
    with _one_at_a_time:
        sys.stderr.flush()
        try:
            real = os.dup(STDERR)
        except OSError:  # no stderr at all, as under pythonw: nothing to keep clean
            yield
            return
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), STDERR)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(real, STDERR)
                os.close(real)
                held.seek(0)
                _pass_on(held.read())


def _pass_on(text: bytes) -> None:
    kept = b"".join(line for line in text.splitlines(keepends=True) if not is_chatter(line))
    if kept:
        os.write(STDERR, kept)
