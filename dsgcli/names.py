"""Rules for names that come from files, recipes and command lines, and how they are displayed.

A name may become part of a path, of `--style NAME:EXEMPLAR*SHARE`, or of a line in a terminal.
The author of a file chooses it, so it is checked before it is used for any of these.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from dsgcli.errors import UsageError

MAX_NAME_CHARACTERS = 255
"""Longest name of a style or an exemplar: what common file systems accept for a file."""

_MEANS_SOMETHING = frozenset(':*+/\\<>"|?')
"""Characters with a meaning in `--style NAME:EXEMPLAR*SHARE+...`, or in paths of some system."""
_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "123456789"
}
"""Names that Windows allows for no file, with any ending."""
_TURNS_TEXT = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reverse the direction of text, so that a line reads as another one."""
_BREAKS_LINES = frozenset("\u2028\u2029")


def why_no_name(name: str) -> str:
    """Why a folder of a run, a model or a style cannot have this name; "" if it can.

    The rule is the same on every system, so that a style can be moved from one to another.
    """
    if bad := sorted(letter for letter in set(name) if letter in _MEANS_SOMETHING):
        return f"must not have {' '.join(bad)} in it"
    if not name.isprintable():
        return "must not have control characters in it"
    if name[:1] in (".", "-", " ") or name[-1:] in (".", " "):
        return "must not begin with a dot, a dash or a space, nor end with a dot or a space"
    if name.partition(".")[0].lower() in _DEVICES:
        return "is the name of a device on Windows; choose another"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"must not be longer than {MAX_NAME_CHARACTERS} characters"
    return ""


def why_no_label(name: str) -> str:
    """Why a name that is read from a file is refused; "" if it may be used.

    Less strict than `why_no_name`, since exemplars are named by the picture files of their authors:
    refused is what could leave a folder, or act on a terminal.
    """
    if not name.strip():
        return "is empty"
    if any(letter in "/\\" for letter in name) or name in (".", ".."):
        return "could lead to another folder"
    if any(is_control(letter) for letter in name):
        return "has control characters in it"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"is longer than {MAX_NAME_CHARACTERS} characters"
    return ""


def is_control(letter: str) -> bool:
    """Whether a character moves the cursor, colors, hides or turns text instead of being text."""
    return (
        unicodedata.category(letter) in ("Cc", "Cs")
        or letter in _TURNS_TEXT
        or letter in _BREAKS_LINES
    )


def visible(text: str, keep: str = "\n\t") -> str:
    """The text with every control character written as its escape: `\\x1b` for the escape key.

    Args:
        keep: control characters that stay, for text of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in keep or not is_control(letter) else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def place_below(root: Path, *parts: str) -> Path:
    """A path below a folder, once it is known to stay there when links and dots are followed.

    Raises:
        UsageError: it leads out of the folder.
    """
    path = root.joinpath(*parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"{visible(str(path))} is outside of {root}, where nothing may be written; choose "
            f"another name or another folder"
        )
    return path
