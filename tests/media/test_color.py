"""The curves of the standards, at the values that the standards themselves give."""

from __future__ import annotations

import numpy as np
import pytest

from dsgcli.media.color import (
    HLG,
    PQ,
    compress,
    fit_gamut,
    hlg_to_nits,
    nits_to_pq,
    pq_to_nits,
    srgb_cube,
    to_bt709,
    to_srgb,
)


def grey(values):
    return np.stack([np.asarray(values, float)] * 3, -1)


@pytest.mark.parametrize(
    ("nits", "signal"), [(0, 0), (100, 0.508), (203, 0.581), (1000, 0.752), (10_000, 1)]
)
def test_pq_agrees_with_its_standard(nits, signal):
    """BT.2408, table 1, and BT.2390."""
    assert abs(float(nits_to_pq(nits)) - signal) < 6e-4


def test_pq_has_an_inverse():
    nits = np.geomspace(0.01, 10_000, 50)
    np.testing.assert_allclose(pq_to_nits(nits_to_pq(nits)), nits, rtol=1e-9)


@pytest.mark.parametrize(("signal", "nits"), [(0, 0), (0.75, 203), (1, 1000)])
def test_hlg_agrees_with_its_standard(signal, nits):
    """BT.2408, table 1: diffuse white is 75 % of the signal, and 203 cd/m2."""
    np.testing.assert_allclose(hlg_to_nits(grey([signal]))[0], nits, atol=0.6)


def test_matrix_from_bt2020_agrees_with_bt2087():
    expected = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    np.testing.assert_allclose(to_bt709(9), expected, atol=1e-4)


def test_brightness_curve_keeps_darks_and_ends_at_white():
    light = compress(grey([1, 20, 60, 203, 600, 1000]), 1000.0)[:, 0]
    np.testing.assert_allclose(light[:3], [1, 20, 60], rtol=1e-6)
    assert (np.diff(light) > 0).all() and light[-1] == pytest.approx(203)
    assert light[3] > 150, "diffuse white stays bright"


def test_brightness_curve_keeps_hues():
    colors = np.array([[900.0, 300.0, 90.0], [50.0, 500.0, 20.0]])
    mapped = compress(colors, 1000.0)
    np.testing.assert_allclose(mapped / mapped[:, :1], colors / colors[:, :1])


def test_colors_outside_are_moved_to_the_edge_and_keep_their_luminance():
    light = np.array([[1.2, 0.3, -0.1], [0.2, 0.5, 0.3], [-0.2, 0.4, 0.1]])
    fitted = fit_gamut(light)
    assert fitted.min() >= 0 and fitted.max() <= 1
    np.testing.assert_allclose(fitted[1], light[1])
    luma = np.array([0.2126, 0.7152, 0.0722])
    np.testing.assert_allclose(fitted @ luma, light @ luma)


def test_standard_range_passes_unchanged():
    signal = np.random.default_rng(0).random((100, 3))
    np.testing.assert_allclose(to_srgb(signal, 1, 1, 1000), signal, atol=1e-9)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_cube_keeps_grey_grey_and_rising(transfer):
    cube = srgb_cube(transfer, 9)
    diagonal = cube[range(len(cube)), range(len(cube)), range(len(cube))]
    np.testing.assert_allclose(diagonal, grey(diagonal[:, 0]), atol=1e-6)
    assert (np.diff(diagonal[:, 0]) >= -1e-9).all()
    assert diagonal[0, 0] == 0 and diagonal[-1, 0] == pytest.approx(1)
