"""Stage `prepare`: from folders of pictures to packed, aligned portraits, with a report.

Flow: folders of the recipe -> audit (in parallel) -> RUN/prepare/{base,style}: a pack, audit.json
and report.html. Nothing is deleted; a picture that is left out is listed with its reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsgcli.errors import TrainingError
from dsgcli.faces.detect import TASK_NAME
from dsgcli.recipe import STAGES, DataRecipe, PrepareRecipe, Recipe
from dsgcli.runtime import parallel_map
from dsgcli.store.files import write_text
from dsgcli.training.audit import Examination, Examined, list_pictures, without_duplicates
from dsgcli.training.audit_report import write_audit_report
from dsgcli.training.data import write_pack
from dsgcli.training.stage import RunContext

AUDIT = "audit.json"
SETS = ("base", "style")
"""base: the source domain; style: the target domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A picture and the name it goes by."""

    path: Path
    name: str


class Prepare:
    """Audits, aligns and packs."""

    name = "prepare"
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()

    def run(self, context: RunContext) -> None:
        """Pack each data set of the recipe.

        Raises:
            TrainingError: what is left is too little for the stages that follow.
        """
        recipe = context.recipe
        for name in SETS:
            if folders_of(recipe.data, name):
                self._pack(context, name, with_drawn(context, name))
        _check_enough(recipe, context.folder)

    def _pack(self, context: RunContext, name: str, listed: Sequence[Listed]) -> None:
        recipe = context.recipe.prepare or PrepareRecipe()
        names = {item.path: item.name for item in listed}
        examine = Examination(
            recipe=recipe,
            size_px=context.recipe.model.size_px,
            task_file=context.store.file(TASK_NAME),
        )
        kept: list[Examined] = []
        left_out: list[Examined] = []
        figures: dict[str, Any] = {}

        def fit() -> Iterator[tuple[str, Any]]:
            found = parallel_map(examine, [item.path for item in listed])
            for done, one in enumerate(without_duplicates(found, recipe.duplicate_bits), 1):
                context.advance(done, len(listed), name)
                figures[names[one.path]] = one.figures()
                if one.problem:
                    left_out.append(one)
                else:
                    kept.append(one)
                    yield names[one.path], one.crop

        folder = context.folder / name
        write_pack(folder, examine.size_px, _forgetting(fit(), kept))
        _write_audit(folder, listed, figures)
        write_audit_report(folder / "report.html", name, kept, left_out)


def _forgetting(portraits: Iterator[tuple[str, Any]], kept: list[Examined]) -> Iterator[Any]:
    """Yield the results without the crops of all but a few pictures, so that memory does not
    fill."""
    for item in portraits:
        yield item
        if len(kept) > MOST_SHOWN:
            kept[-1] = replace(kept[-1], crop=None)


MOST_SHOWN = 64
"""Kept portraits that the report shows."""


# ── which pictures ───────────────────────────────────────────────────────────────────────────────


def folders_of(data: DataRecipe, name: str) -> tuple[str, ...]:
    """Folders of the data set "base" or "style", as the recipe writes them."""
    if name == "style":
        return (data.style,) if data.style else ()
    return tuple(source.folder for source in data.source)


def list_set(root: Path, data: DataRecipe, name: str) -> list[Listed]:
    """Every picture of a data set. Portraits of a style go by their file's name without suffix,
    which is the exemplar's name later; those of the base by folder and file."""
    found = []
    for folder in folders_of(data, name):
        for path in list_pictures(root / folder):
            inside = path.relative_to(root / folder).with_suffix("").as_posix()
            found.append(
                Listed(path=path, name=inside if name == "style" else f"{folder}/{inside}")
            )
    return _with_unique_names(found)


def _with_unique_names(listed: Sequence[Listed]) -> list[Listed]:
    """a.png and a.jpg in one folder keep their suffixes."""
    counts = Counter(item.name for item in listed)
    return [
        item
        if counts[item.name] == 1
        else Listed(path=item.path, name=item.name + item.path.suffix)
        for item in listed
    ]


def with_drawn(context: RunContext, name: str) -> list[Listed]:
    """The pictures of a data set; drawn ones are drawn first, into the stage's folder."""
    data = context.recipe.data
    if not data.drawn:
        return list_set(Path(data.root), data, name)
    root = context.folder / "drawn"
    for folder in folders_of(data, name):
        _draw(root / folder, folder, context)
    return list_set(root, data, name)


def _draw(folder: Path, name: str, context: RunContext) -> None:
    """Draw the pictures of one folder: faces of shapes, or people of the base."""
    from dsgcli.media.images import write_image
    from dsgcli.training.base_people import base_people
    from dsgcli.training.drawn import draw_portrait
    from dsgcli.training.drawn_people import DRAWN_STYLES
    from dsgcli.training.sheets import to_pixels

    count, size_px = context.recipe.data.drawn, context.recipe.model.size_px
    shapes = name in DRAWN_STYLES
    stem = f"{name}-" if shapes else ""
    paths = [folder / f"{stem}{number:03d}.png" for number in range(count)]
    if all(path.exists() for path in paths):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if shapes:
        drawn_as = next(known for known in DRAWN_STYLES if known == name)
        pictures = (draw_portrait(seed, size_px, drawn_as) for seed in range(count))
    else:
        people = base_people(context.store, name, count, size_px)
        pictures = (to_pixels(picture[None])[0] for picture in people)
    for done, (path, pixels) in enumerate(zip(paths, pictures, strict=True), 1):
        write_image(path, pixels, overwrite=True)
        context.advance(done, count, name)


def weights_of(names: Sequence[str], data_set: str, data: DataRecipe) -> list[float]:
    """How often each portrait is drawn: its folder's weight; 0 for photographs held out."""
    if data_set == "style":
        return [1.0] * len(names)
    folders = {f"{source.folder}/": source.weight for source in data.source}
    longest_first = sorted(folders, key=len, reverse=True)

    def weight(name: str) -> float:
        folder = next(f for f in longest_first if name.startswith(f))
        return 0.0 if is_held_out(name, data.holdout) else folders[folder]

    return [weight(name) for name in names]


def is_held_out(name: str, share: float) -> bool:
    """A fixed choice by name: it stays the same when pictures are added."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


# ── what is found out ────────────────────────────────────────────────────────────────────────────


def fingerprint(listed: Sequence[Listed]) -> str:
    """Changes when pictures are added, removed or replaced."""
    lines = (f"{item.name} {item.path.stat().st_size}" for item in listed)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _write_audit(folder: Path, listed: Sequence[Listed], figures: dict[str, Any]) -> None:
    content = {"fingerprint": fingerprint(listed), "pictures": figures}
    write_text(folder / AUDIT, json.dumps(content, indent=1))


def read_audit(folder: Path) -> dict[str, Any]:
    """The audit of a data set; empty if there is none."""
    path = folder / AUDIT
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _check_enough(recipe: Recipe, folder: Path) -> None:
    problems = []
    for name in SETS:
        pictures = read_audit(folder / name).get("pictures", {})
        reasons = Counter(_kind(p["problem"]) for p in pictures.values())
        kept = reasons.pop("", 0)
        wanted = smallest_set(recipe, name)
        if pictures and kept < wanted:
            why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            problems.append(
                f"{kept} of {len(pictures)} portraits of {name!r} are fit, and the recipe needs "
                f"{wanted}" + (f" (left out: {why})" if why else "")
            )
    if problems:
        raise TrainingError(
            "; ".join(problems) + f"; see report.html in {folder}, and lower batch_size, "
            "add pictures, or change [prepare]"
        )


def _kind(problem: str) -> str:
    """A reason without its figures, for counting."""
    return problem.partition(":")[0].partition(" (")[0].partition(" of ")[0]


def smallest_set(recipe: Recipe, name: str) -> int:
    """Portraits that the recipe's stages need of a data set: the largest batch, two at least."""
    users = {"base": ("base", "encoder", "pretrain"), "style": ("finetune", "transfer")}[name]
    sizes = [2]
    for stage in STAGES:
        table = getattr(recipe, stage)
        if stage in users and table is not None:
            sizes.append(table.batch_size)
            sizes.extend(growth.batch_size for growth in getattr(table, "growth", ()))
    return max(sizes)
