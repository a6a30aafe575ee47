"""Import MediaPipe without what it loads for drawing plots and for sound: half of its import.

MediaPipe imports matplotlib and sounddevice as soon as it is imported itself, and uses them in
functions that dsg never calls.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

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
    """Who imports these modules meanwhile gets a stand-in that loads them when it is first used;
    who imports them later gets themselves."""
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
    """A module that is imported when something of it is wanted."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # what the import system looks for
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self.__name__), attribute)
