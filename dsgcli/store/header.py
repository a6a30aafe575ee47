"""The project's own file format: safetensors, with one JSON value in its metadata.

    tensors   named PART/KEY: PART is "g_ema", "d", "style_path", "encoder", "codes", ...; KEY is
              the key of the network's state dict
    metadata  {"dsg": JSON of a `Header`}

A file of kind "style" holds only what its base does not: T_s and the residual path, the codes of
its exemplars, the sampling network. It names its base by name and by the hash of the base's
averaged weights, so that its header (license, notes) can change, a discriminator can be dropped,
and the weights a style was trained on cannot change unnoticed.

A file of kind "translator" holds the network and its style encoder under "translator"; one of kind
"translator-style" holds the codes of exemplars, maybe a sampling network, and names its translator
in the same way.

Headers are read without touching a weight, and without torch: this is what makes listing fast.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import dsgcli
from dsgcli.errors import DsgError, ModelCorruptError, ModelMismatchError
from dsgcli.names import visible, why_no_label
from dsgcli.store.files import file_format
from dsgcli.types import LatentLayout, Provenance

Kind = Literal[
    "generator",
    "dualstylegan",
    "style",
    "encoder",
    "sampler",
    "codes",
    "overlay",
    "translator",
    "translator-style",
    "identity",
    "vgg16",
    "vgg19",
    "lpips",
]
"""generator: StyleGAN2, maybe with its discriminator; dualstylegan: a whole one; style: one without
its base; overlay: exemplars that a user added to a style; translator: an image-to-image network
with its style encoder; translator-style: exemplars' codes for one."""

KIND_NAMES: dict[Kind, str] = {
    "generator": "a StyleGAN2 generator",
    "dualstylegan": "a DualStyleGAN",
    "style": "a style (to go with its base)",
    "encoder": "an encoder",
    "sampler": "a sampling network",
    "codes": "codes of exemplars",
    "overlay": "exemplars added to a style",
    "translator": "a translator",
    "translator-style": "a style (to go with its translator)",
    "identity": "the identity network IR-SE50",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "lpips": "the linear heads of LPIPS",
}

FORMAT_VERSION = 1
METADATA_KEY = "dsg"
MAX_HEADER_BYTES = 16_000_000
"""Longest header that is read: a hundred times what the largest of ours takes."""
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRef:
    """The generator, or the translator, that a style goes with."""

    name: str
    """Its name in the store, for messages."""
    sha256: str
    """Hash of its weights (`Header.sha256` of its file)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything about a model file but its numbers."""

    kind: Kind
    name: str = ""
    """Name in the store; empty takes the file's stem."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """`as_json()` of the network's configuration."""
    layout: LatentLayout | None = None
    """Which row of a code drives which layer, where codes are concerned."""
    names: tuple[str, ...] = ()
    """Exemplars, in the order of the rows of the codes; a number names this position."""
    base: BaseRef | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    """sha256 of each part's tensors (`tensors_sha256`)."""
    provenance: Provenance = field(default_factory=Provenance)
    made_by: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the averaged generator, or of the translator, by which a style names its base."""
        return self.hashes.get("g_ema") or self.hashes.get("translator", "")

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        layout = self.layout and {
            "size_px": self.layout.size_px,
            "last_structure": self.layout.last_structure,
            "num_latents": self.layout.num_latents,
        }
        return {
            "format": FORMAT_VERSION,
            "kind": self.kind,
            "name": self.name,
            "config": dict(self.config),
            "layout": layout,
            "names": list(self.names),
            "base": self.base and {"name": self.base.name, "sha256": self.base.sha256},
            "sha256": dict(self.hashes),
            "license": self.provenance.license,
            "source": self.provenance.source,
            "notes": self.provenance.notes,
            "extra": dict(self.provenance.extra),
            "made_by": self.made_by or f"dsg {dsgcli.__version__}",
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Header:
        """The inverse of `as_json`; KeyError, TypeError or ValueError for what is not one."""
        if values["kind"] not in get_args(Kind):
            raise ValueError(f"unknown kind {values['kind']!r}")
        layout, base = values["layout"], values["base"]
        if not isinstance(values["names"], list):
            raise TypeError("names are no list")
        return cls(
            kind=values["kind"],
            name=_text(values["name"]),
            config=dict(values["config"]),
            layout=(
                None
                if layout is None
                else LatentLayout(int(layout["size_px"]), int(layout["last_structure"]))
            ),
            names=tuple(_text(name) for name in values["names"]),
            base=(
                None
                if base is None
                else BaseRef(name=_text(base["name"]), sha256=_text(base["sha256"]))
            ),
            hashes={_text(part): _text(value) for part, value in values["sha256"].items()},
            provenance=Provenance(
                license=_text(values["license"]),
                source=_text(values["source"]),
                notes=_text(values["notes"]),
                extra=dict(values["extra"]),
            ),
            made_by=_text(values["made_by"]),
        )

    def named(self, name: str) -> Header:
        return replace(self, name=name)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} where there should be text")
    return value


Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""


def read_header(path: Path) -> tuple[Header, Shapes]:
    """Read the header of one of our files, and the shapes of its tensors; no weight is read.

    Raises:
        ModelMissingError: no such file. ModelCorruptError: truncated, or a header that is none.
        ModelMismatchError: safetensors of another program, or of a newer version of this one.
    """
    if file_format(path) != "safetensors":
        raise ModelMismatchError(f"{path} is not safetensors; `dsg models import` converts it")
    metadata, shapes = read_safetensors_header(path)
    if METADATA_KEY not in metadata:
        raise ModelMismatchError(
            f"{path} was made by another program (no {METADATA_KEY!r} in its metadata), "
            f"so what it holds is not known"
        )
    try:
        values = json.loads(metadata[METADATA_KEY])
        version = int(values["format"])
        if version <= FORMAT_VERSION:
            header = Header.from_json(values)
            if contradiction := _contradiction(header, shapes):
                raise _damaged(path, contradiction)
            return header, shapes
    except (*_UNREADABLE, DsgError) as error:
        if isinstance(error, ModelCorruptError):
            raise
        raise _damaged(path, f"its description cannot be read: {_brief(error)}") from error
    raise ModelMismatchError(
        f"{path} is in format {version}, and this version of dsg reads up to {FORMAT_VERSION}; "
        f"update dsg"
    )


_UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError)
"""Exceptions from JSON of another form than expected."""
_MAX_REASON_CHARACTERS = 120


def _brief(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    return visible(text, keep="")[:_MAX_REASON_CHARACTERS]


def _contradiction(header: Header, shapes: Shapes) -> str:
    """Why a description does not fit the tensors or could do harm; "" if it is good."""
    if header.name and (why := why_no_label(header.name)):
        return f"its name {visible(header.name, keep='')!r:.60} {why}"
    if header.base is not None and (why := why_no_label(header.base.name)):
        return f"the name of its base {why}"
    if header.kind in ("style", "translator-style") and header.base is None:
        return "it is a style and names no base"
    if header.kind in ("style", "translator-style", "generator", "dualstylegan") and (
        header.layout is None
    ):
        return f"it is {KIND_NAMES[header.kind]} and has no size in its header"
    codes = {key: shape for key, shape in shapes.items() if key.startswith("codes/")}
    return _wrong_codes(header, codes) if codes else ""


def _wrong_codes(header: Header, codes: Shapes) -> str:
    """Why the codes of a file or the names of its exemplars are not valid; "" if they are."""
    count, layout = len(header.names), header.layout
    if layout is None:
        return "it has codes and has no size in its header"
    for name in header.names:
        if why := why_no_label(name):
            return f"the name {visible(name, keep='')!r:.60} of an exemplar {why}"
    if len(set(header.names)) != count or not count:
        return "its exemplars have no names, or two have the same one"
    if unknown := set(codes) - {"codes/exstyle", "codes/refined", "codes/instyle"}:
        return f"it has codes of no known kind ({visible(min(unknown), keep='')!r:.60})"
    if "codes/exstyle" not in codes:
        return "it has codes and none of them are the encoder's (codes/exstyle)"
    first = codes["codes/exstyle"]
    for key, shape in codes.items():
        if shape != first or shape[:-1] != (count, layout.num_latents) or shape[-1] == 0:
            return (
                f"{visible(key, keep='')} is {'x'.join(map(str, shape))}, and {count} exemplar(s) "
                f"of {layout.size_px} px have {count}x{layout.num_latents} rows"
            )
    return ""


def read_safetensors_header(path: Path) -> tuple[dict[str, str], Shapes]:
    """Metadata and shapes of any safetensors file, checked against the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise _damaged(path, f"its header would take {length:,} of {size:,} bytes")
        raw = file.read(length)
    try:
        table = json.loads(raw)
        metadata = dict(table.pop("__metadata__", None) or {})
        spans = {str(key): _span(entry) for key, entry in table.items()}
    except _UNREADABLE as error:
        raise _damaged(path, "its header cannot be read") from error
    end = 0
    for start, stop in sorted((start, stop) for _, start, stop in spans.values()):
        if start != end:
            raise _damaged(path, "its header describes tensors that overlap")
        end = stop
    if end != size - 8 - length:
        raise _damaged(path, f"it has {size - 8 - length:,} bytes of tensors instead of {end:,}")
    return metadata, {key: shape for key, (shape, _, _) in spans.items()}


def _span(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], int, int]:
    shape = tuple(int(side) for side in entry["shape"])
    start, stop = (int(offset) for offset in entry["data_offsets"])
    if min((*shape, start), default=0) < 0:
        raise ValueError("negative")
    if stop - start != math.prod(shape) * _ITEM_BYTES[entry["dtype"]]:
        raise ValueError("size and shape differ")
    return shape, start, stop


def _damaged(path: Path, what: str) -> ModelCorruptError:
    return ModelCorruptError(f"{path} is incomplete or damaged: {what}; fetch or make it again")
