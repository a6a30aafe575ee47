"""A style as an ONNX file, for programs without torch: crops in, portraits out.

    StyleTranslator    a translator, folded for one exemplar, or with code and weights as inputs
    StyleDual          a DualStyleGAN and its encoder, for one exemplar

The file is compared with the networks by onnxruntime before it gets its name. A card beside it
(`out.json`) says what goes in and what comes out.

Shapes: N crops, any number in a call; P side of a crop, S side of a portrait, in pixels; L rows of
a code, D its width.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import dsgcli
from dsgcli.errors import ModelMismatchError, UsageError
from dsgcli.inference.dynamic_style import DynamicGenerator, StyleModulator, style_modulation
from dsgcli.inference.encoder import FoldedEncoder
from dsgcli.inference.translator import FoldedConv, FoldedTranslator
from dsgcli.media.files import AtomicFile, check_output
from dsgcli.models.translator import STRIDE_PX
from dsgcli.pipeline import MOST_PX, USUAL_PX
from dsgcli.portraits import pick_weights

if TYPE_CHECKING:
    from dsgcli.models.dualstylegan import DualStyleGAN
    from dsgcli.models.encoder import Encoder
    from dsgcli.models.translator import Translator
    from dsgcli.store import ModelStore

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
MOST_DIFFERENCE = 1 / 127.5
"""Largest difference of onnxruntime from torch that is accepted: one level of 8-bit pixels."""
TRIED = (1, 3)
"""Batch sizes that are compared; the graph is traced with two."""
CROP_MEANS = (
    "an upright square around one face, as dsg cuts it out (FFHQ alignment); RGB, channels first, "
    "-1 is black and 1 is white"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Choices of the export; the names are those of the flags."""

    structure: float | None = None
    color: float | None = None
    size: int | None = None
    """Side of the portraits; None is the style's own."""
    style_input: bool = False
    """Take code and weights as inputs, for all exemplars of a translator."""
    truncation: float = 0.75
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or an output of the graph."""

    name: str
    shape: tuple[str | int, ...]
    meaning: str
    kind: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCard:
    """Facts about an exported file; written beside it as JSON."""

    style: str
    exemplars: tuple[str, ...]
    network: str
    weights: tuple[float, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int
    license: str
    max_difference: float
    """Largest difference of onnxruntime from torch over random crops, where pixels span 2."""
    code: list[list[float]] | None = None
    """The exemplar's code (L, D), where codes are an input."""
    made_by: str = f"dsg {dsgcli.__version__}"


class StyleTranslator(nn.Module):
    """A translator whose code and weights are inputs."""

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, crops: Tensor, code: Tensor, weights: Tensor) -> Tensor:
        """(N, 3, S, S), (N, L, D), (N, L) -> (N, 3, S, S)."""
        portraits: Tensor = self.translator(crops, code, weights)
        return portraits.clamp(-1.0, 1.0)


class StyleDual(nn.Module):
    """A DualStyleGAN for one exemplar behind its encoder: crops to portraits."""

    def __init__(
        self,
        model: DualStyleGAN,
        encoder: Encoder,
        exstyle: Tensor,
        weights: tuple[float, ...],
        *,
        truncation: float,
        size_px: int | None,
    ) -> None:
        super().__init__()
        self.base, self.truncation = model.generator, truncation
        self.in_z = encoder.config.latent_space == "z+"
        self.encoder = FoldedEncoder(encoder)
        effect = style_modulation(model, model.generator.map_plus(exstyle[None]), weights)
        rows = list(effect.residuals)
        blocks: Any = {row: model.res[row] for row in rows}
        self.effect = effect
        self.modulator = StyleModulator(model.generator, rows, size_px=size_px)
        self.generator = DynamicGenerator(model.generator, blocks, size_px=size_px)
        self.num_rows = model.layout.num_latents

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, P, P) -> (N, 3, S, S)."""
        codes = self.encoder(crops)[:, : self.num_rows]  # (N, L, D)
        ws = self.base.truncate(self.base.map_plus(codes) if self.in_z else codes, self.truncation)
        portraits: Tensor = self.generator(self.modulator(ws, self.effect))
        return portraits.clamp(-1.0, 1.0)


class FoldedStyle(nn.Module):
    """A folded translator with portraits in [-1, 1]."""

    def __init__(self, folded: FoldedTranslator) -> None:
        super().__init__()
        self.folded = folded
        for layer in folded.modules():
            if isinstance(layer, FoldedConv):
                layer.quick = None  # Winograd's form is for torch; other programs have their own

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 3, S, S)."""
        portraits: Tensor = self.folded(crops)
        return portraits.clamp(-1.0, 1.0)


def export_onnx(
    store: ModelStore, style: str, output: Path, options: ExportOptions | None = None
) -> ExportCard:
    """Write a style as `output` (.onnx), checked against torch, and its card beside it (.json).

    Args:
        style: `NAME`, or `NAME:EXEMPLAR`.

    Raises:
        UsageError: packages that are not installed, a size that the network cannot draw, or an
            output of another kind.
        OutputExistsError: the file or its card is there, and `options.overwrite` is off.
        ModelError: no such style, or files that are missing or cannot be used.
        ModelMismatchError: onnxruntime draws something else than torch.
    """
    options = options or ExportOptions()
    _check(output, options)
    ref = store.parse(style)
    resolved = store.resolve(ref)
    info = store.info(resolved.style)
    cpu = torch.device("cpu")
    inputs: dict[str, Tensor]
    with torch.no_grad():
        if info.of_translator:
            translator = store.translator(resolved.style, cpu, owned=False).eval()
            size = options.size or USUAL_PX
            if size % STRIDE_PX or not 0 < size <= MOST_PX:
                raise UsageError(
                    f"--size of this style is a multiple of {STRIDE_PX} up to {MOST_PX}, got {size}"
                )
            layout, given = translator.layout, 1.0
            weights = pick_weights(
                layout, structure=options.structure, color=options.color, usual=given
            ).layers
            inputs = {"crops": torch.rand(2, 3, size, size) * 2 - 1}
            expected: nn.Module = StyleTranslator(translator)
            fixed = (resolved.exstyle, torch.tensor(weights))
            if options.style_input:
                network: nn.Module = expected
                inputs |= {"code": resolved.exstyle.expand(2, -1, -1).clone()}
                inputs |= {"weights": torch.tensor([weights] * 2)}
            else:
                network = FoldedStyle(FoldedTranslator(translator, *fixed).eval())
        else:
            if options.style_input:
                raise UsageError(
                    f"--style-input is for translators, and {resolved.style} is a style of a "
                    "DualStyleGAN, which is exported for one exemplar; leave it out"
                )
            model = store.generator(resolved.style, cpu, owned=False).eval()
            encoder = store.encoder(resolved.style, "auto", cpu, owned=False).eval()
            sizes = model.layout.resolutions_px
            size = options.size or model.layout.size_px
            if size not in sizes:
                listed = ", ".join(map(str, sizes))
                raise UsageError(f"--size of this style is one of {listed}, got {size}")
            weights = pick_weights(
                model.layout, structure=options.structure, color=options.color
            ).layers
            px = encoder.config.input_px
            inputs = {"crops": torch.rand(2, 3, px, px) * 2 - 1}
            network = expected = StyleDual(
                model,
                encoder,
                resolved.exstyle,
                weights,
                truncation=options.truncation,
                size_px=size,
            )
        network.eval().requires_grad_(False)
        target, card_target = AtomicFile(output), AtomicFile(output.with_suffix(".json"))
        try:
            _write(network, inputs, target.temporary)
            if info.of_translator and not options.style_input:
                worst = _compare(target.temporary, inputs, lambda x: expected(x, *_many(fixed, x)))
            else:
                worst = _compare(target.temporary, inputs, expected)
            card = ExportCard(
                style=resolved.style,
                exemplars=resolved.exemplars,
                network="translator" if info.of_translator else "dualstylegan",
                weights=tuple(weights),
                inputs=_ports(inputs),
                outputs=(
                    Port(
                        name="portraits",
                        shape=("N", 3, size, size),
                        meaning="the crops as portraits; RGB, channels first, -1 to 1",
                    ),
                ),
                opset=OPSET,
                license=store.find(resolved.style).license or "unknown",
                max_difference=worst,
                code=resolved.exstyle.tolist() if options.style_input else None,
            )
            text = json.dumps(asdict(card), indent=1, ensure_ascii=False)
            card_target.temporary.write_text(text + "\n", "utf-8")
            target.commit()
            card_target.commit()
        finally:
            target.discard()
            card_target.discard()
    return card


def _check(output: Path, options: ExportOptions) -> None:
    """Everything that can be wrong before a network is read."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"exporting needs packages that are not installed ({', '.join(missing)}); "
            "pip install 'dsgcli[onnx]'"
        )
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"the output of an export ends in .onnx, got {output}")
    if not 0 <= options.truncation <= 1:
        raise UsageError(f"--truncation lies between 0 and 1, got {options.truncation:g}")
    for path in (output, output.with_suffix(".json")):
        check_output(path, overwrite=options.overwrite)


def _many(fixed: tuple[Tensor, Tensor], crops: Tensor) -> tuple[Tensor, Tensor]:
    """Code (L, D) and weights (L,), for each of N crops: (N, L, D), (N, L)."""
    code, weights = fixed
    return code.expand(len(crops), -1, -1), weights.expand(len(crops), -1)


def _ports(inputs: dict[str, Tensor]) -> tuple[Port, ...]:
    meanings = {
        "crops": CROP_MEANS,
        "code": "code of the exemplar for each crop; `code` of this card is that of the exemplar",
        "weights": "for each row of the code, how far it goes to the exemplar; all 0 is the crop",
    }
    return tuple(
        Port(name=name, shape=("N", *tensor.shape[1:]), meaning=meanings[name])
        for name, tensor in inputs.items()
    )


def _write(network: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    """Trace the network with a batch of two, and write one file with all weights in it."""
    batch = torch.export.Dim("N", min=1, max=1024)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of torch and onnxscript, about their own code
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["portraits"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _compare(path: Path, inputs: dict[str, Tensor], expected: Any) -> float:
    """Largest difference of onnxruntime from torch over several batch sizes.

    Raises:
        ModelMismatchError: it is larger than a level of a pixel.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for count in TRIED:
        given = {
            name: tensor[:1].expand(count, *tensor.shape[1:]).clone()
            for name, tensor in inputs.items()
        }
        given["crops"] = torch.rand(given["crops"].shape, generator=generator) * 2 - 1
        (drawn,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        wanted = expected(*given.values()).numpy()
        worst = max(worst, float(np.abs(drawn - wanted).max()))
    if not worst <= MOST_DIFFERENCE:
        raise ModelMismatchError(
            f"onnxruntime draws something else than torch (by {worst:.3g} of 2), so nothing was "
            "written; another version of onnxruntime may help"
        )
    return worst
