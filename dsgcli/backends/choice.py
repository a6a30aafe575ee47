"""`--backend` -> what runs the networks.

`auto` takes what was the fastest of the exact forms where it was measured (docs/performance.md):

    CPU, bf16    OpenVINO, once the pictures to come repay the second that it takes to get ready
    CPU, fp32    plain torch, whose convolutions save multiplications (models/winograd.py)
    GPU          plain torch: CUDA graphs are there, and have yet to be measured
    torch.compile is never taken: it needs a minute, and a compiler on the user's machine

For a translator it is OpenVINO on every CPU, in either precision, once it is repaid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from dsgcli.backends.base import Backend, Run, SteeredBackend, Style, TorchBackend
from dsgcli.errors import UsageError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.translator import Translator
from dsgcli.runtime import BackendName
from dsgcli.store.places import cache_folder

PICTURES_TO_REPAY_GENERATOR = 16
PICTURES_TO_REPAY_ENCODER = 32
"""From how many pictures on OpenVINO's head start is made good: 0.6 s against 0.1 s a picture for a
generator of 1024 px, 2 s against 0.1 s for the published encoder of 267 million weights."""
PICTURES_TO_REPAY_TRANSLATOR = 60
"""Pictures that repay the start-up for a translator: 0.7 s, most of it the import, against 13 ms a
crop of 256 px."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of `auto` on this machine, for a long run."""

    name: BackendName
    reason: str


def choose_for_translator(device: torch.device) -> Choice:
    """The choice of `auto` for long runs of a translator on this device."""
    if device.type != "cpu":
        return Choice("torch", "plain torch; CUDA graphs have yet to be measured")
    if openvino_version() is None:
        return Choice("torch", "OpenVINO is not installed (pip install 'dsgcli[openvino]')")
    return Choice("openvino", "OpenVINO is the fastest, where a run is long")


def openvino_version() -> str | None:
    """Version of the installed OpenVINO; None without it."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def choose(device: torch.device, dtype: torch.dtype) -> Choice:
    """The choice of `auto` for long runs on this device."""
    if device.type != "cpu":
        return Choice("torch", "plain torch; CUDA graphs have yet to be measured")
    if dtype != torch.bfloat16:
        return Choice("torch", "plain torch is the fastest in float32")
    if openvino_version() is None:
        return Choice("torch", "OpenVINO is not installed (pip install 'dsgcli[openvino]')")
    return Choice("openvino", "OpenVINO is the fastest in bfloat16, where a run is long")


def problem_of(name: BackendName, device: torch.device) -> str | None:
    """Why a backend cannot be used here, and what to do; None if it can."""
    if name == "openvino":
        if device.type != "cpu":
            return f"--backend openvino runs on a CPU, and the device is {device}; add --device cpu"
        if openvino_version() is None:
            return (
                "--backend openvino needs a package that is not installed; "
                "pip install 'dsgcli[openvino]', or use --backend auto"
            )
    if name == "cuda-graph" and device.type != "cuda":
        return f"--backend cuda-graph needs an NVIDIA GPU, and the device is {device}; use auto"
    if name == "compile":
        from dsgcli.backends.compiled import find_compiler, has_triton

        if device.type == "cuda" and not has_triton():
            return "--backend compile needs Triton on a GPU; pip install triton, or use auto"
        if device.type != "cuda" and find_compiler() is None:
            return (
                "--backend compile needs a C++ compiler, and none was found (g++, clang++, cl, or "
                "what CXX names); install one, or use --backend auto"
            )
    return None


def pick_backend(
    name: BackendName, device: torch.device, dtype: torch.dtype, size_px: int | None = None
) -> Backend:
    """Make the backend of `--backend`, ready to bind.

    Args:
        size_px: side of the pictures; None is the model's own.

    Raises:
        UsageError: an unknown name, or one that cannot be used here.
    """
    if name not in _MAKERS:
        raise UsageError(f"--backend takes {', '.join(_MAKERS)}, got {name!r}")
    if problem := problem_of(name, device):
        raise UsageError(problem)
    return _MAKERS[name](device, dtype, size_px)


class AutoBackend:
    """Plain torch, and what repays its head start for as many pictures as are to come.

    Their number must be set before anything is drawn (`expect`), so that a picture does not
    depend on how many were drawn before it.
    """

    def __init__(self, plain: Backend, fast: Callable[[], Backend]) -> None:
        self.plain, self._make = plain, fast
        self._fast: Backend | None = None
        self._expected = 1

    @property
    def name(self) -> str:
        return self._for(PICTURES_TO_REPAY_GENERATOR).name

    def bind(self, model: DualStyleGAN, style: Style | None, *, once: bool = False) -> Run:
        return self._for(PICTURES_TO_REPAY_GENERATOR).bind(model, style, once=once)

    def bind_encoder(self, encoder: Encoder, rows: int | None = None) -> Run:
        return self._for(PICTURES_TO_REPAY_ENCODER).bind_encoder(encoder, rows)

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        return self.plain.bind_translator(translator, code, weights, once=once)

    def expect(self, num_pictures: int) -> bool:
        before, self._expected = self._expected, max(self._expected, num_pictures)
        bounds = PICTURES_TO_REPAY_GENERATOR, PICTURES_TO_REPAY_ENCODER
        return any(before < bound <= self._expected for bound in bounds)

    def _for(self, pictures_to_repay: int) -> Backend:
        if self._expected < pictures_to_repay:
            return self.plain
        if self._fast is None:
            self._fast = self._make()
        return self._fast


class AutoTranslatorBackend(AutoBackend):
    """An `AutoBackend` for translators."""

    @property
    def name(self) -> str:
        return self._for(PICTURES_TO_REPAY_TRANSLATOR).name

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        backend = self._for(PICTURES_TO_REPAY_TRANSLATOR)
        return backend.bind_translator(translator, code, weights, once=once)

    def expect(self, num_pictures: int) -> bool:
        before, self._expected = self._expected, max(self._expected, num_pictures)
        return before < PICTURES_TO_REPAY_TRANSLATOR <= self._expected


def pick_translator_backend(name: BackendName, device: torch.device, dtype: torch.dtype) -> Backend:
    """Make the backend of `--backend`, ready to bind translators.

    Raises:
        UsageError: as `pick_backend`.
    """
    if name != "auto" or choose_for_translator(device).name == "torch":
        return pick_backend("torch" if name == "auto" else name, device, dtype)
    return AutoTranslatorBackend(
        TorchBackend(dtype), lambda: pick_backend("openvino", device, dtype)
    )


# ── one maker each ───────────────────────────────────────────────────────────────────────────────


def _torch(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    return TorchBackend(dtype, size_px)


def _compile(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    from dsgcli.backends.compiled import CompileEngine

    return SteeredBackend(CompileEngine(dtype, device, cache_folder() / "compiled"), size_px)


def _openvino(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    from dsgcli.backends.openvino_engine import OpenVinoEngine

    return SteeredBackend(OpenVinoEngine(dtype), size_px)


def _cuda_graph(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    from dsgcli.backends.cuda_graph import CudaGraphEngine

    return SteeredBackend(CudaGraphEngine(dtype), size_px)


def _auto(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    plain = TorchBackend(dtype, size_px)
    name = choose(device, dtype).name
    if name == "torch":
        return plain
    return AutoBackend(plain, lambda: _MAKERS[name](device, dtype, size_px))


_MAKERS: dict[str, Callable[[torch.device, torch.dtype, int | None], Backend]] = {
    "auto": _auto,
    "torch": _torch,
    "compile": _compile,
    "openvino": _openvino,
    "cuda-graph": _cuda_graph,
}
