"""Codes -> a way between them -> frames: `dsg interpolate`.

Stops are people (photographs or seeds) and styles (exemplars). The axis says which of them moves;
the other stays at its first stop. Styles of several models can be stops of one path when the models
share their photographic generator: the weights of the extrinsic path are then blended too, which
fine-tuned relatives allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError, RecipeError, UsageError
from dsgcli.generate.contents import content_codes
from dsgcli.generate.paths import along, positions
from dsgcli.media.images import make_strip, write_image
from dsgcli.media.sinks import SinkOptions, open_sink
from dsgcli.portraits import Look, Portraits, load_portraits, pick_weights, to_pixels
from dsgcli.progress import SILENT, Progress
from dsgcli.runtime import Precision
from dsgcli.store import ModelStore
from dsgcli.types import Frame, StyleRef, StyleWeights

if TYPE_CHECKING:
    from dsgcli.store.codes import ResolvedStyle
    from dsgcli.types import Pixels

Axis = Literal["both", "content", "style", "structure", "color", "weight"]
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolateOptions:
    """Every choice of `dsg interpolate` but its figures; the names are those of its flags."""

    style: tuple[str, ...] = ("default",)
    content: tuple[str, ...] = ()
    """Pictures or seeds; empty is the one of `seed`."""
    seed: int = 0
    structure: float | None = None
    color: float | None = None
    weights: tuple[float, ...] | None = None
    preset: str | None = None
    truncation: float = 0.75
    axis: Axis = "both"
    space: Literal["z+", "w+"] = "w+"
    ease: bool = True
    frames: int = 48
    """From one stop to the next."""
    fps: float = 24.0
    loop: bool = False
    output: Path = Path("interpolation.mp4")
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.frames < 2:
            problems.append(f"frames must be at least 2, got {self.frames}")
        if not 0 < self.fps <= 1000:
            problems.append(f"fps must lie between 0 and 1000, got {self.fps:g}")
        if self.axis == "content" and len(self.content) < 2:
            problems.append("axis content needs two --content to go between")
        if self.axis in ("style", "structure", "color") and len(self.style) < 2:
            problems.append(f"axis {self.axis} needs two --style to go between")
        if self.axis == "both" and max(len(self.style), len(self.content)) < 2:
            problems.append("a path needs two stops; give --style or --content twice")
        if problems:
            raise RecipeError("the command", problems)

    @property
    def num_stops(self) -> int:
        """Stops of the longest of the two paths."""
        if self.axis == "weight":
            return 2
        moving = {"both": (self.style, self.content), "content": (self.content,)}
        return max(len(stops) for stops in moving.get(self.axis, (self.style,)))

    @property
    def num_frames(self) -> int:
        """Of the whole path: `frames` a leg, and the last stop itself where it is open."""
        return self.frames * self.num_stops if self.loop else self.frames * (self.num_stops - 1) + 1


@dataclass(frozen=True, slots=True)
class Stops:
    """What the path passes through; rows are z+ or w+, as the space says."""

    people: list[Tensor]
    """(L, D) each, w+ after truncation, or z+."""
    styles: list[Tensor]
    """(L, D) each, w+ or z+."""
    weights: StyleWeights
    truncation: float
    spherical: bool


def run(options: InterpolateOptions, progress: Progress = SILENT) -> dict[str, Any]:
    """Draw the path, and write it as a video, an animation or a strip.

    Returns:
        output, frames and stops, for `--json`.

    Raises:
        UsageError, ModelError, NoFaceError: before anything is drawn.
    """
    store = ModelStore.open(options.pretrained)
    styles = [store.resolve(StyleRef.parse(name)) for name in options.style]
    check_related(store, styles)
    portraits = load_portraits(
        store, styles[0].style, device=options.device, precision=options.precision
    )
    stops = _stops(options, portraits, store, styles)
    models = ModelPath.of(store, styles, portraits)
    drawn = _draw(options, portraits, stops, models)
    with progress.task("Drawing", options.num_frames, unit="frames") as task:
        if options.output.suffix.lower() in PICTURE_SUFFIXES:
            pictures = []
            for pixels in drawn:
                pictures.append(pixels)
                task.advance()
            write_image(options.output, make_strip(pictures), overwrite=options.overwrite)
        else:
            _write_video(options, drawn, task)
    return {
        "output": str(options.output),
        "frames": options.num_frames,
        "styles": [style.label for style in styles],
        "contents": list(options.content) or [options.seed],
        "size_px": portraits.size_px,
    }
