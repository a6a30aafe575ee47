"""report.html of a run. (Filled in below.)"""

from __future__ import annotations

from dsgcli.recipe import Recipe
from dsgcli.training.folder import RunFolder


def write_report(run: RunFolder, recipe: Recipe) -> None:
    """Write the page."""
