"""Add an exemplar to a style from a picture, without training: `dsg styles add`.

A translator's style encoder makes the code in one pass. What follows is for a DualStyleGAN.

picture -> crop -> encoder -> extrinsic code -> refined against the picture -> store.

This is destylization and refinement (Yang et al., arXiv:2203.13248, section 3) of one picture, with
one step left out: the intrinsic code is that of the encoder, drawn nearer to the average face and
encoded again; it is not fitted under the fine-tuned generator, which is not part of a finished
style.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError, ModelMissingError, RecipeError, UsageError
from dsgcli.generate.people import Aligned, FaceCutter
from dsgcli.media.files import numbered_neighbors
from dsgcli.media.images import read_opaque, write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.models.features import VGG19
from dsgcli.pipeline import USUAL_PX, TranslatorPipeline, load_pipeline
from dsgcli.portraits import Look, Portraits, pick_weights, to_images, to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.recipe import RefineRecipe
from dsgcli.store import ModelStore
from dsgcli.store.codes import Codes
from dsgcli.store.networks import load_discriminator
from dsgcli.training.base_people import PEOPLE, base_people
from dsgcli.training.perceptual import (
    DiscriminatorFeatures,
    EncoderFeatures,
    Features,
    VggFeatures,
    fit,
)
from dsgcli.training.stages.refine import Refiner

if TYPE_CHECKING:
    from dsgcli.models.dualstylegan import DualStyleGAN
    from dsgcli.store import Style
    from dsgcli.types import Pixels

PHOTOGRAPHIC = 0.7
"""Truncation that takes a drawn face back towards photographs, as in destylization."""
LR_COLOR = 0.1
"""Learning rate of color rows, as published for cartoon; the recipe's default hardly moves them in
100 steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """Every choice of `dsg styles add`; the names are those of its arguments and flags."""

    name: str
    """The style to extend."""
    picture: Path
    label: str | None = None
    """Name of the new exemplar; None is that of the file."""
    refine: int = 100
    """Steps of fitting the code to the picture."""
    aligned: Aligned = "auto"
    overwrite: bool = False
    """Replace an exemplar of the same name."""
    device: str = "auto"
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.refine < 0:
            problems.append(f"refine must not be negative, got {self.refine}")
        if re.search(r"[:*+/\\]", self.exemplar) or not self.exemplar.strip():
            problems.append(
                f"an exemplar's name has none of : * + / in it, got {self.exemplar!r}; pass --as"
            )
        elif self.exemplar.isdecimal():
            problems.append(f"{self.exemplar} would be taken for a number; pass another --as")
        if problems:
            raise RecipeError("the command", problems)

    @property
    def exemplar(self) -> str:
        """Name of the new exemplar."""
        return self.picture.name if self.label is None else self.label


def run(options: AddOptions, progress: Progress = NULL_PROGRESS) -> dict[str, Any]:
    """Encode and refine a picture, and keep it as an exemplar in the user's folder.

    Returns:
        Its name and its file, for `--json`.

    Raises:
        UsageError, ModelError, MediaError, NoFaceError: nothing is kept then.
    """
    store = ModelStore.open(options.pretrained)
    style = store.style(options.name)
    if options.exemplar in style.names and not options.overwrite:
        raise UsageError(
            f"{style.name} has an exemplar {options.exemplar!r} already; choose another --as, or "
            f"pass --overwrite to replace it"
        )
    frame = read_opaque(options.picture)
    portraits = load_pipeline(
        store, options.name, encoder="z+", device=options.device, precision="fp32"
    )
    with FaceCutter(store, options.aligned, progress) as cutter:
        if isinstance(portraits, TranslatorPipeline):
            crop = cutter.crop(frame, str(options.picture), USUAL_PX)
            code = portraits.encode_style([crop.pixels]).cpu()
            done = _keep(store, options, Codes(names=(options.exemplar,), exstyle=code), {})
            return done | show_likeness(store, options, portraits, crop.pixels, code[0])
        crop = cutter.crop(frame, str(options.picture), portraits.crop_px)
    exstyle, instyle = first_codes(portraits, crop.pixels)
    refined: Tensor | None = None
    fitted: dict[str, Any] = {}
    if options.refine:
        features = pick_features(store, style, portraits)
        refined, fitted = refine(
            portraits, crop.pixels, instyle, exstyle, features, options.refine, progress
        )
    codes = Codes(
        names=(options.exemplar,),
        exstyle=exstyle.cpu(),
        refined=None if refined is None else refined.cpu(),
        instyle=instyle.cpu(),
    )
    return _keep(store, options, codes, {"steps": options.refine, **fitted})


def _keep(
    store: ModelStore, options: AddOptions, codes: Codes, made: dict[str, Any]
) -> dict[str, Any]:
    """Write the new exemplar; returns its name, its file, and how it was made."""
    kept = store.add_exemplar(options.name, codes)
    number = store.style(options.name).names.index(options.exemplar)
    return {
        "style": options.name,
        "exemplar": options.exemplar,
        "number": number,
        "file": str(kept),
        "steps": 0,
        **made,
    }


def show_likeness(
    store: ModelStore,
    options: AddOptions,
    pipeline: TranslatorPipeline,
    exemplar: Pixels,
    code: Tensor,
) -> dict[str, Any]:
    """Draw a person of the base in a new exemplar, on a sheet in the working folder.

    Args:
        exemplar: (S, S, 3), its aligned crop.
        code: (L, D), its code.

    Returns:
        The sheet, and how far the person's colors and contrast moved towards the exemplar's, 0 to
        1; empty where the style has no base to make people of.
    """
    try:
        (person,) = base_people(store, PEOPLE, 1, USUAL_PX)
    except ModelMissingError:
        return {}
    crop = to_pixels(person[None])[0]
    weights = pick_weights(pipeline.layout, usual=pipeline.usual_weight)
    look = Look(exstyle=code, weights=weights)
    (drawn,) = pipeline.draw_crops([crop], pipeline.encode([crop]), look, USUAL_PX)
    place = Path(f"{Path(options.exemplar).stem}_in_{options.name}.png")
    sheet = next(path for path in chain([place], numbered_neighbors(place)) if not path.exists())
    labels = [options.exemplar, "a person", f"in {options.name}:{options.exemplar}"]
    write_image(sheet, make_sheet([exemplar, crop, drawn], columns=3, labels=labels))
    apart = _palette_distance(crop, exemplar)
    moved = 1.0 - _palette_distance(drawn, exemplar) / max(apart, 1e-6)
    return {"sheet": str(sheet), "colors_moved": round(moved, 3)}


def _palette_distance(one: Pixels, other: Pixels) -> float:
    """Distance of means and standard deviations of the channels, in levels of 255."""
    figures = [np.stack([p.mean((0, 1)), p.std((0, 1))]) for p in (one, other)]
    return float(np.abs(figures[0] - figures[1]).mean())


def first_codes(portraits: Portraits, pixels: Pixels) -> tuple[Tensor, Tensor]:
    """Extrinsic and intrinsic code (1, L, D) in z+ of an aligned picture (S, S, 3).

    The intrinsic code is that of the face drawn nearer to the average, with the picture's colors
    (rows as in destylization).
    """
    network, colors = portraits.generator.generator, portraits.layout.destylized_color
    exstyle = portraits.encode([pixels]).clone()
    with torch.no_grad():
        # nearer to the average face a drawing looks like a photograph to the encoder
        photograph = network(network.truncate(network.map_plus(exstyle), PHOTOGRAPHIC))
    instyle = portraits.encode_images(photograph).clone()
    instyle[:, colors] = exstyle[:, colors]
    return exstyle, instyle


def pick_features(store: ModelStore, style: Style, portraits: Portraits) -> Features:
    """Features that compare pictures: VGG as published where it is in the store, else the
    discriminator of the style's base, else the encoder."""
    try:
        vgg = store.vgg(19, portraits.device)
        assert isinstance(vgg, VGG19)
        return VggFeatures(vgg, store.lpips(portraits.device))
    except ModelMissingError:
        pass
    info = style.info
    base = info.path if info.published else store.lookup.base_of(info)
    try:
        return DiscriminatorFeatures(load_discriminator(base, portraits.device))
    except ModelMismatchError:  # it was left out of the file
        assert portraits.encoder is not None
        return EncoderFeatures(portraits.encoder)


def refine(
    portraits: Portraits,
    pixels: Pixels,
    instyle: Tensor,
    exstyle: Tensor,
    features: Features,
    steps: int,
    progress: Progress = NULL_PROGRESS,
) -> tuple[Tensor, dict[str, Any]]:
    """Fit the extrinsic code to the picture; never worse than before, by the measure of `features`.

    Args:
        pixels: (S, S, 3), aligned.
        instyle, exstyle: (1, L, D) z+.

    Returns:
        (1, L, D) z+; the name of the measure, and the distance to the picture before and after.
    """
    dual = portraits.generator
    image = fit(to_images([pixels], portraits.device), features.size_px)
    noise = dual.generator.make_noise(1, torch.Generator().manual_seed(0))
    recipe = RefineRecipe(steps=steps, lr_color=LR_COLOR)
    with progress.task("Refining", steps) as task:
        refined, _ = Refiner(dual, features, recipe).run(
            image, instyle, exstyle, noise, lambda _: task.advance()
        )
    before = distance(dual, features, image, instyle, exstyle)
    after = distance(dual, features, image, instyle, refined)
    if after > before:
        progress.warn(
            "fitting the code did not bring it nearer to the picture, so the code is unchanged"
        )
        refined, after = exstyle, before
    return refined, {"measured_by": features.name, "distance": [before, after]}


@torch.no_grad()
def distance(
    dual: DualStyleGAN, features: Features, image: Tensor, instyle: Tensor, exstyle: Tensor
) -> float:
    """Distance of a picture (1, 3, S, S) from the drawing of its codes."""
    network = dual.generator
    drawn = dual(network.map_plus(instyle), network.map_plus(exstyle))
    return float(features.distance(drawn, image))
