"""frames -> faces -> crops -> latents -> portraits -> frames: the main job, whole.

options    what was asked            run        a batch of inputs: found, planned, handed on
jobs       inputs and outputs        batch      drawn one after the other, by this process
studio     what all inputs share     spread     drawn by workers
cast       who is drawn how          file       one input: a still, or a video in segments
settings   what need not be made again          flow       the loop itself
preview    a contact sheet first
calls      from Python: `stylize` for files, `Stylizer` for arrays

The package itself can be called: `from dsgcli import stylize; stylize("photo.jpg")` is
`calls.stylize`. Both names are wanted, and Python has one place for them.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **choices: Any) -> Any:
        """See `dsgcli.stylize.api.stylize`."""
        from dsgcli.stylize.api import stylize

        return stylize(*arguments, **choices)


sys.modules[__name__].__class__ = _CallablePackage
