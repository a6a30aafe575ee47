"""The models of a machine behind names: found, put together, loaded when they are asked for.

`ModelStore` is what the rest of dsg knows of model files. It imports torch only when weights are
loaded, so that listing and completion are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsgcli.errors import ModelMismatchError, ModelMissingError, UsageError
from dsgcli.names import place_below
from dsgcli.store.catalog import FileKind, ModelFile, StyleInfo
from dsgcli.store.files import one_writer
from dsgcli.store.lookup import Lookup, Space
from dsgcli.store.places import USER_ORIGIN, Root, named_landmarker, search_roots, user_folder
from dsgcli.types import Provenance, StyleRef, StyleTerm

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsgcli.models.dualstylegan import DualStyleGAN
    from dsgcli.models.encoder import Encoder
    from dsgcli.models.features import LPIPS, VGG16, VGG19
    from dsgcli.models.irse import IRSE50
    from dsgcli.models.patch import Judge
    from dsgcli.models.style_sampler import StyleSampler
    from dsgcli.models.stylegan2 import Generator
    from dsgcli.models.translator import Translator
    from dsgcli.store.codes import Codes, ResolvedStyle

OVERLAYS = "overlays"
"""Set in the user's folder that holds added exemplars."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Style:
    """A style's exemplars and their codes."""

    info: StyleInfo
    codes: Codes

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the exemplars, in the order of their numbers."""
        return self.codes.names

    @property
    def exstyle(self) -> Tensor:
        """(N, L, D) float32, z+: the encoder's codes."""
        return self.codes.exstyle

    @property
    def refined(self) -> Tensor | None:
        """(N, L, D), z+."""
        return self.codes.refined

    @property
    def instyle(self) -> Tensor | None:
        """(N, L, D), z+: intrinsic codes from destylization."""
        return self.codes.instyle

    @property
    def default(self) -> Tensor:
        """(N, L, D), z+: what to draw with."""
        return self.codes.default


class ModelStore:
    """Models by name, from the folders that are searched."""

    def __init__(self, roots: list[Root]) -> None:
        self.lookup = Lookup(roots)

    @classmethod
    def open(cls, pretrained: Path | None = None) -> ModelStore:
        """Look in `pretrained`, DSG_PRETRAINED, ./pretrained, the user's data folder and what is
        shipped with dsg, in this order.

        Raises:
            ModelMissingError: a folder that was named and is not there.
        """
        return cls(search_roots(pretrained))

    @property
    def roots(self) -> list[Root]:
        """The folders that are searched, first to last."""
        return list(self.lookup.roots)

    def refresh(self) -> None:
        """Look again: files have come or gone."""
        self.lookup = Lookup(self.lookup.roots)

    # ── what there is ────────────────────────────────────────────────────────────────────────────

    def models(self) -> list[ModelFile]:
        """Every model file, preferred ones first; no weights are read."""
        return list(self.lookup.files)

    def styles(self) -> list[StyleInfo]:
        """Every style, preferred ones first; those of the same name further on are `shadowed`."""
        return list(self.lookup.styles)

    def file(self, name: str) -> Path | None:
        """A file by its own name (`face_landmarker.task`); None if no root has it."""
        return next((f.path for f in self.lookup.files if f.path.name == name), None)

    def face_landmarker(self) -> Path | None:
        """A face landmarker for MediaPipe's Tasks API: the one that DSG_FACE_LANDMARKER names, else
        one in a root.

        Raises:
            ModelMissingError: the variable names what is not there.
        """
        return named_landmarker() or self.file("face_landmarker.task")

    def find(self, name: str, *kinds: FileKind) -> ModelFile:
        """A model file of these kinds (any, if none): by name, SET/NAME, or file name.

        Raises:
            ModelMissingError: with what there is instead.
        """
        return self.lookup.find(name, *kinds)

    def info(self, name: str) -> StyleInfo:
        """A style by name, by SET/NAME, or by path (its file, or its folder if published).

        "default" is the first style of the shipped default model, unless a style is called so.

        Raises:
            ModelMissingError: no such style; with near names, or with how to get it.
            ModelError: it is there and cannot be used.
        """
        return self.lookup.info(name)

    # ── codes ────────────────────────────────────────────────────────────────────────────────────

    def style(self, name: str) -> Style:
        """The codes of a style, by the names of its exemplars; what the user added included.

        Raises:
            ModelError: as `info`; also for codes that cannot be read.
        """
        from dsgcli.store.codes import Codes, join_codes
        from dsgcli.store.contents import open_model

        info = self.info(name)
        if info.published:
            roles = {r: p for r, p in info.files.items() if r in ("exstyle", "refined", "instyle")}
            codes = join_codes(roles)
        else:
            model = open_model(info.path)
            codes = Codes(names=model.header.names, **model.part("codes"))
        for role, path in info.files.items():
            if role.startswith("overlay"):
                added = open_model(path)
                codes = codes.with_added(Codes(names=added.header.names, **added.part("codes")))
        return Style(info=info, codes=codes)

    def parse(self, text: str) -> StyleRef:
        """Read a style reference as people type it: `noir:3`, `Noir:3`, and `noir-3` or `noir-003`
        from the name of a file.

        Raises:
            StyleRefError: the text is no reference. Whether the style is there, `resolve` says.
        """
        ref = StyleRef.parse(text)
        return StyleRef(tuple(self._known(term) for term in ref.terms))

    def _known(self, term: StyleTerm) -> StyleTerm:
        by_name = self.lookup.by_name
        if by_name(term.style) is not None:
            return term
        names = {style.name.casefold(): style.name for style in self.lookup.styles}
        if (name := names.get(term.style.casefold())) is not None:
            return replace(term, style=name)
        style, dash, exemplar = term.style.rpartition("-")
        name = names.get(style.casefold())
        if dash and exemplar and term.exemplar is None and name is not None:
            return replace(term, style=name, exemplar=exemplar)
        return term

    def resolve(self, ref: StyleRef) -> ResolvedStyle:
        """The extrinsic code (L, D) that a reference stands for: an exemplar's, or a blend in z+.

        Raises:
            ModelError: no such style. StyleRefError: no such exemplar.
        """
        from dsgcli.store.codes import blend

        style = self.style(ref.style)
        return blend(style.codes, ref, style.name)

    def add_exemplar(self, name: str, added: Codes) -> Path:
        """Keep more exemplars of a style in the user's folder; the style itself stays as it is.

        Returns:
            The file they are kept in.

        Raises:
            ModelMismatchError: codes of another size than the style's.
        """
        from dsgcli.store.codes import Codes
        from dsgcli.store.contents import open_model
        from dsgcli.store.write import check_code_size, save_codes

        info = self.info(name)
        assert info.layout is not None
        base = info.base if info.of_translator else None  # codes of another one mean nothing to it
        stem = f"{info.name}-{base.sha256[:12]}" if base else info.name
        path = place_below(user_folder(), OVERLAYS, f"{stem}.safetensors")
        check_code_size(added.exstyle, info.layout, info.style_dim, path)
        with one_writer(path):
            if path.is_file():
                before = open_model(path)
                added = Codes(names=before.header.names, **before.part("codes")).with_added(added)
            save_codes(
                path,
                added,
                layout=info.layout,
                name=info.name,
                provenance=Provenance(license=info.license or "unknown", source="dsg styles add"),
                keep_order=True,
                overlay=True,
                base=base,
            )
        if all(root.path != user_folder() for root in self.roots):  # made just now
            self.lookup.roots.append(Root(user_folder(), USER_ORIGIN))
        self.refresh()
        return path

    def remove_exemplar(self, name: str, wanted: str) -> str:
        """Delete one exemplar that the user added to a style; the style itself stays as it is.

        Args:
            wanted: name or number of the exemplar.

        Returns:
            The name of the exemplar that is gone.

        Raises:
            StyleRefError: the style has no such exemplar. UsageError: it belongs to the style, or
            its file is not in the user's folder.
        """
        from dsgcli.store.codes import Codes, find_exemplar
        from dsgcli.store.contents import open_model
        from dsgcli.store.write import save_codes

        info = self.info(name)
        exemplar = info.exemplars[find_exemplar(info.exemplars, wanted, info.name)]
        overlays = [path for role, path in info.files.items() if role.startswith("overlay")]
        holding = [path for path in overlays if exemplar in open_model(path).header.names]
        if not holding:
            raise UsageError(
                f"{info.name}:{exemplar} belongs to the style; only exemplars that you added with "
                f"`dsg styles add` can be removed"
            )
        home = user_folder().resolve()
        if outside := [path for path in holding if not path.resolve().is_relative_to(home)]:
            raise UsageError(f"{outside[0]} is not in {home}, and dsg removes only what is there")
        for path in holding:
            with one_writer(path):
                model = open_model(path)
                header = model.header
                keep = [i for i, label in enumerate(header.names) if label != exemplar]
                if not keep:
                    path.unlink()
                    continue
                save_codes(
                    path,
                    Codes(names=header.names, **model.part("codes")).select(keep),
                    layout=header.layout,
                    name=header.name,
                    provenance=header.provenance,
                    keep_order=True,
                    overlay=True,
                    base=header.base,
                )
        self.refresh()
        return exemplar

    def remove(self, name: str) -> list[Path]:
        """Delete a model, or a style with all its files, from the user's folder.

        Returns:
            The files that are gone.

        Raises:
            ModelMissingError: nothing of that name is there. UsageError: it is elsewhere, where it
            is not ours to delete, or a style that stays needs it.
        """
        doomed, home = self.lookup.files_of(name), user_folder().resolve()
        outside = [path for path in doomed if not path.resolve().is_relative_to(home)]
        if outside:
            raise UsageError(
                f"{outside[0]} is not in {home}, and dsg removes only files there; delete it "
                f"yourself if you want"
            )
        for style in self.styles():
            if style.base and style.path not in doomed and self.lookup.base_of(style) in doomed:
                raise UsageError(f"the style {style.qualified} needs {name}; remove it first")
        for path in doomed:
            path.unlink()
        self.refresh()
        return doomed

    # ── networks ─────────────────────────────────────────────────────────────────────────────────

    def generator(
        self, style: str, device: torch.device | None = None, *, owned: bool = True
    ) -> DualStyleGAN:
        """The DualStyleGAN of a style, put together with its base; in evaluation mode.

        Args:
            owned: False spares a copy of the weights where they are only read, see
                `contents.OpenModel.part`.

        Raises:
            ModelError: no such style, no such base, or files that cannot be used.
        """
        from dsgcli.store import networks

        info = self.info(style)
        if info.of_translator:
            raise ModelMismatchError(
                f"{info.name} is a style of the translator {info.base and info.base.name!r}, and "
                f"this needs a style of a DualStyleGAN; {self.dual_hint()}"
            )
        base = None if info.published else self.lookup.base_of(info)
        network = networks.load_dualstylegan(
            info.path, device or networks.CPU, base=base, owned=owned
        )
        takes = (network.layout.num_latents, network.config.generator.style_dim)
        assert info.layout is not None
        if takes != (info.layout.num_latents, info.style_dim):
            raise ModelMismatchError(
                f"{info.path} of {network.layout.size_px} px takes codes of "
                f"{takes[0]} x {takes[1]}, "
                f"and those of {info.name} are {info.layout.num_latents} x {info.style_dim} "
                f"({info.layout.size_px} px); put the codes that belong to it beside it"
            )
        return network

    def dual_hint(self) -> str:
        """Which styles of a DualStyleGAN there are, in words, for a message."""
        names = [s.name for s in self.styles() if not (s.of_translator or s.shadowed or s.problem)]
        if names:
            return f"choose {' or '.join(names[:3])}"
        return "none is here, and `dsg models list --published` has what can be fetched"

    def translator(
        self, style: str, device: torch.device | None = None, *, owned: bool = True
    ) -> Translator:
        """The translator that draws a style.

        Raises:
            ModelError: no such style, a style of a DualStyleGAN, or files that cannot be used.
        """
        from dsgcli.store import networks

        info = self.info(style)
        if not info.of_translator:
            raise ModelMismatchError(f"{info.name} is a style of a DualStyleGAN, not a translator")
        path = self.lookup.base_of(info)
        network = networks.load_translator(path, device or networks.CPU, owned=owned)
        if (network.layout, network.config.code_dim) != (info.layout, info.style_dim):
            raise ModelMismatchError(
                f"{path} takes codes {network.config.code_dim} wide, and those of {info.name} are "
                f"{info.style_dim}; put the translator that belongs to it beside it"
            )
        return network

    def people(self, style: str, device: torch.device | None = None) -> Generator:
        """The StyleGAN2 whose random people `dsg sample` draws in a style.

        Raises:
            ModelMissingError: there is none.
        """
        from dsgcli.store import networks

        path = self.lookup.people_of(self.info(style))
        return networks.load_generator(path, device or networks.CPU)

    def people_encoder(self, style: str, device: torch.device | None = None) -> Encoder:
        """The encoder of photographs into the codes of the generator that `people` gives.

        Raises:
            ModelMissingError: there is none.
        """
        from dataclasses import replace

        from dsgcli.store import networks
        from dsgcli.store.header import BaseRef, read_header

        info = self.info(style)
        header, _ = read_header(self.lookup.people_of(info))
        assert header.layout is not None, "a generator's file says its size"
        base = BaseRef(name=header.name, sha256=header.sha256)
        path = self.lookup.encoder_for(replace(info, base=base, of_translator=False), "auto")
        return networks.load_encoder(
            path, device or networks.CPU, num_latents=header.layout.num_latents
        )

    def plain_generator(self, name: str, device: torch.device | None = None) -> Generator:
        """The StyleGAN2 of that name, or the one inside the style of that name.

        Raises:
            ModelError: neither is there.
        """
        from dsgcli.store import networks

        device = device or networks.CPU
        style = self.lookup.by_name(name)
        if style is not None:
            return networks.load_generator(self.lookup.people_of(style), device)
        return networks.load_generator(
            self.lookup.path_of(name, "generator", "dualstylegan"), device
        )

    def discriminator(self, name: str, device: torch.device | None = None) -> Judge:
        """The discriminator that the file of a generator holds."""
        from dsgcli.store import networks

        path = self.lookup.path_of(name, "generator", "dualstylegan")
        return networks.load_discriminator(path, device or networks.CPU)

    def finetuned(self, style: str, device: torch.device | None = None) -> Generator:
        """The StyleGAN2 fine-tuned to a style's domain, where it is kept: `finetune-*.pt` (the
        last) or STYLE-finetuned.safetensors beside the style.

        Raises:
            ModelMissingError: there is none.
        """
        from dsgcli.store import networks

        info = self.info(style)
        folder = info.path.parent
        own = folder / f"{info.name}-finetuned.safetensors"
        found = sorted(folder.glob("finetune-*.pt"), reverse=True) if info.published else []
        path = next((p for p in [own, *found] if p.is_file()), None)
        if path is None:
            raise ModelMissingError(
                f"the fine-tuned generator of {info.name} is missing: put finetune-000600.pt or "
                f"{own.name} into {folder} (the stage `finetune` of `dsg train` makes it)"
            )
        return networks.load_generator(path, device or networks.CPU)

    def same_base(self, one: str, other: str) -> bool:
        """Whether two styles share their photographic generator, or their translator, so that one
        may pass into the other."""
        import torch

        first, second = self.info(one), self.info(other)
        if first.of_translator != second.of_translator:
            return False
        if first.base is not None and second.base is not None:
            return first.base.sha256 == second.base.sha256
        states = [self.plain_generator(name).state_dict() for name in (one, other)]
        return states[0].keys() == states[1].keys() and all(
            torch.equal(states[0][key], states[1][key]) for key in states[0]
        )

    def encoder(
        self,
        style: str,
        space: Space = "auto",
        device: torch.device | None = None,
        *,
        owned: bool = True,
    ) -> Encoder:
        """The encoder that goes with a style: of its own set, else a general one of a root, cut to
        the rows that the style's codes have.

        Args:
            space: what the codes are to be; "auto" prefers z+.
            owned: as `generator`.

        Raises:
            ModelMissingError: none is there. ModelMismatchError: none that fits.
        """
        from dsgcli.store import networks

        info = self.info(style)
        assert info.layout is not None
        path = self.lookup.encoder_for(info, space)
        encoder = networks.load_encoder(
            path, device or networks.CPU, num_latents=info.layout.num_latents, owned=owned
        )
        if encoder.config.style_dim != info.style_dim:
            raise ModelMismatchError(
                f"{path} makes codes {encoder.config.style_dim} wide, and {info.name} takes "
                f"{info.style_dim}; put the encoder of its base into {info.path.parent}"
            )
        return encoder

    def sampler(self, style: str, device: torch.device | None = None) -> StyleSampler:
        """The network that draws random extrinsic codes of a style.

        Raises:
            ModelMissingError: the style has none.
        """
        from dsgcli.store import networks

        info = self.info(style)
        path = info.files.get("sampler", info.path)
        if not info.has_sampler:
            how = f"`dsg models pull {info.name}`" if info.published else "the stage `sampler`"
            raise ModelMissingError(
                f"{info.name} has no sampling network, which random styles need: get it with "
                f"{how}, or put sampler.pt into {info.path.parent}"
            )
        return networks.load_sampler(path, device or networks.CPU, style_dim=info.style_dim)

    def identity(self, device: torch.device | None = None) -> IRSE50:
        """The identity network of the losses."""
        from dsgcli.store import networks

        return networks.load_identity(self.lookup.network_file("identity"), device or networks.CPU)

    def vgg(self, depth: Literal[16, 19], device: torch.device | None = None) -> VGG16 | VGG19:
        """A VGG network with ImageNet weights."""
        from dsgcli.store import networks

        device = device or networks.CPU
        if depth == 16:
            return networks.load_vgg16(self.lookup.network_file("vgg16"), device)
        return networks.load_vgg19(self.lookup.network_file("vgg19"), device)

    def lpips(self, device: torch.device | None = None) -> LPIPS:
        """Perceptual distance: VGG16 and the published linear heads."""
        from dsgcli.store import networks

        heads, vgg16 = self.lookup.network_file("lpips"), self.lookup.network_file("vgg16")
        return networks.load_lpips(heads, vgg16, device or networks.CPU)
