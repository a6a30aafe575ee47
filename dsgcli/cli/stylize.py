"""`dsg stylize`: pictures, folders and videos in the style of one chosen picture."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.options import LookFlags, Machine, OutputFlags, numbers
from dsgcli.cli.stylize_options import Faces, FileFlags, Paste, Spread, Video
from dsgcli.console import Cell, Table
from dsgcli.errors import UsageError

if TYPE_CHECKING:
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.summary import FileResult, Status, Summary

MAX_ROWS, MAX_LINES = 9, 3
"""Most lines of files, notes and failures in a summary, so that it fits a screen."""
LEAST_SAID_S = 0.05
"""Stages that took less are not said."""
STATUS_ORDER: tuple[Status, ...] = ("failed", "done", "skipped")

EXAMPLES = """
Examples:
  dsg stylize portrait.jpg                     with the bundled model
  dsg stylize holiday.mp4 --style noir:3 -o drawn.mp4
  dsg stylize photos/ -r -o drawn/ --style toon:3 --style noir
  dsg stylize me.jpg --style noir --structure 0.5 --color 0.3
  dsg stylize me.jpg --exemplar painting.jpg   take the style from your picture
  dsg stylize photos/ -o toons/ --workers auto
  dsg stylize long.mp4 --preview 8             look at 8 frames first
  dsg stylize two.mp4 --face-style 0=noir:3 --face-style 1=toon:5
"""


@expand
def stylize(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Pictures, videos, folders, quoted globs."),
    ] = None,
    *,
    files: FileFlags,
    look: LookFlags,
    faces: Faces,
    paste: Paste,
    video: Video,
    machine: Machine,
    spread: Spread,
    talk: OutputFlags,
) -> None:
    """Redraw every face of a picture or video in the style of one chosen picture.

    Faces are found, cut out, redrawn and put back; the rest of each frame, the sound and the
    timing stay as they are.
    """
    sources = [*(inputs or []), *(files.input or [])]
    if not sources:
        raise UsageError(
            "nothing to stylize; name a picture, a video or a folder (try `dsg stylize --help`)"
        )
    to_stdout = files.output == Path("-") or (files.output is None and "-" in sources)
    if to_stdout and talk.json:
        raise UsageError("--json and the picture would both go to standard output; name a file")
    options = options_of(files, look, faces, paste, video, machine, spread)
    from dsgcli.stylize.run import run

    with piped(sources, files.output) as (paths, output), talk.terminal.progress() as progress:
        summary = run(paths, output, options, progress)
    if to_stdout:
        return
    chosen = bool(look.exemplar) or look.style != LookFlags().style
    parts = _parts(summary, chosen=chosen, told=talk.terminal.is_watched, verbose=talk.verbose > 0)
    talk.terminal.summary(summary.as_json(), *parts)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


@contextmanager
def piped(sources: list[str], output: Path | None) -> Iterator[tuple[list[str], Path | None]]:
    """Inputs and output as files: `-` as an input is what comes on standard input, as the output a
    PNG that goes to standard output when the block ends. An input `-` without an output goes there
    too.

    Raises:
        UsageError: nothing comes, or several pictures would go out.
    """
    if "-" not in sources and output != Path("-"):
        yield sources, output
        return
    with TemporaryDirectory(prefix="dsg-") as folder:
        taken, drawn = Path(folder, "stdin"), Path(folder, "stdout.png")
        to_stdout = output in (None, Path("-"))
        if to_stdout and len(sources) > 1:
            raise UsageError("standard output takes one picture; name a folder with -o/--output")
        if "-" in sources:
            if sys.stdin.isatty():
                raise UsageError("- reads a picture from standard input: dsg stylize - < photo.jpg")
            with taken.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            if not taken.stat().st_size:
                raise UsageError("- reads a picture from standard input, and nothing came")
            from dsgcli.media.images import identify

            if to_stdout and identify(taken) != "picture":
                raise UsageError(
                    "standard input holds no single picture; name a file with -o/--output"
                )
        paths = [str(taken) if source == "-" else source for source in sources]
        yield paths, drawn if to_stdout else output
        if to_stdout:
            sys.stdout.buffer.write(drawn.read_bytes())
            sys.stdout.buffer.flush()


def _parts(
    summary: Summary, *, chosen: bool = True, told: bool = False, verbose: bool = False
) -> list[Table | str]:
    """Tables of the written files, then some lines about the run: a screen of both, however many
    files.

    Args:
        chosen: whether the style was named; else others are pointed to.
        told: whether failures were seen where this is seen; they are not said again then.
        verbose: say the time of each stage, and what the machine is.
    """
    files = summary.files
    if len(files) > MAX_ROWS:  # what wants to be looked at comes first
        files = sorted(files, key=lambda result: STATUS_ORDER.index(result.status))
    notes = [f"{r.source.name}: {note}" for r in summary.files for note in r.notes]
    failed = [] if told else [_problem(result) for result in summary.failed]
    lines = [*_counts(summary.files)]
    lines += [*_first(notes), *_first(failed), *_hints(summary.files)]
    if any(result.status == "done" for result in files) and not chosen:
        lines.append(f"drawn in {summary.styles[0]}; `dsg styles list` has others for --style")
    if verbose:
        stages = ", ".join(
            f"{name} {s:.1f} s" for name, s in summary.stages.items() if s >= LEAST_SAID_S
        )
        lines.append(f"{summary.seconds:.1f} s; stages overlap: {stages}")
        lines.append(", ".join(f"{name} {value}" for name, value in summary.machine.items()))
    if len(files) == 1 and files[0].status == "done":
        return ["\n".join([*_written(files[0], summary), *lines])]
    table = Table(("output", "", "frames", "faces"), [*map(_row, files[:MAX_ROWS])])
    return [table, "\n".join(lines)] if lines else [table]


def _written(result: FileResult, summary: Summary) -> list[str]:
    """`Wrote me_noir-3.jpg (1 face, noir:3)`, a line for each output."""
    found = []
    for path, style in zip(result.outputs, summary.styles, strict=False):
        if result.frames > 1:
            rate = result.frames / result.seconds if result.seconds > 0 else 0.0
            what = f"{result.frames} frames, {rate:.1f} a second"
        else:
            what = "1 face" if result.faces == 1 else f"{result.faces} faces"
        found.append(f"Wrote {path} ({what}, {style})")
    return found


def _counts(files: Sequence[FileResult]) -> list[str]:
    """`40 files: 38 done, 2 failed`, where the table does not show as much at a glance."""
    if len(files) < 2:
        return []
    by_status = Counter(result.status for result in files)
    said = [f"{by_status[status]} {status}" for status in STATUS_ORDER if by_status[status]]
    more = f" ({len(files) - MAX_ROWS} more than shown)" if len(files) > MAX_ROWS else ""
    return [f"{len(files)} files{more}: {', '.join(said)}"]


def _first(lines: Sequence[str]) -> list[str]:
    """Return as many lines as fit beside the table."""
    more = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], *([f"... and {more} more like these; --json has all"] * (more > 0))]


def _hints(files: Sequence[FileResult]) -> list[str]:
    """Hints for the next step, if there are any."""
    skipped = sum(result.status == "skipped" for result in files)
    return [f"{skipped} already done; --overwrite draws again."] if skipped else []


def _row(result: FileResult) -> tuple[Cell, ...]:
    name = "\n".join(map(str, result.outputs)) or str(result.source)
    if result.status != "done":
        return name, result.status, None, None
    return name, result.status, result.frames, result.faces


def _problem(result: FileResult) -> str:
    """Which file, and what is wrong with it; most messages say both."""
    error, source = result.error or "", str(result.source)
    return error if source in error else f"{source}: {error}"


def options_of(
    files: FileFlags,
    look: LookFlags,
    faces: Faces,
    paste: Paste,
    video: Video,
    machine: Machine,
    spread: Spread,
) -> StylizeOptions:
    """The flags as the library takes them: same names, some of them read into values."""
    values = values_of(files, look, faces, paste, video, machine, spread)
    for name in ("input", "output", "no_smooth"):
        del values[name]
    style, exemplar = style_and_exemplar(look.style, look.exemplar)
    values |= {
        "style": style,
        "exemplar": exemplar,
        "weights": numbers("--weights", look.weights),
        "smooth": 0.0 if faces.no_smooth else faces.smooth,
        "rate": frame_rate("--rate", video.rate),
        "start": seconds("--start", video.start),
        "end": seconds("--end", video.end),
        "face_style": tuple(faces.face_style or ()),
        "codec_option": tuple(video.codec_option or ()),
        "workers": how_many("--workers", spread.workers),
    }
    from dsgcli.stylize.options import StylizeOptions  # torch loads here

    return StylizeOptions(**values)


def style_and_exemplar(
    styles: list[str], exemplar: str | None
) -> tuple[tuple[str, ...], Path | None]:
    """`--exemplar` is a picture if there is such a file; else it names one of the style's own.

    Raises:
        UsageError: it names one, and so does `--style` already.
    """
    if exemplar is None:
        return tuple(styles), None
    if Path(exemplar).exists() or Path(exemplar).parent != Path():
        return tuple(styles), Path(exemplar)
    named = [style for style in styles if ":" in style]
    if named:
        raise UsageError(
            f"--style {named[0]} names an exemplar, and so does --exemplar {exemplar}; drop one"
        )
    return tuple(f"{style}:{exemplar}" for style in styles), None


def how_many(option: str, text: str) -> int | Literal["auto"]:
    """`auto`, or a number from 1.

    Raises:
        UsageError: neither.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option} takes auto or a number from 1, got {text!r}")
    return int(text)


def frame_rate(option: str, text: str | None) -> Fraction | None:
    """`24`, `23.976` or `30000/1001` as an exact number; None stays None.

    Raises:
        UsageError: no number above 0.
    """
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise UsageError(f"{option} takes frames a second, such as 24 or 30000/1001, got {text!r}")
    return rate


def seconds(option: str, text: str | None) -> Fraction | None:
    """`75`, `1:15` or `0:01:15.5` as exact seconds; None stays None.

    Raises:
        UsageError: no time.
    """
    if text is None:
        return None
    parts = text.split(":")
    try:
        values = [Fraction(part) for part in parts]
    except (ValueError, ZeroDivisionError):
        values = []
    if not values or len(values) > 3 or any(value < 0 for value in values):
        raise UsageError(f"{option} takes seconds, M:S or H:M:S, got {text!r}")
    return sum((v * 60**power for power, v in enumerate(reversed(values))), Fraction(0))
