"""The fingerprint of an output: one key of its input and settings, so that it is not made twice.

The key is stored in the output's own metadata, so it moves with the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgcli import __version__
from dsgcli.errors import DsgError
from dsgcli.media.read import hash_source, read_metadata
from dsgcli.media.write import is_occupied

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.output_styles import FaceStyle, OutputStyle

KEY, VERSION, STYLE = "dsg-key", "dsg-version", "dsg-style"

_IRRELEVANT = (
    "style",
    "exemplar",
    "face_style",
    "output_pattern",
    "overwrite",
    "recursive",
    "resume",
    "preview",
    "batch_size",
    "pretrained",
    "workers",
    "cluster",
)
"""Options that do not change a picture, or do so through codes, which count themselves."""


def job_keys(
    source: Path, casts: Sequence[OutputStyle], options: StylizeOptions, mask: str
) -> list[str]:
    """One key an output: a hash of the input's content and of everything that decides what the
    output looks like.

    Raises:
        SourceMissingError, SourceError: the input cannot be read.
    """
    values: dict[str, Any] = {
        name: value for name, value in asdict(options).items() if name not in _IRRELEVANT
    }
    values |= {"version": __version__, "source": hash_source(source), "mask": mask}
    return [_hash(values | _cast_values(cast)) for cast in casts]


def _cast_values(cast: OutputStyle) -> dict[str, Any]:
    return {
        "roles": [_role_key(role) for role in cast.roles],
        "faces_with_own": list(cast.own),  # in the order of their roles
    }


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _role_key(role: FaceStyle) -> str:
    """The look, and the weights of the networks that draw it."""
    digest = hashlib.sha256()
    digest.update(repr((role.look.weights.layers, role.look.truncation)).encode())
    digest.update(_bytes(role.look.exstyle))
    for network in role.portraits.networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(_bytes(tensor.flatten()[:64]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()


def metadata(key: str, cast: OutputStyle) -> dict[str, str]:
    """Metadata that is written into an output."""
    return {KEY: key, VERSION: __version__, STYLE: cast.label}


def is_made(path: Path, key: str | None) -> bool | None:
    """Whether `path` was made by dsg with this key (None: with any); None if it is not there."""
    if not is_occupied(path):
        return None
    try:
        found = read_metadata(path)
    except DsgError:
        return False
    return KEY in found if key is None else found.get(KEY) == key
