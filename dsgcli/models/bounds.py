"""Bounds on the configuration of a network, so that none is built from absurd numbers.

Configurations come from the headers of model files, which anyone can write. The bounds are far
above every published network (512 channels, 8 layers, 24 residual units) and keep the time and the
integers of a construction small; whether the numbers agree with the tensors of the file is checked
in `store/networks.py`, before memory is taken.
"""

from __future__ import annotations

from dsgcli.errors import ModelMismatchError

MAX_WIDTH = 16_384
"""Largest number of channels, of entries in a style code, or of entries in a noise vector."""
MAX_LAYERS = 256
"""Largest number of linear layers in a row, of residual units in a stage, or of code rows."""


def check_widths(what: str, *widths: int) -> None:
    """Raise ModelMismatchError unless every width is an integer from 1 to `MAX_WIDTH`."""
    _check(what, widths, 1, MAX_WIDTH)


def check_layers(what: str, *counts: int, least: int = 0) -> None:
    """Raise ModelMismatchError unless every count is an integer from `least` to `MAX_LAYERS`."""
    _check(what, counts, least, MAX_LAYERS)


def _check(what: str, numbers: tuple[int, ...], least: int, most: int) -> None:
    for number in numbers:
        if type(number) is not int or not least <= number <= most:
            raise ModelMismatchError(f"{what} must be {least} to {most:,}, got {number!r}")
