"""The codes of a style's exemplars, found by name or number, and blended.

Shapes: N exemplars, L rows of a code, D style width. All codes are z+ (`LatentLayout` names the
rows), so a blend is a straight mixture in z+: rows mix before the mapping network, which normalizes
each row, so that the length of the mixture does not matter and only its direction does.

A number names the position in the order of the file. For published styles this is the order of the
published dict, because published numbers mean it; our own files are sorted by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError, StyleRefError
from dsgcli.store.unpickle import read_codes
from dsgcli.types import StyleRef

_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codes:
    """Codes of exemplars, row by row."""

    names: tuple[str, ...]
    """File names of the exemplars."""
    exstyle: Tensor
    """(N, L, D) float32, z+: the encoder's codes of the exemplars."""
    refined: Tensor | None = None
    """(N, L, D): extrinsic codes fitted to the exemplars."""
    instyle: Tensor | None = None
    """(N, L, D): intrinsic codes, from destylization."""

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ModelMismatchError("codes need one name for each exemplar, and at least one")
        for role in ("exstyle", "refined", "instyle"):
            codes = getattr(self, role)
            if codes is not None and (codes.ndim != 3 or codes.shape[:1] != (len(self.names),)):
                raise ModelMismatchError(
                    f"{role} codes of shape {tuple(codes.shape)} for {len(self.names)} exemplars"
                )
            if codes is not None and codes.shape != self.exstyle.shape:
                raise ModelMismatchError(
                    f"{role} codes are {tuple(codes.shape)} and exstyle {tuple(self.exstyle.shape)}"
                )

    @property
    def default(self) -> Tensor:
        """(N, L, D): what to draw with; refined codes where there are such."""
        return self.exstyle if self.refined is None else self.refined

    @property
    def roles(self) -> dict[str, Tensor]:
        """The codes that are there, by role."""
        every = {"exstyle": self.exstyle, "refined": self.refined, "instyle": self.instyle}
        return {role: codes for role, codes in every.items() if codes is not None}

    def sorted(self) -> Codes:
        """By name: the order of our own files, the same on every machine."""
        order = sorted(
            range(len(self.names)), key=lambda i: (self.names[i].casefold(), self.names[i])
        )
        return self.select(order)

    def select(self, indices: Sequence[int]) -> Codes:
        """Some of the exemplars, in this order."""
        picked = {role: codes[list(indices)] for role, codes in self.roles.items()}
        return replace(self, names=tuple(self.names[i] for i in indices), **picked)

    def with_added(self, other: Codes) -> Codes:
        """These exemplars and then `other`'s, which replace those of the same name in place.

        A role that only one of the two has is filled from its exstyle codes (refined), or left out
        (instyle).
        """
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        source = {name: (other, other.names.index(name)) for name in other.names}
        rows = [source.get(name) or (self, self.names.index(name)) for name in names]
        instyle = None
        if self.instyle is not None and other.instyle is not None:
            instyle = torch.stack(
                [codes.instyle[i] for codes, i in rows if codes.instyle is not None]
            )
        refined = None
        if self.refined is not None or other.refined is not None:
            refined = torch.stack([codes.default[i] for codes, i in rows])
        exstyle = torch.stack([codes.exstyle[i] for codes, i in rows])
        return Codes(names=names, exstyle=exstyle, refined=refined, instyle=instyle)


# ── finding an exemplar ──────────────────────────────────────────────────────────────────────────


def find_exemplar(names: Sequence[str], wanted: str | None, style: str) -> int:
    """Position of an exemplar: by number, by name, or by name without extension.

    A plain number is a position, `03` too. Where exemplars are themselves named by numbers, the
    full name (`12.jpg`) or leading zeros (`0012`) name them. Capitals do not matter where that
    leaves one exemplar.

    Args:
        wanted: None takes the first.

    Raises:
        StyleRefError: out of range, unknown, or the short form of several names.
    """
    if wanted is None:
        return 0
    if wanted in names:
        return names.index(wanted)
    if re.fullmatch(r"0|-?[1-9]\d*", wanted):
        return _by_number(len(names), int(wanted), style)
    short = [index for index, name in enumerate(names) if Path(name).stem == wanted]
    if len(short) > 1:
        raise StyleRefError(
            f"{wanted!r} is the short form of several exemplars of {style} "
            f"({', '.join(names[i] for i in short[:_SUGGESTIONS])}); write the whole name"
        )
    if short:
        return short[0]
    folded = [i for i, n in enumerate(names) if wanted.casefold() in (n.casefold(), stem_of(n))]
    if len(folded) == 1:
        return folded[0]
    if wanted.isdecimal():  # 03, and no exemplar has that name
        return _by_number(len(names), int(wanted), style)
    raise StyleRefError(_unknown(names, wanted, style))


def short_name(name: str, position: int) -> str:
    """An exemplar as people type it: its name without ending; `3` if that is `003` and it comes
    fourth."""
    stem = Path(name).stem
    return str(position) if stem.isdecimal() and int(stem) == position else stem


def stem_of(name: str) -> str:
    """An exemplar's name without its ending and without capitals."""
    return Path(name).stem.casefold()


def _by_number(count: int, number: int, style: str) -> int:
    if not 0 <= number < count:
        raise StyleRefError(
            f"{style}:{number} is out of range: {style} has {count} exemplars, 0 to {count - 1}"
        )
    return number


def _unknown(names: Sequence[str], wanted: str, style: str) -> str:
    stems = {Path(name).stem.casefold(): name for name in names}
    near = get_close_matches(wanted.casefold(), stems, n=_SUGGESTIONS, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(stems[stem] for stem in near)}?"
        if near
        else (f"it has {len(names)}, from {names[0]} to {names[-1]}; name one or its number")
    )
    return f"{style} has no exemplar {wanted!r}; {hint}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResolvedStyle:
    """The codes of a style reference."""

    exstyle: Tensor
    """(L, D) float32, z+: the extrinsic code to draw with; `generator.map_plus` leads to W+."""
    style: str
    """Name of the style, as `ModelStore.generator` takes it."""
    label: str
    """For names of output files: letters, digits, `-`, `_`, `.` only."""
    reference: str
    """The exemplar as `--style` takes it and messages show it: `noir:3`."""
    exemplars: tuple[str, ...]
    """Full names of the exemplars."""
    instyle: Tensor | None = None
    """(L, D): the intrinsic code of the same exemplars, where the style has them."""


def blend(codes: Codes, ref: StyleRef, name: str) -> ResolvedStyle:
    """Sum of share_i * code_i in z+, row by row, for the exemplars that `ref` names.

    Args:
        name: of the style, which `ref` may call otherwise ("default", a path).

    Raises:
        StyleRefError: an exemplar that is not there.
    """
    indices = [find_exemplar(codes.names, term.exemplar, name) for term in ref.terms]
    shares = torch.tensor([term.share for term in ref.terms])[:, None, None]
    names = tuple(codes.names[i] for i in indices)
    instyle = None if codes.instyle is None else (shares * codes.instyle[indices]).sum(dim=0)
    short = [short_name(codes.names[i], i) for i in indices]
    return ResolvedStyle(
        exstyle=(shares * codes.default[indices]).sum(dim=0),
        style=ref.style,
        label=_label(name, ref, short),
        reference=_reference(name, ref, short),
        exemplars=names,
        instyle=instyle,
    )


def _label(name: str, ref: StyleRef, names: Sequence[str]) -> str:
    """`arcane-Jinx_02`, or `arcane-Jinx_02-60-Vi_11-40` for a blend of 60 and 40 %."""
    stems = [_safe(name) for name in names]
    if len(stems) == 1:
        return f"{_safe(name)}-{stems[0]}"
    shares = [f"{stem}-{term.share * 100:.0f}" for stem, term in zip(stems, ref.terms, strict=True)]
    return "-".join([_safe(name), *shares])


def _reference(name: str, ref: StyleRef, names: Sequence[str]) -> str:
    """`noir:3`, or `noir:3*0.6+noir:4*0.4`."""
    if len(names) == 1:
        return f"{name}:{names[0]}"
    pairs = zip(names, ref.terms, strict=True)
    return "+".join(f"{name}:{exemplar}*{term.share:g}" for exemplar, term in pairs)


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._") or "exemplar"


# ── files of codes ───────────────────────────────────────────────────────────────────────────────


def read_code_file(path: Path) -> tuple[tuple[str, ...], Tensor]:
    """Names and codes (N, L, D) of a published file of codes, in its order."""
    codes = read_codes(path)
    stacked = torch.stack([torch.from_numpy(code) for code in codes.values()])
    return tuple(codes), stacked


def join_codes(files: Mapping[str, Path]) -> Codes:
    """The published files of one style as one table.

    The order is that of the refined codes if there are such, since numbers then mean these.

    Args:
        files: by role: "exstyle", "refined", "instyle"; the first two may stand alone.

    Raises:
        ModelMismatchError: files that do not name the same exemplars.
    """
    tables = {role: read_codes(path) for role, path in files.items()}
    lead = next(role for role in ("refined", "exstyle") if role in tables)
    names = tuple(dict.fromkeys((*tables[lead], *tables.get("exstyle", ()))))
    if "refined" in tables:  # exemplars that were not refined are drawn with their first code
        tables["refined"] = {**tables.get("exstyle", {}), **tables["refined"]}
    for role, table in tables.items():
        if missing := [name for name in names if name not in table]:
            raise ModelMismatchError(
                f"{files[role]} has no code for {missing[0]!r} and {len(missing) - 1} more that "
                f"{files[lead].name} has; they belong to different runs"
            )
    stacked = {
        role: torch.stack([torch.from_numpy(table[name]) for name in names])
        for role, table in tables.items()
    }
    return Codes(names=names, **{"exstyle": stacked[lead], **stacked})
