"""Steadying shots over time: properties that hold for any values."""

from __future__ import annotations

import itertools
import weakref
from fractions import Fraction

import numpy as np
import pytest

from dsgcli.faces.smooth import zero_phase
from dsgcli.stylize.frame_state import FrameState, batched_shots
from dsgcli.stylize.steady import steadied

RATES = [10.0, 24000 / 1001, 25.0, 29.97, 30.0, 60.0]


def shots(times):
    return [FrameState(frame=None, index=i, time_s=float(t)) for i, t in enumerate(times)]


def steady(times, values, *, seconds, guessed=None):
    """`values`: by key, one array a shot (None where the key is not there) -> the same, steady."""
    written = {key: [None] * len(times) for key in values}

    def read(shot):
        return {
            key: np.asarray(track[shot.index], float)
            for key, track in values.items()
            if track[shot.index] is not None
        }

    def write(shot, smooth):
        for key, value in smooth.items():
            written[key][shot.index] = value

    def guesses(shot):
        return frozenset(guessed(shot.index)) if guessed else frozenset()

    out = list(steadied(shots(times), read, write, seconds=seconds, guessed=guesses))
    assert [shot.index for shot in out] == list(range(len(times)))
    return written


def at_rate(rate, count=40):
    return [i / rate for i in range(count)]


def uneven(count=40):
    return list(np.cumsum(np.random.default_rng(4).uniform(0.002, 0.3, count)))


@pytest.mark.parametrize("times", [*map(at_rate, RATES), uneven()], ids=[*map(str, RATES), "vfr"])
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.5])
def test_steady_motion_is_not_delayed(times, seconds):
    values = [np.array([3 * t - 2, 5.0 - t]) for t in times]
    out = steady(times, {0: values}, seconds=seconds)[0]
    np.testing.assert_allclose(out, values, atol=1e-9)


@pytest.mark.parametrize("rate", RATES)
def test_turning_time_around_turns_the_result_around(rate):
    """Zero phase; a frame on the very edge of the reach counts on both sides or on none."""
    times = at_rate(rate)
    values = np.random.default_rng(1).normal(size=(len(times), 2))
    forth = np.array(steady(times, {0: list(values)}, seconds=0.2)[0])
    back = np.array(steady(times, {0: list(values[::-1])}, seconds=0.2)[0])
    np.testing.assert_allclose(back[::-1], forth, atol=1e-9)


@pytest.mark.parametrize("times", [at_rate(25), at_rate(29.97), uneven()], ids=["25", "30", "vfr"])
def test_each_value_is_what_the_whole_track_says_of_that_moment(times):
    """Buffering changes nothing: the reference knows all moments at once."""
    values = np.random.default_rng(2).normal(size=(len(times), 3))
    out = steady(times, {7: list(values)}, seconds=0.3)[7]
    for time, value in zip(times, out, strict=True):
        expected = zero_phase(np.array(times), values, at=time, seconds=0.3)
        np.testing.assert_allclose(value, expected, atol=1e-12)


def test_noise_becomes_less_and_more_so_with_a_longer_reach():
    times = at_rate(25, 200)
    noise = list(np.random.default_rng(3).normal(size=(200, 1)))
    spread = [np.std(steady(times, {0: noise}, seconds=s)[0]) for s in (0.0, 0.1, 0.2, 0.5)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 0.4 * spread[0]


def test_tracks_do_not_touch_each_other():
    """One begins where the other ends, somewhere else: a cut."""
    times = at_rate(25, 30)
    first = [np.array([1.0]) if i < 15 else None for i in range(30)]
    second = [None if i < 15 else np.array([100.0]) for i in range(30)]
    out = steady(times, {0: first, 1: second}, seconds=0.4)
    assert [v is None for v in out[0]] == [False] * 15 + [True] * 15
    np.testing.assert_allclose(out[0][:15], 1.0, rtol=1e-12)
    np.testing.assert_allclose(out[1][15:], 100.0, rtol=1e-12)


def test_tracks_may_hold_arrays_of_any_shape():
    times = at_rate(25, 9)
    faces, codes = [np.ones((478, 2))] * 9, [np.ones((10, 32))] * 9
    out = steady(times, {0: faces, 1: codes}, seconds=0.2)
    assert {v.shape for v in out[0]} == {(478, 2)}
    assert {v.shape for v in out[1]} == {(10, 32)}


def test_what_was_guessed_counts_only_where_nothing_was_seen():
    times = at_rate(25, 30)
    guesses = range(10, 14)
    values = [np.array([50.0 if i in guesses else 1.0]) for i in range(30)]
    out = steady(times, {0: values}, seconds=0.2, guessed=lambda i: [0] if i in guesses else [])[0]
    seen = [float(out[i][0]) for i in range(30) if i not in guesses]
    assert np.abs(np.array(seen) - 1.0).max() < 3.0
    alone = steady(times, {0: values}, seconds=0.2, guessed=lambda i: [0])[0]
    trusted = steady(times, {0: values}, seconds=0.2)[0]
    np.testing.assert_allclose(alone, trusted)


def test_no_reach_copies_to_the_bit():
    times = at_rate(25, 10)
    values = list(np.random.default_rng(5).normal(size=(10, 4)))
    out = steady(times, {0: values}, seconds=0.0)[0]
    np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize("times", [at_rate(25, 100), uneven(100)], ids=["25", "vfr"])
@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0])
def test_no_more_is_read_ahead_than_the_reach(times, seconds):
    read = []

    def source():
        for shot in shots(times):
            read.append(shot.time_s)
            yield shot

    for shot in steadied(source(), lambda s: {0: np.zeros(1)}, lambda s, v: None, seconds=seconds):
        beyond = [time for time in read if time > shot.time_s + seconds + 1e-9]
        assert len(beyond) <= 1  # one to know that the reach is over


def test_a_stream_without_end_keeps_no_more_than_its_surroundings():
    """What has left the surroundings is let go of."""

    class Values(dict):
        __hash__ = object.__hash__

    alive = weakref.WeakSet()

    def value(shot):
        made = Values({0: np.zeros(2)})
        alive.add(made)
        return made

    endless = (
        FrameState(frame=None, index=i, time_s=float(Fraction(i, 25))) for i in itertools.count()
    )
    for _ in itertools.islice(steadied(endless, value, lambda s, v: None, seconds=0.2), 500):
        assert len(alive) <= 14  # five on each side, the one between, and those just passed on


def test_nothing_comes_of_nothing():
    assert list(steadied([], lambda s: {}, lambda s, v: None, seconds=0.2)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_batches_are_the_same_from_any_segment_on(size, monkeypatch):
    """So that a run that goes on at a segment computes what an uninterrupted one computes."""
    monkeypatch.setattr("dsgcli.stylize.frame_state.SEGMENT_FRAMES", 4)
    line = shots(at_rate(25, 14))

    def numbers(batches):
        return [[shot.index for shot in batch] for batch in batches]

    whole = numbers(batched_shots(line, size))
    assert [number for batch in whole for number in batch] == list(range(14))
    assert max(map(len, whole)) <= size
    for begin in (4, 8, 12):
        rest = numbers(batched_shots(line[begin:], size))
        assert rest == [batch for batch in whole if batch[0] >= begin]
