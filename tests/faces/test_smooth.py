"""Smoothing over time: properties that hold for any values and any frame rate."""

import numpy as np
import pytest

from dsgcli.faces.smooth import zero_phase

UNEVEN = np.cumsum(np.random.default_rng(3).uniform(0.01, 0.07, 60))
EVEN = np.arange(60) / 25


def smoothed(times, values, seconds=0.2, trust=None):
    return np.stack([zero_phase(times, values, at=t, seconds=seconds, trust=trust) for t in times])


@pytest.mark.parametrize("times", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_a_constant_stays_the_constant(times):
    values = np.broadcast_to([[3.0, -1.0], [0.5, 9.0]], (60, 2, 2))
    np.testing.assert_allclose(smoothed(times, values), values, atol=1e-9)


@pytest.mark.parametrize("times", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_zero_phase_does_not_lag_on_a_ramp_nor_bend_its_ends(times):
    values = times[:, None] * [100.0, -40.0] + 7.0
    np.testing.assert_allclose(smoothed(times, values), values, atol=1e-6)


def test_zero_phase_keeps_a_spike_in_its_place_and_treats_both_sides_alike():
    values = (np.arange(60) == 30).astype(float)[:, None]
    answer = smoothed(EVEN, values)[:, 0]
    assert answer.argmax() == 30
    np.testing.assert_allclose(answer[20:30], answer[31:41][::-1], atol=1e-12)
    assert not answer[:24].any()
    assert not answer[37:].any()


def test_zero_phase_removes_most_of_the_jitter():
    noise = np.random.default_rng(0).normal(0, 1, (60, 5))
    before, after = (np.diff(v, 2, axis=0).std() for v in (noise, smoothed(EVEN, noise)))
    assert after < 0.05 * before


def test_zero_phase_forgets_what_is_out_of_reach():
    values = np.where(EVEN < 1.0, 1000.0, 1.0)[:, None]
    at = 1.0 + 0.25
    assert zero_phase(EVEN, values, at=at, seconds=0.2) == pytest.approx(1.0)


def test_zero_phase_does_not_depend_on_the_order_of_the_past():
    values = np.random.default_rng(1).normal(size=(60, 3))
    shuffled = np.random.default_rng(2).permutation(60)
    np.testing.assert_allclose(
        zero_phase(EVEN, values, at=1.0, seconds=0.3),
        zero_phase(EVEN[shuffled], values[shuffled], at=1.0, seconds=0.3),
    )


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_zero_phase_hands_a_lone_value_through(seconds):
    assert zero_phase(np.array([4.0]), np.array([[5.0]]), at=4.0, seconds=seconds) == 5.0


def test_zero_phase_off_hands_every_value_through():
    values = np.random.default_rng(1).normal(size=(60, 3))
    np.testing.assert_array_equal(smoothed(EVEN, values, seconds=0.0), values)


def test_zero_phase_survives_two_values_at_one_instant():
    values = np.array([[1.0], [3.0]])
    assert zero_phase(np.zeros(2), values, at=0.0, seconds=0.2) == pytest.approx(2.0)


def test_a_gap_is_bridged_by_what_was_seen_on_both_sides():
    """A held face stands still; seen values around it move on, and count for more."""
    truth = EVEN[:, None] * 100.0
    held = (EVEN > 1.0) & (EVEN < 1.1)
    values = np.where(held[:, None], truth[EVEN <= 1.0][-1], truth)
    trust = np.where(held, 0.01, 1.0)
    error = np.abs(smoothed(EVEN, values, trust=trust) - truth)[held]
    assert error.max() < 1.0 < np.abs(values - truth)[held].max()
