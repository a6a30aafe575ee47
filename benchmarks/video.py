"""Whole videos against the networks alone: what everything around the generator costs a frame."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from stylize import write_random_model

from dsgcli.media.base import SinkOptions
from dsgcli.media.write import open_sink
from dsgcli.stylize.batch import run_job
from dsgcli.stylize.jobs import InputFile, Job
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.studio import Studio, open_studio
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.drawn_clip import draw_clip
from dsgcli.types import Frame

NUM_FRAMES = 8
FPS = 25
CROP_SHARE = 0.62
"""Side of a face's crop in a drawn clip, of the clip's height."""
RUNS = {
    "frames": "whole run, faces found and cut out (`--crop`)",
    "crops": "whole run, frames that are crops (`--aligned yes`)",
}

Calls = dict[str, Callable[[], object]]


def video_calls(size_px: int, stack: ExitStack) -> Calls:
    """What to time: the generator and the encoder alone, and whole runs; of `NUM_FRAMES` pictures
    each. Networks are loaded here and bound in the first call, so that start does not count."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    style = write_random_model(folder / "models", size_px, tiny=False)
    side = 2 * round(size_px / CROP_SHARE / 2)
    clips = {
        "frames": _write(folder / "frames.mp4", draw_clip(NUM_FRAMES, side, side, fps=FPS)),
        "crops": _write(folder / "crops.mp4", _crops(size_px)),
    }
    options = StylizeOptions(
        style=(style,), pretrained=folder / "models", crop=True, aligned="no", overwrite=True
    )
    studio = stack.enter_context(open_studio(options))
    return _networks(studio) | {
        name: _run_of(studio, clip, aligned=name == "crops") for name, clip in clips.items()
    }


def _networks(studio: Studio) -> Calls:
    """The two networks, as the loop runs them: one picture after the other."""
    role = studio.casts[0].role
    portraits, rows = role.portraits, role.portraits.face_rows(role.look)
    width = role.look.exstyle.shape[1]
    codes = torch.randn(1, portraits.layout.num_latents, width)
    assert portraits.encoder is not None
    face = torch.rand(1, 3, *(portraits.encoder.config.input_px,) * 2) * 2 - 1
    portraits.expect(10 * NUM_FRAMES)

    def draw() -> None:
        for _ in range(NUM_FRAMES):
            portraits.draw_images(codes, role.look)

    def encode() -> None:
        for _ in range(NUM_FRAMES):
            portraits.encode_images(face, rows)

    return {"generator": draw, "encoder": encode}


def _run_of(studio: Studio, clip: Path, *, aligned: bool) -> Callable[[], object]:
    """A run over one clip with networks that are there."""
    told = replace(studio.options, aligned="yes" if aligned else "no")
    own = replace(studio, options=told)
    job = Job(source=InputFile(path=clip), outputs=(clip.with_name(f"{clip.stem}-out.mp4"),))

    def draw() -> None:
        result = run_job(job, own)
        assert result.faces == NUM_FRAMES, result

    return draw


def _crops(size_px: int) -> Iterator[Frame]:
    """One face that shifts a little."""
    pixels = draw_portrait(2, size_px)
    for index in range(NUM_FRAMES):
        yield Frame(pixels=np.roll(pixels, index, axis=1), index=index, time=Fraction(index, FPS))


def _write(path: Path, frames: Iterable[Frame]) -> Path:
    with open_sink(path, SinkOptions(), None) as sink:
        for frame in frames:
            sink.write(frame)
    return path
