"""Who is who: numbers that stay with people, and new ones where a scene begins."""

import json
from fractions import Fraction

import numpy as np
import pytest
from scripted_faces import face

from dsgcli.errors import UsageError
from dsgcli.faces.track import FADE_S, GAP_S, HOLD_S, FaceChoice, Tracker, appearance_of, describe
from dsgcli.types import Frame

FPS = 25
RED, BLUE = (200, 60, 50), (40, 70, 210)


def picture(*people, scene=0):
    """A plain frame with a colored disc for each (center, color)."""
    rng = np.random.default_rng(scene)
    pixels = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    y, x = np.mgrid[0:240, 0:320]
    for center, color in people:
        pixels[np.hypot(x - center[0], y - center[1]) < 40] = color
    return pixels


def walk(tracker, script, *, scene=0, start=0):
    """Feed frames, each a list of (center, color) or of centers; returns the answers."""
    answers = []
    for i, people in enumerate(script, start):
        people = [p if isinstance(p[0], tuple) else (p, RED) for p in people]
        frame = Frame(pixels=picture(*people, scene=scene), index=i, time=Fraction(i, FPS))
        answers.append(tracker.update(describe(frame, [face(center, 70) for center, _ in people])))
    return answers


def numbers(answers):
    return [[f.track for f in faces] for faces in answers]


def test_faces_are_numbered_from_the_left_and_keep_their_numbers():
    script = [[(60 + 2 * i, 120), (250 - 2 * i, 120)] for i in range(20)]
    assert numbers(walk(Tracker(), script)) == [[0, 1]] * 20


def test_a_face_keeps_its_number_when_the_detector_reorders():
    tracker = Tracker()
    walk(tracker, [[(60, 120), (250, 120)]])
    assert numbers(walk(tracker, [[(250, 121), (60, 121)]], start=1)) == [[1, 0]]


def test_a_short_gap_does_not_end_a_track_and_a_long_one_does():
    for gap_s, number in ((0.8 * GAP_S, 0), (1.2 * GAP_S, 1)):
        script = [[(100, 120)]] + [[]] * round(gap_s * FPS) + [[(104, 120)]]
        assert numbers(walk(Tracker(), script))[-1] == [number]


def test_people_who_pass_each_other_keep_their_numbers():
    """In the middle only the one in front is seen."""
    script = []
    for i in range(41):
        left, right = ((40 + 6 * i, 120), RED), ((280 - 6 * i, 120), BLUE)
        script.append([right] if 17 <= i <= 23 else sorted([left, right]))
    answers = walk(Tracker(), script)
    assert numbers(answers)[0] == [0, 1]
    assert numbers(answers)[20] == [1]
    assert numbers(answers)[-1] == [1, 0]


def test_everyone_is_new_after_a_cut():
    tracker = Tracker()
    walk(tracker, [[(100, 120)]] * 5)
    assert numbers(walk(tracker, [[(100, 120)]] * 3, scene=1, start=5)) == [[1]] * 3
    assert len(tracker.hints) == 1


def test_someone_else_at_another_place_is_new():
    assert numbers(walk(Tracker(), [[((60, 120), RED)], [((250, 120), BLUE)]])) == [[0], [1]]


def test_a_lost_face_is_not_given_out_unless_held():
    assert walk(Tracker(), [[(100, 120)], []])[-1] == []


def test_a_held_face_stays_then_fades_and_is_gone():
    tracker = Tracker(hold=True)
    walk(tracker, [[(100, 120)]] * 3)
    held, opacity = [], []
    for i in range(3, 3 + round(1.5 * HOLD_S * FPS)):
        answer = walk(tracker, [[]], start=i)[0]
        held.append([f.held for f in answer])
        opacity.append(tracker.opacity(0))
    assert held[0] == [True]
    assert held[-1] == []
    assert opacity[0] == 1.0
    assert opacity == sorted(opacity, reverse=True)
    fading = [o for o in opacity if 0.0 < o < 1.0]
    assert len(fading) == pytest.approx(FADE_S * FPS, abs=1)


def test_a_face_found_again_while_fading_comes_back_from_there():
    tracker = Tracker(hold=True)
    walk(tracker, [[(100, 120)]] * 3 + [[]] * 7)
    faded = tracker.opacity(0)
    assert 0.0 < faded < 1.0
    walk(tracker, [[(100, 120)]], start=10)
    assert faded < tracker.opacity(0) < 1.0


def test_who_enters_fades_in_and_who_is_there_from_the_start_does_not():
    tracker = Tracker(hold=True)
    walk(tracker, [[(60, 120)]])
    assert tracker.opacity(0) == 1.0
    walk(tracker, [[(60, 120), (250, 120)]], start=1)
    assert 0.0 < tracker.opacity(1) < 1.0
    walk(tracker, [[(60, 120), (250, 120)]] * FPS, start=2)
    assert tracker.opacity(1) == 1.0


def test_a_face_that_left_the_picture_is_not_held():
    tracker = Tracker(hold=True)
    answers = walk(tracker, [[(270 + 12 * i, 120)] for i in range(4)] + [[]] * 3)
    assert answers[-1] == []


def test_hints_say_where_lost_faces_were():
    tracker = Tracker()
    walk(tracker, [[(100, 120)], []])
    np.testing.assert_array_equal(tracker.hints[0].landmarks, face((100, 120), 70).landmarks)


def test_a_restored_tracker_goes_on_as_if_it_had_never_stopped():
    script = [[(60 + 3 * i, 120), (250 - 2 * i, 120)][: 1 + (i % 5 > 0)] for i in range(40)]
    whole = Tracker(hold=True)
    first = Tracker(hold=True)
    expected = walk(whole, script)[20:]
    walk(first, script[:20])
    second = Tracker(hold=True)
    second.restore(first.state())
    answers = walk(second, script[20:], start=20)
    assert numbers(answers) == numbers(expected)
    for ours, theirs in zip(answers, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert second.opacity(0) == whole.opacity(0)


def test_the_state_is_plain_values_and_arrays():
    tracker = Tracker()
    walk(tracker, [[(100, 120)]] * 2)
    assert json.dumps(tracker.state(), default=lambda array: np.asarray(array).tolist())


def test_looks_follow_the_face_and_not_the_picture():
    near = picture(((100, 120), RED), ((250, 120), BLUE))
    moved = picture(((110, 100), RED), ((250, 120), BLUE), scene=1)
    red, blue = (appearance_of(near, face(c, 36).landmarks) for c in ((100, 120), (250, 120)))
    again = appearance_of(moved, face((110, 100), 36).landmarks)
    assert np.abs(red - again).mean() < 0.02 < np.abs(red - blue).mean()


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", [0, 1, 2]),
        ("largest", [1]),
        ("2", [1, 2]),
        ("9", [0, 1, 2]),
        ("0,2", [0, 2]),
        ("1,", [1]),
        ("7,", []),
    ],
)
def test_faces_are_chosen(text, chosen):
    faces = [face(size=size, track=track) for track, size in enumerate((50, 90, 70))]
    assert [f.track for f in FaceChoice.parse(text).choose(faces)] == chosen


@pytest.mark.parametrize("text", ["", "some", "0", "-1", "1.5", "1,,2", ",", "a,b"])
def test_another_choice_is_refused(text):
    with pytest.raises(UsageError, match="--faces takes"):
        FaceChoice.parse(text)


def test_the_largest_does_not_flicker_between_two_of_a_size():
    choice = FaceChoice.parse("largest")
    faces = [face(size=100, track=0), face(size=104, track=1)]
    assert [f.track for f in choice.choose(faces, kept={0})] == [0]
    faces[1] = face(size=150, track=1)
    assert [f.track for f in choice.choose(faces, kept={0})] == [1]
