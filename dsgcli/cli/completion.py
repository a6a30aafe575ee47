"""What the shell offers after TAB: names of styles and of their exemplars.

A shell waits for each key, so only file names and headers are read here: no torch, no weights.
"""

from __future__ import annotations


def complete_style(incomplete: str) -> list[str]:
    """Styles, and after a colon the exemplars of one."""
    return []


def complete_exemplar(incomplete: str) -> list[str]:
    return []
