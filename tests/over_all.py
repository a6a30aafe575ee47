"""One test over many items: a rule that every file keeps is one test, and its failure is a list."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest


def over_all(items: Sequence[Any], name: Callable[[Any], str]) -> Callable[..., Callable[[], None]]:
    """Make of a test of one item the test of all `items`; it fails with a line for each item that
    breaks the rule.

    Args:
        name: what an item is called in that list.
    """

    def decorate(test: Callable[[Any], None]) -> Callable[[], None]:
        @functools.wraps(test)
        def of_all() -> None:
            broken = []
            for item in items:
                try:
                    test(item)
                except pytest.skip.Exception:
                    continue  # the rule is not for this one
                except (AssertionError, pytest.fail.Exception) as error:
                    said = str(error).partition("\n")[0]
                    broken.append(f"{name(item)}: {said}")
            if broken:
                pytest.fail("\n".join(broken), pytrace=False)

        del of_all.__wrapped__  # pytest would ask for the item as a fixture
        return of_all

    return decorate


def below(root: Path) -> Callable[[Path], str]:
    """The name of a path in a list: as it lies below `root`."""
    return lambda path: path.relative_to(root).as_posix()
