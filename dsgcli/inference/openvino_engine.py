"""Networks by OpenVINO, on a CPU: noise, gains, activations and scales go into one pass, and bf16
is multiplied natively, without a compiler.

The only module, with `openvino_graph`, that knows OpenVINO. Compiled graphs are not kept on disk:
to read one takes as long as to make it (docs/performance.md).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import openvino as ov
import torch
from torch import Tensor

from dsgcli.inference.base import BySide
from dsgcli.inference.openvino_graph import (
    encoder_model,
    field_model,
    generator_model,
    translator_model,
)
from dsgcli.models.translator import warp

if TYPE_CHECKING:
    from dsgcli.inference.base import Run
    from dsgcli.inference.dynamic_style import DynamicGenerator
    from dsgcli.inference.encoder import FoldedEncoder
    from dsgcli.inference.translator import FoldedTranslator


_CAN = "OPTIMIZATION_CAPABILITIES"


class OpenVinoEngine:
    """Makes networks ready in about a second.

    Args:
        precision: float32, or bfloat16, which is float32 where the CPU does not multiply it.
    """

    name = "openvino"
    dtype = torch.float32
    """Number format of the given weights; they are rounded, if at all, when they are packed."""

    def __init__(self, precision: torch.dtype) -> None:
        self._core = ov.Core()
        low = precision == torch.bfloat16 and "BF16" in self._core.get_property("CPU", _CAN)
        self._precision = "bf16" if low else "f32"

    def generator(self, network: DynamicGenerator) -> Run:
        return OneRequest(self._compiled(generator_model(network)))

    def encoder(self, network: FoldedEncoder) -> Run:
        return OneRequest(self._compiled(encoder_model(network)))

    def translator(self, network: FoldedTranslator) -> Run:
        def prepare(side_px: int) -> Run:
            field = OneRequest(self._compiled(field_model(network, side_px)))
            change = OneRequest(self._compiled(translator_model(network, side_px)))

            def draw(crops: Tensor) -> Tensor:
                warped = warp(crops, field(crops))
                return warped + change(warped)

            return draw

        return BySide(prepare)

    def _compiled(self, model: ov.Model) -> ov.CompiledModel:
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # other threads find and paste faces meanwhile
        }
        return self._core.compile_model(model, "CPU", config)


class OneRequest:
    """A compiled graph over pictures, one after the other."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self._shape = tuple(compiled.output(0).shape)[1:]
        self._busy = threading.Lock()

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, ...) float32 -> (B, ...) float32."""
        answers = torch.empty(len(rows), *self._shape)
        with self._busy:
            for row, answer in zip(rows.float().contiguous().split(1), answers, strict=True):
                self._request.infer([row.numpy()], share_inputs=True)
                answer.copy_(torch.from_numpy(self._request.get_output_tensor(0).data[0]))
        return answers
