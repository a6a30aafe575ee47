"""Catalog of models in folders, by file names and headers alone.

Two layouts are understood, beside each other in one root:

    published   ROOT/STYLE/{generator.pt or generator-001500.pt, exstyle_code.npy,
                refined_exstyle_code.npy, sampler.pt}
                ROOT/{encoder.pt, encoder_wplus.pt, stylegan2-ffhq-config-f.pt, ...}
    ours        ROOT/SET/{base, encoder, translator, STYLE, STYLE, ...}.safetensors

Neither torch nor a single weight is read here; of code files only the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dsgcli.errors import ModelError, ModelMissingError
from dsgcli.store.header import BaseRef, Header, Kind, read_header
from dsgcli.store.places import Root
from dsgcli.types import LatentLayout

DEFAULT_SET = "default"
"""The set of models that is shipped; its first style is drawn when none is named."""

FileKind = Kind | Literal["mediapipe", "unreadable"]

_PUBLISHED: Mapping[str, FileKind] = {
    "generator.pt": "dualstylegan",
    "generator-pretrain.pt": "dualstylegan",
    "stylegan2-ffhq-config-f.pt": "generator",
    "550000.pt": "generator",
    "encoder.pt": "encoder",
    "encoder_wplus.pt": "encoder",
    "sampler.pt": "sampler",
    "exstyle_code.npy": "codes",
    "refined_exstyle_code.npy": "codes",
    "instyle_code.npy": "codes",
    "model_ir_se50.pth": "identity",
    "vgg16-397923af.pth": "vgg16",
    "vgg19-dcbb9e9d.pth": "vgg19",
    "vgg.pth": "lpips",
    "face_landmarker.task": "mediapipe",
    "selfie_multiclass_256x256.tflite": "mediapipe",
    "hair_segmenter.tflite": "mediapipe",
}
"""Names that published files carry everywhere; other checkpoints are used by path."""
_FINETUNED = "finetune-"
"""StyleGAN2 of a style's domain, by iteration: `finetune-000600.pt`."""
_CODE_ROLES = {
    "refined": "refined_exstyle_code.npy",
    "exstyle": "exstyle_code.npy",
    "instyle": "instyle_code.npy",
}
_PUBLISHED_SUBFOLDER = "models"
"""Published repositories keep the layout one folder deeper."""

# ── files ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of the store."""

    name: str
    """Name: "encoder", "cartoon", "base"; "cartoon/sampler" for a part of a style."""
    kind: FileKind
    path: Path
    root: Root
    set_name: str
    """Folder in the root; empty for the root itself."""
    num_bytes: int
    header: Header | None = None
    """Header of our own files; None for published ones."""
    shadowed: bool = False
    """An earlier root has a file of the same kind and name, which is used instead."""
    problem: str = ""
    """Why it cannot be used, in a sentence."""

    @property
    def published(self) -> bool:
        """In the field's layout, not ours."""
        return self.header is None

    @property
    def qualified(self) -> str:
        """Name with its set, which is never shadowed within a root."""
        return f"{self.set_name}/{self.name}" if self.set_name else self.name

    @property
    def license(self) -> str:
        return self.header.provenance.license if self.header else ""

    @property
    def size_px(self) -> int | None:
        """Size of the pictures that it is made for, if its header has it."""
        return self.header.layout.size_px if self.header and self.header.layout else None


def scan(roots: Sequence[Root]) -> list[ModelFile]:
    """All model files, in the order in which they are preferred."""
    found = [
        file for root in roots for folder in _folders(root.path) for file in _files(folder, root)
    ]
    seen: set[tuple[str, str]] = set()
    marked = []
    for file in found:
        key = (file.kind, file.name)
        usable = file.kind not in ("overlay", "unreadable")
        marked.append(replace(file, shadowed=usable and key in seen))
        seen.add(key)
    return marked


def _folders(root: Path) -> Iterator[Path]:
    """The root and its folders, the default set first; those of a folder `models` as well."""
    yield root
    below = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")
    below.sort(key=lambda path: path.name != DEFAULT_SET)
    for folder in below:
        yield folder
        if folder.name == _PUBLISHED_SUBFOLDER:
            yield from sorted(path for path in folder.iterdir() if path.is_dir())


def _files(folder: Path, root: Root) -> Iterator[ModelFile]:
    relative = folder.relative_to(root.path)
    parts = [part for part in relative.parts if part != _PUBLISHED_SUBFOLDER]
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        numbered = iteration_of(path) is not None
        if path.suffix == ".safetensors":
            yield own_file(path, root, "/".join(parts))
        elif path.name in _PUBLISHED or path.name.startswith(_FINETUNED) or numbered:
            usual: FileKind = "dualstylegan" if numbered else "generator"
            yield ModelFile(
                name=_published_name(path, parts),
                kind=_PUBLISHED.get(path.name, usual),
                path=path,
                root=root,
                set_name="/".join(parts),
                num_bytes=path.stat().st_size,
            )


def own_file(path: Path, root: Root, set_name: str) -> ModelFile:
    """A file of ours by its header; what is wrong with that goes into `problem`."""
    header, problem = None, ""
    try:
        header, _ = read_header(path)
    except ModelError as error:
        problem = str(error)
    return ModelFile(
        name=(header.name if header else "") or path.stem,
        kind=header.kind if header else "unreadable",
        path=path,
        root=root,
        set_name=set_name,
        num_bytes=path.stat().st_size,
        header=header,
        problem=problem,
    )


def _published_name(path: Path, parts: Sequence[str]) -> str:
    """`cartoon` for cartoon/generator.pt, `cartoon/sampler` for its parts, else the stem."""
    if not parts:
        return path.stem
    if (iteration := iteration_of(path)) is not None:
        return f"{parts[-1]}@{iteration}"
    return parts[-1] if path.name == "generator.pt" else f"{parts[-1]}/{path.stem}"


def iteration_of(path: Path) -> int | None:
    """1500 for `generator-001500.pt`, which published training writes; None for other names."""
    match = _ITERATION.fullmatch(path.name)
    return int(match[1]) if match else None


_ITERATION = re.compile(r"generator-(\d+)\.pt")


def generator_in(folder: Path, iteration: int | None = None) -> Path | None:
    """The generator of a published style's folder: `generator.pt`, else the one of the latest
    iteration; the one of `iteration` if given. None if there is none."""
    usual = folder / "generator.pt"
    if iteration is None and usual.is_file():
        return usual
    numbered = {iteration_of(path): path for path in folder.glob("generator-*.pt")}
    found = {number: path for number, path in numbered.items() if number is not None}
    if iteration is not None:
        return found.get(iteration)
    return found[max(found)] if found else None


# ── styles ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleInfo:
    """A style, without its weights."""

    name: str
    set_name: str
    root: Root
    files: Mapping[str, Path] = field(repr=False)
    """By role: "style" or "generator"; "exstyle", "refined", "instyle", "sampler" where they are
    files of their own; "overlay", "overlay 2", ... for what a user added."""
    exemplars: tuple[str, ...] = field(default=(), repr=False)
    """In the order that numbers mean; what a user added comes last."""
    num_added: int = 0
    """How many of them a user added."""
    layout: LatentLayout | None = None
    style_dim: int = 0
    has_refined: bool = False
    has_instyle: bool = False
    has_sampler: bool = False
    base: BaseRef | None = None
    """Reference of the generator, or the translator, that draws one of our own styles."""
    of_translator: bool = False
    """A translator draws it, and not a DualStyleGAN."""
    license: str = ""
    num_bytes: int = 0
    shadowed: bool = False
    """Another style of this name comes first; `qualified` still names this one."""
    problem: str = ""

    @property
    def published(self) -> bool:
        return "generator" in self.files

    @property
    def path(self) -> Path:
        """File with the weights."""
        return self.files["generator" if self.published else "style"]

    @property
    def qualified(self) -> str:
        return f"{self.set_name}/{self.name}" if self.set_name else self.name

    @property
    def size_px(self) -> int | None:
        return self.layout.size_px if self.layout else None


STYLE_KINDS: tuple[FileKind, ...] = ("style", "translator-style")
"""Kinds of files of ours that are styles."""


def styles_in(files: Sequence[ModelFile]) -> list[StyleInfo]:
    """The styles that these files make up, in the order in which they are preferred."""
    overlays = [file for file in files if file.kind == "overlay"]
    found = [style for file in files if (style := _style_of(file, overlays))]
    seen: set[str] = set()
    marked = []
    for style in found:
        marked.append(replace(style, shadowed=style.name in seen))
        seen.add(style.name)
    return marked


def _style_of(file: ModelFile, overlays: Sequence[ModelFile]) -> StyleInfo | None:
    if file.kind in STYLE_KINDS:
        style = own_style(file)
    elif file.published and file.set_name and file.path == generator_in(file.path.parent):
        style = published_style(file.path.parent, file.root, file.set_name)
    elif file.published and file.set_name and (iteration := iteration_of(file.path)) is not None:
        style = published_style(file.path.parent, file.root, file.set_name, iteration)
    else:
        return None
    return _with_overlays(style, overlays)


def own_style(file: ModelFile) -> StyleInfo:
    """From the header of a file of ours."""
    header = file.header
    assert header is not None
    _, shapes = read_header(file.path)
    _, rows, width = shapes.get("codes/exstyle", (0, 0, 0))
    return StyleInfo(
        name=file.name,
        set_name=file.set_name,
        root=file.root,
        files={"style": file.path},
        exemplars=header.names,
        layout=header.layout,
        style_dim=width,
        has_refined="codes/refined" in shapes,
        has_instyle="codes/instyle" in shapes,
        has_sampler="color/lin_out.weight" in shapes,
        base=header.base,
        of_translator=header.kind == "translator-style",
        license=header.provenance.license,
        num_bytes=file.num_bytes,
        problem="" if rows else f"{file.path} has no codes of exemplars; make it again",
    )


def published_style(
    folder: Path, root: Root, set_name: str, iteration: int | None = None
) -> StyleInfo:
    """A style from the names in a folder of the published layout; with `iteration`, the one whose
    generator is that of this step of its training, named `STYLE@1500`."""
    roles = {**_CODE_ROLES, "sampler": "sampler.pt"}
    files = {role: folder / name for role, name in roles.items() if (folder / name).is_file()}
    if generator := generator_in(folder, iteration):
        files = {"generator": generator, **files}
    style = StyleInfo(
        name=folder.name if iteration is None else f"{folder.name}@{iteration}",
        set_name=set_name.rpartition("/")[0],
        root=root,
        files=files,
        has_refined="refined" in files,
        has_instyle="instyle" in files,
        has_sampler="sampler" in files,
        num_bytes=sum(path.stat().st_size for path in files.values()),
    )
    try:
        return _with_names(style)
    except ModelError as error:
        return replace(style, problem=str(error))


def _with_names(style: StyleInfo) -> StyleInfo:
    from dsgcli.store.unpickle import read_code_names  # with NumPy, which our own files do not need

    tables = [style.files[role] for role in ("refined", "exstyle") if role in style.files]
    if not tables:
        raise ModelMissingError(
            f"{style.path.parent} has a generator and no codes of exemplars; put "
            f"{_CODE_ROLES['exstyle']} beside it (`dsg models pull {style.name}`)"
        )
    read = [read_code_names(path) for path in tables]
    names = tuple(dict.fromkeys(name for table, _ in read for name in table))
    rows, width = read[0][1]
    layout = LatentLayout(1 << (rows + 2) // 2) if rows % 2 == 0 and 8 <= rows <= 18 else None
    problem = "" if layout else f"{tables[0]} holds codes of {rows} rows, which fit no generator"
    return replace(style, exemplars=names, layout=layout, style_dim=width, problem=problem)


def _with_overlays(style: StyleInfo, overlays: Sequence[ModelFile]) -> StyleInfo:
    """Add the user's overlays to a style: those of its name whose codes have its size."""
    added = [
        file
        for file in overlays
        if file.header
        and file.name == style.name
        and file.header.layout == style.layout
        and file.header.config.get("style_dim") == style.style_dim
        and (file.header.base == style.base if style.of_translator else not file.header.base)
    ]
    names = dict.fromkeys(style.exemplars)
    for file in added:
        names |= dict.fromkeys(file.header.names if file.header else ())
    paths = {f"overlay {n}" if n > 1 else "overlay": f.path for n, f in enumerate(added, 1)}
    return replace(
        style,
        files={**style.files, **paths},
        exemplars=tuple(names),
        num_added=len(names) - len(style.exemplars),
    )
