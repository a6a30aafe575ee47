"""Resampling: nothing shifts, nothing aliases, in either direction."""

import numpy as np
import pytest

from dsgcli.faces import warp


def waves(height, width, period_px):
    """(H, W, 3) uint8: rings whose period at the rim is `period_px`, a zone plate's corner."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    phase = 2 * np.pi * (x + 0.5 * y) / period_px
    return np.rint(127.5 + 100 * np.sin(phase))[:, :, None].repeat(3, 2).astype(np.uint8)


def about_center(width, height, scale, degrees, size):
    """(2, 3): output of this size -> source, about both centers."""
    turn = np.radians(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    offset = np.array([width / 2, height / 2]) - linear @ np.array([size / 2, size / 2])
    return np.concatenate([linear, offset[:, None]], axis=1)


IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def moved(matrix, x, y):
    """The same map, to a place further on in the source."""
    return np.concatenate([matrix[:, :2], matrix[:, 2:] + np.array([[x], [y]])], axis=1)


def test_the_identity_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8)
    np.testing.assert_array_equal(warp.to_uint8(warp.warp(picture, IDENTITY, 47, 31)), picture)


def test_a_shift_by_whole_pixels_moves_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    part = warp.to_uint8(warp.warp(picture, moved(IDENTITY, 7, 5), 30, 20))
    np.testing.assert_array_equal(part, picture[5:25, 7:37])


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_quarter_turn_moves_pixels(quarter):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    matrix = about_center(32, 32, 1.0, 90 * quarter, 32)
    turned = warp.to_uint8(warp.warp(picture, matrix, 32, 32))
    np.testing.assert_array_equal(turned, np.rot90(picture, quarter))


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5, 7.9])
def test_nothing_shifts_at_any_scale(scale):
    """A ramp's value is its place: sampled anywhere, it says where it was looked up."""
    x = np.arange(400, dtype=np.float32)[None, :] + 0.5
    ramp = np.broadcast_to(x, (400, 400))[:, :, None].copy()
    matrix = about_center(400, 400, scale, 20, 32)
    found = warp.warp(ramp, matrix, 32, 32)[:, :, 0]
    y, x = np.mgrid[0:32, 0:32] + 0.5
    wanted = warp.apply(matrix, np.stack([x.ravel(), y.ravel()], axis=1))[:, 0].reshape(32, 32)
    assert abs((found - wanted).mean()) < 0.01 * max(1.0, scale)
    assert np.abs(found - wanted).max() < 0.07 * max(1.0, scale)


@pytest.mark.parametrize(("period_px", "scale"), [(3.0, 2.6), (5.0, 4.0), (4.3, 7.81), (9.0, 7.81)])
def test_what_is_too_fine_for_the_output_turns_grey_and_not_to_moire(period_px, scale):
    """A 2000 px face in a 256 px crop shrinks by 7.81."""
    size = 64
    source = waves(round(size * scale * 1.5), round(size * scale * 1.5), period_px)
    matrix = about_center(source.shape[1], source.shape[0], scale, 10, size)
    assert scale > period_px / 2 * 1.1, "not too fine"
    crop = warp.warp(source, matrix, size, size)
    assert crop.std() < 6.0  # of 71; one bilinear lookup leaves 40 and more
    assert abs(crop.mean() - 127.5) < 1.5


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_what_the_output_can_hold_is_kept(scale):
    size = 64
    source = waves(round(size * scale * 1.5), round(size * scale * 1.5), 6.0 * scale)
    matrix = about_center(source.shape[1], source.shape[0], scale, 10, size)
    assert warp.warp(source, matrix, size, size).std() > 0.8 * 71


def test_outside_is_border_or_zero():
    picture = np.full((10, 10, 3), 200, np.uint8)
    away = moved(IDENTITY, 500, 500)
    assert (warp.warp(picture, away, 5, 5) == 200).all()
    assert (warp.warp(picture, away, 5, 5, outside="zeros") == 0).all()


@pytest.mark.parametrize("where", [(0, 0), (300, 200), (-40, 380)])
def test_only_the_part_that_is_seen_matters(where):
    """The shortcut of cutting out what the output sees is one."""
    picture = np.random.default_rng(1).integers(0, 256, (400, 500, 3), np.uint8)
    matrix = moved(about_center(500, 400, 1.0, 33, 60), where[0] - 200, where[1] - 200)
    wide = np.pad(picture, ((200, 200), (200, 200), (0, 0)), mode="edge")
    found = warp.warp(picture, matrix, 60, 60)
    wanted = warp.warp(wide, moved(matrix, 200, 200), 60, 60)
    np.testing.assert_allclose(found, wanted, atol=2e-2)


def test_invert_is_the_way_back():
    matrix = about_center(100, 80, 2.3, 40, 64)
    points = np.random.default_rng(0).uniform(0, 60, (10, 2))
    np.testing.assert_allclose(warp.apply(warp.invert(matrix), warp.apply(matrix, points)), points)


def test_read_only_and_mirrored_memory_is_taken():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    mirrored = picture[:, ::-1]
    picture.setflags(write=False)
    np.testing.assert_array_equal(warp.to_uint8(warp.warp(picture, IDENTITY, 20, 20)), picture)
    np.testing.assert_array_equal(warp.to_uint8(warp.warp(mirrored, IDENTITY, 20, 20)), mirrored)


def test_masks_stay_within_their_range():
    mask = np.kron([[0.0, 1.0], [1.0, 0.0]], np.ones((20, 20))).astype(np.float32)
    warped = warp.warp_mask(mask, about_center(40, 40, 0.7, 15, 64), 64, 64)
    assert warped.min() == 0.0
    assert warped.max() == 1.0
