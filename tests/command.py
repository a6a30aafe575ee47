"""Run `dsg` in this process, as a person would: words in; exit code, stdout and stderr out.

result = dsg("models", "list", "--json")
assert result.exit_code == 0
result.json["models"]
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import dataclass
from typing import Any

from dsgcli.__main__ import main


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)


def dsg(*words: object) -> Result:
    """`dsg WORDS...`; neither stream is a terminal."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        exit_code = main([str(word) for word in words])
    for handler in list(logging.getLogger("dsgcli").handlers):
        logging.getLogger("dsgcli").removeHandler(handler)  # -v writes to a stream that is gone
    return Result(exit_code, stdout.getvalue(), stderr.getvalue())
