"""What an index of packages shows of README.md: a hook of the build (see pyproject.toml).

Such a page has no neighbors, so a relative link is dead there. With DSG_REPOSITORY, the address of
the repository, links and pictures lead to the files of this version's tag; without it the words of
links stay, and pictures go.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#|mailto:)([^)\s]+)\)")
ENV_REPOSITORY = "DSG_REPOSITORY"


def page_of(readme: str, version: str, repository: str = "") -> str:
    """The README without a relative link; `repository` as https://HOST/OWNER/NAME."""

    def absolute(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        if not repository:
            return "" if mark else words
        kind = "raw" if mark else "blob"
        return f"{mark}[{words}]({repository.rstrip('/')}/{kind}/v{version}/{target})"

    return RELATIVE.sub(absolute, readme)


def get_metadata_hook() -> Any:
    """What hatchling asks a build script for."""
    from hatchling.metadata.plugin.interface import MetadataHookInterface

    class PackagePage(MetadataHookInterface):  # type: ignore[misc]
        def update(self, metadata: dict[str, Any]) -> None:
            root = Path(self.root)
            source = (root / "dsgcli" / "__init__.py").read_text("utf-8")
            found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
            assert found is not None, "dsgcli/__init__.py has the version"
            readme = (root / "README.md").read_text("utf-8")
            text = page_of(readme, found[1], os.environ.get(ENV_REPOSITORY, ""))
            metadata["readme"] = {"content-type": "text/markdown", "text": text}

    return PackagePage
