"""Numbered pictures, in and out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from media.clips import COUNT, HEIGHT, WIDTH, frames, names, number_of

from dsgcli.errors import OutputExistsError, SourceError, SourceMissingError
from dsgcli.media.base import SinkOptions
from dsgcli.media.images import read_image, write_image
from dsgcli.media.read import hash_source, open_source
from dsgcli.media.write import open_sink


def write(path, shown=None, **options):
    with open_sink(path, SinkOptions(**options)) as sink:
        for frame in frames() if shown is None else shown:
            sink.write(frame)


@pytest.fixture
def folder(tmp_path):
    """Frames 0 to 11 as `shot-8.png`, ..., `shot-19.png`: by name, 8 would come last."""
    (tmp_path / "in").mkdir()
    for frame in frames():
        write_image(tmp_path / "in" / f"shot-{frame.index + 8}.png", frame.pixels)
    (tmp_path / "in" / "notes.txt").write_text("none of them")
    (tmp_path / "in" / ".hidden-9.png").write_bytes(b"nor this")
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["", "shot-%d.png", "shot-%02d.png"])
def test_sequence_is_read_in_the_order_of_its_numbers(folder, name):
    with open_source(folder / name, rate=Fraction(24)) as source:
        read = list(source)
        assert source.info.rate == 24 and source.info.expected_frames == COUNT
        assert source.info.size_px == (WIDTH, HEIGHT) and source.info.duration == Fraction(1, 2)
    assert [number_of(frame.pixels) for frame in read] == list(range(COUNT))
    assert [frame.time for frame in read] == [Fraction(i, 24) for i in range(COUNT)]


def test_sequence_is_trimmed_and_skipped_as_a_video_is(folder):
    with open_source(folder, rate=Fraction(10), start=Fraction(3, 10), skip=2) as source:
        assert [number_of(frame.pixels) for frame in source] == list(range(5, COUNT))
        assert next(iter(source)).time == Fraction(2, 10)


def test_pattern_takes_only_its_own_pictures(folder):
    write_image(folder / "other-1.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with open_source(folder / "shot-%d.png", rate=Fraction(24)) as source:
        assert len(list(source)) == COUNT


def test_picture_of_another_size_is_named(folder):
    write_image(folder / "shot-12.png", np.zeros((HEIGHT, 10, 3), np.uint8), overwrite=True)
    with (
        open_source(folder, rate=Fraction(24)) as source,
        pytest.raises(SourceError, match=r"shot-12\.png has 10x48 pixels.*need one size"),
    ):
        list(source)


@pytest.mark.parametrize("name", ["empty", "empty/frame_%05d.png", "missing/frame_%d.png"])
def test_sequence_without_pictures_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceMissingError, match="no numbered picture"):
        open_source(tmp_path / name, rate=Fraction(24))


def test_hash_of_a_sequence_changes_with_any_picture(folder):
    before = hash_source(folder)
    assert hash_source(folder) == before != hash_source(folder / "shot-8.png")
    write_image(folder / "shot-10.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8), overwrite=True)
    assert hash_source(folder) != before


def test_pattern_names_the_pictures_that_are_written(tmp_path):
    (tmp_path / "old.txt").write_text("stays")
    write(tmp_path / "frame_%05d.png")
    written = [f"frame_{i:05d}.png" for i in range(COUNT)]
    assert names(tmp_path) == [*written, "old.txt"]
    for index, name in enumerate(written):
        assert number_of(read_image(tmp_path / name).pixels) == index


@pytest.mark.parametrize("name", ["{x}%03d 100%.jpg", "50%d.webp"])
def test_pattern_may_have_any_letters(tmp_path, name):
    write(tmp_path / name, frames()[:2])
    assert len(names(tmp_path)) == 2


def test_pattern_replaces_nothing_unless_told_to(tmp_path):
    target = tmp_path / "frame_%d.png"
    write_image(tmp_path / "frame_3.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(OutputExistsError, match=r"frame_3\.png"):
        write(target)
    assert names(tmp_path) == ["frame_3.png"]
    write(target, overwrite=True)
    assert (
        len(names(tmp_path)) == COUNT
        and number_of(read_image(tmp_path / "frame_3.png").pixels) == 3
    )


def test_aborted_sequence_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="stop"), open_sink(tmp_path / "f_%d.png") as sink:
        sink.write(frames()[0])
        raise ValueError("stop")
    assert names(tmp_path) == []
