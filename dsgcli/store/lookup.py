"""Names to files: which style, which base, which encoder a name means, and what to say if none.

Built on `catalog`; like it, without torch and without weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal

from dsgcli.errors import ModelCorruptError, ModelError, ModelMismatchError, ModelMissingError
from dsgcli.store.catalog import (
    DEFAULT_SET,
    STYLE_KINDS,
    FileKind,
    ModelFile,
    StyleInfo,
    generator_in,
    own_file,
    own_style,
    published_style,
    scan,
    styles_in,
)
from dsgcli.store.header import Kind, read_header
from dsgcli.store.manifest import read_manifest
from dsgcli.store.places import HUB_ORIGIN, Root, hub_set, user_folder

Space = Literal["auto", "z+", "w+"]
_SUGGESTIONS = 3


class Lookup:
    """The files of some roots, by name."""

    def __init__(self, roots: list[Root]) -> None:
        self.roots = roots

    @cached_property
    def files(self) -> list[ModelFile]:
        return scan(self.roots)

    @cached_property
    def styles(self) -> list[StyleInfo]:
        return styles_in(self.files)

    def find(self, name: str, *kinds: FileKind) -> ModelFile:
        """A model file of these kinds (any, if none): by name, SET/NAME, or file name.

        The style itself comes before the exemplars that a user added to it under its name.

        Raises:
            ModelMissingError: with what there is instead.
        """
        wanted = [f for f in self.files if not kinds or f.kind in kinds]
        wanted.sort(key=lambda file: file.kind == "overlay")
        for file in wanted:
            if name in (file.name, file.qualified, file.path.name, file.path.stem):
                return file
        near = get_close_matches(name, [f.name for f in wanted], n=_SUGGESTIONS)
        hint = f"did you mean {' or '.join(near)}?" if near else "`dsg models list` shows what is"
        if read_manifest().has(name):
            hint = f"it is published, and `dsg models pull {name}` fetches it"
        raise ModelMissingError(f"no model {name!r} in the store; {hint}")

    def path_of(self, name: str, *kinds: FileKind) -> Path:
        """A file in the store, or any file by path."""
        return Path(name) if Path(name).is_file() else self.find(name, *kinds).path

    def files_of(self, name: str) -> list[Path]:
        """Everything that a name stands for: all files of a style, or one other model.

        Raises:
            ModelMissingError: nothing has that name.
        """
        style = self.by_name(name)
        return list(style.files.values()) if style else [self.find(name).path]

    def info(self, name: str) -> StyleInfo:
        """A style by name, by SET/NAME, or by path (its file, or its folder if published).

        "default" is the first style of the shipped default model, unless a style is called so.

        Raises:
            ModelMissingError: no such style; with near names, or with how to get it.
            ModelError: it is there and cannot be used.
        """
        style = self.by_name(name) or self._default(name) or self._by_path(name)
        self._refuse_damaged(name, style)
        if style is None:
            raise ModelMissingError(self._unknown(name))
        if style.problem:
            raise ModelMismatchError(style.problem)
        return style

    def _refuse_damaged(self, name: str, style: StyleInfo | None) -> None:
        """Make sure that no damaged file of this name lies where it would come first.

        Raises:
            ModelCorruptError: with the file.
        """
        for file in self.files:
            if style is not None and file.path in style.files.values():
                return
            if file.kind == "unreadable" and name in (file.name, file.qualified):
                raise ModelCorruptError(
                    f"{file.problem}; {name!r} is not taken from elsewhere while this file is there"
                )

    def by_name(self, name: str) -> StyleInfo | None:
        """The first style of this name: NAME, SET/NAME, or OWNER/NAME of a repository of the hub,
        which means its first style."""
        by_name = (style for style in self.styles if name in (style.name, style.qualified))
        pulled = (
            style
            for style in self.styles
            if style.root.origin == HUB_ORIGIN and style.set_name == hub_set(name)
        )
        return next(by_name, None) or next(pulled, None)

    def _default(self, name: str) -> StyleInfo | None:
        if name != DEFAULT_SET:
            return None
        shipped = [style for style in self.styles if style.set_name == DEFAULT_SET]
        bases = (
            f.header
            for kind in ("translator", "generator")
            for f in self.files
            if f.set_name == DEFAULT_SET and f.kind == kind and f.header
        )
        named = (header.provenance.extra.get("default_style") for header in bases)
        first = next((name for name in named if name), None)
        return next((s for s in shipped if s.name == first), shipped[0] if shipped else None)

    def _by_path(self, name: str) -> StyleInfo | None:
        folder, _, number = name.rpartition("@")
        iteration = int(number) if folder and number.isdecimal() else None
        path = Path(folder if iteration is not None else name)
        root = Root(path.parent, "named by path")
        if path.is_dir() and generator_in(path, iteration) is not None:
            return published_style(path, root, path.name, iteration)
        if path.suffix != ".safetensors" or not path.exists():
            return None
        file = own_file(path, root, "")
        if file.kind not in STYLE_KINDS:
            raise ModelMismatchError(file.problem or f"{path} holds no style ({file.kind})")
        return own_style(file)

    def _unknown(self, name: str) -> str:
        known = [style.name for style in self.styles]
        if read_manifest().has_style(name):
            return (
                f"the style {name!r} is published and not on this machine: get it with "
                f"`dsg models pull {name}`, or put its files into {user_folder() / name} "
                f"(looked in {self._looked()})"
            )
        if name.count("/") == 1 and not name.startswith((".", "~", "/")):
            return (
                f"no style {name!r} is on this machine; if it is a repository of the hub, get it "
                f"with `dsg models pull {name}`"
            )
        near = get_close_matches(name, known, n=_SUGGESTIONS, cutoff=0.5)
        if near:
            return f"no style {name!r} in the store; did you mean {' or '.join(near)}?"
        looked = f"(looked in {self._looked()})"
        if known:
            return f"no style {name!r} in the store; it has {', '.join(known)} {looked}"
        return (
            f"no style {name!r}, nor any other, is here {looked}: name a folder of models with "
            f"--pretrained, or get one; `dsg models list --published` has what there is"
        )

    def _looked(self) -> str:
        return ", ".join(str(root.path) for root in self.roots) or "no folder: there is none"

    def base_of(self, info: StyleInfo) -> Path:
        """The file of the generator, or of the translator, that one of our own styles names.

        Raises:
            ModelMissingError: no file has its hash.
        """
        assert info.base is not None
        kind: Kind = "translator" if info.of_translator else "generator"
        beside = sorted(info.path.parent.glob("*.safetensors"))
        for path in [*beside, *(f.path for f in self.files if f.kind == kind)]:
            try:
                header, _ = read_header(path)
            except ModelError:
                continue  # not the one: told by `dsg models verify`
            if header.kind == kind and header.sha256 == info.base.sha256:
                return path
        what = "translator" if info.of_translator else "base"
        raise ModelMissingError(
            f"the {what} {info.base.name!r} ({info.base.sha256[:12]}) of {info.path} is missing: "
            f"put its file into {info.path.parent}, or make the style again on a {what} that is "
            f"there"
        )

    def people_of(self, info: StyleInfo) -> Path:
        """The file of the generator whose random people are drawn in a style: its base; for a style
        of a translator a generator of its own set, else the first in the store.

        Raises:
            ModelMissingError: there is none.
        """
        if not info.of_translator:
            return info.path if info.published else self.base_of(info)
        files = [f for f in self.files if f.kind == "generator" and not f.problem and f.header]
        if info.root not in self.roots:  # a style named by path
            files = [*scan([Root(info.path.parent, info.root.origin)]), *files]
            files = [f for f in files if f.kind == "generator" and not f.problem]
        files.sort(key=lambda file: file.path.parent != info.path.parent)
        if not files:
            raise ModelMissingError(
                f"random people in the style {info.name} need a generator, and none is here: put "
                f"base.safetensors into {info.path.parent}, or pass a photograph "
                f"(looked in {self._looked()})"
            )
        return files[0].path

    def encoder_for(self, info: StyleInfo, space: Space) -> Path:
        """The encoder that goes with a style: of its own set, else a general one of a root.

        Raises:
            ModelMissingError: there is none of that space.
        """
        found = next(self._encoders(info, space), None)
        damaged = next((f for f in self._damaged_beside(info) if "encoder" in f.path.stem), None)
        if damaged is not None and (found is None or found.parent != info.path.parent):
            raise ModelCorruptError(damaged.problem)
        if found is None:
            raise self._missing_encoder(info, space)
        return found

    def _encoders(self, info: StyleInfo, space: Space) -> Iterator[Path]:
        """Those of the style's own folder, those made for its base, then the general ones, which
        lie in a root itself; z+ before w+ in each. None that was made for another base."""
        files = [f for f in self.files if f.kind == "encoder"]
        if info.root not in self.roots:  # a style named by path
            files = [*scan([Root(info.path.parent, info.root.origin)]), *files]
        files = [f for f in files if f.kind == "encoder" and not _of_another_base(f, info)]
        own = [f for f in files if f.path.parent == info.path.parent]
        same_base = [f for f in files if f.header and f.header.base and f not in own]
        general = [f for f in files if not f.set_name and f not in (*own, *same_base)]
        for group in (own, same_base, general):
            for wanted in ("z+", "w+") if space == "auto" else (space,):
                yield from (f.path for f in group if encoder_space(f) == wanted)

    def _damaged_beside(self, info: StyleInfo) -> list[ModelFile]:
        """Files in the folder of a style that cannot be read."""
        folder = info.path.parent
        return [f for f in self.files if f.kind == "unreadable" and f.path.parent == folder]

    def _missing_encoder(self, info: StyleInfo, space: Space) -> ModelMissingError:
        logical = "encoder_wplus" if space == "w+" else "encoder"
        kind = "an encoder" if space == "auto" else f"a {space} encoder"
        return ModelMissingError(
            f"photographs cannot be drawn in the style {info.name} without {kind}, and none is "
            f"here: get the published one with `dsg models pull {logical}`, or put {logical}.pt "
            f"into {user_folder()} (looked in {self._looked()})"
        )

    def network_file(self, kind: Kind) -> Path:
        """The file of a network of which there is one kind: identity, vgg16, vgg19, lpips.

        Raises:
            ModelMissingError: with how to get it.
        """
        found = next((file.path for file in self.files if file.kind == kind), None)
        if found is None:
            entry = read_manifest().of_kind(kind)
            raise ModelMissingError(
                f"{entry.file} is missing: get it with `dsg models pull {entry.name}`, or put it "
                f"into {user_folder()} (looked in {self._looked()})"
            )
        return found


def _of_another_base(file: ModelFile, info: StyleInfo) -> bool:
    """Whether an encoder says what it was made for, and that is not the style's base."""
    made_for = file.header.base if file.header else None
    return made_for is not None and (info.base is None or made_for.sha256 != info.base.sha256)


def encoder_space(file: ModelFile) -> str:
    """The latent space of an encoder's codes: what its header says, or its published name."""
    if file.header is not None:
        return str(file.header.config.get("latent_space", "z+"))
    return "w+" if "wplus" in file.path.stem.lower() else "z+"
