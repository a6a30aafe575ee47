"""Codes -> pictures: random portraits (`dsg sample`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsgcli.errors import OutputExistsError, RecipeError, UsageError
from dsgcli.generate.codes import Part, SampleCodes, draw_codes, load_codes, parse_seeds, save_codes
from dsgcli.media.images import make_sheet, write_image
from dsgcli.portraits import Look, Portraits, load_portraits, pick_weights, to_pixels
from dsgcli.progress import SILENT, Progress
from dsgcli.runtime import Precision, batched
from dsgcli.store import ModelStore
from dsgcli.types import StyleRef, StyleWeights

if TYPE_CHECKING:
    from dsgcli.types import Pixels

SHEET_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
MAX_SHEET_PX = 16_000
"""Longest side of a sheet: WebP's limit is 16,383."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Every choice of `dsg sample`; the names are those of its flags."""

    n: int = 16
    seed: int = 0
    seeds: str | None = None
    """Numbers and ranges, instead of `n` and `seed`."""
    style: str = "default"
    style_random: bool = False
    """A style for each picture, from the sampling network."""
    fix_content: bool = False
    fix_structure: bool = False
    fix_color: bool = False
    structure: float | None = None
    color: float | None = None
    weights: tuple[float, ...] | None = None
    preset: str | None = None
    truncation: float = 0.5
    plain: bool = False
    """The extrinsic path off."""
    layer_swap: bool = False
    """The fine-tuned generator with swapped layers, for comparison."""
    size: int | None = None
    codes: Path | None = None
    """Draw these codes, instead of seeds."""
    output: Path = Path("samples")
    grid: tuple[int, int] | None = None
    """Columns and rows of the sheet."""
    save_codes: bool = False
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.n < 1:
            problems.append(f"n must be at least 1, got {self.n}")
        if self.seed < 0:
            problems.append(f"seed must not be negative, got {self.seed}")
        if self.plain and (self.style_random or self.layer_swap):
            problems.append("plain draws without a style; drop style_random and layer_swap")
        if self.codes is not None and (self.seeds or self.style_random):
            problems.append("codes names what to draw; drop seeds and style_random")
        if self.grid is not None and not self.writes_sheet:
            problems.append("grid lays out a sheet; name a file such as -o sheet.png")
        if problems:
            raise RecipeError("the command", problems)

    @property
    def writes_sheet(self) -> bool:
        """Whether all pictures go into one file."""
        return self.output.suffix.lower() in SHEET_SUFFIXES

    @property
    def fixed(self) -> frozenset[Part]:
        """Parts that all pictures share."""
        parts: dict[Part, bool] = {
            "content": self.fix_content,
            "structure": self.fix_structure,
            "color": self.fix_color,
        }
        return frozenset(part for part, fixed in parts.items() if fixed)


def run(options: SampleOptions, progress: Progress = SILENT) -> dict[str, Any]:
    """Draw the portraits that `options` asks for, and write them.

    Returns:
        What was drawn, for `--json`: outputs, seeds or code names, style, size.

    Raises:
        UsageError, ModelError: before anything is drawn.
    """
    store = ModelStore.open(options.pretrained)
    resolved = store.resolve(StyleRef.parse(options.style))
    portraits = load_portraits(
        store,
        resolved.style,
        device=options.device,
        precision=options.precision,
        size=options.size,
        encoder=None,
        plain_from="swap" if options.layer_swap else None,
    )
    codes = _codes(options, store, resolved.style, resolved.exstyle, portraits)
    look = Look(exstyle=resolved.exstyle, weights=_weights(options, portraits))
    look = replace(look, truncation=options.truncation)
    outputs = _outputs(options, codes)
    pictures = draw_samples(portraits, codes, look, batch_size=options.batch_size or 4)
    with progress.task("Drawing", len(codes), unit="portraits") as task:
        drawn: list[Pixels] = []
        for image, path in zip(pictures, outputs, strict=True):
            pixels = to_pixels(image[None])[0]
            if options.writes_sheet:
                drawn.append(pixels)
            else:
                write_image(path, pixels, overwrite=options.overwrite)
            task.advance()
    if options.writes_sheet:
        sheet = make_sheet(drawn, columns=_columns(options, len(codes)))
        write_image(options.output, sheet, overwrite=options.overwrite)
        outputs = [options.output]
    written = list(outputs)
    if options.save_codes:
        written.append(_codes_path(options))
        save_codes(written[-1], codes)
    return {
        "outputs": [str(path) for path in written],
        "pictures": list(codes.names),
        "style": "plain" if options.plain else "random" if options.style_random else resolved.label,
        "size_px": portraits.size_px,
    }


@torch.inference_mode()
def draw_samples(
    portraits: Portraits, codes: SampleCodes, look: Look, *, batch_size: int = 4
) -> Iterator[Tensor]:
    """(3, S, S) pictures in about [-1, 1], one after the other; not clamped.

    z codes are mapped and repeated for all layers, z+ codes are mapped row by row; both are then
    truncated as `look` says. `look.exstyle` is not used: each picture has its own.
    """
    network = portraits.generator.generator
    for rows in batched(range(len(codes)), batch_size):
        z = codes.instyle[rows].to(portraits.device)
        ws = network.broadcast(network.map(z)) if z.ndim == 2 else network.map_plus(z)
        exstyle_ws = network.map_plus(codes.exstyle[rows].to(portraits.device))
        yield from portraits.draw_ws(network.truncate(ws, look.truncation), exstyle_ws, look)


def _codes(
    options: SampleOptions, store: ModelStore, style: str, exstyle: Tensor, portraits: Portraits
) -> SampleCodes:
    width = portraits.generator.config.generator.style_dim
    if options.codes is not None:
        codes = load_codes(options.codes)
        wanted = (portraits.layout.num_latents, width)
        if tuple(codes.exstyle.shape[1:]) != wanted or codes.instyle.shape[-1] != width:
            raise UsageError(
                f"{options.codes} holds codes of {tuple(codes.exstyle.shape[1:])} and {style} takes "
                f"{wanted}; draw them with the style that they were saved with"
            )
        return codes
    seeds = (
        parse_seeds(options.seeds)
        if options.seeds
        else tuple(range(options.seed, options.seed + options.n))
    )
    source = store.sampler(style) if options.style_random else exstyle
    return draw_codes(seeds, width, source, fixed=options.fixed)


def _weights(options: SampleOptions, portraits: Portraits) -> StyleWeights:
    if options.plain or options.layer_swap:
        return StyleWeights.of(portraits.layout, structure=0.0, color=0.0)
    return pick_weights(
        portraits.layout,
        structure=options.structure,
        color=options.color,
        weights=options.weights,
        preset=options.preset,
    )


def _outputs(options: SampleOptions, codes: SampleCodes) -> list[Path]:
    """Where each picture goes; refuses what exists before anything is drawn."""
    paths = [options.output / f"{name}.png" for name in codes.names]
    wanted = [options.output] if options.writes_sheet else paths
    if options.save_codes:
        wanted = [*wanted, _codes_path(options)]
    for path in wanted:
        if path.exists() and not options.overwrite:
            raise OutputExistsError(path)
    return paths


def _codes_path(options: SampleOptions) -> Path:
    if options.writes_sheet:
        return options.output.with_suffix(".codes.safetensors")
    return options.output / "codes.safetensors"


def _columns(options: SampleOptions, count: int) -> int:
    if options.grid is None:
        return math.ceil(math.sqrt(count))
    columns, rows = options.grid
    if columns * rows < count:
        raise UsageError(f"a grid of {columns}x{rows} holds {columns * rows} of {count} pictures")
    return columns
