"""Package the results of a run for the store: a folder to use, copy or publish.

Flow: artifacts of the stages -> RUN/pretrained/NAME/{base,encoder,NAME,NAME-finetuned}.safetensors.
`dsg stylize --pretrained RUN/pretrained --style NAME` takes the style from there.

Half precision: files are half as large and the difference is below what eight bits show.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dsgcli.errors import ModelMismatchError, TrainingError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.style_sampler import StyleSampler
from dsgcli.recipe import Recipe
from dsgcli.store.codes import Codes
from dsgcli.store.contents import open_model
from dsgcli.store.networks import (
    find_discriminator,
    load_dualstylegan,
    load_encoder,
    load_generator,
    load_sampler,
    load_translator,
)
from dsgcli.store.write import (
    save_encoder,
    save_generator,
    save_style,
    save_translator,
    save_translator_style,
)
from dsgcli.training.candidates import chosen_style
from dsgcli.training.preflight import start_file
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.stages.codes import by_style, read_part
from dsgcli.training.stages.sampler import sampler_name
from dsgcli.types import Provenance

if TYPE_CHECKING:
    from dsgcli.store import ModelStore

FOLDER = "pretrained"
LAST = "evaluate"
"""Artifacts of every stage before it are looked for."""


def package(recipe: Recipe, run: RunFolder, store: ModelStore) -> list[Path]:
    """Write what is there; returns the files. A style needs a base, an encoder and codes.

    Raises:
        TrainingError: the base has been made again since the style was.
    """
    folder = run.path / FOLDER / recipe.run.name
    provenance = _provenance(recipe)
    translator = run.find("translator", before=LAST)
    if translator is not None:
        return write_translator_styles(recipe, run, translator, folder, provenance)
    base, encoder = (_find(name, recipe, run, store) for name in ("base", "encoder"))
    if base is None:
        return []
    made = [write_base(base, folder / "base.safetensors", _kept(base, provenance))]
    if encoder is not None:
        path = folder / "encoder.safetensors"
        made.append(write_encoder(encoder, path, _kept(encoder, provenance)))
    style = chosen_style(recipe, run)
    codes = run.find("codes", before=LAST)
    if style is None or codes is None:
        return made
    try:
        path = folder / f"{recipe.run.name}.safetensors"
        made.append(write_style(run, style, read_part(codes), made[0], path, provenance))
    except ModelMismatchError as error:
        raise TrainingError(
            f"the style in {run.path} was trained on another base than the one there now; do "
            f"the stages after 'base' again (--again STAGE, as often as needed)"
        ) from error
    finetuned = run.find("finetuned", before=LAST)
    if finetuned is not None:
        path = folder / f"{recipe.run.name}-finetuned.safetensors"
        save_generator(path, load_generator(finetuned), provenance=provenance, half=True)
        made.append(path)
    return made


def write_translator_styles(
    recipe: Recipe, run: RunFolder, translator: Path, folder: Path, provenance: Provenance
) -> list[Path]:
    """The translator, and a file of codes for each of its styles."""
    made = [folder / "translator.safetensors"]
    save_translator(made[0], load_translator(translator), provenance=provenance, half=True)
    codes = run.find("codes", before=LAST)
    assert codes is not None, "the stage that makes a translator makes its codes"
    for style, own in by_style(read_part(codes)).items():
        path = folder / f"{style or recipe.run.name}.safetensors"
        sampler = run.find(sampler_name(style), before=LAST)
        save_translator_style(
            path,
            own.default,
            own.names,
            translator=made[0],
            sampler=None
            if sampler is None
            else load_sampler(sampler, style_dim=own.default.shape[2]),
            provenance=provenance,
        )
        made.append(path)
    return made


def write_base(base: Path, path: Path, provenance: Provenance) -> Path:
    """With its discriminator, if it has one: other styles are trained on from it."""
    save_generator(
        path,
        load_generator(base),
        discriminator=find_discriminator(open_model(base)),
        provenance=provenance,
        half=True,
    )
    return path


def write_encoder(encoder: Path, path: Path, provenance: Provenance) -> Path:
    """Write the encoder unchanged, in half precision."""
    save_encoder(path, load_encoder(encoder), provenance=provenance, half=True)
    return path


def write_style(
    run: RunFolder, style: Path, codes: Codes, base: Path, path: Path, provenance: Provenance
) -> Path:
    """The weights that differ from `base`, the codes, and the run's sampler, if it has one.

    Raises:
        ModelMismatchError: the style was trained on another base.
        TrainingError: the sampler makes codes of another size.
    """
    model = load_dualstylegan(style)
    save_style(
        path,
        model,
        codes,
        base=open_model(base),
        sampler=_sampler_for(model, run),
        provenance=provenance,
        name=path.stem,
        half=True,
    )
    return path


def _sampler_for(model: DualStyleGAN, run: RunFolder) -> StyleSampler | None:
    path = run.find("sampler", before=LAST)
    if path is None:
        return None
    sampler = load_sampler(path, style_dim=model.config.generator.style_dim)
    if sampler.config.layout != model.layout:
        raise TrainingError(
            f"the sampler in {run.path} was made before the style was enlarged; do it again "
            f"(--again sampler)"
        )
    return sampler


def _find(artifact: str, recipe: Recipe, run: RunFolder, store: ModelStore) -> Path | None:
    """Find an artifact that this run made, or that it started from."""
    return run.find(artifact, before=LAST) or start_file(artifact, recipe, run, store)


def _provenance(recipe: Recipe) -> Provenance:
    return Provenance(license=recipe.run.license, source="dsg train", notes=recipe.run.name)


def _kept(path: Path, ours: Provenance) -> Provenance:
    """The provenance that a file came with; ours where it says nothing."""
    theirs = open_model(path).header.provenance
    return ours if theirs.license == "unknown" else theirs
