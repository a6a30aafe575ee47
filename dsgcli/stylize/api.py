"""Stylizing from Python: files with `stylize`, arrays with `Stylizer`; what `dsgcli` exports.

Both take what the command line takes, by the names of its flags with underscores, and have its
defaults: `structure=0.5`, `preserve_color=True`, `device="cpu"`. The fields of `StylizeOptions` are
the whole list. Expected failures are `DsgError`s; their messages are those of the command line.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from dsgcli.errors import NoFaceError, UsageError
from dsgcli.media.base import HeldFrames, Kind, SourceInfo
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.stylize.backoff import Batches
from dsgcli.stylize.flow import Crew, StylizedFrame
from dsgcli.stylize.jobs import InputFile, Job
from dsgcli.stylize.live import LiveStream
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.run import run
from dsgcli.stylize.studio import open_studio
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.pipeline import StylePipeline
    from dsgcli.portraits import Look
    from dsgcli.stylize.summary import Summary
    from dsgcli.types import Pixels

Inputs = str | Path | Sequence[str | Path]
USUAL_RATE = 25.0
"""Frames per second of a stream that does not say."""


def stylize(
    inputs: Inputs,
    output: str | Path | None = None,
    *,
    style: str | Sequence[str] = "default",
    progress: Progress = NULL_PROGRESS,
    **choices: Any,
) -> Summary:
    """Redraw every face of pictures, videos, folders or globs, as `dsg stylize` does.

    >>> from dsgcli import stylize
    >>> summary = stylize("photo.png", "toon.png", style="toon:ada", structure=0.5)
    >>> [(result.outputs[0].name, result.faces) for result in summary.files]
    [('toon.png', 1)]

    Args:
        inputs: one, or several.
        output: a file for one output, a folder for several; None writes beside each input.
        style: `NAME`, `NAME:EXEMPLAR`, or several of them: each makes an output of its own.
        progress: receives reports on the work.
        choices: any other field of `StylizeOptions`.

    Returns:
        What became of each input, and how long each stage took. Of several inputs, those that
        failed are in it; what goes wrong with an only one is raised.

    Raises:
        UsageError, ModelError: before any work starts.
        DsgError: what went wrong with the only input.
    """
    several = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    options = StylizeOptions(style=_styles(style), **choices)
    return run(several, None if output is None else Path(output), options, progress)


def _styles(style: str | Sequence[str]) -> tuple[str, ...]:
    return (style,) if isinstance(style, str) else tuple(style)


class Stylizer:
    """Photographs as arrays in, drawings out; the networks of one style are loaded once.

    >>> from dsgcli import Stylizer
    >>> with Stylizer("toon:ada", structure=0.5) as toon:
    ...     drawn = toon(photo)
    >>> photo.shape, drawn.shape, drawn.dtype
    ((240, 320, 3), (240, 320, 3), dtype('uint8'))

    With `crop=True` the portrait alone comes back, with `alpha=True` the drawn heads on a
    transparent ground, as a fourth channel. Use it from one thread at a time.
    """

    def __init__(self, style: str = "default", **choices: Any) -> None:
        """Load detector and networks.

        Args:
            choices: any other field of `StylizeOptions`; those about files are not looked at.

        Raises:
            UsageError, ModelError: something that is not there, or does not fit.
        """
        options = StylizeOptions(style=(style,), **choices)
        with ExitStack() as stack:
            self._studio = stack.enter_context(open_studio(options))
            self._open = stack.pop_all()

    @property
    def portraits(self) -> StylePipeline:
        """The networks: `encode` aligned crops, `draw_crops` with their codes."""
        return self._studio.casts[0].role.portraits

    @property
    def look(self) -> Look:
        """The exemplar's code, and how far faces go towards it: for `portraits.draw_crops`."""
        return self._studio.casts[0].role.look

    def __call__(self, pixels: Pixels) -> Pixels:
        """The picture with its faces redrawn.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright.

        Returns:
            (H, W, 3) uint8; (S, S, 3) if aligned or with `crop`; (H, W, 4) with `alpha`.

        Raises:
            NoFaceError: there is none. UsageError: another kind of array.
        """
        frame = _frame(pixels, 0, 0.0)
        aligned = self._studio.is_aligned(HeldFrames([frame]))
        crew = self._crew("picture", frame, aligned=aligned)
        (drawn,) = crew.run([frame], self._studio.casts)
        if not drawn.shot.crops:
            raise NoFaceError("the picture", detector=self._studio.detector.name)
        return _pixels(drawn.pictures[0])

    @overload
    def stream(
        self, frames: Iterable[Pixels], rate: float = ..., *, live: Literal[False] = ...
    ) -> Iterator[Pixels]: ...
    @overload
    def stream(
        self, frames: Iterable[Pixels], rate: float = ..., *, live: Literal[True]
    ) -> LiveStream: ...
    def stream(
        self, frames: Iterable[Pixels], rate: float = USUAL_RATE, *, live: bool = False
    ) -> Iterator[Pixels] | LiveStream:
        """Frames of one video, redrawn: faces are followed and steadied over time.

        >>> with Stylizer("toon") as toon:
        ...     [drawn.shape for drawn in toon.stream([photo, photo], rate=24)]
        [(240, 320, 3), (240, 320, 3)]

        Each comes back, in order and some frames late: steadying looks ahead. Frames without a face
        come back as they are.

        With `live=True` the frames are a camera's: those that come while others are drawn are left
        out, steadying looks back only, and the stream tells its `latency_s` and how many frames it
        has `dropped`.

        >>> with Stylizer("toon") as toon, toon.stream([photo], live=True) as drawn_frames:
        ...     shapes = [drawn.shape for drawn in drawn_frames]
        >>> shapes, drawn_frames.dropped
        ([(240, 320, 3)], 0)

        Args:
            frames: (H, W, 3) uint8 RGB each, all of one size.
            rate: frames per second; of no account with `live`, where the clock counts.
        """
        if rate <= 0:
            raise UsageError(f"rate must be above 0 frames per second, got {rate:g}")
        numbered = (_frame(pixels, index, rate) for index, pixels in enumerate(frames))
        if live:
            draw = partial(self._draw, live=True)
            return LiveStream(numbered, draw, lambda drawn: _pixels(drawn.pictures[0]))
        return self._drawn_pixels(numbered)

    def _drawn_pixels(self, frames: Iterator[Frame]) -> Iterator[Pixels]:
        with closing(self._draw(frames)) as drawn_frames:
            for drawn in drawn_frames:
                yield _pixels(drawn.pictures[0])

    def _draw(self, frames: Iterator[Frame], *, live: bool = False) -> Generator[StylizedFrame]:
        """The frames of one stream through the loop."""
        first = next(frames, None)
        if first is None:
            return
        crew = self._crew("memory", first, aligned=self._studio.options.aligned == "yes")
        if live:
            crew.live, crew.batches = True, Batches(1)
        with closing(crew.run(chain([first], frames), self._studio.casts)) as drawn_frames:
            yield from drawn_frames

    def _crew(self, kind: Kind, frame: Frame, *, aligned: bool) -> Crew:
        job = Job(source=InputFile(path=Path("the picture")), outputs=())
        info = SourceInfo(kind=kind, size_px=frame.size_px)
        return self._studio.crew(job, info, aligned=aligned)

    def close(self) -> None:
        """Let the detector go; the same as leaving `with`."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _frame(pixels: Pixels, index: int, rate: float) -> Frame:
    array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UsageError(
            f"a picture is an array (height, width, 3) of uint8, RGB; got {array.dtype} "
            f"{' x '.join(map(str, array.shape))}"
        )
    time = Fraction(index) / Fraction(rate).limit_denominator(1001) if rate else Fraction(0)
    return Frame(pixels=array, index=index, time=time)


def _pixels(frame: Frame) -> Pixels:
    return frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha])
