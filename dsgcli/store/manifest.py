"""`pretrained/manifest.toml`: every published file, its kind and its sources.

sources   tried in order:  hf:OWNER/REPOSITORY@REVISION/PATH   a file on Hugging Face
                           drive:ID                            a file on Google Drive
                           https://...                         anything else
known     what is known of size and hash: "page" as a public page has it, "verified" seen here
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from dsgcli.errors import ModelMissingError, RecipeError
from dsgcli.store.catalog import FileKind
from dsgcli.store.places import shipped_folder
from dsgcli.toml import parse_toml

MANIFEST = "manifest.toml"
EVERYTHING = "all"
ENV_HUB = "HF_ENDPOINT"
"""Another address for Hugging Face, as its own tools understand it."""
_HASH_DIGITS = 64
_KINDS = {kind for part in get_args(FileKind) for kind in (get_args(part) or (part,))} | {"other"}


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """Terms that are shown, and accepted once, before the first download under them."""

    id: str
    title: str
    summary: str
    """One or two sentences for a person who decides now."""
    url: str
    commercial: bool
    """True if the license allows commercial use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One published file."""

    name: str
    """Name for `dsg models pull`."""
    file: str
    """Where it goes, below a root: "cartoon/generator.pt"."""
    kind: str
    license: str
    """Id of a license of the manifest."""
    needed_for: str
    """Purpose, as the rest of a sentence: "needed for ..."."""
    groups: tuple[str, ...] = ()
    """Names that stand for it and others: a style's name, "losses"."""
    sources: tuple[str, ...] = ()
    by_hand: str = ""
    """A page for a browser, if the file has no other source, or not always."""
    size: int = 0
    """Exact bytes; 0 if not known."""
    about: int = 0
    """About so many bytes, where `size` is not known."""
    sha256: str = ""
    known: str = "page"
    note: str = ""

    @property
    def urls(self) -> tuple[str, ...]:
        """The sources as addresses."""
        return tuple(url_of(source) for source in self.sources)

    @property
    def pages(self) -> tuple[str, ...]:
        """Everything that can be opened in a browser, best first."""
        return (*((self.by_hand,) if self.by_hand else ()), *self.urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The published files."""

    files: tuple[Entry, ...]
    licenses: Mapping[str, License]

    def has_style(self, name: str) -> bool:
        """Whether a style of this name is published."""
        return any(entry.file == f"{name}/generator.pt" for entry in self.files)

    def has(self, name: str) -> bool:
        """Whether a file or a group of files is published under this name."""
        return any(name in (entry.name, entry.file, *entry.groups) for entry in self.files)

    def of_kind(self, kind: str) -> Entry:
        """The file of a kind of which one is published."""
        return next(entry for entry in self.files if entry.kind == kind)

    def at(self, relative: str) -> Entry | None:
        """The entry of a file at this place below a root; None if it is not published."""
        return next((entry for entry in self.files if entry.file == relative), None)

    def named(self, file_name: str) -> Entry | None:
        """The entry of a file of this name, where only one file has it."""
        found = [entry for entry in self.files if PurePosixPath(entry.file).name == file_name]
        return found[0] if len(found) == 1 else None

    def select(self, names: Sequence[str]) -> list[Entry]:
        """The files that names or groups stand for, each once, in the manifest's order.

        Raises:
            ModelMissingError: a name that nothing has; with near ones.
        """
        for name in names:
            if not any(_stands_for(name, entry) for entry in self.files):
                raise ModelMissingError(self._unknown(name))
        return [entry for entry in self.files if any(_stands_for(name, entry) for name in names)]

    def _unknown(self, name: str) -> str:
        known = {part for entry in self.files for part in (entry.name, *entry.groups)}
        near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "`dsg models list --published` shows all"
        )
        return f"no published model is called {name!r}; {hint}"


def _stands_for(name: str, entry: Entry) -> bool:
    return name in (EVERYTHING, entry.name, entry.file, *entry.groups)


def url_of(source: str) -> str:
    """The address of a source; unknown schemes were refused when the manifest was read."""
    scheme, _, rest = source.partition(":")
    if scheme == "hf":
        repository, _, after = rest.partition("@")
        revision, _, path = after.partition("/")
        endpoint = os.environ.get(ENV_HUB, "https://huggingface.co").rstrip("/")
        return f"{endpoint}/{repository}/resolve/{revision}/{path}"
    if scheme == "drive":
        return f"https://drive.usercontent.google.com/download?id={rest}&export=download&confirm=t"
    return source


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@cache
def read_manifest(path: Path | None = None) -> Manifest:
    """The manifest that is shipped, or another one.

    Raises:
        RecipeError: every problem in it, at once.
    """
    path = path or shipped_folder() / MANIFEST
    try:
        table = parse_toml(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(str(path), [str(error)]) from error
    problems: list[str] = []
    licenses = {
        key: _build(License, {"id": key, **values}, f"licenses.{key}", problems)
        for key, values in table.get("licenses", {}).items()
    }
    entries = [
        _build(Entry, values, f"file {values.get('name', number)!r}", problems)
        for number, values in enumerate(table.get("file", []), 1)
    ]
    if not problems:
        problems = _contradictions(entries, licenses)
    if problems:
        raise RecipeError(str(path), problems)
    return Manifest(files=tuple(entries), licenses=licenses)


def _build(kind: Any, values: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    """An instance of a dataclass; what is wrong with `values` is added to `problems`."""
    known = {f.name: f for f in fields(kind)}
    missing = [name for name, f in known.items() if f.default is MISSING and name not in values]
    problems += [f"{where}: missing key {name!r}" for name in missing]
    given = {}
    for key, value in values.items():
        if key not in known:
            problems.append(f"{where}: unknown key {key!r}")
            continue
        if not _fits(value, str(known[key].type)):
            problems.append(f"{where}: {key} must be {known[key].type}, got {value!r}")
        given[key] = tuple(value) if isinstance(value, list) else value
    return None if missing else kind(**given)


def _fits(value: object, wanted: str) -> bool:
    """A TOML value against the annotation of a field, a list standing for a tuple."""
    if wanted.startswith("tuple"):
        return isinstance(value, list) and all(type(item) is str for item in value)
    return type(value).__name__ == wanted


def _contradictions(entries: Sequence[Entry], licenses: Mapping[str, License]) -> list[str]:
    problems = []
    for key in ("name", "file"):
        values = [getattr(entry, key) for entry in entries]
        twice = sorted({value for value in values if values.count(value) > 1})
        problems += [f"{key} {value!r} occurs more than once" for value in twice]
    for entry in entries:
        problems += [f"file {entry.name!r}: {problem}" for problem in _problems_of(entry, licenses)]
    return problems


def _problems_of(entry: Entry, licenses: Mapping[str, License]) -> list[str]:
    place = PurePosixPath(entry.file)
    sources = [s for s in entry.sources if not s.startswith(("hf:", "drive:", "https://"))]
    malformed = [s for s in entry.sources if s.startswith("hf:") and "@" not in s]
    digits = set(entry.sha256) <= set("0123456789abcdef")
    checks = (
        (entry.license not in licenses, f"no license {entry.license!r}"),
        (entry.kind not in _KINDS, f"no kind {entry.kind!r}"),
        (entry.known not in ("page", "verified"), "known must be 'page' or 'verified'"),
        (place.is_absolute() or ".." in place.parts, f"{entry.file!r} leaves the folder"),
        (bool(sources), f"source {sources[:1]} is none of hf:, drive:, https:"),
        (bool(malformed), f"source {malformed[:1]} names no revision"),
        (not entry.sources and not entry.by_hand, "neither sources nor by_hand"),
        (min(entry.size, entry.about) < 0, "a negative size"),
        (bool(entry.sha256) and (len(entry.sha256) != _HASH_DIGITS or not digits), "a bad sha256"),
    )
    return [problem for wrong, problem in checks if wrong]
