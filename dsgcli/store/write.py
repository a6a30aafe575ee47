"""Networks and codes to files of ours: safetensors with a header, written whole or not at all.

Half precision keeps matrices and kernels as float16, and vectors (biases, norms, statistics) as
float32: they are few, and it is there that rounding shows.

A style is stored without its base: `save_style` checks that the photographic generator inside is
the base's, bit for bit, and leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dsgcli.errors import ModelCorruptError, ModelMismatchError, UsageError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.patch import Judge
from dsgcli.models.style_sampler import StyleSampler
from dsgcli.models.stylegan2 import Generator
from dsgcli.models.translator import Translator
from dsgcli.store.codes import Codes
from dsgcli.store.contents import (
    OpenModel,
    OwnModel,
    is_finite,
    open_model,
    tensors_sha256,
)
from dsgcli.store.files import written_whole
from dsgcli.store.header import METADATA_KEY, BaseRef, Header
from dsgcli.store.networks import translator_config_of
from dsgcli.types import LatentLayout, Provenance

Parts = Mapping[str, Mapping[str, Tensor]]
"""Part -> key -> tensor, as `contents` names them."""

_NO_PROVENANCE = Provenance()


def save_generator(
    path: Path,
    g_ema: Generator,
    *,
    g: Generator | None = None,
    discriminator: Judge | None = None,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
) -> Header:
    """A plain StyleGAN2, maybe with what is needed to train on.

    Args:
        half: store matrices in half precision.

    Returns:
        The header as written, whose `sha256` is what a style names its base by.

    Raises:
        DsgError: unwritable. ModelCorruptError: weights that are not finite.
    """
    parts = {"g_ema": g_ema.state_dict(), **_trained(g, discriminator)}
    header = Header(
        kind="generator", name=name or path.stem, config=g_ema.config.as_json(), layout=g_ema.layout
    )
    return write(path, replace(header, provenance=provenance), parts, half=half)


def save_dualstylegan(
    path: Path,
    g_ema: DualStyleGAN,
    *,
    g: DualStyleGAN | None = None,
    discriminator: Judge | None = None,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
) -> Header:
    """A whole DualStyleGAN, its photographic generator included."""
    parts = {"g_ema": g_ema.state_dict(), **_trained(g, discriminator)}
    header = Header(
        kind="dualstylegan",
        name=name or path.stem,
        config=g_ema.config.as_json(),
        layout=g_ema.layout,
    )
    return write(path, replace(header, provenance=provenance), parts, half=half)


def _trained(g: nn.Module | None, discriminator: Judge | None) -> Parts:
    modules = {"g": g, "d": discriminator}
    return {name: module.state_dict() for name, module in modules.items() if module is not None}


def save_style(
    path: Path,
    model: DualStyleGAN,
    codes: Codes,
    *,
    base: Path | OpenModel,
    sampler: StyleSampler | None = None,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
    keep_order: bool = False,
) -> Header:
    """A style: what differs from its base, and the codes of its exemplars.

    Args:
        base: the file of the generator that `model` was trained on.
        keep_order: leave the exemplars in this order (published numbers mean it); else they are
            sorted by name.

    Raises:
        ModelMismatchError: `model` contains another generator than the base, or codes of another
            size than it takes.
    """
    opened = open_model(base) if isinstance(base, Path) else base
    _check_same_generator(model.generator, opened, path)
    codes = codes if keep_order else codes.sorted()
    check_code_size(codes.exstyle, model.layout, model.config.generator.style_dim, path)
    state = model.state_dict()
    own = {key: value for key, value in state.items() if not key.startswith("generator.")}
    header = Header(
        kind="style",
        name=name or path.stem,
        config=model.config.as_json(),
        layout=model.layout,
        names=codes.names,
        base=_ref_to(opened),
        provenance=provenance,
    )
    parts = {"style_path": own, "codes": codes.roles, **_halves(sampler)}
    return write(path, header, parts, half=half)


def _check_same_generator(generator: Generator, base: OpenModel, path: Path) -> None:
    if not isinstance(base, OwnModel):
        raise ModelMismatchError(
            f"{base.path} cannot be the base of {path.name}: import it first "
            f"(`dsg models import`), so that it has a hash to be named by"
        )
    stored = base.part("g_ema")
    for key, value in generator.state_dict().items():
        if key not in stored or not _same(value, stored[key]):
            raise ModelMismatchError(
                f"{path.name} was trained on another generator than {base.path} (first difference: "
                f"{key}); give the base it was trained on"
            )


def _same(value: Tensor, stored: Tensor) -> bool:
    """Equal, or equal once rounded as the base's file was."""
    value = value.detach().cpu().to(stored.dtype)
    return value.shape == stored.shape and (
        torch.equal(value, stored) or torch.equal(value.half().float(), stored)
    )


def save_encoder(
    path: Path,
    encoder: Encoder,
    *,
    base: Path | OpenModel | None = None,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
) -> Header:
    """An encoder of faces.

    Args:
        base: the file of the generator whose codes it makes; None leaves this open, and the encoder
            goes with what it lies beside.
    """
    header = Header(
        kind="encoder",
        name=name or path.stem,
        config=encoder.config.as_json(),
        base=_ref_to(base) if base is not None else None,
        provenance=provenance,
    )
    return write(path, header, {"encoder": encoder.state_dict()}, half=half)


def _ref_to(base: Path | OpenModel) -> BaseRef:
    header = (open_model(base) if isinstance(base, Path) else base).header
    return BaseRef(name=header.name, sha256=header.sha256)


def save_translator(
    path: Path,
    translator: Translator,
    *,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
) -> Header:
    """A translator with its style encoder.

    Returns:
        The header as written, whose `sha256` is what a style names its translator by.
    """
    header = Header(
        kind="translator",
        name=name or path.stem,
        config=translator.config.as_json(),
        layout=translator.layout,
        provenance=provenance,
    )
    return write(path, header, {"translator": translator.state_dict()}, half=half)


def save_translator_style(
    path: Path,
    codes: Tensor,
    names: Sequence[str],
    *,
    translator: Path | OpenModel,
    sampler: StyleSampler | None = None,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
) -> Header:
    """A style of a translator: the codes of its exemplars, in half precision.

    Args:
        codes: (N, L, D), one of the style encoder for each exemplar, in the order that numbers are
            to mean.
        names: of the exemplars.
        translator: the file that `save_translator` wrote.
        sampler: draws random codes of this style.

    Raises:
        ModelMismatchError: codes or sampler of another size than the translator takes.
    """
    opened = open_model(translator) if isinstance(translator, Path) else translator
    table = Codes(names=tuple(names), exstyle=codes)
    config = translator_config_of(opened)
    check_code_size(codes, config.layout, config.code_dim, path)
    if sampler is not None:
        drawn = (sampler.config.layout, sampler.config.style_dim)
        if drawn != (config.layout, config.code_dim):
            raise ModelMismatchError(
                f"{path.name}: the sampling network draws codes {drawn[1]} wide for "
                f"{drawn[0].size_px} px, and {opened.path} takes {config.code_dim} for "
                f"{config.layout.size_px} px"
            )
    header = Header(
        kind="translator-style",
        name=name or path.stem,
        config={"style_dim": config.code_dim},
        layout=config.layout,
        names=table.names,
        base=_ref_to(opened),
        provenance=provenance,
    )
    return write(path, header, {"codes": table.roles, **_halves(sampler)}, half=True)


def save_sampler(
    path: Path,
    sampler: StyleSampler,
    *,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
) -> Header:
    """A sampling network alone."""
    header = Header(
        kind="sampler",
        name=name or path.stem,
        layout=sampler.config.layout,
        config=sampler.config.as_json(),
    )
    return write(path, replace(header, provenance=provenance), _halves(sampler), half=half)


def _halves(sampler: StyleSampler | None) -> Parts:
    if sampler is None:
        return {}
    return {"color": sampler.color.state_dict(), "structure": sampler.structure.state_dict()}


def save_codes(
    path: Path,
    codes: Codes,
    *,
    layout: LatentLayout | None = None,
    provenance: Provenance = _NO_PROVENANCE,
    name: str = "",
    half: bool = False,
    keep_order: bool = False,
    overlay: bool = False,
    base: BaseRef | None = None,
) -> Header:
    """Codes alone: what destylization hands to training, or exemplars added to a style.

    Args:
        layout: of the generator they are for; None is the published layout for so many rows.
        overlay: a user's additions to the style `name`.
        base: the translator that made the codes; None for codes of a DualStyleGAN.
    """
    codes = codes if keep_order else codes.sorted()
    layout = layout or LatentLayout.of_rows(codes.exstyle.shape[1])
    check_code_size(codes.exstyle, layout, codes.exstyle.shape[2], path)
    header = Header(
        kind="overlay" if overlay else "codes",
        name=name or path.stem,
        config={"style_dim": codes.exstyle.shape[2]},
        layout=layout,
        names=codes.names,
        base=base,
        provenance=provenance,
    )
    return write(path, header, {"codes": codes.roles}, half=half)


def check_code_size(codes: Tensor, layout: LatentLayout, style_dim: int, path: Path) -> None:
    """Refuse codes of another size than a model takes.

    Raises:
        ModelMismatchError: with both sizes.
    """
    wanted = (layout.num_latents, style_dim)
    if tuple(codes.shape[-2:]) != wanted:
        raise ModelMismatchError(
            f"{path.name}: the codes are {codes.shape[-2]} x {codes.shape[-1]}, and the model of "
            f"{layout.size_px} px takes {wanted[0]} x {wanted[1]}"
        )


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def write(path: Path, header: Header, parts: Parts, *, half: bool = False) -> Header:
    """Write a file of ours.

    Returns:
        The header as written, with the hash of each part.

    Raises:
        UsageError: a name that is no safetensors file's. DsgError: unwritable.
        ModelCorruptError: weights that are not finite, or too large for half precision.
    """
    from safetensors.torch import save_file

    if path.suffix != ".safetensors":
        raise UsageError(f"{path} has to end in .safetensors")
    stored = {
        part: {key: stored_form(value, half, f"{part}/{key}", path) for key, value in state.items()}
        for part, state in parts.items()
    }
    header = replace(header, hashes={part: tensors_sha256(state) for part, state in stored.items()})
    tensors = {
        f"{part}/{key}": value for part, state in stored.items() for key, value in state.items()
    }
    metadata = {METADATA_KEY: json.dumps(header.as_json())}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return header


def stored_form(tensor: Tensor, half: bool, key: str, path: Path) -> Tensor:
    """A tensor as it goes into the file: on the CPU, contiguous, sharing memory with no other."""
    kept = tensor.detach().to("cpu")
    if kept.is_floating_point():
        kept = kept.to(torch.float16 if half and kept.ndim >= 2 else torch.float32)
    if not is_finite(kept):
        reason = "too large for half precision, or " if half and is_finite(tensor) else ""
        raise ModelCorruptError(
            f"{path.name} is not written: {key} has numbers that are {reason}not finite"
        )
    return kept.clone(memory_format=torch.contiguous_format)
