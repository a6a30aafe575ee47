"""Opens what frames are written to: path -> FrameSink.

The name of the target decides what is written:

    .mp4 .m4v .mov .mkv .webm   a video; sound, subtitles and the rest come from the source
    .gif .webp                  an animation (a .webp is a picture if the source is one)
    .png .jpg .jpeg             one picture; with a number in its name (`frame_%05d.png`) a sequence
    a folder, or no suffix      pictures 000000.png, ... and frames.json with their times
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from dsgcli.errors import DsgError, OutputExistsError, SinkError
from dsgcli.media import images
from dsgcli.media.animated import WebPSink
from dsgcli.media.base import (
    CONTAINERS,
    NUMBER,
    VIDEO_SUFFIXES,
    FrameSink,
    PhotoData,
    SinkOptions,
    SourceInfo,
    ThreadedSink,
    numbered,
)
from dsgcli.media.files import AtomicFile, check_output, make_folder, sink_error
from dsgcli.types import Frame

TIMES_NAME = "frames.json"


def holds_alpha(path: Path, options: SinkOptions) -> bool:
    """Whether transparency can be written to a target with these options."""
    suffix = path.suffix.lower()
    if not suffix or path.is_dir() or suffix in (".png", ".webp", ".gif"):
        return True
    if suffix not in CONTAINERS:
        return False
    from dsgcli.media.video_writer import choose_encoder

    try:
        choose_encoder(path, replace(options, alpha=True))
    except DsgError:
        return False
    return True


def open_sink(
    path: Path, options: SinkOptions | None = None, source: SourceInfo | None = None
) -> FrameSink:
    """Open a target for frames.

    Args:
        source: what the frames come from: clock, color tags, and for a video all that is copied.

    Raises:
        OutputExistsError: it exists and `options.overwrite` is False.
        SinkError: no such kind of output, or its folder cannot be written.
        UsageError: options that the codec does not know.
    """
    options = options or SinkOptions()
    suffix = path.suffix.lower()
    if not suffix or path.is_dir() or is_numbered(path):
        return SequenceSink(path, options)
    if suffix in CONTAINERS:
        from dsgcli.media.video_writer import VideoSink

        check_output(path, overwrite=options.overwrite)
        return ThreadedSink(VideoSink(path, options, source))
    if suffix == ".gif":
        from dsgcli.media.video_writer import GifSink

        check_output(path, overwrite=options.overwrite)
        return ThreadedSink(GifSink(path, options))
    if suffix == ".webp" and not (source and source.kind == "picture"):
        check_output(path, overwrite=options.overwrite)
        return ThreadedSink(WebPSink(path, options))
    if images.can_write(path):
        return PictureSink(path, options, source.photo if source else PhotoData())
    raise SinkError(
        f"{path}: cannot write {suffix} files; choose one of {' '.join(VIDEO_SUFFIXES)} .gif .webp "
        f".png .jpg, or a folder"
    )


def is_numbered(path: Path) -> bool:
    """Whether a name has a place for a number, as `frame_%05d.png`."""
    return images.can_write(path) and NUMBER.search(path.name) is not None


def is_occupied(path: Path) -> bool:
    """Whether something is in the place of an output: a file, a folder that is not empty, or the
    first picture of a numbered sequence."""
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() or (is_numbered(path) and path.with_name(numbered(path.name, 0)).exists())


class PictureSink(FrameSink):
    """One picture."""

    def __init__(self, path: Path, options: SinkOptions, photo: PhotoData) -> None:
        check_output(path, overwrite=options.overwrite)
        self.path, self.notes, self.num_frames = path, [], 0
        self._options = options
        self._photo = photo if options.location else images.without_location(photo)
        self._frame: Frame | None = None

    def write(self, frame: Frame) -> None:
        """Take the frame.

        Raises:
            SinkError: it is the second.
        """
        if self._frame is not None:
            raise SinkError(
                f"{self.path} holds one picture, and there are more frames; "
                f"write a .mp4, a .gif, a folder, or a name with a number (frame_%05d.png)"
            )
        self._frame = frame
        self.num_frames = 1

    def close(self) -> None:
        if self._frame is None:
            raise SinkError(f"{self.path}: there was no frame to write")
        images.write_image(
            self.path,
            self._frame.pixels,
            alpha=self._frame.alpha if self._options.alpha else None,
            quality=self._options.quality,
            metadata=self._options.metadata,
            photo=self._photo,
            overwrite=self._options.overwrite,
        )

    def abort(self) -> None:
        self._frame = None


class SequenceSink(FrameSink):
    """Numbered pictures: a folder of PNG files with a JSON file of their times, or files after a
    pattern in a folder that may hold others.

    They are written into a hidden folder and moved when all are there.
    """

    def __init__(self, path: Path, options: SinkOptions) -> None:
        self.path, self.notes, self.num_frames = path, [], 0
        self._options = options
        self._times: list[dict[str, str | None]] = []
        if is_numbered(path):
            self._pattern, folder = path.name, path.parent / "frames"
            make_folder(path.parent)
            self._check_names(1)
        else:
            self._pattern, folder = "%06d.png", path
            _check_folder(path, overwrite=options.overwrite)
        self._beside = AtomicFile(folder)

    def write(self, frame: Frame) -> None:
        if not self.num_frames:
            make_folder(self._beside.temporary)
        name = numbered(self._pattern, self.num_frames)
        images.save(
            self._beside.temporary / name,
            frame.pixels,
            alpha=frame.alpha if self._options.alpha else None,
            quality=self._options.quality,
            metadata=self._options.metadata,
        )
        lasts = None if frame.duration is None else str(frame.duration)
        self._times.append({"file": name, "time_s": str(frame.time), "duration_s": lasts})
        self.num_frames += 1

    def close(self) -> None:
        if not self.num_frames:
            raise SinkError(f"{self.path}: there was no frame to write")
        try:
            if is_numbered(self.path):
                self._check_names(self.num_frames)
                for file in sorted(self._beside.temporary.iterdir()):
                    file.replace(self.path.with_name(file.name))
                self._beside.discard()
                return
            text = json.dumps({"frames": self._times}, indent=1)
            (self._beside.temporary / TIMES_NAME).write_text(text, "utf-8")
        except OSError as error:
            self.abort()
            raise sink_error(self.path, error) from error
        except OutputExistsError:
            self.abort()
            raise
        self._beside.commit()

    def abort(self) -> None:
        self._beside.discard()

    def _check_names(self, count: int) -> None:
        for number in range(count):
            target = self.path.with_name(numbered(self._pattern, number))
            if target.exists() and not self._options.overwrite:
                raise OutputExistsError(target)


def _check_folder(path: Path, *, overwrite: bool) -> None:
    """A folder is only ever replaced if it holds nothing but what a `SequenceSink` wrote."""
    make_folder(path.parent)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputExistsError(path)
    names = {entry.name for entry in path.iterdir()}
    if not names:
        return
    foreign = sorted(n for n in names if n != TIMES_NAME and not re.fullmatch(r"\d{6}\.png", n))
    if foreign:
        raise SinkError(f"{path} holds other files ({foreign[0]}); choose another folder")
    if not overwrite:
        raise OutputExistsError(path)
