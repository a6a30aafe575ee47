"""Published checkpoints to files of ours: one file, a style's folder, or a whole folder of them.

    FOLDER/encoder.pt            -> TARGET/encoder.safetensors
    FOLDER/STYLE/generator.pt    -> TARGET/imported/STYLE.safetensors, and once for all styles that
      with its codes, sampler       share their generator TARGET/imported/base.safetensors

The numbers are kept as they are (or in half precision, if asked); the order of exemplars too, since
published numbers mean it. Nothing is run that a file may hold (`unpickle`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from dsgcli.errors import (
    ModelError,
    ModelMismatchError,
    ModelMissingError,
    OutputExistsError,
    UsageError,
)
from dsgcli.models.encoder import CodeSpace
from dsgcli.names import place_below, visible, why_no_name
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.store.architecture import without_prefix
from dsgcli.store.catalog import generator_in, published_style
from dsgcli.store.codes import join_codes
from dsgcli.store.contents import OpenModel, OwnModel, open_model, tensors_sha256
from dsgcli.store.files import file_format, one_writer, sha256_of, written_whole
from dsgcli.store.header import KIND_NAMES, BaseRef, Header, read_header
from dsgcli.store.manifest import Entry, read_manifest
from dsgcli.store.networks import load_sampler
from dsgcli.store.places import Root, user_folder
from dsgcli.store.write import Parts, check_code_size, stored_form, write
from dsgcli.types import LatentLayout, Provenance

IMPORTED = "imported"
"""Set of the styles that were imported, with their bases."""
_MODEL_SUFFIXES = {".pt", ".pth", ".npy", ".safetensors"}
_STYLE_FILES = {"generator.pt", "sampler.pt", "exstyle_code.npy", "refined_exstyle_code.npy"}
_STYLE_FILES |= {"instyle_code.npy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Result for one file (or for the files of one style)."""

    source: Path
    recognized: str
    """Description of the recognized kind; empty if the file was not used."""
    target: Path | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""
    """Why it was not imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import."""

    target: Path = field(default_factory=user_folder)
    """The root that the files go into."""
    name: str = ""
    """Name of the one model that is imported; empty takes the published name."""
    space: CodeSpace | None = None
    """Space of an encoder's codes; None goes by its name."""
    license: str = ""
    """Terms of the file; empty takes those of the manifest, if it is known there."""
    half: bool = False
    overwrite: bool = False


def import_models(
    source: Path, options: ImportOptions, progress: Progress = NULL_PROGRESS
) -> list[Imported]:
    """Convert a file, or everything that is recognized in a folder.

    Returns:
        One entry for each file or style; those that failed have a `problem`.

    Raises:
        ModelError: a single file that cannot be imported; a folder without any model.
        UsageError: another run imports into the same folder: styles share a base there.
    """
    with one_writer(options.target / IMPORTED):
        return _import_all(source, options, progress)


def _import_all(source: Path, options: ImportOptions, progress: Progress) -> list[Imported]:
    if not source.is_dir():
        return [_import_file(source, options)]
    jobs = list(_jobs(source))
    if not jobs:
        raise ModelMissingError(
            f"{source} holds no model: no checkpoint, no codes and no style folders with a "
            f"generator.pt; name the folder that has them"
        )
    done = []
    with progress.task("Importing", len(jobs), unit="files") as task:
        for path in jobs:
            done.append(_attempt(path, options if len(jobs) == 1 else replace(options, name="")))
            task.advance()
    return done


def _attempt(path: Path, options: ImportOptions) -> Imported:
    """One of several: a failure is reported with the others."""
    try:
        return _import_style(path, options) if path.is_dir() else _import_file(path, options)
    except (ModelError, UsageError) as error:
        return Imported(source=path, recognized="", problem=str(error))


def _jobs(folder: Path) -> Iterator[Path]:
    """Style folders as a whole, other files one by one; folders in folders too."""
    style = generator_in(folder)
    if style is not None:
        yield folder
    taken = {*_STYLE_FILES, style.name} if style is not None else set()
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name[0] not in "._":
            yield from _jobs(path)
        elif path.is_file() and path.suffix in _MODEL_SUFFIXES and path.name not in taken:
            yield path


# ── single files ─────────────────────────────────────────────────────────────────────────────────


def _import_file(path: Path, options: ImportOptions) -> Imported:
    if path == generator_in(path.parent) and (path.parent / "exstyle_code.npy").is_file():
        return _import_style(path.parent, options)
    if file_format(path) == "safetensors":
        return _copy(path, options)
    model = open_model(path, space=options.space)
    entry = entry_of(path)
    name = options.name or model.header.name.replace("/", "-")
    target = _target(name, options)
    _refuse_existing(target, options)
    header = replace(model.header, name=name, provenance=provenance_of(path, entry, options))
    write(target, header, all_parts(model), half=options.half)
    return Imported(
        source=path,
        recognized=described(model.header),
        target=target,
        notes=(*_hash_note(header.provenance, entry), *_kind_notes(model)),
    )


def _copy(path: Path, options: ImportOptions) -> Imported:
    """A file of ours from somewhere else: checked, and taken as it is."""
    model = OwnModel(path)
    all_parts(model)  # readable and finite
    folder = IMPORTED if model.header.kind in ("style", "generator") else ""
    target = _target(options.name or model.header.name, options, folder)
    _refuse_existing(target, options)
    with written_whole(target) as temporary:
        shutil.copyfile(path, temporary)
    return Imported(source=path, recognized=described(model.header), target=target)


def all_parts(model: OpenModel) -> Parts:
    """Every part of a file, finite."""
    return {name: model.part(name) for name in model.parts}


def _kind_notes(model: OpenModel) -> list[str]:
    header = model.header
    if header.kind == "encoder":
        space = header.config.get("latent_space", "z+")
        return [f"its codes are read as {space}; change this with --space"]
    if header.kind == "sampler":
        return ["put it beside its style, or import the style's whole folder"]
    return []


# ── styles ───────────────────────────────────────────────────────────────────────────────────────


def _import_style(folder: Path, options: ImportOptions) -> Imported:
    """generator.pt and its codes to a style, and to a base if none like it is there yet."""
    info = published_style(folder, Root(folder.parent, ""), folder.name)
    if info.problem:
        raise ModelMissingError(info.problem)
    model = open_model(info.path)
    if model.header.kind != "dualstylegan" or model.header.layout is None:
        raise ModelMismatchError(f"{model.path} holds {KIND_NAMES[model.header.kind]}, no style")
    name = options.name or folder.name
    target = _target(name, options, IMPORTED)
    _refuse_existing(target, options)
    provenance = provenance_of(model.path, entry_of(model.path), options)
    base, base_note = _base_for(model, provenance, options)
    files = {r: p for r, p in info.files.items() if r in ("exstyle", "refined", "instyle")}
    codes, layout = join_codes(files), model.header.layout
    width = int(model.header.config["generator"]["style_dim"])
    check_code_size(codes.exstyle, layout, width, model.path)
    state = model.part("g_ema")
    parts: dict[str, Mapping[str, Tensor]] = {
        "style_path": {k: v for k, v in state.items() if not k.startswith("generator.")},
        "codes": codes.roles,
    }
    if info.has_sampler:
        parts |= _sampler_parts(info.files["sampler"], layout, width)
    header = replace(
        model.header, kind="style", name=name, names=codes.names, base=base, provenance=provenance
    )
    write(target, header, parts, half=options.half)
    recognized = f"{described(model.header)}, {len(codes.names)} exemplars"
    return Imported(source=folder, recognized=recognized, target=target, notes=(base_note,))


def _sampler_parts(path: Path, layout: LatentLayout, width: int) -> Parts:
    """Both halves, once they are known to fit the codes."""
    sampler = load_sampler(path, style_dim=width)
    if sampler.config.layout != layout:
        raise ModelMismatchError(
            f"{path} draws codes of {sampler.config.layout.num_latents} rows, and the style's have "
            f"{layout.num_latents}; it belongs to another style"
        )
    return {"color": sampler.color.state_dict(), "structure": sampler.structure.state_dict()}


def _base_for(
    model: OpenModel, provenance: Provenance, options: ImportOptions
) -> tuple[BaseRef, str]:
    """The generator inside, stored once: found by its hash among the bases that are there."""
    folder = options.target / IMPORTED
    state = without_prefix(model.part("g_ema"), "generator.")
    stored = {
        key: stored_form(value, options.half, key, model.path) for key, value in state.items()
    }
    sha256 = tensors_sha256(stored)
    for path in sorted(folder.glob("*.safetensors")):
        try:
            header, _ = read_header(path)
        except ModelError:
            continue  # a damaged neighbor is not the base; `dsg models verify` names it
        if header.kind == "generator" and header.sha256 == sha256:
            return BaseRef(name=header.name, sha256=sha256), f"shares its base with {path.name}"
    free = not (folder / "base.safetensors").exists()
    name = "base" if free else f"base-{sha256[:8]}"
    header = Header(
        kind="generator",
        name=name,
        config=model.header.config["generator"],
        layout=model.header.layout,
        provenance=replace(provenance, notes="the generator inside the styles that name it"),
    )
    write(_target(name, options, IMPORTED), header, {"g_ema": state}, half=options.half)
    return BaseRef(name=name, sha256=sha256), f"its base is {name}.safetensors"


# ── what is known of a file ──────────────────────────────────────────────────────────────────────


def entry_of(path: Path) -> Entry | None:
    """Find a file in the manifest by its folder and name, or by its name alone."""
    manifest = read_manifest()
    return manifest.at(f"{path.parent.name}/{path.name}") or manifest.named(path.name)


def provenance_of(path: Path, entry: Entry | None, options: ImportOptions) -> Provenance:
    """Where an imported file comes from."""
    terms = options.license
    if entry is not None and not terms:
        terms = read_manifest().licenses[entry.license].title
    sha256 = sha256_of(path)
    return Provenance(
        license=terms or "unknown",
        source=f"imported from {path.name}",
        extra={"published_sha256": sha256, "published_name": entry.name if entry else ""},
    )


def _hash_note(provenance: Provenance, entry: Entry | None) -> list[str]:
    found = provenance.extra["published_sha256"]
    if entry is None or not entry.sha256:
        return [f"no published hash to compare with; sha256 {found}"]
    if found == entry.sha256:
        return ["the file is the published one"]
    return [f"the file is not the published one ({entry.name}): sha256 {found}"]


def described(header: Header) -> str:
    """A model in words: kind and size."""
    words = KIND_NAMES[header.kind]
    if header.kind == "encoder":
        sides = (header.config.get(side, "?") for side in ("num_latents", "style_dim"))
        words += f" of {' x '.join(map(str, sides))} codes"
    elif header.kind in ("codes", "overlay", "style"):
        words += f", {len(header.names)} of them" if header.kind != "style" else ""
    if header.layout is not None:
        words += f", {header.layout.size_px} px"
    return words


def _target(name: str, options: ImportOptions, folder: str = "") -> Path:
    """Where a model of this name goes, below the folder that is imported into.

    Raises:
        UsageError: the name is no name of a model, or its file would lie outside of the folder.
    """
    if why := why_no_name(name) or ("" if name else "is empty"):
        raise UsageError(
            f"the name {visible(name, keep='')!r} of the model {why}; give another with --name"
        )
    return place_below(options.target, folder, f"{name}.safetensors")


def _refuse_existing(target: Path, options: ImportOptions) -> None:
    if target.exists() and not options.overwrite:
        raise OutputExistsError(target)
