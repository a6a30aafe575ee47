"""Portraits -> intrinsic and extrinsic codes, and the person behind a portrait.

picture or folder -> portraits -> `Destylizer` (training/stages/destylize.py) -> for one picture the
recovered photograph, for a folder its codes and a sheet for each portrait. This is
`dsg destylize`; the stage of the same name does it for a whole training run.

A portrait is fitted under a network that draws a person's code in the portrait's style: the style's
fine-tuned generator g' where it is in the store, as in the paper; else the style's own network in
the portrait's own style, the base and then the translator, or the DualStyleGAN.

Pictures are aligned portraits; the middle square is taken of those that are not square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from dsgcli.errors import (
    ModelError,
    ModelMissingError,
    OutputExistsError,
    SourceMissingError,
    UsageError,
)
from dsgcli.generate.figures import free_output
from dsgcli.media.files import no_empty_folders
from dsgcli.media.images import can_write, identify, read_opaque, write_image
from dsgcli.models.features import VGG19
from dsgcli.portraits import area_resize, to_images, to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.recipe import DestylizeRecipe
from dsgcli.runtime import batched, pick_device
from dsgcli.store import ModelStore
from dsgcli.store.codes import Codes
from dsgcli.store.write import save_codes
from dsgcli.training.perceptual import (
    EncoderFeatures,
    EncoderIdentity,
    Features,
    Identity,
    IrseIdentity,
    VggFeatures,
    frozen,
    mean_code,
)
from dsgcli.training.stage import SeededDraws
from dsgcli.training.stages.codes import exemplar_names, joined
from dsgcli.training.stages.destylize import Destylizer, flagged, write_sheets
from dsgcli.types import DEFAULT_TRUNCATION, LatentLayout

if TYPE_CHECKING:
    from dsgcli.models.encoder import Encoder
    from dsgcli.models.stylegan2 import Generator
    from dsgcli.types import Pixels

NUM_CENTER_FACES = 16
"""Random faces whose mean code is the center of identities."""
CODES, SHEETS = "codes.safetensors", "sheets"
"""Names in the folder that is written."""

Draw = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Codes in W+ (B, L, D) and noise maps (B, 1, s, s) -> pictures (B, 3, S, S)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestylizeOptions:
    """Every choice of `dsg destylize`; the names are those of its arguments and flags."""

    source: Path
    """A portrait, or a folder of them."""
    style: str = "default"
    """The style in which the portraits are drawn."""
    steps: int = 300
    """Optimizer steps for each portrait."""
    truncation: float = DEFAULT_TRUNCATION
    """How far the recovered face may be from the mean one; 0.5 for styles far from photographs."""
    seed: int = 0
    output: Path | None = None
    """A picture for one portrait, a folder for several; None is beside the source."""
    overwrite: bool = False
    pretrained: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    """Portraits at once; None decides by the device."""


def destylize(options: DestylizeOptions, progress: Progress = NULL_PROGRESS) -> dict[str, Any]:
    """Recover the codes of portraits; returns what was written, for people and for `--json`.

    Raises:
        SourceMissingError: no picture there. OutputExistsError: would overwrite a file of others.
        ModelError: the style, its base or the base's encoder into Z+ is missing.
    """
    paths, target = find_portraits(options.source), target_of(options)
    store, device = ModelStore.open(options.pretrained), pick_device(options.device)
    destylizer, in_style_of = load(store, options, device, progress)
    names = exemplar_names([path.name for path in paths])
    batch = options.batch_size or (16 if device.type == "cuda" else 4)
    size_px = max(destylizer.features.size_px, destylizer.encoder.config.input_px)
    parts: list[Codes] = []
    scores: dict[str, float] = {}
    with (
        no_empty_folders([target, target / CODES]),
        progress.task("Destylizing", total=len(paths) * options.steps) as task,
    ):
        for chunk in batched(range(len(paths)), batch):
            pictures = [read_portrait(paths[i], device) for i in chunk]
            # (B, 3, P, P) for the networks that compare; the style encoder takes the pictures whole
            portraits = torch.cat([area_resize(picture, size_px) for picture in pictures])
            if in_style_of is not None:
                destylizer.finetuned = in_style_of(pictures)
            # noise depends on the seed and the portrait's own number, not on the batch
            draws = SeededDraws(options.seed, 0, "destylize", chunk, device)
            noise = draws.noise(destylizer.layout.noise_sizes_px, len(chunk))

            def advance(step: int, count: int = len(chunk)) -> None:
                task.advance(count, step=step)

            found = destylizer.run(portraits, noise, advance)
            chosen = [names[i] for i in chunk]
            scores |= dict(zip(chosen, found.score.tolist(), strict=True))
            parts.append(found.codes(chosen))
            if options.source.is_dir():
                write_sheets(target / SHEETS, chosen, found)
            else:
                pixels, about = to_pixels(found.recovered)[0], {"destylized": options.source.name}
                write_image(target, pixels, metadata=about, overwrite=options.overwrite)
    if options.source.is_dir():
        save_codes(target / CODES, joined(parts), layout=destylizer.layout, keep_order=True)
    return {
        "output": str(target),
        "portraits": len(paths),
        "features": destylizer.features.name,
        "scores": scores,
        "flagged": flagged(scores),
    }


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def find_portraits(source: Path) -> list[Path]:
    """The picture, or the pictures in the folder, by name.

    Raises:
        SourceMissingError: nothing there, or a folder without pictures.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise SourceMissingError(f"no picture and no folder at {source}")
    found = sorted(path for path in source.iterdir() if path.is_file() and identify(path))
    if not found:
        raise SourceMissingError(f"no picture in {source}")
    return found


def target_of(options: DestylizeOptions) -> Path:
    """The output; where dsg has written it before, a numbered neighbor.

    Raises:
        UsageError: a suffix that is no picture's. OutputExistsError: a file of others is there.
    """
    source, several = options.source, options.source.is_dir()
    beside = source.with_name(f"{source.stem}_{'codes' if several else 'recovered'}")
    target = options.output or (beside if several else beside.with_suffix(".png"))
    if several:
        number, folder = 1, target
        while (target / CODES).exists() and not options.overwrite:
            number += 1
            target = folder.with_name(f"{folder.name}-{number}")
        return target
    if not can_write(target):
        raise UsageError(f"{target} is no picture; give -o a .png, .jpg or .webp")
    target = free_output(target, overwrite=options.overwrite)
    if target.exists() and not options.overwrite:
        raise OutputExistsError(target)
    return target


def middle_square(pixels: Pixels) -> Pixels:
    """(H, W, 3) -> (S, S, 3), S the shorter side."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def read_portrait(path: Path, device: torch.device) -> Tensor:
    """(1, 3, S, S) in [-1, 1]."""
    return to_images([middle_square(read_opaque(path).pixels)], device)


# ── the networks ─────────────────────────────────────────────────────────────────────────────────


class InStyle:
    """Draws people in the style of the portraits to be fitted; stands in for g'."""

    def __init__(self, base: Generator, draw: Draw) -> None:
        self.map_plus, self.draw = base.map_plus, draw

    def __call__(self, ws: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """(B, L, D) in W+ -> (B, 3, S, S)."""
        return self.draw(ws, noise)


def load(
    store: ModelStore,
    options: DestylizeOptions,
    device: torch.device,
    progress: Progress = NULL_PROGRESS,
) -> tuple[Destylizer, Callable[[Sequence[Tensor]], Generator] | None]:
    """Load the style's networks. Pictures are compared by the published networks if the store has
    them, and by the style's own encoder if not.

    Returns:
        The destylizer; and, where the style comes without g', the maker of a network that draws
        people in the style of portraits (1, 3, S, S) each, in its place.
    """
    info, name = store.info(options.style), options.style
    base = frozen(store.plain_generator(name, device))
    if info.of_translator:
        encoder = frozen(store.people_encoder(name, device))
        layout = LatentLayout(base.config.size_px)
    else:
        encoder = frozen(store.encoder(name, "z+", device))
        assert info.layout is not None, "a style's codes have a layout"
        layout = info.layout
    features, identity = judges(store, encoder, base, layout.structure)
    recipe = DestylizeRecipe(steps=options.steps, truncation=options.truncation)
    destylizer = Destylizer(base, base, encoder, features, identity, recipe, layout)
    about = f"portraits are compared by {features.name} features and {identity.name} identity"
    if info.of_translator:
        translator = frozen(store.translator(name, device))

        def in_style_of(pictures: Sequence[Tensor]) -> Generator:
            codes = torch.cat([translator.encode_style(picture) for picture in pictures])
            weights = [1.0] * codes.shape[1]  # codes (B, L', D')
            return cast(
                "Generator",
                InStyle(base, lambda ws, noise: translator(base(ws, noise), codes, weights)),
            )

        progress.note(f"{about}, and drawn by the base and the translator of {info.name}")
        return destylizer, in_style_of
    try:
        destylizer.finetuned = frozen(store.finetuned(name, device))
        progress.note(about)
        return destylizer, None
    except ModelMissingError:
        dual = frozen(store.generator(name, device))

    def in_dual_style_of(pictures: Sequence[Tensor]) -> Generator:
        px = encoder.config.input_px
        with torch.no_grad():
            codes = torch.cat([destylizer.encode(area_resize(p, px)) for p in pictures])
            exstyle_ws = dual.generator.map_plus(codes)  # (B, L, D)
        return cast(
            "Generator",
            InStyle(base, lambda ws, noise: dual(ws, exstyle_ws, noise=noise)),
        )

    progress.note(f"{about}, and drawn by {info.name}, which comes without a fine-tuned generator")
    return destylizer, in_dual_style_of


def judges(
    store: ModelStore, encoder: Encoder, base: Generator, rows: slice
) -> tuple[Features, Identity]:
    """The networks that measure how alike portraits and faces are; their names are in the note and
    in the result."""
    device = base.input.input.device
    try:
        vgg, identity = store.vgg(19, device), store.identity(device)
        assert isinstance(vgg, VGG19)
        return VggFeatures(vgg, store.lpips(device)), IrseIdentity(identity)
    except ModelError:
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(NUM_CENTER_FACES, base.config.style_dim, generator=rng).to(device)
        with torch.no_grad():
            faces = base(base.random_ws(z))
        return EncoderFeatures(encoder), EncoderIdentity(encoder, rows, mean_code(encoder, faces))
