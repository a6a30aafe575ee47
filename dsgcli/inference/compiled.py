"""Networks by torch.compile: fused loops, written and compiled on this machine.

It needs a C++ compiler (on an NVIDIA GPU: Triton), and most of a minute for a large model, once:
what was compiled is kept in the user's cache folder, under a hash of the network's operations, the
settings and the version of torch.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from dsgcli.inference.base import BySide, BySize, Run, one_by_one

if TYPE_CHECKING:
    from dsgcli.inference.dynamic_style import DynamicGenerator
    from dsgcli.inference.encoder import FoldedEncoder
    from dsgcli.inference.translator import FoldedTranslator

COMPILERS = ("cl",) if os.name == "nt" else ("g++", "clang++", "c++")
ENV_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def find_compiler() -> str | None:
    """A C++ compiler on this machine: the one that CXX names, or a usual one."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else COMPILERS)), None)


def has_triton() -> bool:
    """Whether torch can write kernels for an NVIDIA GPU."""
    from torch.utils._triton import has_triton as check

    return bool(check())


class CompileEngine:
    """Makes networks ready in a minute, or in seconds when they are in the cache.

    Args:
        dtype: of the feature maps.
        cache: folder of compiled code; an own TORCHINDUCTOR_CACHE_DIR goes before it.
    """

    name = "compile"

    def __init__(self, dtype: torch.dtype, device: torch.device, cache: Path | None) -> None:
        self.dtype, self.device = dtype, device
        if cache is not None:
            os.environ.setdefault(ENV_CACHE, str(cache))

    def generator(self, network: DynamicGenerator) -> Run:
        return self._compiled(network)

    def encoder(self, network: FoldedEncoder) -> Run:
        return self._compiled(network)

    def translator(self, network: FoldedTranslator) -> Run:
        return BySide(lambda _: self._compiled(network))

    def _compiled(self, network: nn.Module) -> Run:
        """Fixed shapes, so that nothing is guarded or compiled twice."""
        run = cast(Run, torch.compile(network, dynamic=False, fullgraph=True))

        def exact(rows: Tensor) -> Tensor:
            with torch.inference_mode(False), torch.no_grad():
                return run(rows.clone())  # a tensor of inference mode would be compiled for anew

        if self.device.type == "cpu":
            return one_by_one(exact)
        return BySize(lambda _: exact)
