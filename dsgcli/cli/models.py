"""`dsg models`: what models there are, and how they get here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dsgcli.cli.completion import complete_published, complete_style
from dsgcli.cli.export import EXAMPLES as EXPORT_EXAMPLES
from dsgcli.cli.export import export
from dsgcli.cli.flags import expand
from dsgcli.cli.layout import add, group
from dsgcli.cli.options import FILES_GROUP, OutputFlags, Overwrite, Pretrained, output_to
from dsgcli.console import Cell, Table

if TYPE_CHECKING:
    from dsgcli.store import ModelFile
    from dsgcli.store.convert import ImportOptions
    from dsgcli.store.manifest import Entry, Manifest
    from dsgcli.store.pull import PullOptions

EXAMPLES = """
Examples:
  dsg models list
  dsg models pull arcane encoder
  dsg models import ~/checkpoint
"""

models = group("models", "List, download, check and convert models.", EXAMPLES)

Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Names from `dsg models list`.")
]


# ── what there is ────────────────────────────────────────────────────────────────────────────────


@expand
def list_(
    published: Annotated[
        bool, typer.Option("--published", help="List what `dsg models pull` can fetch instead.")
    ] = False,
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """List the model files: kind, size, license and origin."""
    from dsgcli.store import ModelStore

    if published:
        _list_published(talk)
        return
    store = ModelStore.open(pretrained)
    found = store.models()
    for file in found:
        if file.problem:
            talk.terminal.warn(file.problem)
    rows = [
        (
            file.qualified,
            file.kind,
            file.size_px,
            _size_text(file.num_bytes),
            file.license or "-",
            file.root.origin + (", shadowed" if file.shadowed else ""),
        )
        for file in found
    ]
    columns = ("model", "kind", "px", "size", "license", "from")
    table = Table(columns, rows) if rows else "no models here; `dsg models pull NAME` fetches one"
    talk.terminal.show({"models": [_described(file) for file in found]}, table)


def _described(file: ModelFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "qualified": file.qualified,
        "kind": file.kind,
        "size_px": file.size_px,
        "bytes": file.num_bytes,
        "license": file.license or None,
        "path": file.path,
        "from": file.root.origin,
        "published": file.published,
        "shadowed": file.shadowed,
        "problem": file.problem or None,
    }


def _list_published(talk: OutputFlags) -> None:
    from dsgcli.store.manifest import read_manifest

    manifest = read_manifest()
    documents = [
        {
            "name": entry.name,
            "groups": entry.groups,
            "file": entry.file,
            "bytes": entry.size or None,
            "sha256": entry.sha256 or None,
            "known": entry.known,
            "license": manifest.licenses[entry.license].title,
            "needed_for": entry.needed_for,
            "pages": entry.pages,
            "note": entry.note or None,
        }
        for entry in manifest.files
    ]
    table = Table(("name", "size", "license", "needed for"), _published_rows(manifest))
    hint = "`dsg models pull NAME` fetches one; a style comes with all its files."
    talk.terminal.show({"published": documents}, table, hint)


def _published_rows(manifest: Manifest) -> list[tuple[Cell, ...]]:
    """One row a name that a person would fetch: the files of a style are one."""
    together: dict[str, list[Entry]] = {}
    for entry in manifest.files:
        style = entry.file.rpartition("/")[0]
        together.setdefault(style or entry.name, []).append(entry)
    return [
        (
            name,
            _size_text(sum(entry.size or entry.about for entry in entries)),
            manifest.licenses[entries[0].license].title,
            entries[0].needed_for,
        )
        for name, entries in together.items()
    ]


@expand
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model here, or any file.")],
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Show the contents of one model file: architecture, parts, license, origin."""
    from dsgcli.store import ModelStore
    from dsgcli.store.contents import open_model
    from dsgcli.store.convert import described

    path = Path(name) if Path(name).is_file() else ModelStore.open(pretrained).find(name).path
    model = open_model(path)
    header = model.header
    document = {"path": path, "bytes": path.stat().st_size, "parts": model.parts}
    document |= header.as_json()
    rows = [
        ("file", str(path)),
        ("is", described(header)),
        ("parts", ", ".join(model.parts)),
        ("size", _size_text(path.stat().st_size)),
        ("license", header.provenance.license),
        ("from", header.provenance.source or None),
        ("notes", header.provenance.notes or None),
        ("base", f"{header.base.name} ({header.base.sha256[:12]})" if header.base else None),
        ("exemplars", len(header.names) or None),
        *((key, _plain(value)) for key, value in header.config.items()),
    ]
    shown = [(key, str(value)) for key, value in rows if value is not None]
    talk.terminal.show(document, Table(("", ""), shown))


def _plain(value: Any) -> str:
    """A value of a configuration on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@expand
def path(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model here.")] = None,
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Print where a model is; without a name, the folder for downloaded models."""
    from dsgcli.store import ModelStore
    from dsgcli.store.places import user_folder

    found = ModelStore.open(pretrained).find(name).path if name else user_folder()
    talk.terminal.show({"path": found}, str(found))


@expand
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Models here.", show_default="all")
    ] = None,
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Read models whole and check them: hash, structure, numbers."""
    from dsgcli.errors import ModelCorruptError
    from dsgcli.store import ModelStore
    from dsgcli.store.verify import verify as check

    store = ModelStore.open(pretrained)
    every = store.models()
    paths = [path for name in names or () for path in store.lookup.files_of(name)]
    wanted = [file for file in every if file.path in paths] if names else every
    with talk.terminal.progress() as progress:
        found = check(wanted, every, progress)
    rows = [(item.name, item.hash_state, item.problem or "good") for item in found]
    table = Table(("model", "hash", ""), rows) if rows else "no models here"
    talk.terminal.show({"verified": found}, table)
    if bad := [item for item in found if not item.ok]:
        raise ModelCorruptError(f"{len(bad)} of {len(found)} model file(s) are not good, see above")


# ── how they get here ────────────────────────────────────────────────────────────────────────────


@expand
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="A style, a file, `losses`, `all`, or OWNER/NAME on the Hugging Face hub.",
            autocompletion=complete_published,
        ),
    ],
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the licenses that are shown.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Download nothing; print where the files are.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Download again.")] = False,
    *,
    talk: OutputFlags,
) -> None:
    """Download published models into your data folder; resumes broken downloads.

    `dsg models list --published` shows what there is. OWNER/NAME is a repository of the Hugging
    Face hub, which holds styles of dsg. Proxies and HF_HUB_OFFLINE are respected.
    """
    from dsgcli.errors import ModelMissingError, PartialBatchError
    from dsgcli.store.hub import is_repository
    from dsgcli.store.manifest import read_manifest
    from dsgcli.store.pull import PullOptions
    from dsgcli.store.pull import pull as fetch

    manifest = read_manifest()
    repositories = [name for name in names if is_repository(name) and not manifest.has(name)]
    if repositories:
        _pull_repositories(repositories, PullOptions(offline=offline, again=again), talk)
    if not (names := [name for name in names if name not in repositories]):
        return
    options = PullOptions(
        accept_license=accept_license or _accepts(names, PullOptions(again=again), talk),
        offline=offline,
        again=again,
    )
    with talk.terminal.progress() as progress:
        done = fetch(names, options, progress=progress)
    failed = [item for item in done if item.problem]
    if len(failed) == len(done):
        raise ModelMissingError("\n".join(item.problem for item in failed))
    rows = [(item.entry.name, item.state, str(item.path)) for item in done]
    talk.terminal.show({"models": done}, Table(("model", "", "path"), rows))
    for item in failed:
        talk.terminal.warn(item.problem)
    if failed:
        raise PartialBatchError(f"{len(failed)} of {len(done)} files could not be fetched")


def _pull_repositories(names: list[str], options: PullOptions, talk: OutputFlags) -> None:
    from dsgcli.store.hub import pull_repository

    for name in names:
        with talk.terminal.progress() as progress:
            found = pull_repository(name, options, progress)
        rows = [(s.name, len(s.exemplars), s.license or "unknown", str(s.path)) for s in found]
        talk.terminal.show(
            {"repository": name, "styles": [style.name for style in found]},
            Table(("style", "exemplars", "license", "path"), rows),
            f"draw with --style {name}",
        )


@expand
def push(
    style: Annotated[
        str, typer.Argument(metavar="STYLE", help="A style.", autocompletion=complete_style)
    ],
    repository: Annotated[
        str | None,
        typer.Argument(metavar="OWNER/NAME", help="The repository; made if it is not there."),
    ] = None,
    output: Annotated[
        Path | None,
        output_to("FOLDER", "Write the files there and upload nothing.", "none"),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    overwrite: Overwrite = False,
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Upload a style to the Hugging Face hub, with its networks and a model card.

    Log in with `hf auth login` first, or set HF_TOKEN. With -o nothing is uploaded.
    """
    from dsgcli.errors import UsageError
    from dsgcli.store import ModelStore
    from dsgcli.store.hub import is_repository, push_repository, save_pretrained

    if (repository is None) == (output is None):
        raise UsageError("name a repository OWNER/NAME to upload to, or a folder with -o")
    store = ModelStore.open(pretrained)
    if output is not None:
        folder = save_pretrained(store, style, output, overwrite=overwrite)
        talk.terminal.show({"output": folder}, f"wrote {folder}")
        return
    if repository is None or not is_repository(repository):
        raise UsageError(f"{repository!r} is no repository of the hub; write OWNER/NAME")
    address = push_repository(store, style, repository, private=private)
    talk.terminal.show({"uploaded": address}, f"uploaded {address}")


def _accepts(names: list[str], options: PullOptions, talk: OutputFlags) -> bool:
    """Ask a person at a terminal; anyone else has --accept-license."""
    from dsgcli.store.pull import license_text, licenses_to_accept

    if talk.json or talk.quiet or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    terms = licenses_to_accept(names, options)
    if not terms:
        return False
    talk.terminal.note(f"These files come under:\n{license_text(terms)}")
    return typer.confirm("Accept?", err=True)


@dataclass(frozen=True, kw_only=True)
class Importing:
    """Flags for the conversion of a published checkpoint."""

    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name in the store.", show_default="as published")
    ] = ""
    space: Annotated[
        Literal["auto", "z+", "w+"],
        typer.Option(
            metavar="auto|z+|w+",
            help="What an encoder's codes are; auto goes by its name (*wplus* is w+).",
        ),
    ] = "auto"
    license_: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="TEXT",
            help="License of the model.",
            show_default="as published, if known",
        ),
    ] = ""
    half: Annotated[bool, typer.Option("--half", help="Store in half precision.")] = False
    target: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where to write.",
            show_default="your data folder",
            rich_help_panel=FILES_GROUP,
        ),
    ] = None
    overwrite: Overwrite = False

    def options(self) -> ImportOptions:
        """Convert the flags to the options of the library."""
        from dsgcli.store.convert import ImportOptions
        from dsgcli.store.places import user_folder

        return ImportOptions(
            target=self.target or user_folder(),
            name=self.name,
            space=None if self.space == "auto" else self.space,
            license=self.license_,
            half=self.half,
            overwrite=self.overwrite,
        )


@expand
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A checkpoint, or a folder of them.")
    ],
    importing: Importing,
    *,
    talk: OutputFlags,
) -> None:
    """Convert published checkpoints to safetensors, and print what was recognized.

    A style's folder (generator.pt, exstyle_code.npy, ...) becomes one file; the generator that
    several styles share is stored once.
    """
    from dsgcli.errors import ModelMissingError, PartialBatchError
    from dsgcli.store.convert import import_models

    with talk.terminal.progress() as progress:
        done = import_models(source, importing.options(), progress)
    failed = [item for item in done if item.problem]
    if len(failed) == len(done):
        raise ModelMissingError("\n".join(item.problem for item in failed))
    good = [item for item in done if not item.problem]
    rows = [(item.source.name, item.recognized, str(item.target)) for item in good]
    notes = [f"{item.source.name}: {'; '.join(item.notes)}" for item in good if item.notes]
    talk.terminal.show(
        {"imported": done},
        Table(("file", "is", "now"), rows),
        *(["\n".join(notes)] if notes else []),
    )
    for item in failed:
        talk.terminal.warn(item.problem)
    if failed:
        raise PartialBatchError(f"{len(failed)} of {len(done)} could not be imported")


@expand
def remove(names: Names, *, talk: OutputFlags) -> None:
    """Delete models from your data folder; a style goes with all its files."""
    from dsgcli.store import ModelStore

    store = ModelStore.open()
    gone = [path for name in names for path in store.remove(name)]
    talk.terminal.show({"removed": gone}, "\n".join(f"removed {path}" for path in gone))


def _size_text(num_bytes: int) -> str | None:
    """Megabytes, as a person reads them; None if not known."""
    if not num_bytes:
        return None
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1e7 else f"{num_bytes / 1e6:.2g} MB"


add(models, list_, "Examples:\n  dsg models list\n  dsg models list --published", name="list")
add(models, show, "Examples:\n  dsg models show encoder\n  dsg models show ./generator.pt")
add(models, pull, "Examples:\n  dsg models pull arcane encoder\n  dsg models pull losses")
add(
    models,
    push,
    "Examples:\n  dsg models push noir -o noir-for-the-hub\n  dsg models push noir me/noir",
)
add(models, export, EXPORT_EXAMPLES)
add(models, verify, "Examples:\n  dsg models verify\n  dsg models verify arcane")
add(
    models,
    import_,
    "Examples:\n  dsg models import ~/checkpoint\n  dsg models import encoder.pt --half",
    name="import",
)
add(models, path, "Examples:\n  dsg models path\n  dsg models path encoder")
add(models, remove, "Examples:\n  dsg models remove arcane")
