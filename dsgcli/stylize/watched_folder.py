"""A folder in which new pictures and clips are drawn as they arrive: `dsg watch`.

folder -> files that are complete -> jobs -> outputs; the networks are loaded once and stay.

A file is complete when its size and its time of change have not moved for a while, so that a copy
or a download in progress is not read. What has been drawn is known by the outputs themselves (their
metadata hold a key of input and settings), so a restart draws nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dsgcli.errors import SourceMissingError, UsageError
from dsgcli.progress import Progress
from dsgcli.stylize.batch import draw_jobs
from dsgcli.stylize.jobs import IMAGE_SUFFIXES, VIDEO_SUFFIXES, InputFile, plan_jobs
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.settings import is_made
from dsgcli.stylize.studio import open_studio
from dsgcli.stylize.summary import FileResult, Stopwatch

SETTLE_S = 2.0
"""A file that has not changed for so long is complete."""
POLL_S = 0.5
"""How often files that are still growing are looked at."""

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds."""


def watch_folder(
    folder: Path,
    output: Path,
    options: StylizeOptions,
    progress: Progress,
    *,
    recursive: bool = False,
    settle_s: float = SETTLE_S,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[FileResult]:
    """Draw every file that is in a folder, and every one that arrives, until told to stop.

    Args:
        output: a folder, which is not looked into.
        settle_s: a file is complete when it has not changed for so many seconds.
        until: asked about twice a second; True ends the watching.

    Yields:
        What became of each file, as soon as it is known. A file that cannot be drawn is yielded
        with its error, and looked at again only when it changes.

    Raises:
        SourceMissingError: the folder is not there, or vanishes.
        UsageError: `output` is the folder itself, or a file; or watchfiles is not installed.
        ModelError: a style that is not there.
    """
    if not folder.is_dir():
        raise SourceMissingError(f"{folder} is no folder; name the folder to watch")
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o takes a folder for what is drawn, and {output} is a file")
    if output.resolve() == folder.resolve():
        raise UsageError("-o must be another folder than the one that is watched")
    output.mkdir(parents=True, exist_ok=True)
    with open_studio(options, progress, Stopwatch()) as studio:
        labels = [cast.label for cast in studio.casts]
        for path in arrivals(folder, output, recursive=recursive, settle_s=settle_s, until=until):
            if is_made(path, None):  # a drawing of ours that was moved here
                continue
            source = InputFile(path=path, below=path.parent.relative_to(folder), listed=True)
            jobs = plan_jobs(
                [source],
                output,
                labels,
                pattern=options.output_pattern,
                overwrite=options.overwrite,
                alpha=options.alpha,
            )
            yield from draw_jobs(jobs, studio, progress, only=False)


def arrivals(
    folder: Path,
    left_out: Path,
    *,
    recursive: bool,
    settle_s: float,
    until: Callable[[], bool],
) -> Iterator[Path]:
    """Files of a folder that are complete, each once and again when it changes, oldest first.

    Raises: as `watch_folder`.
    """
    seen: dict[Path, Stamp] = {}
    growing: dict[Path, tuple[Stamp, float]] = {}
    for _ in changes(folder, recursive=recursive, until=until):
        now, found = time.monotonic(), media_in(folder, left_out, recursive=recursive)
        for path, stamp in found.items():
            if seen.get(path) == stamp:
                continue
            if path not in growing or growing[path][0] != stamp:
                growing[path] = stamp, now
        for path in [path for path in growing if path not in found]:
            del growing[path]
        complete = [p for p, (_, since) in growing.items() if now - since >= settle_s]
        for path in sorted(complete, key=lambda p: growing[p][0][1]):
            seen[path] = growing.pop(path)[0]
            yield path


def changes(folder: Path, *, recursive: bool, until: Callable[[], bool]) -> Iterator[None]:
    """Yield at every change in a folder and about twice a second, until told to stop.

    Raises:
        SourceMissingError: the folder vanishes. UsageError: watchfiles is not installed.
    """
    try:
        from watchfiles import watch
    except ImportError:
        raise UsageError(
            "dsg watch needs the package watchfiles; install it with: pip install 'dsgcli[watch]'"
        ) from None
    wait_ms = round(1000 * POLL_S)
    try:
        for _ in watch(
            folder, recursive=recursive, rust_timeout=wait_ms, yield_on_timeout=True, debounce=100
        ):
            if until():
                return
            if not folder.is_dir():
                break
            yield
    except FileNotFoundError:
        pass
    raise SourceMissingError(f"the folder {folder} has vanished; start again when it is back")


def media_in(folder: Path, left_out: Path, *, recursive: bool) -> dict[Path, Stamp]:
    """Pictures and videos of a folder with their stamps; not those of the output's folder, hidden
    files, or files that vanish meanwhile."""
    found = {}
    outside = left_out.resolve()
    for path in folder.rglob("*") if recursive else folder.iterdir():
        if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            continue
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or outside in path.resolve().parents:
            continue
        try:
            facts = path.stat()
        except OSError:
            continue
        if path.is_file() and facts.st_size:
            found[path] = facts.st_size, facts.st_mtime_ns
    return found
