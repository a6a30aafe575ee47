"""Model files as an attacker or an accident would make them: a good file, changed in one place."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rewrite_table(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the safetensors header of a file; its tensors stay as they are."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    table = json.loads(raw[8 : 8 + length])
    change(table)
    text = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description of the model inside the safetensors header."""

    def inner(table: dict[str, Any]) -> None:
        values = json.loads(table["__metadata__"]["dsg"])
        change(values)
        table["__metadata__"]["dsg"] = json.dumps(values)

    rewrite_table(path, inner)


def set_at(address: str, value: object) -> Callable[[dict[str, Any]], None]:
    """A change of one value, by its address: "config.generator.style_dim"."""

    def change(values: dict[str, Any]) -> None:
        *above, last = address.split(".")
        for key in above:
            values = values[key]
        values[last] = value

    return change
