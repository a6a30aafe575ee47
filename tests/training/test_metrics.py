"""Distances between sets of features, where their value is known."""

from __future__ import annotations

import pytest
import torch

from dsgcli.training.candidates import Scored, propose
from dsgcli.training.metrics import fid, kid, psnr


def normal(count, mean, scale):
    return torch.randn(count, len(mean), dtype=torch.float64) * torch.tensor(scale) + torch.tensor(
        mean
    )


def test_fid_of_two_normal_distributions_is_the_closed_form():
    """Independent axes: squared distance of means, and of standard deviations."""
    a = normal(40_000, [0.0, 1.0, -2.0], [1.0, 2.0, 0.5])
    b = normal(40_000, [1.0, 1.0, 0.0], [1.0, 1.0, 1.5])
    assert fid(a, b) == pytest.approx((1 + 0 + 4) + (0 + 1 + 1), rel=0.05)


def test_fid_is_zero_for_the_same_set_and_symmetric():
    a, b = torch.randn(300, 8), torch.randn(200, 8) * 2
    assert fid(a, a) == pytest.approx(0.0, abs=1e-8)
    assert fid(a, b) == pytest.approx(fid(b, a), rel=1e-6)


def test_fid_needs_fewer_samples_than_features_without_breaking():
    assert fid(torch.randn(10, 64), torch.randn(12, 64)) > 0


def test_kid_is_unbiased():
    """The mean over many draws from one distribution is 0, as no biased estimate's is."""
    values = torch.tensor([kid(torch.randn(20, 4), torch.randn(20, 4)) for _ in range(300)])
    error = float(values.std() / 300**0.5)
    assert abs(float(values.mean())) < 4 * error
    assert float(values.min()) < 0


def test_kid_is_the_mean_over_pairs():
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)

    def k(x, y):
        return float((x @ y / 3 + 1) ** 3)

    within_a = [k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    within_b = [k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    between = [k(x, y) for x in a for y in b]
    by_hand = sum(within_a) / 20 + sum(within_b) / 12 - 2 * sum(between) / 20
    assert kid(a, b) == pytest.approx(by_hand)


def test_kid_grows_with_distance():
    a = torch.randn(100, 6)
    distances = [kid(a, torch.randn(100, 6) + shift) for shift in (0.0, 0.5, 1.0)]
    assert distances == sorted(distances)


def test_psnr_of_a_known_error():
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[1] += 0.2  # a tenth of the range of 2: 20 dB
    assert psnr(a, b)[1] == pytest.approx(20.0, abs=1e-3)
    assert psnr(a, b)[0] > 90


def test_proposed_candidate_has_style_without_losing_the_person():
    scored = [
        Scored(step=1000, style=0.9, identity=0.2),
        Scored(step=1100, style=0.5, identity=0.3),
        Scored(step=1200, style=0.3, identity=0.5),
        Scored(step=1300, style=0.2, identity=0.9),
    ]
    assert propose(scored).step == 1200


def test_last_candidate_is_proposed_where_all_keep_the_person():
    """As in the runs of the default model, where a product of distances took the first."""
    scored = [
        Scored(step=100, style=0.401, identity=0.040),
        Scored(step=150, style=0.352, identity=0.048),
    ]
    assert propose(scored).step == 150


def test_fewest_steps_are_proposed_of_equals():
    scored = [Scored(step=n, style=0.4, identity=0.1) for n in (300, 200)]
    assert propose(scored).step == 200
