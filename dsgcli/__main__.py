"""`dsg`, and `python -m dsgcli`."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    from dsgcli.cli.app import main as run

    atexit.unregister(gc.freeze)  # by an earlier call
    atexit.register(gc.freeze)  # Python's last collection would look through all of torch
    exit_code = run(argv)
    if any(thread.name == "dsg-prefetch" for thread in threading.enumerate()):
        atexit.register(_leave, exit_code)  # a thread hangs: libraries would wait for it at the end
    return exit_code


def _leave(exit_code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if any(thread.name == "dsg-prefetch" for thread in threading.enumerate()):
        os._exit(exit_code)


if __name__ == "__main__":
    sys.exit(main())
