"""The loop, played with faces whose every place is known: what holds for any model."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from stylize.staging import (
    BLUE,
    FACE_PX,
    HEIGHT,
    RED,
    WIDTH,
    Actor,
    Play,
    ScriptedDetector,
    around,
    difference,
    make_crew,
    make_studio,
    perform,
    still,
)

from dsgcli.errors import DsgError, NoFaceError
from dsgcli.faces import warp
from dsgcli.faces.align import looks_aligned
from dsgcli.faces.detect import Sweep
from dsgcli.media.base import SourceInfo
from dsgcli.portraits import Portraits
from dsgcli.stylize.file import faces_note
from dsgcli.stylize.summary import FileResult
from dsgcli.types import Frame

UNEVEN = [Fraction(n, 1000) for n in (0, 40, 90, 200, 210, 900, 933, 1500, 1540, 3100, 3140, 3200)]


def walk(index, start=40.0, step=2.0, **look):
    return Actor(start + step * index, **look)


def one_walking(num_frames=12, **options):
    return Play(num_frames, lambda i: [walk(i)], **options)


def inside_crops(drawn):
    """(H, W) bool: pixels that lie in the square of any portrait, or so near that interpolation
    reaches it."""
    margin = 2 / 64
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(HEIGHT * WIDTH, bool)
    for crop in drawn.shot.crops:
        own = warp.to_crop(crop.transform, points) / crop.transform.size_px
        inside |= ((own >= -margin) & (own <= 1 + margin)).all(axis=1)
    return inside.reshape(HEIGHT, WIDTH)


def assert_next_to_equal(one, other):
    """Up to rounding, which depends on what is computed together."""
    pixels, others = one.pictures[0].pixels.astype(int), other.pictures[0].pixels
    assert np.abs(pixels - others).max() <= 1


def tracks(performed):
    return [[face.track for face in drawn.shot.faces] for drawn in performed]


# ── frames out are frames in ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("smooth", [0.0, 0.2, 5.0])
def test_every_frame_comes_out_once_in_order_at_its_time(tiny_store, smooth):
    play = one_walking(len(UNEVEN), times=UNEVEN)
    performed = perform(tiny_store, play, smooth=smooth)
    pictures = [drawn.pictures[0] for drawn in performed]
    assert [picture.time for picture in pictures] == UNEVEN
    assert [picture.index for picture in pictures] == list(range(len(UNEVEN)))


def test_pixels_outside_the_portraits_are_those_of_the_frame_bit_for_bit(tiny_store):
    play = Play(6, lambda i: [walk(i), walk(i, 120, 0, color=BLUE, degrees=15.0)])
    for frame, drawn in zip(play.frames, perform(tiny_store, play), strict=True):
        inside, picture = inside_crops(drawn), drawn.pictures[0].pixels
        np.testing.assert_array_equal(picture[~inside], frame.pixels[~inside])
        assert difference(picture[inside], frame.pixels[inside]) > 5


def test_the_same_frames_come_out_whatever_the_threads_do(tiny_store):
    play = one_walking(10)
    dice = random.Random(3)
    slow = ScriptedDetector(play.script, pause=lambda: time.sleep(0.02 * dice.random()))
    studio = make_studio(tiny_store, slow)
    again = list(make_crew(studio).run(play.frames, studio.casts))
    for one, other in zip(perform(tiny_store, play), again, strict=True):
        np.testing.assert_array_equal(one.pictures[0].pixels, other.pictures[0].pixels)


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_the_size_of_batches_changes_next_to_nothing(tiny_store, batch_size):
    play = one_walking(7)
    usual, other = perform(tiny_store, play), perform(tiny_store, play, batch_size=batch_size)
    for one, two in zip(usual, other, strict=True):
        assert_next_to_equal(one, two)


def test_a_stream_without_end_is_drawn_as_it_comes_and_can_be_left(tiny_store):
    """Memory is bounded: a few queues of frames, and what smoothing looks ahead."""
    play = one_walking(12)
    taken = []

    def endless():
        for index in itertools.count():
            taken.append(index)
            frame = play.frame(index % 12)
            yield Frame(pixels=frame.pixels, index=index, time=Fraction(index, 25))

    endless_script = ScriptedDetector(lambda index: play.script(index % 12))
    studio = make_studio(tiny_store, endless_script)
    before = threading.active_count()
    run = make_crew(studio).run(endless(), studio.casts)
    performed = list(itertools.islice(run, 20))
    run.close()
    assert [drawn.shot.index for drawn in performed] == list(range(20))
    assert len(taken) < 20 + 60
    assert threading.active_count() == before


# ── who is drawn ─────────────────────────────────────────────────────────────────────────────────


def crossing(index):
    """Two people who walk through each other's places, one before the other."""
    return [
        Actor(35 + 5.0 * index, y=44, color=RED, size=30),
        Actor(125 - 5.0 * index, y=76, color=BLUE, size=30),
    ]


def test_faces_that_cross_keep_their_numbers_and_their_styles(tiny_store):
    play = Play(19, crossing)
    both = perform(tiny_store, play, face_style=("1=ink",))
    plain = {style: perform(tiny_store, play, style=(style,)) for style in ("toon", "ink")}
    assert tracks(both)[0] == [0, 1]
    assert tracks(both)[-1] == [1, 0]
    for index in (0, 3, 15, 18):  # where neither covers the other
        for actor, mine, others in zip(
            crossing(index), ("toon", "ink"), ("ink", "toon"), strict=True
        ):
            drawn = around(both[index].pictures[0].pixels, actor)
            right = around(plain[mine][index].pictures[0].pixels, actor)
            wrong = around(plain[others][index].pictures[0].pixels, actor)
            assert difference(drawn, right) < 0.5 < 5 < difference(drawn, wrong)


@pytest.mark.parametrize(
    ("faces", "drawn"),
    [("all", [30, 80, 130]), ("largest", [80]), ("2", [80, 130]), ("0,2", [30, 130]), ("1,", [80])],
)
def test_the_faces_that_are_chosen_are_drawn(tiny_store, faces, drawn):
    trio = still(Actor(30, size=26), Actor(80, size=36), Actor(130, size=30))
    performed = perform(tiny_store, Play(3, trio), faces=faces)
    for shot in (one.shot for one in performed):
        middles = [round(crop.transform.quad[:, 0].mean()) for crop in shot.crops]
        assert middles == drawn


def test_faces_enter_and_leave(tiny_store):
    play = Play(15, lambda i: [Actor(80)] if 5 <= i < 10 else [])
    performed = perform(tiny_store, play)
    assert [len(drawn.shot.crops) for drawn in performed] == [0] * 5 + [1] * 5 + [0] * 5
    for frame, drawn in zip(play.frames, performed, strict=True):
        same = np.array_equal(frame.pixels, drawn.pictures[0].pixels)
        assert same == (not drawn.shot.crops)


def test_a_face_at_the_edge_of_the_picture_is_drawn(tiny_store):
    play = Play(3, lambda i: [Actor(4 - 10 * i), Actor(WIDTH + 2, y=HEIGHT - 3)])
    performed = perform(tiny_store, play)
    assert [len(drawn.shot.crops) for drawn in performed] == [2, 2, 2]


def test_several_styles_are_several_pictures_from_one_encoding(tiny_store, monkeypatch):
    encoded = []
    encode = Portraits.encode
    monkeypatch.setattr(
        Portraits,
        "encode",
        lambda self, crops, rows: encoded.append(len(crops)) or encode(self, crops, rows),
    )
    play = Play(6, still(Actor(50), Actor(110, color=BLUE)))
    styles = ("toon:1", "toon:2", "ink:0")
    performed = perform(tiny_store, play, style=styles)
    assert sum(encoded) == 12
    assert all(len(drawn.pictures) == 3 for drawn in performed)
    for number, style in enumerate(styles):
        for one, alone in zip(performed, perform(tiny_store, play, style=(style,)), strict=True):
            np.testing.assert_array_equal(one.pictures[number].pixels, alone.pictures[0].pixels)


# ── over time ────────────────────────────────────────────────────────────────────────────────────


def centers(performed, which="faces"):
    return np.array([getattr(d.shot, which)[0].landmarks.mean(0) for d in performed])


def test_steady_motion_passes_the_smoothing_unchanged(tiny_store):
    performed = perform(tiny_store, one_walking(14), smooth=0.2)
    np.testing.assert_allclose(centers(performed), centers(performed, "seen"), atol=1e-9)


def test_trembling_is_smoothed_away(tiny_store):
    dice = np.random.default_rng(0)
    shaken = [Actor(80 + dx, 60 + dy) for dx, dy in dice.normal(0, 1.0, (25, 2))]
    play = Play(25, lambda i: [shaken[i]])
    performed = perform(tiny_store, play, smooth=0.2)
    found, smooth = centers(performed, "seen"), centers(performed)
    assert np.diff(smooth, n=2, axis=0).std() < 0.15 * np.diff(found, n=2, axis=0).std()
    loose = perform(tiny_store, play, smooth=0.0)
    np.testing.assert_array_equal(centers(loose), found)


def test_nothing_is_smoothed_across_a_scene_cut(tiny_store):
    """Someone else stands almost where the one before stood."""
    play = Play(
        12,
        lambda i: [Actor(80 if i < 6 else 86, color=RED if i < 6 else BLUE)],
        scene=lambda i: int(i >= 6),
    )
    performed = perform(tiny_store, play, smooth=0.2)
    assert tracks(performed) == [[0]] * 6 + [[1]] * 6
    np.testing.assert_allclose(centers(performed), centers(performed, "seen"), atol=1e-9)
    for drawn in performed:
        torch.testing.assert_close(drawn.shot.codes[0][0], drawn.shot.encoded[0][0])


def test_codes_are_smoothed_over_time(tiny_store):
    """Someone whose looks flicker, while the face stays where it is."""
    flicker = Play(20, lambda i: [Actor(80, color=(200 + 20 * (i % 2), 150, 120))])
    performed = perform(tiny_store, flicker, smooth=0.2)
    found = torch.stack([drawn.shot.encoded[0][0] for drawn in performed])
    smooth = torch.stack([drawn.shot.codes[0][0] for drawn in performed])
    assert smooth.diff(dim=0).abs().mean() < 0.2 * found.diff(dim=0).abs().mean()


def test_a_searching_eye_looks_hard_only_now_and_then_where_there_is_no_face(tiny_store):
    play = Play(50, still())
    studio = make_studio(tiny_store, detector := play.detector)
    list(make_crew(studio).run(play.frames, studio.casts))
    assert Counter(detector.efforts) == {"search": 4, "glance": 46}  # two seconds


def test_a_video_is_searched_whole_where_a_scene_begins_and_else_a_little_at_a_time(tiny_store):
    play = Play(12, still(Actor(80)), scene=lambda i: int(i >= 6))
    studio = make_studio(tiny_store, detector := play.detector)
    list(make_crew(studio).run(play.frames, studio.casts))
    kinds = [effort if isinstance(effort, str) else "sweep" for effort in detector.efforts]
    assert kinds == ["search"] + ["sweep"] * 6 + ["search"] + ["sweep"] * 5
    sweeps = [effort for effort in detector.efforts[1:6] if isinstance(effort, Sweep)]
    assert [sweep.end_s for sweep in sweeps[:-1]] == [sweep.begin_s for sweep in sweeps[1:]]


@pytest.mark.parametrize(
    ("kind", "found", "drawn", "said"),
    [
        ("picture", 1, 1, []),
        ("picture", 3, 3, ["3 faces found and drawn"]),
        ("picture", 3, 1, ["3 faces found, 1 drawn (--faces)"]),
        ("video", 2, 40, ["up to 2 faces found in a frame"]),
    ],
)
def test_the_number_of_faces_found_is_said(kind, found, drawn, said):
    info = SourceInfo(path=Path("x"), kind=kind, size_px=(8, 8))
    result = FileResult(source=Path("x"), faces=drawn, faces_found=found)
    assert faces_note(result, info) == said


# ── frames in which a face is lost ───────────────────────────────────────────────────────────────


def with_gap(length, num_frames=20, begins=8):
    return Play(num_frames, lambda i: [Actor(80, seen=not begins <= i < begins + length)])


def test_kept_frames_of_a_lost_face_are_those_of_the_input(tiny_store):
    play = with_gap(3)
    for frame, drawn in zip(play.frames, perform(tiny_store, play), strict=True):
        lost = 8 <= frame.index < 11
        assert len(drawn.shot.crops) == (not lost)
        assert np.array_equal(drawn.pictures[0].pixels, frame.pixels) == lost
    assert {t for found in tracks(perform(tiny_store, play)) for t in found} == {0}


def test_a_held_face_goes_on_through_a_gap_as_if_it_had_been_seen(tiny_store):
    held = perform(tiny_store, with_gap(3), on_missing="hold")
    whole = perform(tiny_store, with_gap(0))
    assert [drawn.shot.faces[0].held for drawn in held] == [False] * 8 + [True] * 3 + [False] * 9
    for one, other in zip(held, whole, strict=True):
        assert_next_to_equal(one, other)


def test_a_held_face_fades_out_and_in_again(tiny_store):
    performed = perform(tiny_store, with_gap(20, num_frames=40), on_missing="hold")
    shown = [(drawn.shot.opacity or [0.0])[0] for drawn in performed]
    assert shown[:8] == [1.0] * 8  # there from the beginning, so it does not fade in
    gone = shown.index(0.0)
    assert 8 < gone <= 8 + 11  # 0.4 s
    assert all(a >= b for a, b in itertools.pairwise(shown[:gone]))
    assert any(0.0 < share < 1.0 for share in shown[8:gone])
    assert all(a <= b for a, b in itertools.pairwise(shown[28:]))
    assert 0.0 < shown[28] < 1.0
    assert shown[-1] == 1.0
    frames = with_gap(20, num_frames=40).frames
    apart = [
        difference(drawn.pictures[0].pixels, frame.pixels)
        for drawn, frame in zip(performed, frames, strict=True)
    ]
    assert apart[gone] == 0.0
    assert 0.0 < apart[28] < 0.7 * apart[0]


def test_what_a_held_crop_shows_does_not_stain_the_frames_around_it(tiny_store):
    """A hand before the face: its code counts for nothing beside codes that were seen."""

    def hand(index):
        hidden = 8 <= index < 10
        return [Actor(80, color=(10, 250, 20) if hidden else RED, seen=not hidden)]

    stained = perform(tiny_store, Play(20, hand), on_missing="hold")
    clean = perform(tiny_store, Play(20, still(Actor(80, color=RED))), on_missing="hold")
    code = clean[7].shot.codes[0][0]
    reach = (stained[8].shot.encoded[0][0] - code).abs().mean()
    for index in (6, 7, 10, 11):
        assert (stained[index].shot.codes[0][0] - code).abs().mean() < 0.05 * reach


def test_fail_stops_at_the_first_frame_that_lost_its_face_and_says_when(tiny_store):
    with pytest.raises(NoFaceError, match=r"clip at 0\.32 s"):
        perform(tiny_store, with_gap(1), on_missing="fail")


@pytest.mark.parametrize(
    "play",
    [
        pytest.param(Play(10, lambda i: [Actor(80)] if i >= 5 else []), id="comes late"),
        pytest.param(
            Play(10, lambda i: [Actor(80)] if i < 5 else [], scene=lambda i: int(i >= 5)),
            id="scene cut",
        ),
    ],
)
def test_fail_takes_offence_at_nothing_else(tiny_store, play):
    assert len(perform(tiny_store, play, on_missing="fail")) == play.num_frames


def test_fail_lets_the_largest_face_be_another_one(tiny_store):
    """The one that was largest is still there, only not drawn any more."""
    play = Play(20, lambda i: [Actor(40, size=34), Actor(115, size=26 + i, color=BLUE)])
    performed = perform(tiny_store, play, faces="largest", on_missing="fail")
    assert tracks(performed)[0] == [0]
    assert tracks(performed)[-1] == [1]


# ── crops ────────────────────────────────────────────────────────────────────────────────────────


def test_a_cropped_video_has_portraits_and_where_there_is_no_face_the_same_place(tiny_store):
    play = Play(12, lambda i: [Actor(80)] if 3 <= i < 8 else [])
    performed = perform(tiny_store, play, crop=True)
    pictures = [drawn.pictures[0].pixels for drawn in performed]
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    before, after = pictures[2], pictures[8]
    np.testing.assert_array_equal(after, pictures[11])
    assert difference(before, after) > 3  # the middle of the frame, then the last face's place
    transform = performed[7].shot.crops[0].transform
    assert difference(after, performed[7].shot.crops[0].pixels) < 40
    assert round(transform.quad[:, 0].mean()) == 80


def test_a_crop_shows_the_largest_face(tiny_store):
    pair = Play(2, still(Actor(40, size=30), Actor(110, size=40)))
    alone = Play(2, still(Actor(110, size=40)))
    both = perform(tiny_store, pair, crop=True)
    one = perform(tiny_store, alone, crop=True)
    assert difference(both[0].pictures[0].pixels, one[0].pictures[0].pixels) < 2


def test_aligned_frames_become_portraits_without_a_search(tiny_store):
    play = Play(3, still(Actor(80)))
    studio = make_studio(tiny_store, detector := play.detector)
    performed = list(make_crew(studio, aligned=True).run(play.frames, studio.casts))
    assert not detector.efforts
    assert [drawn.pictures[0].pixels.shape for drawn in performed] == [(64, 64, 3)] * 3


# ── transparency ─────────────────────────────────────────────────────────────────────────────────


def test_only_the_head_is_left_on_a_transparent_ground(tiny_store):
    play = one_walking(3)
    for frame, drawn in zip(play.frames, perform(tiny_store, play, alpha=True), strict=True):
        picture, inside = drawn.pictures[0], inside_crops(drawn)
        assert picture.alpha is not None
        assert picture.pixels.shape == frame.pixels.shape
        assert not picture.alpha[~inside].any()
        assert picture.alpha[inside].max() == 255
        assert not picture.pixels[picture.alpha == 0].any()


def test_a_transparent_crop_is_transparent_where_there_is_no_face(tiny_store):
    play = Play(4, lambda i: [Actor(80)] if i < 2 else [])
    performed = perform(tiny_store, play, alpha=True, crop=True)
    alphas = [drawn.pictures[0].alpha for drawn in performed]
    assert [alpha.max() for alpha in alphas] == [255, 255, 0, 0]


# ── memory that does not suffice ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", ["encode", "draw"])
def test_too_large_batches_are_halved_and_no_frame_is_dropped(tiny_store, monkeypatch, step):
    fitting, sizes = getattr(Portraits, step), []

    def tight(self, items, *rest):
        sizes.append(len(items))
        if len(items) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return fitting(self, items, *rest)

    play = Play(9, still(Actor(50), Actor(110, color=BLUE)))
    usual = perform(tiny_store, play)
    monkeypatch.setattr(Portraits, step, tight)
    performed = perform(tiny_store, play)
    assert max(sizes) == 4
    assert [size for size in sizes if size > 1] == [4, 2]
    for one, other in zip(usual, performed, strict=True):
        assert_next_to_equal(one, other)


def test_a_single_face_that_does_not_fit_ends_the_run_with_advice(tiny_store, monkeypatch):
    def never(self, items, *rest):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Portraits, "draw", never)
    with pytest.raises(DsgError, match="--size"):
        perform(tiny_store, one_walking(3))


def test_other_errors_of_a_network_are_not_taken_for_lack_of_memory(tiny_store, monkeypatch):
    def broken(self, items, *rest):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Portraits, "draw", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        perform(tiny_store, one_walking(3))


# ── the scripted faces themselves ────────────────────────────────────────────────────────────────


def test_no_actor_looks_aligned():
    actor = Actor(80, size=FACE_PX)
    frame = Play(1, still(actor)).frame(0)
    assert not looks_aligned(frame, ScriptedDetector(still(actor)).detect(frame))
