"""Opens what holds frames: path -> FrameSource. Also previews, and the metadata that dsg wrote.

The content of a file decides what it is, never its name. A folder, or a pattern with a number
(`frame_%05d.png`), is read as one sequence of pictures if it is given a rate.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from dsgcli.errors import SourceError, SourceMissingError, UsageError
from dsgcli.media import images
from dsgcli.media.animated import AnimationSource
from dsgcli.media.base import NUMBER, FrameSource, HeldFrames, SourceInfo, trimmed
from dsgcli.media.files import hash_file
from dsgcli.types import Frame


def open_source(
    path: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    skip: int = 0,
    rate: Fraction | None = None,
) -> FrameSource:
    """Open a picture, an animation (GIF, WebP, PNG), a video, or with `rate` numbered pictures.

    Args:
        start: seconds; frames before it are left out, and it becomes time 0.
        end: seconds from the beginning of the file; frames from it on are left out.
        skip: frames to leave out after that, without changing the time and index of the others: a
            resumed run goes on where it stopped.
        rate: frames per second of a sequence; `path` is then a folder or a pattern.

    Raises:
        SourceMissingError: it does not exist, or is a folder.
        SourceError: it is neither, is damaged beyond use, or has no frames there.
        UsageError: `end` is not after `start`, or one of them is negative.
    """
    if (start is not None and start < 0) or (end is not None and end <= (start or 0)):
        times = ("(not given)" if time is None else f"{float(time):g}" for time in (start, end))
        raise UsageError(
            "--start {} --end {} leaves nothing; the end must be after the start, both in seconds "
            "from the beginning".format(*times)
        )
    if rate is not None and is_sequence(path):
        return SequenceSource(path, rate, start=start or Fraction(0), end=end, skip=skip)
    match images.identify(path):
        case "picture":
            return _picture(path)
        case "animation":
            return AnimationSource(path, start=start or Fraction(0), end=end, skip=skip)
        case _:
            from dsgcli.media.video_reader import VideoSource

            return VideoSource(path, start=start, end=end, skip=skip)


def is_sequence(path: Path) -> bool:
    """Whether a path names several pictures: a folder, or a pattern with a number."""
    return path.is_dir() or (NUMBER.search(path.name) is not None and not path.exists())


def sequence_files(path: Path) -> list[Path]:
    """The pictures of a sequence in the order of their numbers.

    In a folder, the number of a picture is the last one in its name, so that `frame_10.png` comes
    after `frame_9.png`; pictures without a number come first, by name.

    Raises:
        SourceMissingError: there are none.
    """
    folder = path if path.is_dir() else path.parent
    names = re.compile(r".*")
    if not path.is_dir():
        before, _, after = NUMBER.split(path.name, maxsplit=1)
        names = re.compile(re.escape(before) + r"\d+" + re.escape(after))
    try:
        found = [
            entry
            for entry in folder.iterdir()
            if images.can_read(entry)
            and not entry.name.startswith(".")
            and names.fullmatch(entry.name)
        ]
    except OSError:
        found = []
    if not found:
        raise SourceMissingError(f"{path}: there is no numbered picture; check the name")

    def number(file: Path) -> tuple[int, str]:
        digits = re.findall(r"\d+", file.stem)
        return int(digits[-1]) if digits else -1, file.name

    return sorted(found, key=number)


def hash_source(path: Path) -> str:
    """Hash of the content of a file, or of all pictures of a sequence with their names.

    Raises:
        SourceMissingError, SourceError: as `check_input` of each file.
    """
    if not is_sequence(path):
        return hash_file(path)
    parts = [f"{file.name} {hash_file(file)}" for file in sequence_files(path)]
    return hashlib.blake2b("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


class SequenceSource(FrameSource):
    """Pictures of one size, shown one after the other at a constant rate."""

    def __init__(
        self, path: Path, rate: Fraction, *, start: Fraction, end: Fraction | None, skip: int
    ) -> None:
        self._files, self._skip = sequence_files(path), skip
        total = len(self._files) / rate
        duration = min(end or total, total) - start
        if duration <= 0:
            raise SourceError(f"{path} lasts {float(total):g} s; nothing is left of it")
        first = images.read_image(self._files[0])
        self.info = SourceInfo(
            kind="animation",
            path=path,
            size_px=first.size_px,
            rate=rate,
            duration=duration,
            container="pictures",
            codec=self._files[0].suffix[1:].lower(),
            time_base=1 / rate,
            start=start,
            end=end,
            has_alpha=first.alpha is not None,
        )

    def __iter__(self) -> Iterator[Frame]:
        return trimmed(self._all(), self.info.start, self.info.end, self._skip)

    def _all(self) -> Iterator[Frame]:
        assert self.info.rate is not None
        for number, file in enumerate(self._files):
            frame = images.read_image(file)
            if frame.size_px != self.info.size_px:
                raise SourceError(
                    f"{file} has {frame.size_px[0]}x{frame.size_px[1]} pixels, and the first "
                    f"picture {self.info.size_px[0]}x{self.info.size_px[1]}; all pictures of a "
                    f"sequence need one size"
                )
            time, lasts = number / self.info.rate, 1 / self.info.rate
            yield Frame(pixels=frame.pixels, alpha=frame.alpha, time=time, duration=lasts)


def _picture(path: Path) -> HeldFrames:
    with images.open_picture(path) as image:
        frame = images.load_frame(image, path)
        info = SourceInfo(
            kind="picture",
            path=path,
            size_px=frame.size_px,
            container=(image.format or "").lower(),
            codec=(image.format or "").lower(),
            has_alpha=frame.alpha is not None,
            photo=images.photo_data(image),
        )
        count = images.num_frames(image)
        if count > 1 and image.format == "TIFF":
            info.warn(f"it has {count} pages; the first is used")
    return HeldFrames([frame], info)


def preview_frames(
    path: Path,
    count: int,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    rate: Fraction | None = None,
) -> list[Frame]:
    """About `count` frames, evenly spread over what `open_source` would yield; fewer if it has
    fewer. Videos are not read in between. Raises as `open_source`."""
    with open_source(path, start=start, end=end, rate=rate) as source:
        if source.info.kind == "video":
            from dsgcli.media.video_reader import sample_video

            return sample_video(path, source.info, count)
        total = source.info.expected_frames or 1
        wanted = {(2 * i + 1) * total // (2 * count) for i in range(count)}
        return [frame for i, frame in enumerate(source) if i in wanted]


def read_metadata(path: Path) -> dict[str, str]:
    """The `metadata` that `write_image` or a sink was given; empty if there is none of dsg.

    Raises:
        SourceMissingError, SourceError: as `open_source`.
    """
    if images.identify(path) is not None:
        texts: list[str | bytes] = [images.read_own_text(path)]
    else:
        from dsgcli.media.video_reader import read_own_texts

        texts = list(read_own_texts(path))
    for text in texts:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {str(key): str(value) for key, value in found.items()}
    return {}
