"""Keyframes -> a transition between them -> frames: `dsg interpolate`.

The axis selects which keyframes change, people or styles; the others stay at their first one.
Figures (`figures.py`) lay the same things out on a sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError, RecipeError, StyleRefError
from dsgcli.generate.figures import (
    check_sheet,
    free_output,
    is_sheet,
    matrix,
    sweep,
    write_figure,
)
from dsgcli.generate.keyframes import Keyframes, StyleKeyframe, along, positions, styles_at
from dsgcli.generate.people import Aligned, check_contents, find_people
from dsgcli.generate.scenes import Scene, make_renderer
from dsgcli.media.base import FrameSink, SinkOptions, SourceInfo
from dsgcli.media.files import locked_outputs, no_empty_folders
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.media.write import open_sink
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.pipeline import TranslatorPipeline, load_pipeline
from dsgcli.portraits import Look, pick_weights, to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.runtime import BackendName, Precision
from dsgcli.store import ModelStore
from dsgcli.types import DEFAULT_TRUNCATION, Frame, StyleRef, StyleTerm, StyleWeights

Axis = Literal["both", "content", "style", "structure", "color", "weight"]
Kind = Literal["path", "matrix", "sweep"]
SWEEPS = ("structure", "color", "layers")

FILM_STEPS, STRIP_STEPS = 48, 6
"""Steps from one keyframe to the next where --frames is not given: two seconds of video, or seven
pictures side by side."""
STILL_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""A path with one of these endings is a strip; a .webp moves."""
STRIP_COLUMNS = 16
"""Pictures side by side before a strip goes on below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolateOptions:
    """Every choice of `dsg interpolate`; the names are those of its flags."""

    # keyframes
    style: tuple[str, ...] = ("default",)
    content: tuple[str, ...] = ()
    """Pictures or seeds; empty is `seed`."""
    seed: int = 0
    structure: float | None = None
    color: float | None = None
    weights: tuple[float, ...] | None = None
    preset: str | None = None
    truncation: float = DEFAULT_TRUNCATION
    size: int | None = None
    aligned: Aligned = "auto"

    # the path
    axis: Axis = "both"
    space: Literal["z+", "w+"] = "w+"
    ease: bool = True
    frames: int | None = None
    """Pictures of the whole path; None is `FILM_STEPS`, or `STRIP_STEPS`, for each transition."""
    fps: float = 24.0
    loop: bool = False

    # figures instead of a path
    matrix: tuple[int, int] | None = None
    """Rows of people and columns of exemplars."""
    sweep: str | None = None
    """`structure,color` (either or both: down, then across), or `layers`."""

    # files and the machine
    output: Path | None = None
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    backend: BackendName = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        if problems := [*self.problems()]:
            raise RecipeError("the command", problems)

    @property
    def kind(self) -> Kind:
        """A path, or a figure: a matrix or a sweep."""
        return "matrix" if self.matrix else "sweep" if self.sweep is not None else "path"

    @property
    def target(self) -> Path:
        """Where the result goes."""
        return self.output or Path(f"interpolation.{'mp4' if self.kind == 'path' else 'png'}")

    @property
    def is_strip(self) -> bool:
        """Whether a path becomes one picture."""
        return self.kind == "path" and self.target.suffix.lower() in STILL_SUFFIXES

    @property
    def people(self) -> tuple[str, ...]:
        """Pictures and seeds, `seed` if none are named; a matrix counts up from there."""
        if self.content:
            return self.content
        return tuple(str(self.seed + row) for row in range(self.matrix[0] if self.matrix else 1))

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The weights that a sweep varies: down, then across."""
        return tuple(part.strip() for part in (self.sweep or "").split(","))

    @property
    def num_keyframes(self) -> int:
        """Keyframes of the longer of the two paths, of people and of styles."""
        if self.axis == "weight":
            return 2
        moving = {"both": (self.style, self.people), "content": (self.people,)}
        return max(len(names) for names in moving.get(self.axis, (self.style,)))

    @property
    def num_frames(self) -> int:
        """Pictures of the whole path."""
        steps = STRIP_STEPS if self.is_strip else FILM_STEPS
        usual = steps * (self.num_keyframes if self.loop else self.num_keyframes - 1)
        return self.frames or usual + (0 if self.loop else 1)  # an open path ends on a keyframe

    @property
    def frame_time(self) -> Fraction:
        """Seconds that a frame lasts, exactly."""
        return 1 / Fraction(self.fps).limit_denominator(1001)

    def problems(self) -> Iterator[str]:
        """Values out of range and contradictions, a sentence each."""
        if not 0 <= self.truncation <= 1:
            yield f"truncation lies between 0 and 1, got {self.truncation:g}"
        if self.seed < 0:
            yield f"seed must not be negative, got {self.seed}"
        if not self.style:
            yield "style needs at least one reference"
        if self.matrix and self.sweep is not None:
            yield "matrix and sweep are two figures; choose one"
        if self.kind != "path" and not is_sheet(self.target):
            yield f"a figure is one picture (.png .jpg .webp), got output {self.target}"
        given = {"style": len(self.style), "content": len(self.people)}
        if self.kind == "path":
            if not 1 <= self.fps <= 1000:
                yield f"fps lies between 1 and 1000, got {self.fps:g}"
            moves = {"both": "style content", "content": "content", "weight": ""}
            moving = moves.get(self.axis, "style").split()
            least = max(2, self.num_keyframes)
            if moving and max(given[name] for name in moving) < 2:
                two = {
                    "style": "two styles: -s noir:1 -s noir:4",
                    "content": "two people: -c 3 -c 8",
                }
                yield f"Give {' or '.join(two[name] for name in moving)}"
            elif self.frames is not None and self.frames < least:
                yield f"frames must be at least {least}, one for each keyframe, got {self.frames}"
            for name in given.keys() - set(moving):
                if given[name] > 1:
                    yield f"axis {self.axis} stays at one {name}; drop the other --{name}"
        elif self.matrix:
            rows, columns = self.matrix
            if rows < 1 or columns < 1:
                yield f"matrix takes at least one row and one column, got {rows} {columns}"
            if self.content and len(self.content) != rows:
                yield f"matrix has {rows} rows, and --content is given {len(self.content)} times"
            if len(self.style) not in (1, columns):
                yield f"matrix has {columns} columns, and --style is given {len(self.style)} times"
        else:
            parts = self.sweeps
            if not set(parts) <= set(SWEEPS) or len(set(parts)) != len(parts):
                yield f"sweep is structure,color or one of them, or layers; got {self.sweep!r}"
            elif "layers" in parts and len(parts) > 1:
                yield "sweep layers stands alone"
            if len(self.style) > 1 or len(self.content) > 1:
                yield "a sweep shows one person in one style; drop the other --style or --content"


# ── keyframes ────────────────────────────────────────────────────────────────────────────────────


def load_keyframes(options: InterpolateOptions, progress: Progress = NULL_PROGRESS) -> Keyframes:
    """Find the styles and people, load the networks, encode photographs.

    Raises:
        UsageError, ModelError, MediaError, NoFaceError: something is not there, or does not fit.
    """
    photographs = check_contents(options.people)
    store = ModelStore.open(options.pretrained)
    refs = [store.parse(text) for text in options.style]
    if options.matrix and options.matrix[1] > len(refs):
        refs = _first_exemplars(store, refs[0], options.matrix[1])
    styles = [store.resolve(ref) for ref in refs]
    first, *others = dict.fromkeys(style.style for style in styles)
    for other in others:  # else a code means another face in each
        if not store.same_base(first, other):
            raise ModelMismatchError(
                f"{first} and {other} have different bases, so there is no transition between "
                f"them; choose styles of one base (`dsg styles diff` compares two)"
            )
    portraits = load_pipeline(
        store,
        first,
        encoder="auto" if photographs else None,
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
    models: dict[str, DualStyleGAN] = {}
    if not isinstance(portraits, TranslatorPipeline):
        models[first] = portraits.generator
        for other in others:  # all with one photographic generator in memory
            model = store.generator(other, portraits.device).requires_grad_(False)
            if model.layout != portraits.layout:
                raise ModelMismatchError(
                    f"{first} and {other} divide structure from color at different layers, so "
                    f"there is no transition between them"
                )
            model.generator = portraits.generator.generator
            models[other] = model
    people = find_people(
        options.people,
        portraits,
        store,
        aligned=options.aligned,
        moving=options.kind == "path" and len(options.people) > 1,
        progress=progress,
    )
    return Keyframes(
        renderer=make_renderer(portraits, options.batch_size),
        people=people,
        styles=[
            StyleKeyframe.of(s.label, portraits, s.exstyle, s.instyle, models.get(s.style))
            for s in styles
        ],
        weights=weights,
        truncation=options.truncation,
    )


def _first_exemplars(store: ModelStore, ref: StyleRef, count: int) -> list[StyleRef]:
    if len(ref.terms) > 1 or ref.terms[0].exemplar is not None:
        raise StyleRefError(
            f"--style {ref} is one exemplar, and the matrix has {count} columns; name the style "
            f"alone for its first ones, or give --style {count} times"
        )
    names = store.style(ref.style).names
    if len(names) < count:
        raise StyleRefError(
            f"{ref.style} has {len(names)} exemplars, and the matrix has {count} columns; choose "
            f"at most {len(names)}"
        )
    return [StyleRef((StyleTerm(ref.style, name),)) for name in names[:count]]


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def run(options: InterpolateOptions, progress: Progress = NULL_PROGRESS) -> dict[str, Any]:
    """Draw a path as a video, an animation or a strip; or a figure. An output that dsg has made
    before gets a numbered neighbor, unless it is to be overwritten.

    Returns:
        output, frames and keyframes, for `--json`.

    Raises:
        UsageError, ModelError, MediaError, NoFaceError: before anything is drawn.
        OutputBusyError: another run is writing the output.
    """
    target = free_output(options.target, overwrite=options.overwrite)
    with no_empty_folders([target]), locked_outputs([target]):
        keyframes = load_keyframes(options, progress)
        done: dict[str, Any] = {
            "output": str(target),
            "kind": options.kind,
            "styles": [style.label for style in keyframes.styles],
            "contents": [person.label for person in keyframes.people],
            "size_px": keyframes.portraits.size_px,
        }
        if options.kind == "path":
            write_path(target, options, keyframes, progress)
            lasts = None if options.is_strip else float(options.num_frames * options.frame_time)
            return done | {
                "axis": options.axis,
                "backend": keyframes.portraits.backend_name,
                "frames": options.num_frames,
                "duration_s": lasts,
            }
        is_matrix = options.kind == "matrix"
        figure = matrix(keyframes) if is_matrix else sweep(keyframes, options.sweeps)
        rows = -(-len(figure.cells) // figure.columns)
        write_figure(target, keyframes, figure, progress, overwrite=options.overwrite)
        return done | {"rows": rows, "columns": figure.columns}


def draw_path(options: InterpolateOptions, keyframes: Keyframes) -> Iterator[Tensor]:
    """(3, S, S) pictures of the path, one after the other.

    Raises:
        ModelMismatchError: a path through z+ from codes that are in w+.
    """
    keyframes.portraits.expect(options.num_frames)
    styles, person_at = keyframes.styles, _people_path(options, keyframes)
    places = positions(options.num_frames, options.num_keyframes, closed=options.loop)
    if options.axis == "content":  # only faces differ: the style can be bound
        look = Look(exstyle=styles[0].exstyle, weights=keyframes.weights)
        bound = keyframes.portraits.bound(look)
        return keyframes.renderer.faces(bound, map(person_at, places))
    how = {"closed": options.loop, "eased": options.ease}
    still = (styles[0].weighted(),)

    def scene_at(position: float) -> Scene:
        moved = styles_at(styles, position, spherical=options.space == "z+", **how)
        weights = keyframes.weights
        if options.axis == "weight":  # from none of the style to its weights
            share = along([torch.zeros(1), torch.ones(1)], position, spherical=False, **how)
            weights = StyleWeights(tuple(weight * float(share) for weight in weights.layers))
        return Scene(
            ws=person_at(position),
            structure=still if options.axis == "color" else moved,
            color=still if options.axis == "structure" else moved,
            weights=weights,
        )

    return keyframes.renderer.images(map(scene_at, places))


def _people_path(options: InterpolateOptions, keyframes: Keyframes) -> Callable[[float], Tensor]:
    """Position -> (L, D) w+ of the person there."""
    moves = options.axis in ("both", "content")
    people = keyframes.people if moves else keyframes.people[:1]
    how = {"closed": options.loop, "eased": options.ease}
    if options.space == "w+" or len(people) == 1:
        ws = [keyframes.ws(person) for person in people]
        return lambda position: along(ws, position, spherical=False, **how)
    if foreign := [person.label for person in people if person.space != "z+"]:
        raise ModelMismatchError(
            f"--space z+ needs an encoder into z+, and the one here puts {foreign[0]} into w+; "
            f"drop --space"
        )
    network, device = keyframes.portraits.network, keyframes.renderer.device
    codes = [person.code.to(device) for person in people]

    def mapped(position: float) -> Tensor:
        code = along(codes, position, spherical=True, **how)
        return network.truncate(network.map_plus(code[None]), keyframes.truncation)[0]

    return mapped


def write_path(
    target: Path,
    options: InterpolateOptions,
    keyframes: Keyframes,
    progress: Progress = NULL_PROGRESS,
) -> None:
    """Draw a path, and write it as a strip, an animation or a video."""
    count, size_px, overwrite = options.num_frames, keyframes.portraits.size_px, options.overwrite
    metadata = {"style": ", ".join(style.label for style in keyframes.styles)}
    images = draw_path(options, keyframes)  # may refuse, so before the target is opened
    if options.is_strip:
        columns = min(count, STRIP_COLUMNS)
        check_sheet(target, columns, -(-count // columns), size_px, overwrite=overwrite)
        pictures = []
        with progress.task("Drawing", count, unit="pictures") as task:
            for image in images:
                pictures.append(to_pixels(image[None])[0])
                task.advance()
        strip = make_sheet(pictures, columns=columns)
        write_image(target, strip, metadata=metadata, overwrite=overwrite)
        return
    lasts = options.frame_time
    info = SourceInfo(
        kind="memory", size_px=(size_px, size_px), rate=1 / lasts, duration=count * lasts
    )
    written = SinkOptions(overwrite=overwrite, metadata=metadata)
    sink: FrameSink = open_sink(target, written, info)
    with sink, progress.task("Drawing", count, unit="frames") as task:
        for index, image in enumerate(images):
            pixels = to_pixels(image[None])[0]
            sink.write(Frame(pixels=pixels, index=index, time=index * lasts, duration=lasts))
            task.advance()
    for note in sink.notes:
        progress.note(note)
