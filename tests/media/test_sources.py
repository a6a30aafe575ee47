"""One suite for every kind of source, and what is no source at all."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from threading import Thread
from time import sleep

import numpy as np
import pytest
from media.clips import (
    COUNT,
    HEIGHT,
    RATE,
    WIDTH,
    drawn,
    frames,
    number_of,
    write_clip,
    write_sound,
)
from PIL import Image

from dsgcli.errors import SourceError, SourceMissingError, UsageError
from dsgcli.media.base import FrameSource, HeldFrames
from dsgcli.media.images import write_image
from dsgcli.media.read import open_source, preview_frames

MILLISECONDS = [40, 50, 110, 30, 170, 20, 90, 60, 40, 40, 360, 700]
ANIMATIONS = ["gif", "webp", "png"]
VIDEOS = ["mp4", "mkv", "webm", "mov", "avi", "ts", "nut"]


def write_animation(path, durations=MILLISECONDS, **save):
    stills = [Image.fromarray(drawn(i)) for i in range(len(durations))]
    extra = {"lossless": True} if path.suffix == ".webp" else {}
    stills[0].save(
        path, save_all=True, append_images=stills[1:], duration=durations, **(extra | save)
    )
    return path


def make(kind, folder):
    path = folder / f"clip.{kind}"
    if kind == "held":
        return HeldFrames(frames())
    if kind == "numbered":
        for frame in frames():
            write_image(folder / f"frame_{frame.index:03d}.png", frame.pixels)
        return open_source(folder / "frame_%03d.png", rate=RATE)
    if kind == "still.png":
        Image.fromarray(drawn(0)).save(path)
    elif kind in ANIMATIONS:
        write_animation(path)
    elif kind == "webm":
        write_clip(path, codec="libvpx-vp9", options={"lossless": "1", "cpu-used": "8"})
    else:
        write_clip(path)
    return open_source(path)


@pytest.fixture(params=["held", "numbered", "still.png", *ANIMATIONS, *VIDEOS])
def source(request, tmp_path):
    with make(request.param, tmp_path) as opened:
        yield opened


# ── what holds for every source ──────────────────────────────────────────────────────────────────


def test_source_is_a_frame_source(source):
    assert isinstance(source, FrameSource)


def test_source_yields_every_frame_once_and_in_order(source):
    numbers = [number_of(frame.pixels) for frame in source]
    assert numbers == list(range(1 if source.info.kind == "picture" else COUNT))


def test_source_numbers_its_frames_and_starts_at_time_zero(source):
    found = list(source)
    assert [frame.index for frame in found] == list(range(len(found)))
    assert found[0].time == 0
    assert all(a.time < b.time for a, b in pairwise(found))
    assert all(isinstance(frame.time, Fraction) for frame in found)


def test_source_yields_plain_pixels_of_the_said_size(source):
    for frame in source:
        assert frame.pixels.dtype == np.uint8 and frame.pixels.flags.c_contiguous
        assert frame.pixels.shape == (HEIGHT, WIDTH, 3)
        assert frame.size_px == source.info.size_px == (WIDTH, HEIGHT)
        assert frame.alpha is None or frame.alpha.shape == (HEIGHT, WIDTH)


def test_source_can_be_read_again(source):
    first = [frame.pixels for frame in source]
    next(iter(source))  # a pass that is given up disturbs nothing
    for one, two in zip(first, source, strict=True):
        np.testing.assert_array_equal(one, two.pixels)


def test_source_expects_about_as_many_frames_as_there_are(source):
    assert abs(source.info.expected_frames - len(list(source))) <= 1
    assert not source.info.truncated and source.info.warnings == []


def test_source_closes_twice(source):
    iter(source)
    source.close()
    source.close()


def test_video_closed_by_another_thread_ends_quietly(tmp_path):
    """A run that is interrupted closes its source while a thread still reads ahead."""
    path = write_clip(tmp_path / "a.mp4", count=200, draw=lambda n, w, h: drawn(n % 16, w, h))
    for wait_s in (0.0, 0.01, 0.03):
        source, found = open_source(path), []
        reader = Thread(target=lambda source=source, found=found: found.extend(source))
        reader.start()
        sleep(wait_s)
        source.close()
        reader.join(10)
        assert not reader.is_alive() and len(found) <= 200
        assert not source.info.truncated


# ── trimming, skipping, previews ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [*ANIMATIONS, "mp4", "mkv", "avi", "ts"])
def test_trimmed_source_is_a_part_of_the_whole(tmp_path, kind):
    with make(kind, tmp_path) as whole:
        everything = list(whole)
    start, end = everything[4].time - Fraction(1, 100), everything[9].time
    with open_source(whole.info.path, start=start, end=end) as part:
        found = list(part)
    assert [number_of(frame.pixels) for frame in found] == [4, 5, 6, 7, 8]
    assert [frame.time + start for frame in found] == [f.time for f in everything[4:9]]
    assert [frame.index for frame in found] == [0, 1, 2, 3, 4]
    for frame, same in zip(found, everything[4:9], strict=True):
        np.testing.assert_array_equal(frame.pixels, same.pixels)
    assert part.info.duration == end - start


@pytest.mark.parametrize("kind", ["gif", "mp4", "mkv"])
def test_skipped_frames_change_nothing_for_the_others(tmp_path, kind):
    with make(kind, tmp_path) as whole:
        everything = list(whole)
    with open_source(whole.info.path, skip=7) as rest:
        found = list(rest)
    assert [f.index for f in found] == [7, 8, 9, 10, 11]
    assert [f.time for f in found] == [f.time for f in everything[7:]]
    for frame, same in zip(found, everything[7:], strict=True):
        np.testing.assert_array_equal(frame.pixels, same.pixels)


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_trim_that_leaves_nothing_is_an_error(tmp_path, kind):
    path = make(kind, tmp_path).info.path
    with pytest.raises(SourceError, match="lasts"):
        open_source(path, start=Fraction(100))
    for start, end in (
        (Fraction(1), Fraction(1)),
        (Fraction(2), Fraction(1)),
        (Fraction(-1), None),
        (None, Fraction(0)),
    ):
        with pytest.raises(UsageError, match="leaves nothing"):
            open_source(path, start=start, end=end)


@pytest.mark.parametrize("kind", ["gif", "mp4", "mkv", "ts"])
def test_preview_is_spread_over_the_whole(tmp_path, kind):
    path = make(kind, tmp_path).info.path
    found = [number_of(frame.pixels) for frame in preview_frames(path, 4)]
    assert len(found) == 4 and sorted(found) == found
    assert found[0] <= 2 and found[-1] >= 9
    assert len(preview_frames(path, 50)) == COUNT


def test_preview_of_a_picture_is_the_picture(tmp_path):
    path = make("still.png", tmp_path).info.path
    assert [number_of(frame.pixels) for frame in preview_frames(path, 9)] == [0]


# ── animations ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_animation_keeps_its_durations(tmp_path, kind):
    with open_source(write_animation(tmp_path / f"a.{kind}")) as source:
        found = list(source)
    assert [frame.duration for frame in found] == [Fraction(ms, 1000) for ms in MILLISECONDS]
    assert [frame.time for frame in found] == [
        Fraction(sum(MILLISECONDS[:i]), 1000) for i in range(len(MILLISECONDS))
    ]
    assert source.info.kind == "animation" and source.info.duration == Fraction(
        sum(MILLISECONDS), 1000
    )


def test_unspecified_duration_is_a_tenth_of_a_second_as_in_browsers(tmp_path):
    with open_source(write_animation(tmp_path / "a.gif", [0] * 3)) as source:
        assert [frame.time for frame in source] == [0, Fraction(1, 10), Fraction(1, 5)]


@pytest.mark.parametrize(("disposal", "expected"), [(1, (255, 255)), (2, (0, 255))])
def test_gif_parts_are_disposed_of_as_they_say(tmp_path, disposal, expected):
    """Two patches after one another: with disposal 2, the first is gone when the second comes."""

    def patch(left):
        image = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
        image.paste((200, 10, 10, 255), (left, 0, left + 10, 20))
        return image

    path = tmp_path / "a.gif"
    patch(0).save(
        path, save_all=True, append_images=[patch(20)], duration=100, disposal=disposal, loop=0
    )
    with open_source(path) as source:
        last = list(source)[-1]
    assert (last.alpha[10, 5], last.alpha[10, 25]) == expected
    assert source.info.has_alpha


def test_still_gif_is_a_picture(tmp_path):
    Image.fromarray(drawn(0)).save(tmp_path / "a.gif")
    assert open_source(tmp_path / "a.gif").info.kind == "picture"


def test_truncated_animation_yields_what_is_there(tmp_path):
    path = write_animation(tmp_path / "a.gif")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(path) as source:
        found = list(source)
    assert 2 <= len(found) < COUNT
    assert [number_of(frame.pixels) for frame in found] == list(range(len(found)))


# ── what is no source ────────────────────────────────────────────────────────────────────────────


def test_content_decides_not_the_name(tmp_path):
    write_clip(tmp_path / "a.mp4").rename(tmp_path / "a.jpg")
    assert open_source(tmp_path / "a.jpg").info.kind == "video"
    Image.fromarray(drawn(0)).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.mp4")
    assert open_source(tmp_path / "b.mp4").info.kind == "picture"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.png", "a.txt", "a", "a.m3u8", "a.srt"])
@pytest.mark.parametrize(
    "text",
    [
        "I am a text file. " * 200,
        "#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        "ffconcat version 1.0\nfile other.mp4\n",
        "1\n00:00:00,000 --> 00:00:01,000\nHello\n",
        "\0" * 5000,
    ],
    ids=["prose", "playlist", "concat", "subtitles", "zeros"],
)
def test_text_is_an_error_whatever_its_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=name):
        open_source(tmp_path / name)


def test_sound_alone_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no moving picture, only audio"):
        open_source(write_sound(tmp_path / "a.mp4"))


def test_video_without_frames_is_an_error(tmp_path):
    for name in ("a.mkv", "a.mp4"):
        write_clip(tmp_path / name, count=0, audio=["aac"], audio_s=Fraction(1, 5))
        with pytest.raises(SourceError, match=name):
            open_source(tmp_path / name)


def test_missing_folder_and_empty_are_errors(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="0 bytes"):
        open_source(tmp_path / "empty.mp4")
    with pytest.raises(SourceMissingError, match="does not exist"):
        open_source(tmp_path / "none.mp4")
    with pytest.raises(SourceMissingError, match="is a folder"):
        open_source(tmp_path)


def test_name_that_looks_like_a_url_is_a_file(tmp_path, monkeypatch):
    write_clip(tmp_path / "concat:a|b.mp4")
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    assert open_source(Path("concat:a|b.mp4")).info.kind == "video"
