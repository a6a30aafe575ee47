"""`dsg models pull`: published files by name, into the user's folder.

Nothing is fetched before its license was accepted, offline, or if it is present. What was
fetched is remembered with its hash (`verify`), so that a later change is noticed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dsgcli.errors import DsgError, ModelCorruptError, ModelMissingError, UsageError
from dsgcli.names import place_below
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.store.fetch import Download, Fetched, NoConnectionError, RetryPolicy, fetch
from dsgcli.store.files import (
    add_to_table,
    file_format,
    one_writer,
    require_file,
    sha256_of,
    written_whole,
)
from dsgcli.store.manifest import Entry, License, Manifest, read_manifest, url_of
from dsgcli.store.places import search_roots, user_folder
from dsgcli.store.verify import record_hash

ACCEPTED = "licenses.json"
"""Which licenses were accepted, and when; in the user's folder."""
ENV_HUB_OFFLINE = "HF_HUB_OFFLINE"
_YES = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How to fetch."""

    target: Path = field(default_factory=user_folder)
    accept_license: bool = False
    """Accept, and remember, the licenses of what is fetched."""
    offline: bool = False
    again: bool = False
    """Download existing files again."""
    patience: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """Result for one file."""

    entry: Entry
    path: Path
    state: Literal["fetched", "present", "failed"]
    sha256: str = ""
    source: str = ""
    problem: str = ""


def pull(
    names: Sequence[str],
    options: PullOptions,
    *,
    manifest: Manifest | None = None,
    progress: Progress = NULL_PROGRESS,
) -> list[Pulled]:
    """Fetch published files.

    Args:
        names: of files or groups: "encoder", "arcane", "losses", "all".

    Returns:
        One entry a file; those that failed have a `problem`.

    Raises:
        ModelMissingError: an unknown name; or offline, with where to get the files by hand.
        UsageError: licenses that were not accepted yet, with what they say.
    """
    manifest = manifest or read_manifest()
    entries = manifest.select(names)
    here = _already_here(entries, options)
    missing = [entry for entry in entries if entry.name not in here]
    if missing and is_offline(options):
        raise ModelMissingError("\n".join([_OFFLINE, *(by_hand(e, options) for e in missing)]))
    to_accept = unaccepted(missing, manifest)
    if to_accept and not options.accept_license:
        raise UsageError(
            f"these files come under a license that has to be accepted first:\n"
            f"{license_text(to_accept)}\npass --accept-license if you accept; it is remembered"
        )
    accept(to_accept)
    done, connected = [], True
    for entry in entries:
        if entry.name in here:
            done.append(Pulled(entry=entry, path=here[entry.name], state="present"))
        elif not connected:
            done.append(_failed(entry, options, f"{entry.name} was not tried without a connection"))
        else:
            try:
                done.append(_attempt(entry, options, progress))
            except NoConnectionError as error:
                done.append(_failed(entry, options, str(error)))
                connected = False
    return done


_OFFLINE = "nothing is fetched while offline (--offline or HF_HUB_OFFLINE); to do it by hand:"


def is_offline(options: PullOptions) -> bool:
    """By option, or by the variables of Hugging Face's tools."""
    return options.offline or os.environ.get(ENV_HUB_OFFLINE, "").lower() in _YES


def licenses_to_accept(
    names: Sequence[str], options: PullOptions, manifest: Manifest | None = None
) -> list[License]:
    """Licenses that `pull` needs to be accepted; for a command that can ask.

    Raises:
        ModelMissingError: an unknown name.
    """
    manifest = manifest or read_manifest()
    entries = manifest.select(names)
    here = _already_here(entries, options)
    return unaccepted([entry for entry in entries if entry.name not in here], manifest)


def _already_here(entries: Sequence[Entry], options: PullOptions) -> dict[str, Path]:
    """Files that need no fetching, by the names of their entries."""
    if options.again:
        return {}
    return {entry.name: path for entry in entries if (path := _present(entry, options))}


def _present(entry: Entry, options: PullOptions) -> Path | None:
    """Where the file is already, with the right size where that is known."""
    roots = [options.target, *(root.path for root in search_roots())]
    for path in (root / entry.file for root in roots):
        if path.is_file() and path.stat().st_size == (entry.size or path.stat().st_size):
            return path
    return None


def by_hand(entry: Entry, options: PullOptions) -> str:
    """Where a person gets the file, and where it goes."""
    target = options.target / entry.file
    return f"open {entry.pages[0]} in a browser and put {target.name} into {target.parent}"


# ── one file ─────────────────────────────────────────────────────────────────────────────────────


def _attempt(entry: Entry, options: PullOptions, progress: Progress) -> Pulled:
    try:
        target = place_below(options.target, entry.file)
        with one_writer(target):
            fetched = _fetch(entry, target, options, progress)
            record_hash(target, fetched.sha256, fetched.url)
    except NoConnectionError:
        raise
    except UsageError as error:  # another run fetches it, or its place is outside of the folder
        return Pulled(
            entry=entry, path=options.target / entry.file, state="failed", problem=str(error)
        )
    except DsgError as error:
        return _failed(entry, options, str(error))
    return Pulled(
        entry=entry, path=target, state="fetched", sha256=fetched.sha256, source=fetched.url
    )


def _failed(entry: Entry, options: PullOptions, reason: str) -> Pulled:
    problem = f"{reason}; {by_hand(entry, options)}"
    return Pulled(entry=entry, path=options.target / entry.file, state="failed", problem=problem)


def _fetch(entry: Entry, target: Path, options: PullOptions, progress: Progress) -> Fetched:
    if not entry.sources:
        raise ModelMissingError(f"{target.name} can only be had with a browser")
    wanted = Download(
        target=target,
        size=entry.size,
        sha256=entry.sha256,
        check=require_file if entry.kind == "other" else file_format,
    )
    urls = []
    for source in entry.sources:
        if source.startswith("hf:") and hub_is_installed():
            try:
                return _from_hub(source, wanted)
            except _HubError as error:
                progress.note(f"huggingface_hub could not fetch {target.name}: {error}")
        urls.append(url_of(source))
    return fetch(wanted, urls, patience=options.patience, progress=progress)


class _HubError(Exception):
    """huggingface_hub gave no file, or another one."""


def hub_is_installed() -> bool:
    return importlib.util.find_spec("huggingface_hub") is not None


def _from_hub(source: str, wanted: Download) -> Fetched:
    """Through huggingface_hub, which has its own cache, tokens and resuming."""
    repository, _, rest = source.removeprefix("hf:").partition("@")
    revision, _, name = rest.partition("/")
    hub = importlib.import_module("huggingface_hub")
    try:
        cached = Path(hub.hf_hub_download(repo_id=repository, filename=name, revision=revision))
        sha256 = sha256_of(cached)
        if wanted.sha256 and sha256 != wanted.sha256:
            raise ModelCorruptError(f"another file: its sha256 is {sha256[:12]}...")
        wanted.check(cached)
    except Exception as error:  # its errors are its own, and many
        raise _HubError(str(error).strip().partition("\n")[0]) from error
    with written_whole(wanted.target) as temporary:
        shutil.copyfile(cached, temporary)
    size = wanted.target.stat().st_size
    return Fetched(url=url_of(source), sha256=sha256, num_bytes=size)


# ── licenses ─────────────────────────────────────────────────────────────────────────────────────


def unaccepted(entries: Sequence[Entry], manifest: Manifest) -> list[License]:
    """Licenses of these files that restrict their use and were not accepted yet."""
    ids = dict.fromkeys(entry.license for entry in entries)
    known = _accepted()
    terms = (manifest.licenses[key] for key in ids if key not in known)
    return [license for license in terms if not license.commercial]


def accept(licenses: Sequence[License]) -> None:
    """Remember that these licenses were accepted, and when."""
    if not licenses:
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    accepted = {item.id: {"title": item.title, "on": when} for item in licenses}
    add_to_table(user_folder() / ACCEPTED, accepted)


def _accepted() -> dict[str, object]:
    try:
        return dict(json.loads((user_folder() / ACCEPTED).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def license_text(licenses: Sequence[License]) -> str:
    """The terms, one a line."""
    return "\n".join(f"  {item.title}: {item.summary} {item.url}" for item in licenses)
