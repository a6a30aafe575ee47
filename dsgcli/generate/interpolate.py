"""Stops -> a way between them -> frames: `dsg interpolate`.

Stops are people (photographs or seeds) and styles (exemplars). The axis says which of them move;
the others stay at their first stop. Figures (`figures.py`) lay the same things out on a sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError
from dsgcli.generate.figures import draw_figure
from dsgcli.generate.interpolate_options import InterpolateOptions
from dsgcli.generate.paths import along, positions
from dsgcli.generate.scenes import Scene
from dsgcli.generate.sheets import check_sheet
from dsgcli.generate.stops import Stops, load_stops, pulls_at, scaled
from dsgcli.media.files import locked_outputs, no_empty_folders
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.media.sinks import FrameSink, SinkOptions, open_sink
from dsgcli.media.sources import SourceInfo
from dsgcli.portraits import Look, to_pixels
from dsgcli.progress import SILENT, Progress, Task
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels

STRIP_COLUMNS = 16
"""Pictures side by side before a strip goes on below."""


def run(options: InterpolateOptions, progress: Progress = SILENT) -> dict[str, Any]:
    """Draw what `options` asks for: a way as a video, an animation or a strip; or a figure.

    Returns:
        output, frames and stops, for `--json`.

    Raises:
        UsageError, ModelError, MediaError, NoFaceError: before anything is drawn.
        OutputBusyError: another run is writing the output.
    """
    with no_empty_folders([options.target]), locked_outputs([options.target]):
        return _draw(options, progress)


def _draw(options: InterpolateOptions, progress: Progress) -> dict[str, Any]:
    stops = load_stops(options, progress)
    done: dict[str, Any] = {
        "output": str(options.target),
        "kind": options.kind,
        "styles": [style.label for style in stops.styles],
        "contents": [person.label for person in stops.people],
        "size_px": stops.portraits.size_px,
    }
    if options.kind != "path":
        return done | draw_figure(options, stops, progress)
    if options.is_strip:
        _write_strip(options, stops, progress)
    else:
        _write_film(options, stops, progress)
    return done | {
        "axis": options.axis,
        "backend": stops.portraits.backend_name,
        "frames": options.num_frames,
        "duration_s": None if options.is_strip else float(options.num_frames * options.frame_time),
    }


def draw_path(options: InterpolateOptions, stops: Stops) -> Iterator[Tensor]:
    """(3, S, S) pictures of the way, one after the other.

    Raises:
        ModelMismatchError: a way through z+ from codes that are in w+.
    """
    stops.portraits.expect(options.num_frames)
    people = _people_path(options, stops)
    if options.axis == "content":  # only faces differ: the style can be bound
        style = stops.styles[0]
        look = Look(exstyle=style.exstyle, weights=stops.weights)
        bound = stops.portraits.bound(look)
        return stops.painter.faces(bound, map(people, _positions(options)))
    return stops.painter.images(
        _scene_at(options, stops, people(position), position) for position in _positions(options)
    )


def _positions(options: InterpolateOptions) -> Iterator[float]:
    return positions(options.num_frames, closed=options.loop)


def _people_path(options: InterpolateOptions, stops: Stops) -> Callable[[float], Tensor]:
    """Share of the way -> (L, D) w+ of the person there."""
    moves = options.axis in ("both", "content")
    people = stops.people if moves else stops.people[:1]
    how = {"closed": options.loop, "eased": options.ease}
    if options.space == "w+" or len(people) == 1:
        ws = [stops.ws(person) for person in people]
        return lambda position: along(ws, position, spherical=False, **how)
    if foreign := [person.label for person in people if person.space != "z+"]:
        raise ModelMismatchError(
            f"--space z+ needs an encoder into z+, and the one here puts {foreign[0]} into w+; "
            f"drop --space"
        )
    network, device = stops.portraits.network, stops.painter.device
    codes = [person.code.to(device) for person in people]

    def mapped(position: float) -> Tensor:
        code = along(codes, position, spherical=True, **how)
        return network.truncate(network.map_plus(code[None]), stops.truncation)[0]

    return mapped


def _scene_at(options: InterpolateOptions, stops: Stops, ws: Tensor, position: float) -> Scene:
    how = {
        "spherical": options.space == "z+",
        "closed": options.loop,
        "eased": options.ease,
    }
    styles = stops.styles
    moved = pulls_at(styles, position, **how)
    still = (styles[0].pull(),)
    weights = stops.weights
    if options.axis == "weight":
        share = along([torch.zeros(1), torch.ones(1)], position, **(how | {"spherical": False}))
        weights = scaled(weights, float(share))
    return Scene(
        ws=ws,
        structure=still if options.axis == "color" else moved,
        color=still if options.axis == "structure" else moved,
        weights=weights,
    )


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


def _write_strip(options: InterpolateOptions, stops: Stops, progress: Progress) -> None:
    count = options.num_frames
    columns = min(count, STRIP_COLUMNS)
    check_sheet(
        options.target,
        columns=columns,
        rows=-(-count // columns),
        cell_px=stops.portraits.size_px,
        overwrite=options.overwrite,
    )
    with progress.task("Drawing", count, unit="pictures") as task:
        pictures = list(_pictures(draw_path(options, stops), task))
    strip = make_sheet(pictures, columns=columns)
    write_image(options.target, strip, overwrite=options.overwrite)


def _write_film(options: InterpolateOptions, stops: Stops, progress: Progress) -> None:
    lasts, size_px = options.frame_time, stops.portraits.size_px
    info = SourceInfo(
        kind="memory",
        size_px=(size_px, size_px),
        rate=1 / lasts,
        duration=options.num_frames * lasts,
    )
    images = draw_path(options, stops)  # may refuse, so before the target is opened
    sink: FrameSink = open_sink(options.target, SinkOptions(overwrite=options.overwrite), info)
    with sink, progress.task("Drawing", options.num_frames, unit="frames") as task:
        for index, pixels in enumerate(_pictures(images, task)):
            sink.write(Frame(pixels=pixels, index=index, time=index * lasts, duration=lasts))
    for note in sink.notes:
        progress.note(note)


def _pictures(images: Iterator[Tensor], task: Task) -> Iterator[Pixels]:
    """(S, S, 3) each, counted as they are drawn."""
    for image in images:
        yield to_pixels(image[None])[0]
        task.advance()
