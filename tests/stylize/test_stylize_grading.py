"""Grading a stream: the same throughout a scene, faded where nobody is, and only where wanted."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from stylize.staging import Actor, Play, difference, make_crew, make_studio, perform, still

from dsgcli.faces.align import crop_face
from dsgcli.faces.grade import IDENTITY
from dsgcli.portraits import Portraits
from dsgcli.stylize.frame_state import FrameState
from dsgcli.stylize.steady import fit_frame, graded_by_nearest_face
from dsgcli.types import Face, Frame, Portrait

RATE = 25
REACH_S = 0.5
FACE = Face(landmarks=np.zeros((478, 2)), score=1.0)


def shots_of(seen, scenes=None):
    """One shot for each value: whether there is a face."""
    frame = Frame(pixels=np.zeros((2, 2, 3), np.uint8))
    return [
        FrameState(
            frame=frame,
            index=index,
            time_s=index / RATE,
            scene=0 if scenes is None else scenes[index],
            seen=[FACE] if there else [],
        )
        for index, there in enumerate(seen)
    ]


def strengths(seen, scenes=None, seconds=REACH_S):
    graded = graded_by_nearest_face(shots_of(seen, scenes), seconds=seconds)
    return np.array([shot.strength for shot in graded])


def test_frames_with_a_face_are_graded_wholly():
    assert (strengths([True] * 40) == 1.0).all()


def test_nothing_goes_across_a_cut():
    seen, scenes = [True] * 20 + [False] * 20, [1] * 20 + [2] * 20
    assert strengths(seen, scenes).tolist() == [1.0] * 20 + [0.0] * 20


def test_a_face_that_is_lost_for_a_moment_changes_nothing():
    assert (strengths([True] * 20 + [False] * 10 + [True] * 20) == 1.0).all()


def test_a_grade_fades_where_nobody_is_drawn():
    found = strengths([True] * 20 + [False] * 60 + [True] * 20)
    assert (found[40:60] == 0).all()
    assert np.abs(np.diff(found)).max() < 0.17


def test_without_a_reach_only_frames_with_a_face_are_graded():
    assert strengths([True, False, True], seconds=0.0).tolist() == [1.0, 0.0, 1.0]


def test_frames_are_let_go_once_they_are_out_of_reach():
    frames = []

    def stream():
        for index in range(200):
            frame = Frame(pixels=np.zeros((2, 2, 3), np.uint8))
            frames.append(weakref.ref(frame.pixels))
            yield FrameState(frame=frame, index=index, time_s=index / RATE, seen=[FACE])
            del frame
            assert sum(ref() is not None for ref in frames) <= RATE * REACH_S + 3

    for _ in graded_by_nearest_face(stream(), seconds=REACH_S):
        pass


# ── fits ─────────────────────────────────────────────────────────────────────────────────────────


def portrait(actor, factor, **options):
    """The crop of an actor, darkened."""
    play = Play(1, still(actor))
    frame = play.frame(0)
    crop = crop_face(frame, play.detector.detect(frame)[0], 64)
    return Portrait(pixels=(crop.pixels * factor).astype(np.uint8), crop=crop, **options)


SMALL, LARGE = Actor(40, 40, 20), Actor(110, 60, 40)


def white(values):
    """Luma that becomes of a light gray."""
    return float(values[6].mean())


def test_larger_faces_count_more():
    small, large = portrait(SMALL, 0.5, keeps_content=True), portrait(LARGE, 1, keeps_content=True)
    one, other = fit_frame([small], None, 0.0), fit_frame([large], None, 0.0)
    both = fit_frame([small, large], None, 0.0)
    np.testing.assert_allclose(both, one / 5 + other * 4 / 5, atol=0.02)
    assert white(one) < white(both) < white(other)


def test_only_what_keeps_its_crop_is_fitted_unless_asked():
    kept, other = portrait(LARGE, 0.6, keeps_content=True), portrait(LARGE, 0.6)
    assert fit_frame([other], None, 0.0) is None
    assert fit_frame([kept], False, 0.0) is None
    assert white(fit_frame([other], True, 0.0)) == pytest.approx(white(IDENTITY) * 0.6, abs=0.1)
    assert white(fit_frame([kept], None, 0.0)) == pytest.approx(white(IDENTITY) * 0.6, abs=0.1)


def test_colors_that_are_matched_back_are_not_graded():
    kept = portrait(LARGE, 0.6, keeps_content=True)
    np.testing.assert_allclose(fit_frame([kept], None, 1.0), IDENTITY, atol=1e-12)


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────

CORNER = (slice(0, 20), slice(0, 20))
PLAY = Play(12, still(Actor(110, 70)))


def corner_change(drawn):
    """By how much the corner of the frame, far from the face, differs from the source."""
    return [
        difference(one.pictures[0].pixels[CORNER], one.shot.frame.pixels[CORNER]) for one in drawn
    ]


def test_the_rest_of_a_frame_is_graded_where_it_is_asked_for(tiny_store):
    assert min(corner_change(perform(tiny_store, PLAY, grade=True))) > 2.0


@pytest.mark.parametrize("grade", [None, False])
def test_the_rest_of_a_frame_stays_to_the_bit(tiny_store, grade):
    assert corner_change(perform(tiny_store, PLAY, grade=grade)) == [0.0] * 12


def test_a_style_that_keeps_its_crop_grades_unasked(tiny_store, monkeypatch):
    monkeypatch.setattr(Portraits, "keeps_content", True)
    assert min(corner_change(perform(tiny_store, PLAY))) > 2.0
    assert corner_change(perform(tiny_store, PLAY, grade=False)) == [0.0] * 12


@pytest.mark.parametrize("options", [{"crop": True}, {"alpha": True}, {"grade": False}])
def test_nothing_waits_for_grades_that_do_not_show(tiny_store, options):
    crew = make_crew(make_studio(tiny_store, PLAY.detector, **{"grade": True, **options}))
    assert not crew.grades_frames
    assert crew.grade_s == 0.0


def test_the_grade_is_the_same_throughout_a_scene(tiny_store, monkeypatch):
    """The light on the face changes, and what is far from it keeps its colors."""
    monkeypatch.setattr(Portraits, "keeps_content", True)
    brighter = Play(30, lambda i: [Actor(110, 70, color=(180 + i, 120 + i, 90 + i))])
    drawn = perform(tiny_store, brighter)
    corners = np.stack([one.pictures[0].pixels[CORNER] for one in drawn])
    assert difference(corners[0], drawn[0].shot.frame.pixels[CORNER]) > 2.0
    assert (corners == corners[0]).all()


def test_stills_take_their_own_grade(tiny_store):
    studio = make_studio(tiny_store, PLAY.detector, grade=True)
    assert make_crew(studio, "picture").grade_s == 0.0
    assert make_crew(studio, "video").grade_s > 0.0
