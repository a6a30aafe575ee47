"""Grades: known changes of color are found again, and nothing wild is done to colors never seen."""

from __future__ import annotations

import numpy as np
import pytest

from dsgcli.faces.grade import IDENTITY, KNOTS, LEAST_LIGHT, LUMA, fit_grade, graded

SIDE = 128
ALL = np.ones((SIDE, SIDE), np.float32)


def scene(seed=0, side=SIDE, spread=0.25):
    """A picture of large soft blobs of many colors, (side, side, 3)."""
    dice = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.full((side, side, 3), 0.5)
    for _ in range(30):
        center, size = dice.uniform(0, 1, 2), dice.uniform(0.05, 0.3)
        blob = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / size**2)
        pixels += blob[:, :, None] * dice.normal(0, spread, 3)
    return np.rint(np.clip(pixels, 0.02, 0.98) * 255).astype(np.uint8)


def moved(pixels, matrix, shift):
    """The picture through an affine map of RGB in [0, 1]."""
    return np.rint(np.clip(pixels / 255 @ np.transpose(matrix) + shift, 0, 1) * 255).astype(
        np.uint8
    )


def difference(one, other):
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


WARM = (np.diag([0.9, 0.8, 0.6]), [0.08, 0.05, 0.1])
DULL = (0.5 * np.eye(3) + 0.5 * np.tile(LUMA, (3, 1)), [0.0, 0.0, 0.05])
DARK = (0.7 * np.eye(3), [0.02, 0.04, 0.1])


@pytest.mark.parametrize("change", [WARM, DULL, DARK], ids=["warm", "dull", "dark"])
def test_a_known_change_of_color_is_found_again(change):
    crop, other = scene(1), scene(2, 200)
    values = fit_grade(crop, moved(crop, *change), ALL)
    assert difference(graded(other, values), moved(other, *change)) < 3.0
    assert difference(other, moved(other, *change)) > 8.0


def test_a_tone_curve_is_found_again():
    crop, other = scene(1, spread=0.1), scene(2, spread=0.1)

    def curve(pixels):
        return np.rint(255 * (pixels / 255) ** 1.4).astype(np.uint8)

    values = fit_grade(crop, curve(crop), ALL)
    assert difference(graded(other, values), curve(other)) < 3.0


def test_what_is_not_changed_is_not_graded():
    crop = scene(3)
    values = fit_grade(crop, crop, ALL)
    np.testing.assert_allclose(values, IDENTITY, atol=1e-6)
    assert np.abs(graded(crop, values).astype(int) - crop).max() <= 1


@pytest.mark.parametrize("size", [64, 256, 500])
def test_the_drawing_may_have_another_size(size):
    crop = scene(1)
    drawn = moved(np.kron(crop, np.ones((4, 4, 1), np.uint8))[:size, :size], *DARK)
    part = crop[: size // 4, : size // 4]
    values = fit_grade(np.ascontiguousarray(part), drawn, ALL)
    assert difference(graded(part, values), moved(part, *DARK)) < 4.0


def test_places_without_weight_do_not_count():
    crop = scene(1)
    drawn = moved(crop, *DARK)
    face = np.zeros((SIDE, SIDE), bool)
    face[32:96, 32:96] = True
    drawn[face] = (255, 0, 255)
    values = fit_grade(crop, drawn, np.where(face, 0.0, 1.0).astype(np.float32))
    assert difference(graded(crop, values), moved(crop, *DARK)) < 3.0


def test_a_few_pixels_that_do_as_they_like_hardly_count():
    crop = scene(1)
    drawn = moved(crop, *DARK)
    drawn[:20, :40] = (255, 0, 255)
    values = fit_grade(crop, drawn, ALL)
    assert difference(graded(crop, values), moved(crop, *DARK)) < 4.0


def test_a_gray_style_leaves_no_color_anywhere():
    """Not even those of things that the crop does not show."""
    crop = scene(1)
    crop[:, :, 2] = crop[:, :, 1]  # nothing blue or yellow
    gray = np.repeat(np.rint(crop @ LUMA)[:, :, None], 3, axis=2).astype(np.uint8)
    values = fit_grade(crop, gray, ALL)
    shown = graded(scene(2, spread=0.5), values).astype(int)
    assert (shown.max(axis=2) - shown.min(axis=2)).max() <= 3


def test_shadows_and_lights_keep_their_drawing():
    """A crop of grays around the middle, whose contrast is raised much: beyond, less happens."""
    crop = np.clip(scene(1).astype(int) // 6 + 106, 0, 255).astype(np.uint8)
    drawn = np.clip((crop.astype(int) - 128) * 5 + 90, 0, 255).astype(np.uint8)
    values = fit_grade(crop, drawn, ALL)
    steps = np.linspace(0, 255, 52).astype(np.uint8)
    ramp = np.repeat(np.repeat(steps[None, :, None], 3, axis=2), 4, axis=0)
    luma = graded(ramp, values)[0].astype(float) @ LUMA
    assert (np.diff(luma) >= 0).all()
    assert (luma >= LEAST_LIGHT * steps - 1.5).all()
    assert (luma <= 255 - LEAST_LIGHT * (255 - steps.astype(float)) + 1.5).all()


def test_means_of_grades_are_grades_of_means():
    crop = scene(1)
    one, other = (fit_grade(crop, moved(crop, *change), ALL) for change in (WARM, DARK))
    between = (graded(crop, one).astype(float) + graded(crop, other)) / 2
    assert difference(graded(crop, (one + other) / 2), between) < 1.5


def test_values_have_a_row_for_each_gray_and_two_for_colors():
    assert IDENTITY.shape == (KNOTS + 2, 3)
    assert fit_grade(scene(1), scene(2), np.zeros((8, 8), np.float32)).shape == IDENTITY.shape
