"""Read TOML of users and strangers: recipes, settings, `--set`. Every fault is a ValueError."""

from __future__ import annotations

import tomllib
from typing import Any

MAX_BITS = 2000
"""Longest whole number: Python does not print longer ones, and no setting needs them."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a text.

    Raises:
        ValueError: it is no TOML, is nested too deeply, or has a number of hundreds of digits.
    """
    try:
        table = tomllib.loads(text.removeprefix("\ufeff"))  # Windows editors begin files with it
        _check_numbers(table)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return table


def _check_numbers(value: object) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError("it has a number of hundreds of digits")
