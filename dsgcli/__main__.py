"""`dsg`, and `python -m dsgcli`."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    from dsgcli.cli.app import main as run

    atexit.unregister(gc.freeze)  # by an earlier call
    atexit.register(gc.freeze)  # Python's last collection would look through all of torch
    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
