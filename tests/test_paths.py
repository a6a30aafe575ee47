"""Transitions between codes: ends are met, lengths kept, loops closed."""

import pytest
import torch

from dsgcli.generate.keyframes import along, leg, positions, slerp


@pytest.fixture
def codes():
    return [torch.randn(8, 24) * (k + 1) for k in range(3)]


@pytest.mark.parametrize("way", [torch.lerp, slerp])
def test_a_transition_meets_both_ends(codes, way):
    a, b, _ = codes
    torch.testing.assert_close(way(a, b, 0.0), a)
    torch.testing.assert_close(way(a, b, 1.0), b)


def test_slerp_stays_on_the_sphere():
    a, b = (torch.nn.functional.normalize(torch.randn(5, 16), dim=1) for _ in range(2))
    torch.testing.assert_close(slerp(a, b, 0.3).norm(dim=1), torch.ones(5))


def test_slerp_has_constant_speed():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    third = slerp(a, b, 1 / 3)
    torch.testing.assert_close(third, torch.tensor([[3**0.5 / 2, 0.5]]))


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_slerp_of_parallel_codes_is_finite(codes, scale):
    assert slerp(codes[0], scale * codes[0], 0.5).isfinite().all()


def test_an_open_path_ends_at_its_last_stop(codes):
    places = list(positions(7, 3))
    torch.testing.assert_close(along(codes, places[0], spherical=True), codes[0])
    torch.testing.assert_close(along(codes, places[3], spherical=True), codes[1])
    torch.testing.assert_close(along(codes, places[-1], spherical=True), codes[2])


def test_a_closed_path_does_not_repeat_its_first_frame(codes):
    places = list(positions(6, 3, closed=True))
    path = [along(codes, p, spherical=False, closed=True, eased=False) for p in places]
    torch.testing.assert_close(path[2], codes[1])
    torch.testing.assert_close(path[5], torch.lerp(codes[2], codes[0], 0.5))


def test_one_stop_is_a_path_that_stays(codes):
    for place in positions(3, 1):
        assert along(codes[:1], place, spherical=True) is codes[0]


def test_easing_rests_at_both_ends():
    shares = [leg(place, 2, closed=False, eased=True)[2] for place in (0.0, 0.01, 0.5, 1.0)]
    assert shares[0] == 0.0 < shares[1] < 0.001 and shares[2:] == [0.5, 1.0]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("num_keyframes", range(2, 8))
def test_every_keyframe_is_met_exactly_whatever_the_number_of_frames(num_keyframes, closed):
    for num_frames in range(num_keyframes, 40):
        places = list(positions(num_frames, num_keyframes, closed=closed))
        assert len(places) == num_frames
        legs = [leg(place, num_keyframes, closed=closed, eased=False) for place in places]
        met = {before for before, _, share in legs if share == 0.0}
        met |= {after for _, after, share in legs if share == 1.0}
        assert met == set(range(num_keyframes))


def test_legs_of_a_path():
    assert leg(1.0, 3, closed=False, eased=False) == (1, 2, 1.0)
    assert leg(0.5, 4, closed=True, eased=False) == (2, 3, 0.0)
