"""Grading a stream: steady, without a lag, never across a cut, and only where it is wanted."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from stylize.staging import Actor, Play, difference, make_crew, make_studio, perform, still

from dsgcli.faces.align import crop_face
from dsgcli.faces.grade import IDENTITY
from dsgcli.portraits import Portraits
from dsgcli.stylize.shots import Shot
from dsgcli.stylize.steady import fit_frame, graded_shots
from dsgcli.types import Frame, Portrait

RATE = 25
REACH_S = 0.5


def shots_of(values, scenes=None):
    """One shot a value: a fit of so much, None without a face."""
    frame = Frame(pixels=np.zeros((2, 2, 3), np.uint8))
    return [
        Shot(
            frame=frame,
            index=index,
            time_s=index / RATE,
            scene=0 if scenes is None else scenes[index],
            fits=[] if value is None else [IDENTITY + value],
        )
        for index, value in enumerate(values)
    ]


def steadied(values, scenes=None, seconds=REACH_S):
    """What is added to the identity, one a shot."""
    items = [(shot, None) for shot in shots_of(values, scenes)]
    graded = [shot.grades for shot, _ in graded_shots(items, seconds=seconds)]
    return np.array([0.0 if not found else (found[0] - IDENTITY)[0, 0] for found in graded])


def test_a_steady_grade_stays_as_it_is():
    np.testing.assert_allclose(steadied([0.2] * 40), 0.2)


def test_noise_is_smoothed_to_a_third():
    noise = 0.2 + np.random.default_rng(0).normal(0, 0.02, 100)
    assert np.diff(steadied(noise)).std() < np.diff(noise).std() / 3


def test_a_change_is_neither_delayed_nor_early():
    step = steadied([0.0] * 30 + [0.2] * 30)
    np.testing.assert_allclose(step + step[::-1], 0.2, atol=1e-9)
    assert np.abs(np.diff(step)).max() < 0.05


def test_nothing_goes_across_a_cut():
    values, scenes = [0.1] * 20 + [0.3] * 20 + [None] * 20, [1] * 20 + [2] * 20 + [3] * 20
    np.testing.assert_allclose(steadied(values, scenes), [0.1] * 20 + [0.3] * 20 + [0.0] * 20)


def test_a_face_that_is_lost_for_a_moment_changes_nothing():
    values = [0.2] * 20 + [None] * 10 + [0.2] * 20
    np.testing.assert_allclose(steadied(values), 0.2)


def test_a_grade_fades_where_nobody_is_drawn():
    grades = steadied([0.2] * 20 + [None] * 60 + [0.2] * 20)
    assert (grades[40:60] == 0).all()
    assert np.abs(np.diff(grades)).max() < 0.05


def test_without_a_reach_each_frame_has_its_own():
    values = [0.1, None, 0.3]
    np.testing.assert_allclose(steadied(values, seconds=0.0), [0.1, 0.0, 0.3])


def test_frames_are_let_go_once_they_are_out_of_reach():
    frames = []

    def stream():
        for index in range(200):
            frame = Frame(pixels=np.zeros((2, 2, 3), np.uint8))
            frames.append(weakref.ref(frame.pixels))
            yield Shot(frame=frame, index=index, time_s=index / RATE, fits=[IDENTITY]), None
            del frame
            assert sum(ref() is not None for ref in frames) <= RATE * REACH_S + 3

    for _ in graded_shots(stream(), seconds=REACH_S):
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
    assert fit_frame([portrait(LARGE, 0.6, keeps_content=True, opacity=0.0)], None, 0.0) is None
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
    assert not crew.grades
    assert crew.grade_s == 0.0


def test_stills_take_their_own_grade(tiny_store):
    studio = make_studio(tiny_store, PLAY.detector, grade=True)
    assert make_crew(studio, "picture").grade_s == 0.0
    assert make_crew(studio, "video").grade_s > 0.0
