"""dsg: photographs and videos of people as portraits in the style of one chosen picture.

The command line is `dsg`. From Python, with the same names and defaults (docs/python.md):

    stylize         pictures, videos and folders, file to file
    Stylizer        photographs as arrays in, drawings out; networks loaded once
    sample          portraits of people who do not exist
    ModelStore      what there is to draw in
    load_pipeline   the networks of one style, of either kind: crops -> portraits
    Portraits       those of a DualStyleGAN: crops -> codes -> portraits
    DsgError        everything that can be expected to go wrong

Each is loaded when it is first used, so `import dsgcli` is quick.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

# Pools of linear algebra outside torch have one thread: OpenBLAS (of NumPy, SciPy and OpenCV) hangs
# now and then when several Python threads use its pool. Libraries read these when they are loaded.
# Not OMP_NUM_THREADS and MKL_NUM_THREADS: they are the threads of torch.
for _variable in ("OPENBLAS", "GOTO", "BLIS", "NUMEXPR"):
    os.environ.setdefault(f"{_variable}_NUM_THREADS", "1")

# Waiting threads of OpenMP sleep. Spinning ones take the processor from those that work: beside one
# other program a picture took 30 times as long (benchmarks/results/threads.md). Read when torch is
# loaded; KMP_BLOCKTIME is the same for builds with Intel's OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

if TYPE_CHECKING:
    from dsgcli.errors import DsgError
    from dsgcli.generate.sample import sample
    from dsgcli.pipeline import StylePipeline, from_pretrained, load_pipeline
    from dsgcli.portraits import Look, Portraits, load_portraits
    from dsgcli.store import ModelStore
    from dsgcli.store.hub import save_pretrained
    from dsgcli.stylize.api import Stylizer, stylize
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.summary import Summary

_HOMES = {
    "DsgError": "errors",
    "Look": "portraits",
    "ModelStore": "store",
    "Portraits": "portraits",
    "StylePipeline": "pipeline",
    "StylizeOptions": "stylize.options",
    "Stylizer": "stylize.api",
    "Summary": "stylize.summary",
    "from_pretrained": "pipeline",
    "load_pipeline": "pipeline",
    "load_portraits": "portraits",
    "sample": "generate.sample",
    "save_pretrained": "store.hub",
}

__all__ = [
    "DsgError",
    "Look",
    "ModelStore",
    "Portraits",
    "StylePipeline",
    "StylizeOptions",
    "Stylizer",
    "Summary",
    "__version__",
    "from_pretrained",
    "load_pipeline",
    "load_portraits",
    "sample",
    "save_pretrained",
    "stylize",
]


def __getattr__(name: str) -> Any:
    if name == "stylize":  # a package that can be called, see there
        return import_module("dsgcli.stylize")
    if name in _HOMES:
        return getattr(import_module(f"dsgcli.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dsgcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
