"""What `dsg interpolate` was asked to do: one frozen value, checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from dsgcli.errors import RecipeError
from dsgcli.generate.contents import Aligned
from dsgcli.generate.sheets import is_sheet
from dsgcli.runtime import BackendName, Precision

Axis = Literal["both", "content", "style", "structure", "color", "weight"]
Kind = Literal["path", "matrix", "sweep"]
SWEEPS = ("structure", "color", "layers")

USUAL_FRAMES, USUAL_STRIP_FRAMES = 48, 7
"""From one stop to the next: two seconds of video, or pictures side by side."""
STILL_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""Of a path, these mean a strip; a .webp moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolateOptions:
    """Every choice of `dsg interpolate`; the names are those of its flags."""

    # what lies along the way
    style: tuple[str, ...] = ("default",)
    content: tuple[str, ...] = ()
    """Pictures or seeds; empty is `seed`."""
    seed: int = 0
    structure: float | None = None
    color: float | None = None
    weights: tuple[float, ...] | None = None
    preset: str | None = None
    truncation: float = 0.75
    size: int | None = None
    aligned: Aligned = "auto"

    # how it runs
    axis: Axis = "both"
    space: Literal["z+", "w+"] = "w+"
    ease: bool = True
    frames: int | None = None
    """From one stop to the next; None is `USUAL_FRAMES`, or `USUAL_STRIP_FRAMES` of a strip."""
    fps: float = 24.0
    loop: bool = False

    # figures instead of a way
    matrix: tuple[int, int] | None = None
    """Rows of people and columns of exemplars."""
    sweep: str | None = None
    """`structure,color` (either or both), or `layers`."""

    # files and the machine
    output: Path | None = None
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    backend: BackendName = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        checks = {
            "path": self._problems_of_path,
            "matrix": self._problems_of_matrix,
            "sweep": self._problems_of_sweep,
        }
        problems = [*self._problems(), *checks[self.kind]()]
        if problems:
            raise RecipeError("the command", problems)

    @property
    def kind(self) -> Kind:
        """What is drawn."""
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
        """What a sweep varies: down, then across."""
        return tuple(part.strip() for part in (self.sweep or "").split(","))

    @property
    def num_stops(self) -> int:
        """Stops of the longer of the two paths."""
        if self.axis == "weight":
            return 2
        moving = {"both": (self.style, self.people), "content": (self.people,)}
        return max(len(stops) for stops in moving.get(self.axis, (self.style,)))

    @property
    def num_frames(self) -> int:
        """Of the whole path: some a leg, and the last stop itself where it is open."""
        a_leg = self.frames or (USUAL_STRIP_FRAMES if self.is_strip else USUAL_FRAMES)
        return a_leg * self.num_stops if self.loop else a_leg * (self.num_stops - 1) + 1

    @property
    def frame_time(self) -> Fraction:
        """Seconds that a frame lasts, exactly."""
        return 1 / Fraction(self.fps).limit_denominator(1001)

    def _problems(self) -> Iterator[str]:
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

    def _problems_of_path(self) -> Iterator[str]:
        if self.frames is not None and self.frames < 2:
            yield f"frames must be at least 2, got {self.frames}"
        if not 1 <= self.fps <= 1000:
            yield f"fps lies between 1 and 1000, got {self.fps:g}"
        moves = {"both": "style content", "content": "content", "weight": ""}
        moving = moves.get(self.axis, "style").split()
        counts = {"style": len(self.style), "content": len(self.people)}
        if moving and max(counts[name] for name in moving) < 2:
            wanted = " or ".join(f"--{name}" for name in moving)
            yield f"axis {self.axis} needs two stops to go between; give {wanted} twice"
        for name in counts.keys() - set(moving):
            if counts[name] > 1:
                yield f"axis {self.axis} stays at one {name}; drop the other --{name}"

    def _problems_of_matrix(self) -> Iterator[str]:
        assert self.matrix is not None
        rows, columns = self.matrix
        if rows < 1 or columns < 1:
            yield f"matrix takes at least one row and one column, got {rows} {columns}"
        if self.content and len(self.content) != rows:
            yield f"matrix has {rows} rows, and --content is given {len(self.content)} times"
        if len(self.style) not in (1, columns):
            yield f"matrix has {columns} columns, and --style is given {len(self.style)} times"

    def _problems_of_sweep(self) -> Iterator[str]:
        parts = self.sweeps
        if not set(parts) <= set(SWEEPS) or len(set(parts)) != len(parts):
            yield f"sweep is structure,color or one of them, or layers; got {self.sweep!r}"
        elif "layers" in parts and len(parts) > 1:
            yield "sweep layers stands alone"
        if len(self.style) > 1 or len(self.content) > 1:
            yield "a sweep shows one person in one style; drop the other --style or --content"
