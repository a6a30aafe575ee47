"""What mkdocs does besides: pages and pictures that are not made yet are left out.

A picture's place is a comment of its own line, which reads as nothing until the file is there:

    <!-- picture: media/weights.png | One face at seven weights -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PLACE = re.compile(r"^<!-- picture: (\S+) \| (.+?) -->$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Drop entries of the navigation whose page is not there."""
    config.nav = _present(config.nav, Path(config.docs_dir))
    return config


def _present(entries: list[Any], docs: Path) -> list[Any]:
    kept = []
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            kept.append({title: _present(target, docs)})
        elif (docs / target).is_file():
            kept.append(entry)
    return kept


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Show the pictures that are there."""
    folder = Path(page.file.abs_src_path).parent

    def shown(place: re.Match[str]) -> str:
        target, words = place.groups()
        return f"![{words}]({target})" if (folder / target).is_file() else ""

    return PLACE.sub(shown, markdown)
