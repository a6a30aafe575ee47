"""Styles on the Hugging Face hub, or in a folder laid out like one of its repositories.

    owner/name:  config.json              what it is, for people and tools: name, size, exemplars
                 STYLE.safetensors        our own format, see `header`
                 base | translator.safetensors, and encoder.safetensors for a DualStyleGAN
                 README.md                the model card: license, origin, how to use it

A repository is downloaded beside its place, checked file by file, and only then moved there; it is
a set of models of its own root (`places.hub_folder`), which is searched last, so that a stranger's
style never takes the place of one that is here. Only safetensors are taken: no pickles.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dsgcli
from dsgcli.errors import DsgError, ModelCorruptError, ModelMissingError, OutputExistsError
from dsgcli.media.files import make_folder
from dsgcli.names import visible
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.store.catalog import StyleInfo, scan, styles_in
from dsgcli.store.exchange import export_style
from dsgcli.store.files import one_writer, write_text, written_whole
from dsgcli.store.manifest import ENV_HUB
from dsgcli.store.model_store import ModelStore
from dsgcli.store.places import Root, hub_folder, hub_set
from dsgcli.store.pull import PullOptions, is_offline
from dsgcli.store.verify import verify

TAKEN = ("*.safetensors", "config.json", "README.md")
"""Files of a repository that are downloaded."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(name: str) -> bool:
    """Whether a name has the form OWNER/NAME of a repository on the hub."""
    return _REPOSITORY.fullmatch(name) is not None and "--" not in name and ".." not in name


# ── from the hub ─────────────────────────────────────────────────────────────────────────────────


def pull_repository(
    repository: str, options: PullOptions, progress: Progress = NULL_PROGRESS
) -> list[StyleInfo]:
    """Download the styles of a repository, unless they are here.

    Args:
        repository: OWNER/NAME.

    Returns:
        The styles in it.

    Raises:
        ModelMissingError: offline, no such repository, no connection, or no style in it.
        ModelCorruptError: one of its files is damaged or of another kind.
        UsageError: another run downloads it.
    """
    place = hub_folder() / hub_set(repository)
    if place.is_dir() and not options.again:
        return _styles_of(place)
    if is_offline(options):
        raise ModelMissingError(
            f"{repository} is not here, and nothing is fetched while offline (--offline or "
            f"HF_HUB_OFFLINE)"
        )
    beside = place.with_name(f".{place.name}.part")
    with one_writer(place):
        with _hub(repository) as hub, progress.task(f"Fetching {repository}"):
            hub.snapshot_download(
                repo_id=repository,
                local_dir=beside,
                allow_patterns=list(TAKEN),
                endpoint=_endpoint(),
                library_name="dsg",
                library_version=dsgcli.__version__,
            )
        try:
            _check(beside, repository, progress)
        except DsgError:
            shutil.rmtree(beside)  # the next run fetches it whole
            raise
        shutil.rmtree(beside / ".cache", ignore_errors=True)  # of huggingface_hub
        if place.is_dir():
            shutil.rmtree(place)
        beside.rename(place)
    return _styles_of(place)


def open_repository(source: str | Path) -> tuple[ModelStore, str]:
    """A store of one repository alone, and the name of its first style.

    Args:
        source: a folder that `save_pretrained` wrote, or OWNER/NAME, which is downloaded if it is
            not here.

    Raises:
        ModelMissingError: neither a folder nor a repository, or one without a style; also as
            `pull_repository`.
    """
    folder = Path(source)
    if not folder.is_dir():
        if not is_repository(str(source)):
            raise ModelMissingError(f"{source} is no folder, and no OWNER/NAME of the hub")
        pull_repository(str(source), PullOptions())
        folder = hub_folder() / hub_set(str(source))
    store = ModelStore([Root(folder, "named by path")])
    if not store.styles():
        raise ModelMissingError(f"{folder} holds no style of dsg")
    return store, store.styles()[0].name


def _check(folder: Path, repository: str, progress: Progress) -> None:
    files = scan([Root(folder, "")])
    if bad := [item for item in verify(files, progress=progress) if not item.ok]:
        raise ModelCorruptError(f"{repository} is not taken: {bad[0].problem}")
    if not styles_in(files):
        raise ModelMissingError(
            f"{repository} holds no style of dsg (safetensors that `dsg models push` wrote)"
        )


def _styles_of(place: Path) -> list[StyleInfo]:
    return styles_in(scan([Root(place, "")]))


def _endpoint() -> str:
    return os.environ.get(ENV_HUB, "https://huggingface.co").rstrip("/")


@contextlib.contextmanager
def _hub(repository: str) -> Iterator[Any]:
    """huggingface_hub, with its errors told in one sentence.

    Raises:
        ModelMissingError: it is not installed, or it failed in this block.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
    except ImportError as error:
        raise ModelMissingError(
            "models of the hub need the package huggingface_hub: pip install 'dsgcli[hub]'"
        ) from error
    importlib.import_module("huggingface_hub.utils").disable_progress_bars()
    try:
        yield hub
    except DsgError:
        raise
    except errors.RepositoryNotFoundError as error:  # also for gated ones
        raise ModelMissingError(
            f"{_endpoint()} gives no repository {repository}: check the name, or log in with "
            f"`hf auth login` if it is private or gated"
        ) from error
    except Exception as error:  # of its HTTP library, and its own; there is no common ancestor
        reason = visible(str(error).strip().partition("\n")[0], keep="") or type(error).__name__
        raise ModelMissingError(f"{_endpoint()} failed for {repository}: {reason}") from error


# ── to a folder, and to the hub ──────────────────────────────────────────────────────────────────


def save_pretrained(
    store: ModelStore, style: str, folder: Path, *, overwrite: bool = False
) -> Path:
    """Write a style and the networks that it needs as a repository of the hub has them.

    Args:
        folder: is made; existing files of the same names are replaced with `overwrite`.

    Returns:
        The folder.

    Raises:
        OutputExistsError: the folder has a config.json already.
        UsageError: a style in the published layout. ModelError: no such style, or it is damaged.
    """
    if (folder / "config.json").exists() and not overwrite:
        raise OutputExistsError(folder / "config.json")
    info = store.info(style)
    make_folder(folder)
    header = export_style(store, style, folder / f"{info.name}.safetensors", overwrite=overwrite)
    needed = [store.lookup.base_of(info)]
    if not info.of_translator:
        needed.append(store.lookup.encoder_for(info, "auto"))
    for path in needed:
        with written_whole(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)
    config = {
        "library_name": "dsg",
        "model_type": "translator" if info.of_translator else "dualstylegan",
        "style": info.name,
        "exemplars": list(header.names),
        "size_px": info.size_px,
        "license": header.provenance.license,
        "files": [f"{info.name}.safetensors", *(path.name for path in needed)],
    }
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    with written_whole(folder / "README.md") as temporary:
        source = {"source": header.provenance.source, "notes": header.provenance.notes}
        temporary.write_text(_card(config, source), "utf-8")
    return folder


def _card(config: Mapping[str, Any], provenance: Mapping[str, str]) -> str:
    """The model card. License names are text of the file, so they are written as JSON strings."""
    return f"""---
library_name: dsg
license: other
license_name: {json.dumps(config["license"] or "unknown")}
tags: [image-to-image, portrait, {config["model_type"]}]
---

# {config["style"]}

A portrait style for dsg (`pip install dsgcli`): {len(config["exemplars"])} exemplars.

    dsg models pull OWNER/NAME
    dsg stylize photo.jpg --style OWNER/NAME:0

- License: {config["license"] or "unknown"}
- Made from: {provenance["source"] or "unknown"}
- Notes: {provenance["notes"] or "none"}
- Exemplars: {", ".join(config["exemplars"])}
"""


def push_repository(
    store: ModelStore, style: str, repository: str, *, private: bool = False
) -> str:
    """Upload a style to the hub, with its networks and a model card.

    Returns:
        The address of the repository.

    Raises:
        ModelMissingError: no token, no permission, or no connection.
        UsageError, ModelError: as `save_pretrained`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_pretrained(store, style, Path(scratch) / "repository")
        card = folder / "README.md"
        card.write_text(card.read_text("utf-8").replace("OWNER/NAME", repository), "utf-8")
        with _hub(repository) as hub:
            api = hub.HfApi(endpoint=_endpoint(), library_name="dsg")
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"Upload style {style}"
            )
    return f"{_endpoint()}/{repository}"
