"""Whatever a stream stamps, its frames keep their order and get times that rise.

Stamps and times are in frames of 1/25 second.
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from dsgcli.media.video_reader import MAX_WAITING, Timeline

FRAME = Fraction(1, 25)


def run(stamps, origin=0):
    timeline = Timeline(origin=origin * FRAME, nominal=FRAME)
    placed = []
    for item, stamp in enumerate(stamps):
        placed += timeline.push(item, None if stamp is None else stamp * FRAME)
    placed += timeline.flush()
    return [(item, time / FRAME) for item, time in placed], timeline


def times(stamps, origin=0):
    return [time for _, time in run(stamps, origin)[0]]


def test_good_stamps_stay_exact_and_start_at_the_origin():
    stamps = [7, 8 + Fraction(1, 3), 12]
    assert times(stamps, origin=7) == [0, Fraction(4, 3), 5]


def test_repeated_stamp_moves_between_its_neighbors():
    assert times([0, 1, 1, 2]) == [0, 1, Fraction(3, 2), 2]


def test_small_step_back_moves_nothing_else():
    assert times([0, 2, 1, 3]) == [0, 2, Fraction(5, 2), 3]


def test_missing_stamps_in_the_middle_are_filled_evenly():
    assert times([0, None, None, 3]) == [0, 1, 2, 3]


def test_missing_stamps_at_the_start_are_filled_from_zero():
    assert times([None, None, 2]) == [0, 1, 2]
    assert times([None, 0, 1]) == [0, 1, 2]


def test_stream_without_stamps_is_spaced_by_the_nominal_rate():
    assert times([None] * 40) == list(range(40))


def test_clock_that_starts_over_goes_on():
    placed, timeline = run([125, 126, 0, 1], origin=125)
    assert [time for _, time in placed] == [0, 1, 2, 3]
    assert timeline.jumps == 1


def test_long_pause_is_kept():
    assert times([0, 1, 2500])[-1] == 2500


@pytest.mark.parametrize("seed", range(30))
def test_any_stamps_give_all_items_in_order_with_rising_times(seed):
    rng = random.Random(seed)
    stamps = [rng.choice([None, rng.randint(-50, 200), i, i, i]) for i in range(80)]
    placed, _ = run(stamps)
    assert [item for item, _ in placed] == list(range(80))
    assert all(a < b for (_, a), (_, b) in pairwise(placed))


def test_at_most_a_few_frames_wait():
    timeline = Timeline(origin=Fraction(0), nominal=FRAME)
    timeline.push(0, Fraction(1))
    out = sum(len(timeline.push(i, Fraction(1))) for i in range(1, 1000))
    assert out > 1000 - 1 - MAX_WAITING
