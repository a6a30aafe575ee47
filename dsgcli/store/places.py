"""Where models are looked for, and where what a user fetches is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dsgcli.errors import ModelMissingError

ENV_HOME, ENV_PRETRAINED = "DSG_HOME", "DSG_PRETRAINED"
ENV_LANDMARKER = "DSG_FACE_LANDMARKER"
USER_ORIGIN = "your data folder"
HUB_ORIGIN = "pulled from the hub"


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that is searched for models."""

    path: Path
    origin: str
    """Why it is searched: "--pretrained", "DSG_PRETRAINED", ..."""


def named_landmarker() -> Path | None:
    """The face landmarker that DSG_FACE_LANDMARKER names.

    Raises:
        ModelMissingError: it names what is not there.
    """
    named = os.environ.get(ENV_LANDMARKER)
    path = Path(named).expanduser() if named else None
    if path is not None and not path.is_file():
        raise ModelMissingError(f"{ENV_LANDMARKER} names {named}, which does not exist")
    return path


def user_folder() -> Path:
    """Where what a user fetches, imports or adds is kept: in DSG_HOME, or the system's place."""
    import platformdirs

    home = _home()
    return (home or platformdirs.user_data_path("dsg", False)) / "pretrained"


def hub_folder() -> Path:
    """Where repositories of the hub are kept, a folder each (`hub_set`)."""
    return user_folder().with_name("hub")


def hub_set(repository: str) -> str:
    """Name of the folder, which is a set of models, of a repository OWNER/NAME."""
    return repository.replace("/", "--")


def cache_folder() -> Path:
    """Where what can be made again is kept: in DSG_HOME, or the system's place."""
    import platformdirs

    home = _home()
    return home / "cache" if home else platformdirs.user_cache_path("dsg", False)


def _home() -> Path | None:
    """The folder that DSG_HOME names; `~` is the user's, also where no shell has replaced it."""
    named = os.environ.get(ENV_HOME)
    return Path(named).expanduser() if named else None


def shipped_folder() -> Path:
    """The models that came with dsg: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "pretrained"
    return inside if inside.is_dir() else package.parent / "pretrained"


def search_roots(pretrained: Path | None = None) -> list[Root]:
    """The folders that are searched, first to last; each once, and only those that exist.

    Raises:
        ModelMissingError: a folder that was named and is not there.
    """
    named = [(pretrained, "--pretrained")] if pretrained else []
    if value := os.environ.get(ENV_PRETRAINED):
        named.append((Path(value).expanduser(), ENV_PRETRAINED))
    for path, origin in named:
        if path is not None and not path.is_dir():
            raise ModelMissingError(
                f"{origin} names {path}, which is no folder; name one of models"
            )
    usual = [
        (Path("pretrained"), "./pretrained"),
        (user_folder(), USER_ORIGIN),
        (shipped_folder(), "shipped with dsg"),
        (hub_folder(), HUB_ORIGIN),  # last: a stranger's file takes no name from ours
    ]
    roots: dict[Path, Root] = {}
    for path, origin in (*named, *usual):
        if path is not None and path.is_dir():
            roots.setdefault(path.resolve(), Root(path, origin))
    return list(roots.values())
