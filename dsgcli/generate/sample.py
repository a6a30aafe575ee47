"""Seeds -> codes -> pictures: random portraits (`dsg sample`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from dsgcli.errors import OutputExistsError, RecipeError, UsageError
from dsgcli.faces.warp import resize
from dsgcli.generate.codes import (
    MAX_SEED,
    ExemplarMixture,
    Part,
    SampleCodes,
    draw_codes,
    load_codes,
    parse_seeds,
    save_codes,
)
from dsgcli.generate.figures import check_sheet, free_output, is_sheet, made_by_dsg, near_square
from dsgcli.generate.scenes import AnyRenderer, Scene, WeightedStyle, make_renderer
from dsgcli.inference.generator import fold
from dsgcli.media.files import make_folder, no_empty_folders
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.pipeline import TranslatorPipeline, load_pipeline
from dsgcli.portraits import Look, Portraits, pick_weights, to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.runtime import BackendName, Precision
from dsgcli.store import ModelStore
from dsgcli.training.stages.finetune import swapped
from dsgcli.types import DEFAULT_TRUNCATION, StyleWeights

if TYPE_CHECKING:
    from dsgcli.inference.base import Run
    from dsgcli.models.style_sampler import StyleSampler
    from dsgcli.store.codes import ResolvedStyle
    from dsgcli.types import Pixels

USUAL_COUNT = 16
SHEET = "sheet.png"
"""The sheet that a folder of pictures gets."""
SHEET_PX, SHEET_COUNT = 4096, 400
"""Longest side of that sheet, and the most pictures on it."""
MOVING_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif"})
SWAP_FROM_PX = 32
"""First resolution of the layer-swapped blend that is fine-tuned: color and texture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Every choice of `dsg sample`; the names are those of its flags."""

    n: int | None = None
    """Number of pictures; None is as many as `grid` holds, or `USUAL_COUNT`."""
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
    truncation: float = DEFAULT_TRUNCATION
    plain: bool = False
    """Draw without the extrinsic path."""
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
    backend: BackendName = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        if problems := [*self.problems()]:
            raise RecipeError("the command", problems)

    def problems(self) -> Iterator[str]:
        """Values out of range and contradictions, a sentence each."""
        if self.n is not None and self.n < 1:
            yield f"n must be at least 1, got {self.n}"
        if not 0 <= self.seed <= MAX_SEED:
            yield f"seed lies between 0 and {MAX_SEED}, got {self.seed}"
        if not 0 <= self.truncation <= 1:
            yield f"truncation lies between 0 and 1, got {self.truncation:g}"
        weighs = (self.structure, self.color, self.weights, self.preset) != (None,) * 4
        off = "plain" if self.plain else "layer_swap"
        if self.plain and self.layer_swap:
            yield "plain and layer_swap are two generators; choose one"
        elif (self.plain or self.layer_swap) and (self.style_random or weighs):
            yield f"{off} draws without the extrinsic path; drop style_random and weights"
        if self.codes is not None and (self.seeds is not None or self.n or self.style_random):
            yield "codes already gives the pictures; drop n, seeds and style_random"
        elif self.seeds is not None and self.n is not None:
            yield "seeds already gives the number of pictures; drop n"
        if self.output.suffix.lower() in MOVING_SUFFIXES:
            yield f"output is a folder or a sheet (.png .jpg .webp), got {self.output}"

    @property
    def writes_sheet(self) -> bool:
        """Whether all pictures go into one file, and no folder is written."""
        return is_sheet(self.output)

    @property
    def fixed(self) -> frozenset[Part]:
        """Parts that all pictures share."""
        parts: dict[Part, bool] = {
            "content": self.fix_content,
            "structure": self.fix_structure,
            "color": self.fix_color,
        }
        return frozenset(part for part, fixed in parts.items() if fixed)

    def chosen_seeds(self) -> tuple[int, ...]:
        """One seed for each picture."""
        if self.seeds is not None:
            return parse_seeds(self.seeds)
        held = self.grid[0] * self.grid[1] if self.grid else USUAL_COUNT
        return tuple(range(self.seed, self.seed + (self.n or held)))


def run(options: SampleOptions, progress: Progress = NULL_PROGRESS) -> dict[str, Any]:
    """Draw random portraits; write a folder of pictures with a sheet of them, or one sheet. Where
    dsg has written that output before, a numbered neighbor is written.

    Returns:
        What was drawn, for `--json`.

    Raises:
        UsageError, ModelError, MediaError: before anything is drawn.
    """
    with no_empty_folders([options.output, options.output / SHEET]):
        prepared = prepare(options)
        codes, names = prepared.codes, prepared.codes.names
        options, paths = plan_outputs(options, names, prepared.size_px)
        metadata = {"style": prepared.label, "truncation": f"{options.truncation:g}"}
        columns = columns_of(options, len(names))
        cell_px = prepared.size_px
        if not options.writes_sheet:
            columns = columns if options.grid else near_square(min(len(names), SHEET_COUNT))
            cell_px = min(cell_px, SHEET_PX // columns)
        cells: list[Pixels] = []
        with progress.task("Drawing", len(codes), unit="portraits") as task:
            for name, path, image in zip(names, paths, prepared.images, strict=True):
                pixels = to_pixels(image[None])[0]
                if not options.writes_sheet:
                    about = metadata | {"picture": name}
                    write_image(path, pixels, metadata=about, overwrite=options.overwrite)
                if options.writes_sheet or len(cells) < SHEET_COUNT:
                    cells.append(resize(pixels, cell_px, cell_px))
                task.advance()
        sheet = options.output if options.writes_sheet else options.output / SHEET
        pixels = make_sheet(cells, columns=columns)
        write_image(sheet, pixels, metadata=metadata, overwrite=options.overwrite)
        if options.save_codes:
            save_codes(codes_path(options), codes)
    return {
        "output": str(options.output),
        "sheet": str(sheet),
        "files": sorted({str(path) for path in (*paths, sheet)}),
        "codes": str(codes_path(options)) if options.save_codes else None,
        "pictures": list(names),
        "style": prepared.label,
        "size_px": prepared.size_px,
        "backend": prepared.backend,
    }


def sample(style: str = "default", **choices: Any) -> Pixels:
    """Draw portraits of people who do not exist, as `dsg sample` draws them.

    >>> from dsgcli import sample
    >>> sample("toon:ada", n=3).shape
    (3, 64, 64, 3)
    >>> bool((sample("toon:ada", seeds="2")[0] == sample("toon:ada", n=3)[2]).all())
    True

    Args:
        style: `NAME` or `NAME:EXEMPLAR`.
        choices: any other field of `SampleOptions`: `n`, `seeds`, `truncation`, ...;
            those about files are ignored.

    Returns:
        (N, S, S, 3) uint8 RGB; the same seed is the same picture.

    Raises:
        UsageError, ModelError: something is not there, or does not fit.
    """
    prepared = prepare(SampleOptions(style=style, **choices))
    return np.concatenate([to_pixels(image[None]) for image in prepared.images])


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSamples:
    """Portraits that are about to be drawn."""

    codes: SampleCodes
    images: Iterator[Tensor]
    """(3, S, S) in about [-1, 1], one for each code; each is drawn when it is asked for."""
    label: str
    """Name of the style, for tables and metadata."""
    size_px: int
    backend: str
    """Name of the backend. It does not depend on the number of pictures: a seed is one picture,
    whatever the batch."""


def prepare(options: SampleOptions) -> PreparedSamples:
    """Load the networks and codes, up to the first picture.

    Raises:
        UsageError, ModelError: something is not there, or does not fit.
    """
    seeds = () if options.codes else options.chosen_seeds()
    store = ModelStore.open(options.pretrained)
    resolved = store.resolve(store.parse(options.style))
    portraits = load_pipeline(
        store,
        resolved.style,
        encoder=None,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        size=options.size,
    )
    weights = pick_weights(
        portraits.layout,
        structure=options.structure,
        color=options.color,
        weights=options.weights,
        preset=options.preset,
        usual=portraits.usual_weight,
    )
    if options.codes:
        codes = _saved_codes(options.codes, resolved, portraits)
    else:
        source = _random_styles(store, resolved) if options.style_random else resolved.exstyle
        width = portraits.network.config.style_dim
        codes = draw_codes(seeds, width, source, fixed=options.fixed)
    # the generator of all pictures, where one style, or none, draws all
    bound: Run | None = None
    label = resolved.label
    if options.plain:
        bound, label = portraits.bound(None), f"{resolved.style} plain"
    elif options.layer_swap:
        bound, label = _layer_swap(store, resolved, portraits), f"{resolved.style} layer-swap"
    else:
        if codes.one_style:
            bound = portraits.bound(Look(exstyle=codes.exstyle[0], weights=weights))
        if options.codes or options.style_random:
            label = f"{resolved.style} {'codes' if options.codes else 'random'}"
    images = draw_samples(
        make_renderer(portraits, options.batch_size),
        codes,
        weights=weights,
        truncation=options.truncation,
        bound=bound,
    )
    return PreparedSamples(
        codes=codes,
        images=images,
        label=label,
        size_px=portraits.size_px,
        backend=portraits.backend_name,
    )


def _saved_codes(
    path: Path, resolved: ResolvedStyle, portraits: Portraits | TranslatorPipeline
) -> SampleCodes:
    codes, network = load_codes(path), portraits.network
    style_shape = (portraits.layout.num_latents, resolved.exstyle.shape[-1])
    width = network.config.style_dim
    people_shapes = ((width,), (network.layout.num_latents, width))
    if codes.exstyle.shape[1:] != style_shape or codes.instyle.shape[1:] not in people_shapes:
        raise UsageError(
            f"{path} holds codes of {' x '.join(map(str, codes.exstyle.shape[1:]))} numbers, and "
            f"{resolved.style} takes {' x '.join(map(str, style_shape))}; draw them in the style "
            f"that they were saved with"
        )
    return codes


def _random_styles(store: ModelStore, resolved: ResolvedStyle) -> StyleSampler | ExemplarMixture:
    """The sampling network of a style, which draws a code for each picture; for a translator's
    style without one, mixtures of its exemplars.

    Raises:
        ModelMissingError: a style of a DualStyleGAN has none.
    """
    info = store.info(resolved.style)
    if info.of_translator and not info.has_sampler:
        assert info.layout is not None, "a style's codes have a layout"
        return ExemplarMixture(store.style(resolved.style).codes.default, info.layout)
    return store.sampler(resolved.style)


def _layer_swap(
    store: ModelStore, resolved: ResolvedStyle, portraits: Portraits | TranslatorPipeline
) -> Run:
    """The fine-tuned generator with swapped layers.

    Raises:
        UsageError: a translator has none. ModelMissingError: the style comes without it.
    """
    if isinstance(portraits, TranslatorPipeline):
        raise UsageError(
            f"--layer-swap mixes the generators of a DualStyleGAN, and {resolved.style} is a "
            f"style of a translator; {store.dual_hint()}"
        )
    finetuned = store.finetuned(resolved.style, portraits.device)
    blend = swapped(portraits.generator.generator, finetuned, SWAP_FROM_PX)
    return fold(blend, dtype=portraits.dtype, size_px=portraits.size_px)


def draw_samples(
    renderer: AnyRenderer,
    codes: SampleCodes,
    *,
    weights: StyleWeights,
    truncation: float,
    bound: Run | None = None,
) -> Iterator[Tensor]:
    """(3, S, S) pictures in about [-1, 1], one after the other; not clamped.

    z codes are mapped and repeated for all layers, z+ codes are mapped row by row; both are then
    truncated.

    Args:
        bound: draws all of them, where they share a style or have none; else each has its own.
    """
    portraits = renderer.portraits
    network = portraits.network

    def ws_of(code: Tensor) -> Tensor:
        code = code[None].to(renderer.device)
        ws = network.random_ws(code) if code.ndim == 2 else network.map_plus(code)
        return network.truncate(ws, truncation)[0]

    def scene_of(instyle: Tensor, exstyle: Tensor) -> Scene:
        ws = portraits.style_ws(exstyle[None].to(renderer.device))[0]
        style = (WeightedStyle(portraits.model, ws),)
        return Scene(ws=ws_of(instyle), structure=style, color=style, weights=weights)

    if bound is not None:
        return renderer.faces(bound, map(ws_of, codes.instyle))
    return renderer.images(map(scene_of, codes.instyle, codes.exstyle))


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


def plan_outputs(
    options: SampleOptions, names: tuple[str, ...], size_px: int
) -> tuple[SampleOptions, list[Path]]:
    """The options with an output that is free, and the path of each picture in it.

    Raises:
        OutputExistsError, SinkError, UsageError: a file of others is there, or none can be written.
    """
    if options.writes_sheet:
        options = replace(options, output=free_output(options.output, overwrite=options.overwrite))
        columns = columns_of(options, len(names))
        rows = -(-len(names) // columns)
        check_sheet(options.output, columns, rows, size_px, overwrite=options.overwrite)
        paths = [options.output] * len(names)
        wanted = [*paths[:1], *([codes_path(options)] if options.save_codes else [])]
    else:
        files = [*(f"{name}.png" for name in names), SHEET]
        folder, number = options.output, 1
        while not options.overwrite and any(made_by_dsg(folder / file) for file in files):
            number += 1
            folder = options.output.with_name(f"{options.output.name}-{number}")
        options = replace(options, output=folder)
        paths = [folder / f"{name}.png" for name in names]
        wanted = [*paths, folder / SHEET, *([codes_path(options)] if options.save_codes else [])]
    for path in wanted:
        if path.exists() and not options.overwrite:
            raise OutputExistsError(path)
    make_folder(wanted[0].parent)
    return options, paths


def codes_path(options: SampleOptions) -> Path:
    """The file that `save_codes` writes: in the folder, or beside the sheet."""
    if options.writes_sheet:
        return options.output.with_suffix(".codes.safetensors")
    return options.output / "codes.safetensors"


def columns_of(options: SampleOptions, count: int) -> int:
    """Columns of the sheet.

    Raises:
        UsageError: the grid is too small.
    """
    if options.grid is None:
        return near_square(count)
    columns, rows = options.grid
    if columns * rows < count:
        raise UsageError(
            f"--grid {columns}x{rows} holds {columns * rows} pictures, and there are {count}"
        )
    return columns
