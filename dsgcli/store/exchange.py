"""Styles given away, and styles compared: what `dsg styles export` and `dsg styles diff` do.

Shapes: N exemplars, L rows of a code, D style width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dsgcli.errors import OutputExistsError, UsageError
from dsgcli.store.contents import OwnModel
from dsgcli.store.header import Header
from dsgcli.store.model_store import ModelStore, Style
from dsgcli.store.write import save_style, save_translator_style
from dsgcli.types import LatentLayout

# ── export ───────────────────────────────────────────────────────────────────────────────────────


def export_style(store: ModelStore, name: str, path: Path, *, overwrite: bool = False) -> Header:
    """Write a style, exemplars that the user added included, into one file to give away.

    The file names the base (or the translator) that it needs by name and hash, and does not hold
    it.

    Raises:
        UsageError: a style in the published layout, which has no such base yet.
        OutputExistsError: `path` is there. ModelError: no such style, or it cannot be read.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(path)
    style = store.style(name)
    info = style.info
    if info.published:
        raise UsageError(
            f"{info.name} is in the published layout, with its base inside; bring it into ours "
            f"first: dsg models import {info.path.parent}"
        )
    stored = OwnModel(info.path)
    if info.of_translator:
        return save_translator_style(
            path,
            style.codes.exstyle,
            style.names,
            translator=store.lookup.base_of(info),
            sampler=store.sampler(name) if info.has_sampler else None,
            provenance=stored.header.provenance,
            name=info.name,
        )
    return save_style(
        path,
        store.generator(name),
        style.codes,
        base=store.lookup.base_of(info),
        sampler=store.sampler(name) if info.has_sampler else None,
        provenance=stored.header.provenance,
        name=info.name,
        half=_is_half(stored.stored("style_path")),
        keep_order=True,
    )


def _is_half(weights: Mapping[str, Tensor]) -> bool:
    return any(weight.dtype == torch.float16 for weight in weights.values())


# ── diff ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeChange:
    """One exemplar that two styles share, with different codes."""

    exemplar: str
    structure: float
    """Root mean square difference of the structure rows; a random code has deviation 1."""
    color: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleDiff:
    """In what two styles differ."""

    names: tuple[str, str]
    size_px: tuple[int, int]
    num_exemplars: tuple[int, int]
    licenses: tuple[str, str]
    same_base: bool | None
    """None where the sizes differ, so that they cannot share one."""
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    same_codes: int = 0
    """Exemplars of both with equal codes."""
    changed: tuple[CodeChange, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    """Relative distance of the weights, by part; empty where they have other shapes."""

    @property
    def is_empty(self) -> bool:
        """Whether the two draw the same pictures of the same exemplars."""
        return not (
            self.only_first or self.only_second or self.changed or any(self.weights.values())
        ) and bool(self.same_base)


def diff_styles(store: ModelStore, first: str, second: str) -> StyleDiff:
    """Compare two styles of the store.

    Raises:
        ModelError: one of them is not there, or cannot be read.
    """
    one, other = store.style(first), store.style(second)
    layouts = one.info.layout, other.info.layout
    assert layouts[0] is not None and layouts[1] is not None, "styles of the store have a layout"
    comparable = (
        one.info.of_translator == other.info.of_translator
        and layouts[0] == layouts[1]
        and one.exstyle.shape[1:] == other.exstyle.shape[1:]
    )
    shared = [name for name in one.names if name in other.names]
    changes = _code_changes(one, other, shared, layouts[0]) if comparable else []
    changed = tuple(c for c in changes if c.structure > 0 or c.color > 0)
    return StyleDiff(
        names=(first, second),
        size_px=(layouts[0].size_px, layouts[1].size_px),
        num_exemplars=(len(one.names), len(other.names)),
        licenses=(one.info.license, other.info.license),
        same_base=store.same_base(first, second) if comparable else None,
        only_first=tuple(name for name in one.names if name not in other.names),
        only_second=tuple(name for name in other.names if name not in one.names),
        same_codes=len(changes) - len(changed),
        changed=changed,
        weights=_weight_distances(store, first, second) if comparable else {},
    )


def _code_changes(
    one: Style, other: Style, shared: list[str], layout: LatentLayout
) -> list[CodeChange]:
    found = []
    for name in shared:
        here, there = one.default[one.names.index(name)], other.default[other.names.index(name)]
        off = (here - there).square()
        structure, color = off[layout.structure].mean().sqrt(), off[layout.color].mean().sqrt()
        found.append(CodeChange(exemplar=name, structure=float(structure), color=float(color)))
    return found


def _weight_distances(store: ModelStore, first: str, second: str) -> dict[str, float]:
    """|a - b| / |a| of T_s, the residual blocks and the color transforms; of two styles of one
    translator, which share all weights, none."""
    if store.info(first).of_translator:
        if store.same_base(first, second):
            return {}
        here, there = store.translator(first), store.translator(second)
        if here.config != there.config:
            return {}
        return {"translator": _relative(here.state_dict(), there.state_dict())}
    one, other = store.generator(first), store.generator(second)
    rows = one.layout.num_structure
    parts = {
        "T_s": (one.style, other.style),
        "ModRes": (one.res[:rows], other.res[:rows]),
        "T_c": (one.res[rows:], other.res[rows:]),
    }
    return {name: _relative(a.state_dict(), b.state_dict()) for name, (a, b) in parts.items()}


def _relative(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    off = sum(float((one[key] - other[key]).square().sum()) for key in one)
    size = sum(float(weight.square().sum()) for weight in one.values())
    return float((off / max(size, 1e-12)) ** 0.5)
