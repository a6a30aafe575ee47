"""Inputs -> jobs: which files there are, and where each one's output goes.

All that can be known without opening a file is found here, before any work starts.
"""

from __future__ import annotations

import glob
import hashlib
import os
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from dsgcli.errors import DsgError, SourceMissingError, UsageError
from dsgcli.media import images
from dsgcli.media.base import NUMBER
from dsgcli.media.files import MAX_NAME_BYTES, cut_name, place_of
from dsgcli.media.read import is_sequence, sequence_files
from dsgcli.media.write import TIMES_NAME, is_occupied
from dsgcli.names import is_control, visible

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
    | {".jfif", ".jpe", ".jp2", ".tga"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv"}
    | {".flv", ".3gp", ".ogv", ".gif", ".m2ts", ".vob", ".3g2", ".asf", ".mxf", ".m2v", ".divx"}
    | {".f4v", ".qt", ".y4m", ".h264"}
)
"""Endings that a folder is searched for; a file named outright may have any."""

MANY_FRAMES = 1000
"""Number of frames that any video counts as, so that every worker draws its part alike."""

_PATTERN_FIELDS = frozenset({"stem", "style", "ext", "index", "parent"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One input file, and where it lies below the folder that was given."""

    path: Path
    below: Path = Path()
    """Its folder relative to the given one, so that a tree is rebuilt in the output."""
    listed: bool = False
    """True if found in a folder or by a glob: an existing output is then skipped, not refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One input and its outputs, one a style."""

    source: InputFile
    outputs: tuple[Path, ...]
    num_pictures: int = 1
    """About how many the whole run draws, however it is divided and in whatever order."""


def find_sources(
    inputs: Sequence[Path | str], *, recursive: bool = False, sequences: bool = False
) -> list[InputFile]:
    """Files, folders and globs -> files, each once, in the order given (sorted within a folder).

    Args:
        sequences: every input is a folder or a pattern (`frame_%05d.png`) that is one video.

    Raises:
        SourceMissingError: something named is not there, or holds no picture and no video.
        UsageError: with `sequences`, something else.
    """
    if sequences:
        paths = [Path(item).expanduser() for item in inputs]
        if other := next((path for path in paths if not is_sequence(path)), None):
            raise UsageError(
                f"--rate reads a folder of numbered pictures, or a name such as frame_%05d.png, as "
                f"one video, and {other} is neither; drop --rate"
            )
        return [InputFile(path=path) for path in dict.fromkeys(paths) if sequence_files(path)]
    found: dict[Path, InputFile] = {}
    for item in inputs:
        for source in _expand(item, recursive=recursive):
            found.setdefault(source.path.resolve(), source)
    return list(found.values())


def _expand(item: Path | str, *, recursive: bool) -> list[InputFile]:
    path = Path(item).expanduser()
    if path.is_dir():
        sources = list(_in_folder(path, recursive=recursive))
        if not sources:
            deeper = "" if recursive else "; pass -r to look into its subfolders"
            raise SourceMissingError(f"no picture and no video in the folder {path}{deeper}")
        return sources
    if path.exists():
        return [InputFile(path=path)]
    if glob.has_magic(str(item)):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
        files = [InputFile(path=Path(m), listed=True) for m in matches if Path(m).is_file()]
        if files:
            return files
        only = " but folders; name them, or put /* behind it" if matches else ""
        raise SourceMissingError(f"nothing matches {item}{only}")
    raise SourceMissingError(f"{item} does not exist; check the name and the folder")


def _in_folder(folder: Path, *, recursive: bool) -> Iterable[InputFile]:
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and _suffix(path) in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            yield InputFile(path=path, below=path.parent.relative_to(folder), listed=True)


def num_pictures(sources: Sequence[InputFile]) -> int:
    """About how many pictures these inputs are, before any is opened."""
    return sum(
        MANY_FRAMES if _suffix(s.path) in VIDEO_SUFFIXES or is_sequence(s.path) else 1
        for s in sources
    )


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def check_pattern(pattern: str) -> None:
    """Raise UsageError unless every `{field}` of an output pattern is one that we fill in.

    Conversions and formats (`{stem!r}`, `{index:9}`) are refused.
    """
    try:
        fields = [part for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise UsageError(f"--output-pattern {pattern!r} cannot be read: {error}") from None
    names = {name for _, name, _, _ in fields}
    if any(layout or conversion for _, _, layout, conversion in fields):
        raise UsageError(
            f"--output-pattern takes plain fields such as {{stem}}, without : or ! inside, "
            f"got {pattern!r}"
        )
    if any(is_control(letter) for letter in pattern):
        raise UsageError(f"--output-pattern has control characters in it: {visible(pattern, '')!r}")
    unknown = names - _PATTERN_FIELDS
    if unknown or not names & {"stem", "index"}:
        raise UsageError(
            f"--output-pattern takes {{{'}, {'.join(sorted(_PATTERN_FIELDS))}}} and needs {{stem}} "
            f"or {{index}}, got {pattern!r}"
        )


WRITABLE_AS = {
    "picture": (".png", ".jpg", ".jpeg", ".webp", ".gif"),
    "animation": (".webp", ".gif", ".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    "video": (".mp4", ".m4v", ".mov", ".mkv", ".webm"),
}
"""Endings that can be written as they are, by what is inside; others become the first."""
TRANSPARENT = {".jpg": ".png", ".jpeg": ".png", ".mp4": ".webm", ".m4v": ".webm", ".mkv": ".webm"}
"""Endings that replace those without transparency."""


def plan_jobs(
    sources: Sequence[InputFile],
    output: Path | None,
    labels: Sequence[str],
    *,
    pattern: str,
    overwrite: bool,
    preview: bool = False,
    alpha: bool = False,
) -> list[Job]:
    """Where each input's outputs go.

    One input, one style and an `output` that is no folder: that file. Otherwise `output` is a
    folder (None: the folder of each input) and the names follow `pattern`. One video, one style
    and a folder that is new, empty or full of frames: numbered pictures in it. Labels are the
    styles' (`arcane-12`). A preview is a picture; what is transparent gets an ending that can hold
    it.

    Raises:
        UsageError: two outputs of one name, an output that is an input, a bad pattern.
    """
    check_pattern(pattern)
    if output is not None and not _means_folder(output) and len(sources) * len(labels) == 1:
        if preview and _suffix(output) in VIDEO_SUFFIXES:
            output = output.with_suffix(".preview.png")
        jobs = [Job(source=sources[0], outputs=(output,))]
    elif (
        output is not None
        and not preview
        and len(sources) * len(labels) == 1
        and not sources[0].listed
        and (not is_occupied(output) or (output / TIMES_NAME).exists())
        and _kind(sources[0].path) == "video"
    ):
        jobs = [Job(source=sources[0], outputs=(output,), num_pictures=MANY_FRAMES)]
    else:
        if output is not None and (output.is_file() or _names_media(output)):
            raise UsageError(f"{output} is a file, and there are several outputs; name a folder")
        jobs = [
            Job(
                source=source,
                outputs=tuple(
                    _named(source, output, label, pattern, index, _ending(source, preview, alpha))
                    for label in labels
                ),
                num_pictures=num_pictures(sources),
            )
            for index, source in enumerate(sources)
        ]
    _check_outputs(jobs, overwrite=overwrite)
    return jobs


def _means_folder(output: Path) -> bool:
    return output.is_dir() or output.suffix == ""


def _names_media(output: Path) -> bool:
    return not output.is_dir() and _suffix(output) in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _ending(source: InputFile, preview: bool, alpha: bool) -> str:
    """The input's own, if what is inside can be written so."""
    ending = _suffix(source.path)
    if preview:
        return ".preview.png"
    kind = _kind(source.path)
    if ending not in WRITABLE_AS[kind]:
        ending = WRITABLE_AS[kind][0]
    return TRANSPARENT.get(ending, ending) if alpha else ending


def _kind(path: Path) -> Literal["picture", "animation", "video"]:
    """Recognize the content of a file, whatever its ending is; by its ending if it cannot be
    read."""
    if is_sequence(path):
        return "video"
    try:
        kind = images.identify(path)
    except (DsgError, OSError):
        if _suffix(path) == ".gif":
            return "animation"
        kind = None if _suffix(path) in VIDEO_SUFFIXES else "picture"
    return "animation" if kind == "animation" else "picture" if kind else "video"


def _named(
    source: InputFile, output: Path | None, label: str, pattern: str, index: int, ending: str
) -> Path:
    ext = ending.lstrip(".")

    def named(stem: str) -> str:
        return pattern.format(
            stem=stem, style=label, ext=ext, index=f"{index:05d}", parent=source.path.parent.name
        )

    stem = source.path.stem
    if source.path.is_dir():
        stem = source.path.resolve().name or "frames"
    elif is_sequence(source.path):  # frame_%05d.png
        stem = NUMBER.sub("", stem).rstrip("_-. ") or "frames"
    name = named(stem)
    over = len(os.fsencode(Path(name).name)) - MAX_NAME_BYTES
    if over > 0:  # what was cut off still tells two names apart
        mark = f"-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:6]}"
        kept = max(1, len(os.fsencode(stem)) - over - len(mark))
        name = named(cut_name(stem, kept) + mark)
    folder = source.path.parent if output is None else output / source.below
    _check_name(name, pattern)
    return folder / name


def _check_name(name: str, pattern: str) -> None:
    """Make sure that what a pattern has become is a file below the output folder.

    Raises:
        UsageError: it leads elsewhere, or no file system has such a name.
    """
    path = PurePath(name)
    if path.anchor or ".." in path.parts or not path.name or name.endswith(("/", os.sep)):
        raise UsageError(
            f"--output-pattern {pattern!r} gives {name!r}, which is no file in the output folder; "
            f"leave out .. and leading slashes"
        )
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
        raise UsageError(
            f"--output-pattern {pattern!r} gives a name of more than {MAX_NAME_BYTES} bytes "
            f"({name[:40]!r}...); choose a shorter one"
        )


def parts_folder(output: Path) -> Path:
    """Folder for the parts of an unfinished video: beside its first output."""
    ending = ".dsg-parts"
    return output.with_name(f".{cut_name(output.name, MAX_NAME_BYTES - len(ending) - 1)}{ending}")


def _check_outputs(jobs: Sequence[Job], *, overwrite: bool) -> None:
    """Without `overwrite`, what exists is refused later, unless it is what would be written."""
    inputs = {place_of(job.source.path) for job in jobs}
    seen: dict[str, Path] = {}
    for job in jobs:
        for path in job.outputs:
            key = place_of(path)
            if key == place_of(job.source.path) or (overwrite and key in inputs):
                raise UsageError(
                    f"the output {path} would overwrite an input; choose another -o/--output"
                )
            if key in seen:
                raise UsageError(
                    f"{job.source.path} and {seen[key]} would both be written to {path}; "
                    f"use an --output-pattern with {{parent}} or {{index}}"
                )
            seen[key] = job.source.path
