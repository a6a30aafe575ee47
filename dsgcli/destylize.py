"""Portraits -> intrinsic and extrinsic codes, and the person behind a portrait.

Flow: picture or folder -> portraits -> Destylizer (training/stages/destylize.py) -> for one picture
the recovered photograph, for a folder its codes and a sheet for each portrait. What `dsg destylize`
does; the stage of the same name does it for a whole training run.

Pictures are aligned portraits; the middle square is taken of those that are not square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsgcli.errors import ModelError, OutputExistsError, SourceMissingError, UsageError
from dsgcli.media.images import can_write, identify, read_image, write_image
from dsgcli.models.features import VGG19
from dsgcli.portraits import area_resize, to_images, to_pixels
from dsgcli.progress import SILENT, Progress, Task
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
from dsgcli.training.stages.destylize import Destylized, Destylizer, flagged, write_sheets

if TYPE_CHECKING:
    from dsgcli.models.encoder import Encoder
    from dsgcli.models.stylegan2 import Generator
    from dsgcli.types import Pixels

NUM_CENTER_FACES = 16
"""Random faces whose mean code is the center of identities."""
CODES, SHEETS = "codes.safetensors", "sheets"
"""What is written into a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestylizeOptions:
    """What to destylize, and how."""

    source: Path
    """A portrait, or a folder of them."""
    style: str = "default"
    """The style whose fine-tuned generator draws them."""
    steps: int = 300
    """Optimizer steps a portrait."""
    truncation: float = 0.7
    """How far the recovered face may be from the mean one; 0.5 for styles far from photographs."""
    seed: int = 0
    output: Path | None = None
    """A picture for one portrait, a folder for several; None is beside the source."""
    overwrite: bool = False
    pretrained: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    """Portraits at once; None decides by the device."""


def destylize(options: DestylizeOptions, progress: Progress = SILENT) -> dict[str, Any]:
    """Recover the codes of portraits; returns what was written, for people and for `--json`.

    Raises:
        SourceMissingError: no picture there. OutputExistsError: would overwrite.
        ModelError: the style's base, fine-tuned generator or encoder is missing.
    """
    paths, target = find_portraits(options.source), target_of(options)
    store, device = ModelStore.open(options.pretrained), pick_device(options.device)
    destylizer = load(store, options, device)
    progress.note(
        f"portraits are compared by {destylizer.features.name} features and "
        f"{destylizer.identity.name if destylizer.identity else 'no'} identity"
    )
    names = exemplar_names([path.name for path in paths])
    batch = options.batch_size or (16 if device.type == "cuda" else 4)
    parts: list[Codes] = []
    scores: dict[str, float] = {}
    with progress.task("Destylizing", total=len(paths) * options.steps) as task:
        for chunk in batched(range(len(paths)), batch):
            portraits = torch.cat([read_portrait(paths[i], destylizer, device) for i in chunk])
            found = fit_batch(
                destylizer, portraits, options.seed, chunk, partial(_tell, task, len(chunk))
            )
            chosen = [names[i] for i in chunk]
            scores |= dict(zip(chosen, found.score.tolist(), strict=True))
            parts.append(found.codes(chosen))
            write_pictures(target, chosen, found, options)
    if options.source.is_dir():
        save_codes(target / CODES, joined(parts), layout=destylizer.layout, keep_order=True)
    return {
        "output": str(target),
        "portraits": len(paths),
        "features": destylizer.features.name,
        "scores": scores,
        "flagged": flagged(scores),
    }


def _tell(task: Task, portraits: int, step: int) -> None:
    task.advance(portraits, step=step)


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
    """Where the results go.

    Raises:
        UsageError: a suffix that is no picture's. OutputExistsError: it is there already.
    """
    source, several = options.source, options.source.is_dir()
    beside = source.with_name(f"{source.stem}_{'codes' if several else 'recovered'}")
    target = options.output or (beside if several else beside.with_suffix(".png"))
    if not several and not can_write(target):
        raise UsageError(f"{target} is no picture; give -o a .png, .jpg or .webp")
    written = target / CODES if several else target
    if written.exists() and not options.overwrite:
        raise OutputExistsError(written)
    return target


def middle_square(pixels: Pixels) -> Pixels:
    """(H, W, 3) -> (S, S, 3), S the shorter side."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def read_portrait(path: Path, destylizer: Destylizer, device: torch.device) -> Tensor:
    """(1, 3, P, P) in [-1, 1], at the size that the networks look at."""
    size_px = max(destylizer.features.size_px, destylizer.encoder.config.input_px)
    return area_resize(to_images([middle_square(read_image(path).pixels)], device), size_px)


def write_pictures(
    target: Path, names: Sequence[str], found: Destylized, options: DestylizeOptions
) -> None:
    """One portrait's photograph, or a sheet for each of several."""
    if options.source.is_dir():
        write_sheets(target / SHEETS, names, found)
        return
    write_image(target, to_pixels(found.recovered)[0], overwrite=options.overwrite)


# ── the fit ──────────────────────────────────────────────────────────────────────────────────────


def fit_batch(
    destylizer: Destylizer,
    portraits: Tensor,
    seed: int,
    numbers: Sequence[int],
    after: Callable[[int], None],
) -> Destylized:
    """Fit portraits whose noise depends on `seed` and their own numbers, not on the batch."""
    draws = SeededDraws(seed, 0, "destylize", numbers, portraits.device)
    noise = draws.noise(destylizer.layout.noise_sizes_px, len(portraits))
    return destylizer.run(portraits, noise, after)


def load(store: ModelStore, options: DestylizeOptions, device: torch.device) -> Destylizer:
    """The style's networks; pictures are compared by the published networks if the store has them,
    and by the style's own encoder if it has not."""
    info = store.info(options.style)
    if info.of_translator:
        raise UsageError(
            f"{info.name} is a style of a translator, and portraits are destylized by a style of a "
            f"DualStyleGAN; {store.dual_hint()}"
        )
    assert info.layout is not None, "a style's codes have a layout"
    encoder = frozen(store.encoder(options.style, "z+", device))
    base = frozen(store.plain_generator(options.style, device))
    features, identity = judges(store, encoder, base, info.layout.structure)
    recipe = DestylizeRecipe(steps=options.steps, truncation=options.truncation)
    finetuned = frozen(store.finetuned(options.style, device))
    return Destylizer(base, finetuned, encoder, features, identity, recipe, info.layout)


def judges(
    store: ModelStore, encoder: Encoder, base: Generator, rows: slice
) -> tuple[Features, Identity]:
    """What tells how alike portraits and faces are; which one it was is said and returned."""
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
