"""One model file, opened: what it is, and its weights part by part.

Published checkpoints and the project's own files look the same from here on.

    part        holds
    g_ema       generator or DualStyleGAN, the averaged weights: the ones to draw with
    g           the same, as trained last
    d           its discriminator
    style_path  of a style: T_s and the residual path ("style.*", "res.*")
    encoder     of an encoder, with "latent_avg" if it adds one
    color, structure
                the two halves of a sampling network
    codes       "exstyle", "refined", "instyle": (N, L, D)
    net         the weights of a perceptual network

Weights come as float32 on the CPU, owned by the caller (unless only read), checked to be finite.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dsgcli.errors import ModelCorruptError, ModelMismatchError
from dsgcli.models.encoder import CodeSpace
from dsgcli.store.architecture import (
    dual_config,
    encoder_config,
    generator_config,
    kind_of,
    likely,
    without_prefix,
)
from dsgcli.store.catalog import iteration_of
from dsgcli.store.codes import read_code_file
from dsgcli.store.files import file_format
from dsgcli.store.header import Header, Shapes, read_header
from dsgcli.store.unpickle import read_checkpoint
from dsgcli.types import LatentLayout

State = dict[str, Tensor]
"""Keys and tensors of (a part of) a network."""


KERNEL_DIMS = 4
"""Weights that only binding reads. Matrices are multiplied with as they are, and the last bits
of a product depend on where its factors begin in memory: in a file, anywhere."""


class OpenModel(Protocol):
    """A model file, of ours or published."""

    @property
    def path(self) -> Path: ...

    @property
    def header(self) -> Header: ...

    @property
    def parts(self) -> tuple[str, ...]: ...

    def part(self, name: str, *, owned: bool = True) -> State:
        """The weights of one part.

        Args:
            owned: False is for who only reads them, to make something else of them: kernels that
                are stored as float32 then lie in the file itself, mapped, which spares copying
                nearly all of a network. A file that is replaced, as dsg does, stays as it was for
                who has it open; one that is written over does not.

        Raises:
            ModelMismatchError: there is no such part. ModelCorruptError: unreadable, or not finite.
        """


def open_model(path: Path, *, space: CodeSpace | None = None) -> OpenModel:
    """Open any model file by its content.

    Args:
        path: safetensors of ours, a published checkpoint, or a `.npy` of codes.
        space: of a published encoder's codes; None goes by its name (`*wplus*` is w+).

    Raises:
        ModelMissingError: no such file. ModelCorruptError: damaged, or code to run.
        ModelMismatchError: of no kind that dsg knows.
    """
    match file_format(path):
        case "safetensors":
            return OwnModel(path)
        case "torch-zip" | "torch-legacy":
            return recognize(path, read_checkpoint(path), space=space)
        case "npy":
            return _open_codes(path)
        case other:
            raise ModelMismatchError(f"{path} is no model of dsg's networks (a {other} file)")


class OwnModel:
    """A safetensors file with our header; weights are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header, self._shapes = read_header(path)
        self.header = header if header.name else header.named(path.stem)
        self.parts = tuple(sorted({key.partition("/")[0] for key in self._shapes}))

    def part(self, name: str, *, owned: bool = True) -> State:
        return as_weights(self.stored(name), self.path, name, owned=owned)

    def stored(self, name: str) -> State:
        """The weights of one part as they are stored, unchecked.

        Raises: as `part`.
        """
        from safetensors import SafetensorError, safe_open

        if name not in self.parts:
            raise _no_part(self.path, name, self.parts)
        keys = [key for key in self._shapes if key.startswith(f"{name}/")]
        try:
            with safe_open(self.path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in keys}
        except (SafetensorError, OSError) as error:
            raise ModelCorruptError(
                f"{self.path} is incomplete or damaged ({error}); fetch or make it again"
            ) from error
        return without_prefix(tensors, f"{name}/")


class PublishedModel:
    """A checkpoint of the field, recognized; `parts` are its dicts of tensors."""

    def __init__(
        self, path: Path, header: Header, parts: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        self.path, self.header, self._states = path, header, parts
        self.parts = tuple(parts)

    def part(self, name: str, *, owned: bool = True) -> State:
        if name not in self._states:
            raise _no_part(self.path, name, self.parts)
        return as_weights(self._states[name], self.path, name, owned=owned)


def _no_part(path: Path, name: str, parts: tuple[str, ...]) -> ModelMismatchError:
    return ModelMismatchError(f"{path} has no part {name!r}, only {', '.join(parts)}")


def as_weights(state: Mapping[str, Tensor], path: Path, part: str, *, owned: bool = True) -> State:
    """Floats as float32, contiguous and finite; integers stay what they are.

    Args:
        owned: copies that no longer depend on the file.

    Raises:
        ModelCorruptError: a number that is not finite, with its key.
    """
    weights: State = {}
    for key, tensor in state.items():
        is_float = tensor.is_floating_point() or part == "codes"
        dtype = torch.float32 if is_float else tensor.dtype
        copy = owned or tensor.ndim < KERNEL_DIMS
        weight = tensor.detach().to(dtype, copy=copy, memory_format=torch.contiguous_format)
        if not is_finite(weight):
            raise ModelCorruptError(
                f"{path} holds numbers that are not finite (in {part}, {key}): it was damaged, or "
                f"its training failed; use an earlier checkpoint, or fetch it again"
            )
        weights[key] = weight
    return weights


def is_finite(tensor: Tensor) -> bool:
    """No NaN and no infinity, in one pass and without a mask."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and bits, whatever the order they are stored in."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ── published checkpoints ────────────────────────────────────────────────────────────────────────


def recognize(path: Path, content: Any, *, space: CodeSpace | None = None) -> PublishedModel:
    """Recognize a checkpoint by its keys and shapes.

    Args:
        content: as `read_checkpoint` gives it.

    Raises:
        ModelMismatchError: not a dict of tensors, incomplete, or of an unknown kind.
    """
    if not isinstance(content, Mapping):
        raise ModelMismatchError(
            f"{path} holds {type(content).__name__.strip('_')}, not the weights of a network; if "
            f"it is a whole network, its publisher must save network.state_dict() instead"
        )
    if isinstance(content.get("g_ema"), Mapping):
        return _generator(path, content)
    if "color" in content and "structure" in content:
        return _sampler(path, content)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return _bare(path, _tensors(content), space)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            state = _tensors(content[wrapper])
            if kind_of(without_prefix(state, "encoder.")) == "encoder":
                return _encoder(path, {**content, "state_dict": state}, space)
            return _bare(path, state, space)
    raise ModelMismatchError(
        f"{path} is no checkpoint that dsg knows: it looks like {likely(content)}"
    )


WRAPPERS = ("params_ema", "ema", "state_dict", "params", "model", "g", "generator")
"""Keys under which training code keeps the weights, the averaged ones first; optimizers and options
lie beside them."""


def _generator(path: Path, content: Mapping[str, Any]) -> PublishedModel:
    """{"g_ema"} and maybe "g", "d": StyleGAN2 or DualStyleGAN."""
    parts = {
        name: _tensors(content[name])
        for name in ("g_ema", "g", "d")
        if isinstance(content.get(name), Mapping)
    }
    kind = kind_of(parts["g_ema"])
    if kind not in ("generator", "dualstylegan"):
        raise ModelMismatchError(
            f"{path} holds no generator under 'g_ema' but {likely(parts['g_ema'])}"
        )
    shapes = shapes_of(parts["g_ema"])
    name = (
        path.parent.name
        if path.name == "generator.pt" or iteration_of(path) is not None
        else path.stem
    )
    if kind == "generator":
        config = generator_config(shapes, path)
        header = Header(kind=kind, name=name, config=config.as_json(), layout=config.layout)
    else:
        dual = dual_config(shapes, path)
        header = Header(kind=kind, name=name, config=dual.as_json(), layout=dual.layout)
    return PublishedModel(path, header, parts)


def _encoder(path: Path, content: Mapping[str, Any], space: CodeSpace | None) -> PublishedModel:
    """pSp: {"state_dict", "opts", "latent_avg"}; the decoder inside is left alone."""
    state = without_prefix(_tensors(content["state_dict"]), "encoder.")
    if kind_of(state) != "encoder":
        raise ModelMismatchError(f"{path} holds no encoder but {likely(content['state_dict'])}")
    options = content.get("opts") or {}
    options = vars(options) if isinstance(options, Namespace) else options
    average = content.get("latent_avg")
    adds = bool(options.get("start_from_latent_avg")) and isinstance(average, Tensor)
    return _encoder_of(path, state, average if adds else None, space)


def _encoder_of(
    path: Path, state: State, average: Tensor | None, space: CodeSpace | None
) -> PublishedModel:
    space = space or ("w+" if "wplus" in path.stem.lower() else "z+")
    config = encoder_config(shapes_of(state), path, space=space, latent_avg=average is not None)
    if average is not None:
        if average.numel() % config.style_dim:
            raise ModelMismatchError(
                f"{path} has a mean code of {average.numel()} numbers, which are no rows of "
                f"{config.style_dim}"
            )
        rows = average.detach().float().reshape(-1, config.style_dim)
        if len(rows) not in (1, config.num_latents):
            raise ModelMismatchError(
                f"{path} has a mean code of {len(rows)} rows and {config.num_latents} heads"
            )
        state = {**state, "latent_avg": rows.expand(config.num_latents, -1)}
    header = Header(kind="encoder", name=path.stem, config=config.as_json())
    return PublishedModel(path, header, {"encoder": state})


def _sampler(path: Path, content: Mapping[str, Any]) -> PublishedModel:
    halves = {name: _tensors(content[name]) for name in ("color", "structure")}
    for name, state in halves.items():
        if "lin_out.weight" not in state:
            raise ModelMismatchError(f"{path} holds no sampling network under {name!r}")
    return PublishedModel(path, Header(kind="sampler", name=path.stem), halves)


def _bare(path: Path, state: State, space: CodeSpace | None) -> PublishedModel:
    """A state dict without anything around it."""
    kind = kind_of(state)
    if kind == "generator" or kind == "dualstylegan":
        return _generator(path, {"g_ema": state})
    if kind == "encoder":
        return _encoder_of(path, state, None, space)
    if kind is None:
        raise ModelMismatchError(f"{path} is no model that dsg uses: it looks like {likely(state)}")
    if kind in ("vgg16", "vgg19"):  # the classifier is not used
        state = {key: value for key, value in state.items() if key.startswith("features.")}
    return PublishedModel(path, Header(kind=kind, name=path.stem), {"net": state})


def _open_codes(path: Path) -> PublishedModel:
    names, codes = read_code_file(path)
    role = next((r for r in ("refined", "instyle") if path.stem.startswith(r)), "exstyle")
    header = Header(kind="codes", name=path.stem, names=names, layout=code_layout(codes, path))
    return PublishedModel(path, header, {"codes": {role: codes}})


def code_layout(codes: Tensor, path: Path) -> LatentLayout:
    """The layout of a generator that has as many rows as these codes (N, L, D)."""
    rows = codes.shape[1]
    if codes.shape[2] == 0 or rows % 2 or not 8 <= rows <= 18:
        raise ModelMismatchError(f"{path} holds codes of {rows} rows, which fit no generator")
    return LatentLayout(1 << (rows + 2) // 2)


def _tensors(state: Mapping[str, Any]) -> State:
    """The tensors of a state dict, without what else hangs on it, and without the `module.` that
    parallel training writes before every key."""
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if tensors and all(key.startswith("module.") for key in tensors):
        return without_prefix(tensors, "module.")
    return tensors


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
