"""Import MediaPipe without the packages that dsg does not need, and keep its native code quiet.

It imports matplotlib and sounddevice as soon as it is imported itself, and uses them in functions
that dsg never calls. Its C++ core writes to the process's stderr past every Python setting: which
delegate it made, that its logging is not set up, which tensors it will not watch. Lines that it
marks as errors, and lines of other writers, are passed on.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# ── the import ───────────────────────────────────────────────────────────────────────────────────

UNUSED = ("matplotlib", "matplotlib.pyplot", "sounddevice")


def load_mediapipe() -> Any:
    """The package `mediapipe`.

    Raises:
        ImportError: it is not installed.
    """
    with put_off(UNUSED):
        return importlib.import_module("mediapipe")


@contextmanager
def put_off(names: tuple[str, ...]) -> Iterator[None]:
    """Within the block, an import of these modules gives a stand-in, which loads the module when it
    is first used; later imports give the modules themselves."""
    stand_ins = {name: _Later(name) for name in names if name not in sys.modules}
    for name, module in stand_ins.items():
        parent, _, child = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _Later(ModuleType):
    """A module that is imported when an attribute of it is first read."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # what the import system looks for
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self.__name__), attribute)


# ── the chatter ──────────────────────────────────────────────────────────────────────────────────

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
                if kept := b"".join(line for line in held if not is_chatter(line)):
                    os.write(STDERR, kept)
