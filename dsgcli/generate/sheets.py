"""Sheets as outputs: which names mean one, and whether it will be of a size that can be written."""

from __future__ import annotations

import math
from pathlib import Path

from dsgcli.errors import UsageError
from dsgcli.media.files import check_output

SHEET_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
MOVING_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif"})

_LONGEST_PX = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
"""Longest side of what the formats hold; PNG has no limit that matters."""
_MOST_PIXELS = 1 << 28
"""Largest sheet: what `read_image` reads again, 0.8 GB of memory."""


def is_sheet(path: Path) -> bool:
    """Whether a name means one picture that holds all."""
    return path.suffix.lower() in SHEET_SUFFIXES


def near_square(count: int) -> int:
    """Columns of a sheet that is about as wide as high."""
    return math.ceil(math.sqrt(count))


def check_sheet(
    path: Path, *, columns: int, rows: int, cell_px: int, overwrite: bool = False
) -> None:
    """Make sure, before anything is drawn, that a sheet can be written.

    Raises:
        UsageError: larger than its format allows, or than fits into memory.
        OutputExistsError, SinkError: as `check_output`.
    """
    width, height = columns * (cell_px + 8), rows * (cell_px + 8)
    longest = _LONGEST_PX.get(path.suffix.lower(), _MOST_PIXELS)
    if max(width, height) > longest or width * height > _MOST_PIXELS:
        raise UsageError(
            f"{path} would be {width}x{height} pixels, which is too large; pass --size "
            f"{max(32, cell_px // 4)} or draw fewer pictures"
        )
    check_output(path, overwrite=overwrite)
