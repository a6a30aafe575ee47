"""Problems of a run, found before it starts: folders, portraits, models, batches that can be
split.

Flow: recipe + run folder + store -> sentences, each with what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgcli.errors import DsgError, ModelMissingError
from dsgcli.recipe import STAGES, BaseRecipe, DistillRecipe, Growth, ModelRecipe, Recipe
from dsgcli.training.data import num_parts
from dsgcli.training.prepare import (
    SETS,
    fingerprint,
    folders_of,
    list_set,
    read_audit,
    smallest_set,
)
from dsgcli.training.processes import TOGETHER
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.stage import Stage
from dsgcli.training.stages.enlarge import check_grown, cut_base, cut_generator
from dsgcli.training.teachers.pairs import pair_problems

if TYPE_CHECKING:
    from dsgcli.store import ModelStore

# ── models ───────────────────────────────────────────────────────────────────────────────────────

START = "start"
"""Folder of a run for what it starts from and has to change."""
JUDGED_BY_FEATURES = ("encoder", "destylize", "pretrain", "transfer", "refine")
JUDGED_BY_IDENTITY = ("encoder", "destylize", "transfer")
"""Stages whose losses look at pictures, and at faces, through the networks of [features]."""


def model_problems(
    recipe: Recipe, run: RunFolder, store: ModelStore, stages: Mapping[str, Stage]
) -> Iterator[str]:
    """Problems of the stages to run: artifacts that are missing and that no stage makes, networks
    of losses, files of another size."""
    made: set[str] = set()
    named: dict[str, Path] = {}
    lacking: dict[tuple[str, str], list[str]] = {}
    for name, stage in stages.items():
        for artifact in needs(stage, recipe):
            if artifact in made or run.find(artifact, name) is not None:
                continue
            try:
                path = find_start(artifact, recipe, run, store)
                told = "" if path else _how_to_get(artifact)
            except DsgError as error:
                path, told = None, str(error)
            if path is not None:
                named[artifact] = path
            else:
                lacking.setdefault((artifact, told), []).append(name)
        made.update(makes(stage, recipe))
    for (artifact, told), users in lacking.items():
        noun, verb = ("stage", "needs") if len(users) == 1 else ("stages", "need")
        yield f"{noun} {', '.join(map(repr, users))} {verb} {artifact!r}: {told}"
    yield from _size_problems(recipe, named)
    yield from _judge_problems(recipe, named, tuple(stages))
    yield from _network_problems(recipe, store, tuple(stages))


def _how_to_get(artifact: str) -> str:
    table, _, key = artifact.rpartition(".")
    if table:
        return f"name a file or a run as {key} in [{table}]"
    return "run the stage that makes it too, or name a file in [start]"


def needs(stage: Stage, recipe: Recipe) -> tuple[str, ...]:
    """Artifacts that a stage cannot do without, those that [features] asks for included."""
    found = list(stage.needs)
    if stage.name == "base" and recipe.base is not None:
        found += _begins_with(recipe, recipe.base)
    finetune = recipe.finetune
    if stage.name == "finetune" and finetune is not None and finetune.lambda_pixel > 0:
        found.append("encoder")
    judged = is_judged_by_features(stage.name, recipe)
    if judged and recipe.features.perceptual == "discriminator":
        found.append("base")
    own = (recipe.features.perceptual, recipe.features.identity)
    if judged and stage.name != "encoder" and "encoder" in own:
        found.append("encoder")
    if stage.name == "distill" and recipe.start.translator:
        found.append("translator")
    return tuple(dict.fromkeys(found))


def is_judged_by_features(stage: str, recipe: Recipe) -> bool:
    """Whether a loss of the stage looks through the networks of [features]."""
    if stage == "distill":
        return any(phase.lambda_perc > 0 for phase in recipe.distill.phases)  # type: ignore[union-attr]
    return stage in JUDGED_BY_FEATURES


def _begins_with(recipe: Recipe, base: BaseRecipe) -> tuple[str, ...]:
    """Models that a base starts from, unless it is trained from scratch."""
    if base.start == "autoencoder":
        given = recipe.start.base or recipe.start.encoder
        alone = base.growth[0].learns != "all"  # the rest has to be there
        return ("base", "encoder") if given or alone else ()
    return ("base",) if base.start == "checkpoint" else ()


def makes(stage: Stage, recipe: Recipe) -> tuple[str, ...]:
    """Artifacts that a stage will make; an autoencoder makes the encoder with the base."""
    base = recipe.base
    if stage.name == "base" and base is not None and base.start == "autoencoder":
        return (*stage.makes, "encoder")
    return stage.makes


def find_start(artifact: str, recipe: Recipe, run: RunFolder, store: ModelStore) -> Path | None:
    """The file that the recipe names for an artifact; None if it names none.

    A value is a file, the folder of another run, the name of a run beside this one, or a name in
    the store. It stands in [start], or in TABLE for what is called TABLE.artifact.

    Raises:
        ModelMissingError: it names something that is not there.
    """
    name, _, kind = artifact.rpartition(".")
    table = getattr(recipe, name or "start")
    value = getattr(table, kind, "")
    if not value:
        return None
    for place in (Path(value), run.path.parent / value):
        if place.is_file():
            return place
        if place.is_dir() and (found := _in_run(place, kind)):
            return found
    return _in_store(value, f"[{name or 'start'}] {kind}", store)


def _in_run(folder: Path, artifact: str) -> Path | None:
    other = RunFolder(folder)
    paths = (other.artifact(stage, artifact) for stage in reversed(STAGES))
    return next((path for path in paths if path.is_file()), None)


def _in_store(value: str, key: str, store: ModelStore) -> Path:
    from dsgcli.store.manifest import read_manifest

    with suppress(ModelMissingError):
        return store.find(value).path
    entry = read_manifest().named(value)
    how = (
        f"get it with `dsg models pull {entry.name}`"
        if entry
        else "it is no file, no run beside this one, and not in the store (`dsg models list`)"
    )
    raise ModelMissingError(f"{key} = {value!r} is missing: {how}")


def start_file(artifact: str, recipe: Recipe, run: RunFolder, store: ModelStore) -> Path | None:
    """Find as `find_start`; for a base that makes larger pictures than the recipe's, the layers up
    to its size, in the run's folder. What is trained on these can be enlarged to the whole.

    Raises:
        ModelError: as `open_model`. ModelMissingError: as `find_start`.
    """
    path = find_start(artifact, recipe, run, store)
    if path is None or not _is_cut(artifact, recipe):
        return path
    return cut_base(path, recipe.model.size_px, run.path / START)


def sizes_of(recipe: Recipe, run: RunFolder, store: ModelStore) -> ModelRecipe:
    """The sizes that networks will have: those of the base and the encoder that a run starts from,
    where they are here; the recipe's own for what it makes itself."""
    sizes = recipe.model
    for artifact in SIZES_IN:
        with suppress(DsgError, KeyError, ValueError):
            path = find_start(artifact, recipe, run, store)
            if path is not None:
                sizes = with_sizes(sizes, artifact, path)
    return sizes


def with_sizes(model: ModelRecipe, artifact: str, path: Path) -> ModelRecipe:
    """The sizes of a base or an encoder in place of the recipe's; the picture's stays.

    Raises:
        ModelError: as `open_model`.
    """
    from dsgcli.store.contents import open_model

    return replace(model, **SIZES_IN[artifact](open_model(path).header.config))


def _sizes_of_base(config: Mapping[str, Any]) -> dict[str, Any]:
    config = config.get("generator", config)
    channels = {int(side): int(count) for side, count in config["channels"].items()}
    return {
        "style_dim": config["style_dim"],
        "mapping_layers": config["mapping_layers"],
        "channel_base": max(channels) * channels[max(channels)],
        "max_channels": max(channels.values()),
    }


def _sizes_of_encoder(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "encoder_px": config["input_px"],
        "encoder_widths": (config["stem_width"], *config["widths"]),
        "encoder_units": tuple(config["units"]),
        "encoder_head_width": config["head_width"],
    }


SIZES_IN = {"base": _sizes_of_base, "encoder": _sizes_of_encoder}


def _size_problems(recipe: Recipe, named: Mapping[str, Path]) -> Iterator[str]:
    """Files of [start] that make pictures of another size than the recipe's."""
    from dsgcli.store.contents import open_model

    wanted = recipe.model.size_px
    growth = recipe.base.growth if recipe.base and recipe.base.start == "autoencoder" else ()
    for artifact, path in named.items():
        if artifact.startswith("enlarge."):
            continue  # looked at below
        try:
            layout = open_model(path).header.layout
        except DsgError as error:
            yield f"[start] {artifact}: {error}"
            continue
        if artifact in ("encoder", "translator") or layout is None:
            continue
        told = f"[start] {artifact}: {path} is of {layout.size_px} px, and "
        if growth and artifact == "base":
            yield from _growth_problems(told, layout.size_px, growth)
        elif layout.size_px < wanted or (layout.size_px > wanted and not _is_cut(artifact, recipe)):
            yield f"{told}model.size_px is {wanted}"
    yield from _enlarging_problems(recipe, named)


def _is_cut(artifact: str, recipe: Recipe) -> bool:
    """Whether `start_file` takes the first layers of a larger model."""
    return artifact == "base" and recipe.base is None


def _enlarging_problems(recipe: Recipe, named: Mapping[str, Path]) -> Iterator[str]:
    """A larger base that has not grown from the one whose styles it is to enlarge."""
    from dsgcli.store.networks import load_generator

    small, larger = named.get("base"), named.get("enlarge.base")
    if small is not None and larger is not None:
        try:
            start = load_generator(small)
            if start.config.size_px > recipe.model.size_px:
                start = cut_generator(start, recipe.model.size_px)
            check_grown(start, load_generator(larger))
        except DsgError as error:
            yield f"[enlarge] base: {error}"


def _growth_problems(told: str, start_px: int, growth: Sequence[Growth]) -> Iterator[str]:
    """Phases that do not go on from a base of `start_px`."""
    for step in growth:
        if step.learns == "encoder" and step.size_px > start_px:
            yield f"{told}only an encoder is to learn at {step.size_px}; learn it at {start_px}"
        elif step.learns == "encoder" and step.lambda_adv > 0 and step.size_px < start_px:
            yield f"{told}so is its discriminator; drop lambda_adv at {step.size_px}"
        elif step.learns != "encoder" and step.size_px < start_px:
            yield f"{told}the growth begins at {step.size_px}; begin it there"
            return
        start_px = max(start_px, step.size_px)


def _judge_problems(
    recipe: Recipe, named: Mapping[str, Path], stages: Sequence[str]
) -> Iterator[str]:
    """A base that is to judge pictures by its discriminator, and has none."""
    from dsgcli.store.contents import open_model

    judged = tuple(stage for stage in stages if is_judged_by_features(stage, recipe))
    users = {"base": judged, "enlarge.base": ("evaluate",)}
    if recipe.features.perceptual != "discriminator":
        return
    for artifact in users.keys() & named.keys():
        with suppress(DsgError):  # told by `_size_problems`
            if set(stages) & set(users[artifact]) and "d" not in open_model(named[artifact]).parts:
                yield (
                    f"features.perceptual = 'discriminator' is that of the base, and "
                    f"{named[artifact]} has none; set it to 'encoder' or 'vgg'"
                )


def _network_problems(recipe: Recipe, store: ModelStore, stages: Sequence[str]) -> Iterator[str]:
    """Networks of the losses that are not in the store, with the command that gets them."""
    wanted: dict[str, str] = {}
    if recipe.evaluate is not None and "evaluate" in stages and recipe.evaluate.features == "vgg16":
        wanted["vgg16"] = "evaluate.features"
    judged = any(is_judged_by_features(stage, recipe) for stage in stages)
    if recipe.features.perceptual == "vgg" and judged:
        wanted |= dict.fromkeys(("vgg19", "vgg16", "lpips"), "[features]")
    if recipe.features.identity == "irse50" and set(stages) & set(JUDGED_BY_IDENTITY):
        wanted["identity"] = "[features]"
    for kind, who in wanted.items():
        try:
            store.lookup.network_file(kind)  # type: ignore[arg-type]
        except ModelMissingError as error:
            yield f"{who} needs {kind}: {error}"


# ── teachers ─────────────────────────────────────────────────────────────────────────────────────


def teacher_problems(recipe: Recipe, store: ModelStore, stages: Sequence[str]) -> Iterator[str]:
    """A teacher without its style, its pairs or its exemplars."""
    distill = recipe.distill
    if distill is None or "distill" not in stages:
        return
    if distill.teacher == "headshot":
        yield from _exemplar_problems(recipe, distill)
    elif distill.teacher == "dualstylegan":
        try:
            store.style(distill.style)
        except DsgError as error:
            yield f"[distill] style: {error}"
    else:
        yield from pair_problems(Path(recipe.data.root) / distill.pairs_folder)


def _exemplar_problems(recipe: Recipe, distill: DistillRecipe) -> Iterator[str]:
    """Folders of exemplars that are not there, or hold fewer than are asked for."""
    root = Path(recipe.data.root)
    missing = not all((root / f).is_dir() for name in SETS for f in folders_of(recipe.data, name))
    if missing or recipe.data.drawn:
        return  # told by `data_problems`
    names = [item.name for name in reversed(SETS) for item in list_set(root, recipe.data, name)]
    for source in distill.exemplars:
        inside = sum(name.startswith(source.prefix) for name in names)
        if inside < max(1, source.count):
            wanted = source.count or "at least 1"
            yield (
                f"[distill] exemplars: {source.folder!r} holds {inside} portrait(s), and {wanted} "
                f"are asked for; it is a folder within [data] style, or one of [data] source"
            )


# ── batches ──────────────────────────────────────────────────────────────────────────────────────


def batch_problems(recipe: Recipe, to_do: Sequence[str], processes: int) -> Iterator[str]:
    """Batches that cannot be cut into the parts that processes and `run.device_batch` ask for."""
    for stage, batch_size, whole in _batches(recipe, to_do):
        what = f"the batch of {batch_size} of stage {stage!r}"
        local, odd = divmod(batch_size, processes)
        if odd:
            yield f"{what} cannot be shared evenly by {processes} processes; change either"
        elif whole and num_parts(local, recipe.run.device_batch) > 1:
            yield (
                f"{what} goes through batch norms, which need it whole, and run.device_batch is "
                f"{recipe.run.device_batch}: set it to {local} or 0, lower the batch, or start "
                f"more processes"
            )


def _batches(recipe: Recipe, to_do: Sequence[str]) -> Iterator[tuple[str, int, bool]]:
    """Stage, batch, and whether batch norms are trained on it."""
    for name in to_do:
        table = getattr(recipe, name)
        if name not in TOGETHER or table is None:
            continue
        if name == "base" and recipe.base is not None and recipe.base.start == "autoencoder":
            yield from ((name, growth.batch_size, True) for growth in recipe.base.growth)
        if table.steps:
            yield name, table.batch_size, name == "encoder"


# ── data ─────────────────────────────────────────────────────────────────────────────────────────

USERS = {
    "base": ("base", "encoder", "pretrain", "distill"),
    "style": ("finetune", "destylize", "transfer", "refine", "enlarge", "distill"),
}
"""Stages that read each data set."""


def data_problems(
    recipe: Recipe, run: RunFolder, to_do: Sequence[str], store: ModelStore
) -> Iterator[str]:
    """Folders that are missing or hold too little, and portraits that are not prepared."""
    packed = run.is_done("prepare") and "prepare" not in to_do
    for name in SETS:
        users = [stage for stage in to_do if stage in USERS[name] and _looks(recipe, stage)]
        if users and not folders_of(recipe.data, name):
            key = "style" if name == "style" else "source"
            yield f"stage {users[0]!r} needs portraits: name their folder in [data] {key}"
        elif users and not packed and "prepare" not in to_do:
            yield f"stage {users[0]!r} needs prepared portraits: run the stage 'prepare' first"
        elif packed and users:
            yield from _changed_pictures(recipe, run, name)
        elif "prepare" in to_do:
            yield from _drawn_problems(recipe, name, store)
            yield from _folder_problems(recipe, name)


def _looks(recipe: Recipe, stage: str) -> bool:
    """Whether a stage looks at portraits: pretraining for no step does not, nor do teachers that
    make or bring their own."""
    if stage == "distill":
        return recipe.distill is not None and recipe.distill.teacher == "headshot"
    return stage != "pretrain" or recipe.pretrain is None or recipe.pretrain.steps > 0


def _folder_problems(recipe: Recipe, name: str) -> Iterator[str]:
    if recipe.data.drawn:
        return
    root, wanted = Path(recipe.data.root), smallest_set(recipe, name)
    folders = folders_of(recipe.data, name)
    missing = [f for f in folders if not (root / f).is_dir()]
    for folder in missing:
        yield f"no folder {root / folder}: put pictures there, or name another folder with --data"
    count = len(list_set(root, recipe.data, name))
    if folders and not missing and count < wanted:
        where = ", ".join(str(root / f) for f in folders)
        yield f"{count} picture(s) in {where}, and the recipe needs at least {wanted}"


def _drawn_problems(recipe: Recipe, name: str, store: ModelStore) -> Iterator[str]:
    from dsgcli.training.base_people import PEOPLE, styles_of
    from dsgcli.training.drawn_people import DRAWN_STYLES

    if recipe.data.drawn:
        for folder in folders_of(recipe.data, name):
            if folder in DRAWN_STYLES:
                continue
            try:
                known = all(store.info(style).of_translator for style in styles_of(folder))
            except DsgError:
                known = False
            if not known:
                yield (
                    f"no style {folder!r} can be drawn; there are {', '.join(DRAWN_STYLES)}, "
                    f"{PEOPLE}, and the styles of a translator"
                )
    drawn, wanted = recipe.data.drawn, smallest_set(recipe, name)
    if drawn and folders_of(recipe.data, name) and drawn < wanted:
        yield f"[data] drawn is {drawn}, and the recipe needs at least {wanted}"


def _changed_pictures(recipe: Recipe, run: RunFolder, name: str) -> Iterator[str]:
    """Only where the folders are still there: a pack is complete without its pictures."""
    root = Path(recipe.data.root)
    audit = read_audit(run.stage("prepare") / name)
    if recipe.data.drawn or not all((root / f).is_dir() for f in folders_of(recipe.data, name)):
        return
    if audit and audit["fingerprint"] != fingerprint(list_set(root, recipe.data, name)):
        yield f"the pictures of {name!r} have changed since `prepare`; pass --again prepare"
