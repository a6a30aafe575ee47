"""Whether model files are what they claim: hash as recorded or published, readable, finite.

Our own files carry the hash of their tensors; published ones are compared with the manifest, or
with the hash that was seen when they were fetched (`hashes.json` in the user's folder).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dsgcli.errors import ModelError
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.store.catalog import FileKind, ModelFile
from dsgcli.store.convert import entry_of
from dsgcli.store.fetch import MB
from dsgcli.store.files import add_to_table, sha256_of
from dsgcli.store.places import user_folder

SEEN = "hashes.json"
"""Hashes of what was fetched, by place below the user's folder."""

HashState = Literal["as recorded", "as published", "as first seen", "changed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Result of the check of one file."""

    name: str
    path: Path
    kind: FileKind
    hash_state: HashState
    sha256: str = ""
    """Hash of the file, if it was compared."""
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


def verify(
    files: Sequence[ModelFile], known: Sequence[ModelFile] = (), progress: Progress = NULL_PROGRESS
) -> list[Verified]:
    """Read each file whole: hash, structure, numbers.

    Args:
        known: where the bases of styles may be, besides `files`.

    Returns:
        One entry a file. Nothing is raised for a file that is wrong; its `problem` says what it is.
    """
    found = []
    bases = {
        f.header.sha256: f.path
        for f in (*files, *known)
        if f.header and f.kind in ("generator", "translator")
    }
    total = sum(file.num_bytes for file in files)
    with progress.task("Verifying", total / MB, unit="MB") as task:
        for file in files:
            found.append(_verify_one(file, bases))
            task.advance(file.num_bytes / MB)
    return found


def _verify_one(file: ModelFile, bases: Mapping[str, Path]) -> Verified:
    state: HashState = "unknown"
    problem, sha256 = file.problem, ""
    if not problem:
        try:
            state, sha256, problem = _own(file) if file.header else _published(file)
            problem = problem or _load(file, bases)
        except ModelError as error:
            problem = str(error)
    return Verified(
        name=file.name,
        path=file.path,
        kind=file.kind,
        hash_state=state,
        sha256=sha256,
        problem=problem,
    )


def _own(file: ModelFile) -> tuple[HashState, str, str]:
    """Part by part against the header."""
    from dsgcli.store.contents import OwnModel, tensors_sha256

    model = OwnModel(file.path)
    recorded = model.header.hashes
    changed = [p for p in model.parts if tensors_sha256(model.stored(p)) != recorded.get(p)]
    if changed or set(recorded) != set(model.parts):
        parts = ", ".join(changed or sorted(set(recorded) ^ set(model.parts)))
        return "changed", "", f"{file.path} was changed after it was written ({parts})"
    return "as recorded", "", ""


def _published(file: ModelFile) -> tuple[HashState, str, str]:
    """Against the manifest, or against what was seen first."""
    sha256, entry = sha256_of(file.path), entry_of(file.path)
    if entry is not None and entry.sha256:
        if sha256 == entry.sha256:
            return "as published", sha256, ""
        problem = (
            f"{file.path} is not the published {entry.name}: its sha256 is {sha256[:12]}..., that "
            f"of the published one {entry.sha256[:12]}...; delete it and fetch it again"
        )
        return "changed", sha256, problem
    seen = seen_hashes().get(_place(file.path))
    if seen is None:
        return "unknown", sha256, ""
    if seen == sha256:
        return "as first seen", sha256, ""
    problem = (
        f"{file.path} has changed since it was fetched: its sha256 is {sha256[:12]}..., and was "
        f"{seen[:12]}...; delete it and fetch it again"
    )
    return "changed", sha256, problem


def _load(file: ModelFile, bases: Mapping[str, Path]) -> str:
    """Read every part, which must be finite, build the network and run it; what is wrong is raised.

    Returns:
        What is missing beside the file; empty if nothing is.
    """
    from dsgcli.store import networks
    from dsgcli.store.contents import open_model

    if file.kind == "mediapipe":
        return ""
    model = open_model(file.path)
    for part in model.parts:
        model.part(part)
    base = model.header.base
    place = bases.get(base.sha256) if base is not None else None
    networks.check_model(model, place)
    if base is not None and place is None:
        what = "translator" if model.header.kind == "translator-style" else "base"
        return f"the {what} {base.name!r} ({base.sha256[:12]}) of {file.path} is missing"
    return ""


# ── hashes seen ──────────────────────────────────────────────────────────────────────────────────


def seen_hashes() -> dict[str, str]:
    """sha256 by place, as `record_hash` kept them; empty if there are none, or they are damaged."""
    try:
        table = json.loads((user_folder() / SEEN).read_text("utf-8"))
        return {str(place): str(entry["sha256"]) for place, entry in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def record_hash(path: Path, sha256: str, source: str) -> None:
    """Keep the hash of what was fetched, and from where."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"sha256": sha256, "source": source, "seen": when}
    add_to_table(user_folder() / SEEN, {_place(path): entry})


def _place(path: Path) -> str:
    """A file's place: below the user's folder if it is there, else the whole path."""
    whole, root = path.resolve(), user_folder().resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)
