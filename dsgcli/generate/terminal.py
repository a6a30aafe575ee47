"""Pictures in a terminal: which way of drawing it knows, and pictures as what it reads.

    kitty    graphics protocol of Kitty, also in Ghostty and Konsole: PNG in base64
    iterm2   inline images of iTerm2, also in WezTerm and mintty: PNG in base64
    sixel    DEC's, in foot, mlterm, VS Code, Windows Terminal: a palette, and bands of six rows

Only values here: the environment and the terminal's answers come in, text goes out.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dsgcli.types import Pixels

Protocol = Literal["kitty", "iterm2", "sixel"]

ASK_ATTRIBUTES = "\x1b[c"
"""Asks a terminal what it can do; the answer is `ESC [ ? 62 ; 4 ; ... c`, and 4 is sixel."""
SIXEL_COLORS = 256
_CHUNK = 4096
_KITTY_TERMS = frozenset({"xterm-kitty", "xterm-ghostty"})
_ITERM_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "mintty"})
_FIRST_KONSOLE = 220400
"""Version of Konsole from which on it draws what Kitty draws."""


def protocol_by_name(environment: Mapping[str, str]) -> Protocol | None:
    """What the terminal names itself to be able to; None if it has to be asked.

    Inside tmux and screen the names are those of the terminal around, which never sees pictures.
    """
    if environment.get("TMUX") or environment.get("TERM", "").startswith(("screen", "tmux")):
        return None
    konsole = environment.get("KONSOLE_VERSION", "")
    program = environment.get("TERM_PROGRAM", "")
    if (
        environment.get("TERM") in _KITTY_TERMS
        or program == "ghostty"
        or (konsole.isdecimal() and int(konsole) >= _FIRST_KONSOLE)
    ):
        return "kitty"
    if program in _ITERM_PROGRAMS or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


def knows_sixel(answer: str) -> bool:
    """Whether the answer to `ASK_ATTRIBUTES` names sixel."""
    found = re.search(r"\x1b\[\?([\d;]+)c", answer)
    return found is not None and "4" in found.group(1).split(";")[1:]


def picture_text(pixels: Pixels, protocol: Protocol, columns: int) -> str:
    """A picture as a terminal reads it.

    Args:
        pixels: (H, W, 3) uint8.
        columns: of text that it is as wide as; sixels have the size of their pixels instead.
    """
    if protocol == "sixel":
        return sixel_text(pixels)
    data = base64.b64encode(_png(pixels)).decode()
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;width={columns};preserveAspectRatio=1:{data}\x07\n"
    return "".join(_kitty_parts(data, columns)) + "\n"


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _kitty_parts(data: str, columns: int) -> Iterator[str]:
    """Transmit and show (a=T) a PNG (f=100), asking for no answer (q=2), piece by piece (m=1)."""
    starts = range(0, len(data), _CHUNK)
    for start in starts:
        control = f"a=T,f=100,q=2,c={columns}," if start == 0 else ""
        more = int(start + _CHUNK < len(data))
        yield f"\x1b_G{control}m={more};{data[start : start + _CHUNK]}\x1b\\"


def sixel_text(pixels: Pixels) -> str:
    """A picture in sixels, with a palette of its own."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(SIXEL_COLORS)
    indices, height, width = np.asarray(image), *pixels.shape[:2]
    palette = np.asarray(image.getpalette() or [], np.int64).reshape(-1, 3)
    colors = "".join(
        f"#{n};2;{';'.join(str((100 * int(c) + 127) // 255) for c in color)}"
        for n, color in enumerate(palette)
    )
    bands = "-".join(_band(indices[top : top + 6]) for top in range(0, height, 6))
    return f'\x1bP0;1q"1;1;{width};{height}{colors}{bands}\x1b\\\n'


def _band(indices: NDArray[np.uint8]) -> str:
    """Up to six rows: for each color in them, its pixels as one character a column."""
    weights = 1 << np.arange(len(indices))[:, None]
    lines = []
    for color in np.unique(indices):
        sixels = ((indices == color) * weights).sum(axis=0) + 63
        lines.append(f"#{color}{_runs(sixels)}")
    return "$".join(lines)


def _runs(values: NDArray[np.int64]) -> str:
    """Characters, with repetitions of four and more written as `!COUNT CHARACTER`."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    lengths = np.diff(starts, append=len(values))
    return "".join(
        f"!{length}{chr(value)}" if length > 3 else chr(value) * int(length)
        for value, length in zip(values[starts], lengths, strict=True)
    )
