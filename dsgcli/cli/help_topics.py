"""Advice by symptom, for `dsg help TOPIC`: the sections of docs/troubleshooting.md, which come with
the package."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PAGES = (
    PACKAGE / "troubleshooting.md",  # in an installed package
    PACKAGE.parent / "docs" / "troubleshooting.md",  # in a checkout
)


@cache
def topics() -> dict[str, str]:
    """Sections by name (`no-face-found`), as plain text."""
    page = next(path for path in PAGES if path.is_file())
    sections = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {slug(s.partition("\n")[0]): plain(s) for s in sections}


def slug(title: str) -> str:
    """`No face found` -> `no-face-found`, as links of the page have it."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def plain(text: str) -> str:
    """Markdown without links, fences and marks."""
    text = re.sub(r"^```.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    return text.replace("**", "").replace("`", "").strip()


def help_text(words: list[str]) -> str:
    """The section for `dsg help WORDS`; empty where WORDS name a command."""
    return topics().get("-".join(words).lower(), "")
