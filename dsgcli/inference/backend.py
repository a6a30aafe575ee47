"""Backends for the networks of one style: plain torch, OpenVINO, compiled code.

An engine may take seconds or a minute to make a network ready, so it gets one that serves all
styles of a model (`dynamic_style.py`); to bind a style is then a matter of a few numbers.

`auto` takes what was the fastest of the exact forms where it was measured (docs/performance.md):

    CPU, bf16    OpenVINO, once the pictures to come repay the second that it takes to get ready
    CPU, fp32    plain torch, whose convolutions save multiplications (winograd.py)
    GPU          plain torch
    torch.compile is never taken: it needs a minute, and a compiler on the user's machine

For a translator it is OpenVINO on every CPU, in either precision, once it is repaid.

Shapes: B pictures, L rows of a code, D style width, S side, N modulation values a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import torch
from torch import Tensor

from dsgcli.errors import UsageError
from dsgcli.inference.base import Backend, Engine, ExtrinsicStyle, LRUCache, Run
from dsgcli.inference.dynamic_style import (
    DynamicGenerator,
    StyleModulation,
    StyleModulator,
    style_modulation,
)
from dsgcli.inference.encoder import FoldedEncoder
from dsgcli.inference.generator import fold
from dsgcli.inference.translator import FoldedTranslator, fold_translator
from dsgcli.models.dualstylegan import DualStyleGAN, ModRes
from dsgcli.models.encoder import Encoder
from dsgcli.models.translator import Translator
from dsgcli.runtime import BackendName
from dsgcli.store.places import cache_folder

MOST_NETWORKS = 3
"""Networks that a backend keeps: one for each set of rows with residuals. A run has one."""


class TorchBackend:
    """Plain torch: always there, ready at once; styles are folded into weights.

    Args:
        dtype: of the feature maps.
        size_px: side of the pictures; None is the model's own.
    """

    name = "torch"

    def __init__(self, dtype: torch.dtype = torch.float32, size_px: int | None = None) -> None:
        self.dtype, self.size_px = dtype, size_px
        self._unfolded = DynamicStyleBackend(PlainEngine(dtype), size_px)

    def bind(self, model: DualStyleGAN, style: ExtrinsicStyle | None, *, once: bool = False) -> Run:
        if once:
            return self._unfolded.bind(model, style)
        effect = () if style is None else (style.exstyle_ws, style.weights)
        return fold(model, *effect, dtype=self.dtype, size_px=self.size_px)

    def bind_encoder(self, encoder: Encoder, rows: int | None = None) -> Run:
        return FoldedEncoder(encoder, self.dtype, rows)

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        return fold_translator(translator, code, weights, self.dtype)

    def expect(self, num_pictures: int) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class PlainEngine:
    """Leaves networks as they are."""

    dtype: torch.dtype
    name: str = "torch"

    def generator(self, network: DynamicGenerator) -> Run:
        return network

    def encoder(self, network: FoldedEncoder) -> Run:
        return network

    def translator(self, network: FoldedTranslator) -> Run:
        return network


class DynamicStyleBackend:
    """Networks made ready by an engine: one for all styles with residuals at the same rows.

    Args:
        size_px: side of the pictures; None is the model's own.
    """

    def __init__(self, engine: Engine, size_px: int | None = None) -> None:
        self.engine, self.size_px = engine, size_px
        self._networks: LRUCache[tuple[DualStyleGAN, StyleModulator, Run]] = LRUCache(MOST_NETWORKS)

    @property
    def name(self) -> str:
        return self.engine.name

    def bind(self, model: DualStyleGAN, style: ExtrinsicStyle | None, *, once: bool = False) -> Run:
        effect = StyleModulation()
        if style is not None:
            effect = style_modulation(model, style.exstyle_ws, style.weights)
        rows = tuple(effect.residuals)
        _, modulator, run = self._networks.get((id(model), rows), lambda: self._make(model, rows))
        return DynamicStyle(modulator, effect, run)

    def bind_encoder(self, encoder: Encoder, rows: int | None = None) -> Run:
        return self.engine.encoder(FoldedEncoder(encoder, self.engine.dtype, rows))

    def bind_translator(
        self, translator: Translator, code: Tensor, weights: Sequence[float], *, once: bool = False
    ) -> Run:
        network = fold_translator(translator, code, weights, self.engine.dtype)
        return network if once or network.is_identity else self.engine.translator(network)

    def expect(self, num_pictures: int) -> bool:
        return False

    @torch.no_grad()
    def _make(
        self, model: DualStyleGAN, rows: Sequence[int]
    ) -> tuple[DualStyleGAN, StyleModulator, Run]:
        """The model is kept with what was made of it, so that no other takes its id."""
        residuals = {row: cast(ModRes, model.res[row]) for row in rows}
        network = DynamicGenerator(
            model.generator, residuals, dtype=self.engine.dtype, size_px=self.size_px
        ).eval()
        modulator = StyleModulator(model.generator, rows, size_px=self.size_px)
        return model, modulator, self.engine.generator(network)


@dataclass(frozen=True, slots=True, eq=False)
class DynamicStyle:
    """One style of a network that serves all."""

    modulator: StyleModulator
    style: StyleModulation
    run: Run

    def __call__(self, ws: Tensor) -> Tensor:
        """ws (B, L, D) -> (B, 3, S, S)."""
        return self.run(self.modulator(ws, self.style))


# ── the choice of --backend ───────────────────────────────────────────────────────────────────────

PICTURES_TO_REPAY_GENERATOR = 16
PICTURES_TO_REPAY_ENCODER = 32
"""From how many pictures on OpenVINO's head start is made good: 0.6 s against 0.1 s a picture for a
generator of 1024 px, 2 s against 0.1 s for the published encoder of 267 million weights."""
PICTURES_TO_REPAY_TRANSLATOR = 60
"""Pictures that repay the start-up for a translator: 0.7 s, most of it the import, against 13 ms a
crop of 256 px."""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """The choice of `auto` on this machine, for a long run."""

    name: BackendName
    reason: str


def choose_for_translator(device: torch.device) -> BackendChoice:
    """The choice of `auto` for long runs of a translator on this device."""
    if device.type != "cpu":
        return BackendChoice("torch", "plain torch runs on every device")
    if openvino_version() is None:
        return BackendChoice("torch", "OpenVINO is not installed (pip install 'dsgcli[openvino]')")
    return BackendChoice("openvino", "OpenVINO is the fastest, where a run is long")


def openvino_version() -> str | None:
    """Version of the installed OpenVINO; None without it."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def choose(device: torch.device, dtype: torch.dtype) -> BackendChoice:
    """The choice of `auto` for long runs on this device."""
    if device.type != "cpu":
        return BackendChoice("torch", "plain torch runs on every device")
    if dtype != torch.bfloat16:
        return BackendChoice("torch", "plain torch is the fastest in float32")
    if openvino_version() is None:
        return BackendChoice("torch", "OpenVINO is not installed (pip install 'dsgcli[openvino]')")
    return BackendChoice("openvino", "OpenVINO is the fastest in bfloat16, where a run is long")


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
    if name == "compile":
        from dsgcli.inference.compiled import find_compiler, has_triton

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

    def bind(self, model: DualStyleGAN, style: ExtrinsicStyle | None, *, once: bool = False) -> Run:
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


def _compile(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    from dsgcli.inference.compiled import CompileEngine

    return DynamicStyleBackend(CompileEngine(dtype, device, cache_folder() / "compiled"), size_px)


def _openvino(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    from dsgcli.inference.openvino_engine import OpenVinoEngine

    return DynamicStyleBackend(OpenVinoEngine(dtype), size_px)


def _auto(device: torch.device, dtype: torch.dtype, size_px: int | None) -> Backend:
    plain = TorchBackend(dtype, size_px)
    name = choose(device, dtype).name
    if name == "torch":
        return plain
    return AutoBackend(plain, lambda: _MAKERS[name](device, dtype, size_px))


_MAKERS: dict[str, Callable[[torch.device, torch.dtype, int | None], Backend]] = {
    "auto": _auto,
    "torch": lambda device, dtype, size_px: TorchBackend(dtype, size_px),
    "compile": _compile,
    "openvino": _openvino,
}
