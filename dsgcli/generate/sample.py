"""Seeds -> codes -> pictures: random portraits (`dsg sample`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dsgcli.errors import OutputExistsError, RecipeError, UsageError
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
from dsgcli.generate.scenes import AnyPainter, Pull, Scene, make_painter
from dsgcli.generate.sheets import MOVING_SUFFIXES, check_sheet, is_sheet, near_square
from dsgcli.media.files import make_folder, no_empty_folders
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.pipeline import TranslatorPipeline, load_pipeline
from dsgcli.portraits import Look, Portraits, pick_weights, to_pixels
from dsgcli.progress import SILENT, Progress, Task
from dsgcli.runtime import BackendName, Precision
from dsgcli.store import ModelStore
from dsgcli.training.stages.finetune import swapped
from dsgcli.types import StyleRef, StyleWeights

if TYPE_CHECKING:
    from dsgcli.backends.base import Run
    from dsgcli.models.style_sampler import StyleSampler
    from dsgcli.store.codes import ResolvedStyle
    from dsgcli.types import Pixels

USUAL_COUNT = 16
SWAP_FROM_PX = 32
"""First resolution of the layer-swapped blend that is fine-tuned: color and texture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Every choice of `dsg sample`; the names are those of its flags."""

    n: int | None = None
    """How many; None is as many as `grid` holds, or `USUAL_COUNT`."""
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
    backend: BackendName = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        problems = [*self._numbers(), *self._contradictions()]
        if self.output.suffix.lower() in MOVING_SUFFIXES:
            problems.append(f"output is a folder or a sheet (.png .jpg .webp), got {self.output}")
        if self.grid is not None and not self.writes_sheet:
            problems.append("grid lays out a sheet; name a file such as -o sheet.png")
        if problems:
            raise RecipeError("the command", problems)

    def _numbers(self) -> Iterator[str]:
        if self.n is not None and self.n < 1:
            yield f"n must be at least 1, got {self.n}"
        if not 0 <= self.seed <= MAX_SEED:
            yield f"seed lies between 0 and {MAX_SEED}, got {self.seed}"
        if not 0 <= self.truncation <= 1:
            yield f"truncation lies between 0 and 1, got {self.truncation:g}"

    def _contradictions(self) -> Iterator[str]:
        weighs = (self.structure, self.color, self.weights, self.preset) != (None,) * 4
        off = "plain" if self.plain else "layer_swap"
        if self.plain and self.layer_swap:
            yield "plain and layer_swap are two generators; choose one"
        elif (self.plain or self.layer_swap) and (self.style_random or weighs):
            yield f"{off} draws without the extrinsic path; drop style_random and weights"
        if self.codes is not None and (self.seeds is not None or self.n or self.style_random):
            yield "codes names what to draw; drop n, seeds and style_random"
        elif self.seeds is not None and self.n is not None:
            yield "seeds says how many; drop n"

    @property
    def writes_sheet(self) -> bool:
        """Whether all pictures go into one file."""
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
        """One a picture."""
        if self.seeds is not None:
            return parse_seeds(self.seeds)
        held = self.grid[0] * self.grid[1] if self.grid else USUAL_COUNT
        return tuple(range(self.seed, self.seed + (self.n or held)))


def run(options: SampleOptions, progress: Progress = SILENT) -> dict[str, Any]:
    """Draw the portraits that `options` asks for, and write them.

    Returns:
        What was drawn, for `--json`.

    Raises:
        UsageError, ModelError, MediaError: before anything is drawn.
    """
    with no_empty_folders([options.output, options.output / "000000.png"]):
        return _draw(options, progress)


def _draw(options: SampleOptions, progress: Progress) -> dict[str, Any]:
    sitting = sit(options)
    codes = sitting.codes
    paths = plan_outputs(options, codes.names, sitting.size_px)
    with progress.task("Drawing", len(codes), unit="portraits") as task:
        _write(options, _counted(sitting.images, task), codes.names, paths, sitting.label)
    if options.save_codes:
        save_codes(codes_path(options), codes)
    return {
        "output": str(options.output),
        "files": sorted({str(path) for path in paths}),
        "codes": str(codes_path(options)) if options.save_codes else None,
        "pictures": list(codes.names),
        "style": sitting.label,
        "size_px": sitting.size_px,
        "backend": sitting.backend,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """Portraits that are about to be drawn."""

    codes: SampleCodes
    images: Iterator[Tensor]
    """(3, S, S) in about [-1, 1], one a code; each is drawn when it is asked for."""
    label: str
    """The style, for tables and metadata."""
    size_px: int
    backend: str
    """What draws. Not chosen by how many there are: a seed is one picture, whatever the batch."""


def sit(options: SampleOptions) -> Sitting:
    """Load what `options` asks for, up to the first picture.

    Raises:
        UsageError, ModelError: something that is not there, or does not fit.
    """
    seeds = () if options.codes else options.chosen_seeds()
    store = ModelStore.open(options.pretrained)
    resolved = store.resolve(StyleRef.parse(options.style))
    portraits = load_pipeline(
        store,
        resolved.style,
        encoder=None,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        size=options.size,
    )
    codes = _codes(options, seeds, store, resolved, portraits)
    images = draw_samples(
        make_painter(portraits, options.batch_size),
        codes,
        weights=_weights(options, portraits),
        truncation=options.truncation,
        bound=_bound(options, store, resolved, codes, portraits),
    )
    return Sitting(
        codes=codes,
        images=images,
        label=_label(options, resolved),
        size_px=portraits.size_px,
        backend=portraits.backend_name,
    )


def _counted(images: Iterable[Tensor], task: Task) -> Iterator[Pixels]:
    """(S, S, 3) each, as they are drawn."""
    for image in images:
        yield to_pixels(image[None])[0]
        task.advance()


def _write(
    options: SampleOptions,
    pictures: Iterable[Pixels],
    names: Sequence[str],
    paths: Sequence[Path],
    style: str,
) -> None:
    """One by one as they come, or all on one sheet."""
    said = {"style": style, "truncation": f"{options.truncation:g}"}
    if options.writes_sheet:
        sheet = make_sheet(list(pictures), columns=columns_of(options, len(names)))
        write_image(options.output, sheet, metadata=said, overwrite=options.overwrite)
        return
    for name, path, pixels in zip(names, paths, pictures, strict=True):
        write_image(path, pixels, metadata=said | {"picture": name}, overwrite=options.overwrite)


def draw_samples(
    painter: AnyPainter,
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
    portraits = painter.portraits
    network = portraits.network

    def ws_of(code: Tensor) -> Tensor:
        code = code[None].to(painter.device)
        ws = network.random_ws(code) if code.ndim == 2 else network.map_plus(code)
        return network.truncate(ws, truncation)[0]

    def scene_of(instyle: Tensor, exstyle: Tensor) -> Scene:
        ws = portraits.style_ws(exstyle[None].to(painter.device))[0]
        pull = (Pull(portraits.model, ws),)
        return Scene(ws=ws_of(instyle), structure=pull, color=pull, weights=weights)

    if bound is not None:
        return painter.faces(bound, map(ws_of, codes.instyle))
    return painter.images(map(scene_of, codes.instyle, codes.exstyle))


def _codes(
    options: SampleOptions,
    seeds: tuple[int, ...],
    store: ModelStore,
    resolved: ResolvedStyle,
    portraits: Portraits | TranslatorPipeline,
) -> SampleCodes:
    people_width = portraits.network.config.style_dim
    if options.codes is None:
        source = _random_styles(store, resolved) if options.style_random else resolved.exstyle
        return draw_codes(seeds, people_width, source, fixed=options.fixed)
    codes = load_codes(options.codes)
    rows, width = portraits.layout.num_latents, resolved.exstyle.shape[-1]
    people_rows = portraits.network.layout.num_latents
    people = codes.instyle.shape[1:]
    if codes.exstyle.shape[1:] != (rows, width) or people not in (
        (people_width,),
        (people_rows, people_width),
    ):
        raise UsageError(
            f"{options.codes} holds codes of {' x '.join(map(str, codes.exstyle.shape[1:]))} "
            f"numbers, and {resolved.style} takes {rows} x {width}; draw them in the style that "
            f"they were saved with"
        )
    return codes


def _random_styles(store: ModelStore, resolved: ResolvedStyle) -> StyleSampler | ExemplarMixture:
    """What draws a code for each picture: the sampling network of the style; for a style of a
    translator that has none, mixtures of its exemplars.

    Raises:
        ModelMissingError: a style of a DualStyleGAN has none.
    """
    info = store.info(resolved.style)
    if info.of_translator and not info.has_sampler:
        assert info.layout is not None, "a style's codes have a layout"
        return ExemplarMixture(store.style(resolved.style).codes.default, info.layout)
    return store.sampler(resolved.style)


def _bound(
    options: SampleOptions,
    store: ModelStore,
    resolved: ResolvedStyle,
    codes: SampleCodes,
    portraits: Portraits | TranslatorPipeline,
) -> Run | None:
    """The generator of all pictures, where one style, or none, draws all."""
    if options.plain:
        return portraits.bound(None)
    if options.layer_swap:
        if isinstance(portraits, TranslatorPipeline):
            raise UsageError(
                f"--layer-swap mixes the generators of a DualStyleGAN, and {resolved.style} is a "
                f"style of a translator; {store.dual_hint()}"
            )
        finetuned = store.finetuned(resolved.style, portraits.device)
        blend = swapped(portraits.generator.generator, finetuned, SWAP_FROM_PX)
        return blend.bind(dtype=portraits.dtype, size_px=portraits.size_px)
    if not codes.one_style:
        return None
    return portraits.bound(Look(exstyle=codes.exstyle[0], weights=_weights(options, portraits)))


def _weights(options: SampleOptions, portraits: Portraits | TranslatorPipeline) -> StyleWeights:
    return pick_weights(
        portraits.layout,
        structure=options.structure,
        color=options.color,
        weights=options.weights,
        preset=options.preset,
        usual=portraits.usual_weight,
    )


def _label(options: SampleOptions, resolved: ResolvedStyle) -> str:
    if options.plain or options.layer_swap:
        return f"{resolved.style} {'plain' if options.plain else 'layer-swap'}"
    if options.codes is not None or options.style_random:
        return f"{resolved.style} {'codes' if options.codes else 'random'}"
    return resolved.label


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


def plan_outputs(options: SampleOptions, names: tuple[str, ...], size_px: int) -> list[Path]:
    """Where each picture goes.

    Raises:
        OutputExistsError, SinkError, UsageError: something is there, or cannot be written.
    """
    if options.writes_sheet:
        columns = columns_of(options, len(names))
        rows = -(-len(names) // columns)
        check_sheet(
            options.output,
            columns=columns,
            rows=rows,
            cell_px=size_px,
            overwrite=options.overwrite,
        )
        paths = [options.output] * len(names)
    else:
        paths = [options.output / f"{name}.png" for name in names]
    wanted = [*paths, codes_path(options)] if options.save_codes else paths
    for path in wanted:
        if path.exists() and not options.overwrite:
            raise OutputExistsError(path)
    make_folder(paths[0].parent)
    return paths


def codes_path(options: SampleOptions) -> Path:
    """Where `save_codes` writes: in the folder, or beside the sheet."""
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
