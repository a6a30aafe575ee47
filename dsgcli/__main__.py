"""`dsg`, and `python -m dsgcli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    from dsgcli.cli.app import main as run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
