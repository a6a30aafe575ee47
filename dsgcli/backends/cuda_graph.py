"""Networks as CUDA graphs: launches are recorded once for each batch size and then played, so that
an NVIDIA GPU does not wait for Python between hundreds of small kernels.

Input and output of a recording stay where they are: rows are copied in, answers out. Written from
the documentation of torch.cuda.graphs; tests run where there is a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dsgcli.backends.base import Run
from dsgcli.backends.batches import BySide, BySize

if TYPE_CHECKING:
    from dsgcli.inference.translator import FoldedTranslator
    from dsgcli.models.bound_encoder import BoundEncoder
    from dsgcli.models.steered import SteeredGenerator

WARM_UPS = 3
"""Runs before recording: libraries choose their algorithms and take their memory in the first."""


class CudaGraphEngine:
    """Makes networks ready in well under a second.

    Args:
        dtype: of the feature maps.
    """

    name = "cuda-graph"

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def generator(self, network: SteeredGenerator) -> Run:
        return self._recorded(network)

    def encoder(self, network: BoundEncoder) -> Run:
        return self._recorded(network)

    def translator(self, network: FoldedTranslator) -> Run:
        return BySide(lambda _: self._recorded(network))

    def _recorded(self, network: nn.Module) -> Run:
        return BySize(lambda rows: Recording(network, rows))


class Recording:
    """One network at one batch size."""

    def __init__(self, network: nn.Module, rows: Tensor) -> None:
        self._network = network  # its weights are read where they lie
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(rows.device):
            self._rows = rows.clone()
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    network(self._rows)
            torch.cuda.current_stream().wait_stream(aside)
            # other threads may use the GPU meanwhile: that is not part of the recording
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._answer: Tensor = network(self._rows)

    def __call__(self, rows: Tensor) -> Tensor:
        """The next call overwrites the recording's answer, so this is a copy."""
        self._rows.copy_(rows, non_blocking=True)
        self._graph.replay()
        return self._answer.clone()
