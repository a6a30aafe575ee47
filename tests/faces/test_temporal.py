"""The average of a drawn face over time: less noise, and nothing that moves is smeared."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dsgcli.faces.temporal import CropMotion, MotionAverage

SIDE = 128
DICE = np.random.default_rng(0)
TEXTURE = cv2.GaussianBlur(DICE.uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 3)
TEXTURE = np.clip(128 + 4 * (TEXTURE - TEXTURE.mean()), 0, 255)


def noisy(picture, level, dice):
    return np.clip(picture + dice.normal(0, level, picture.shape), 0, 255).round().astype(np.uint8)


def moved(picture, pixels):
    return np.roll(picture, pixels, axis=1)


class Face:
    """Crops and portraits of one face in one style."""

    def __init__(self):
        self.motion, self.average = CropMotion(), MotionAverage()

    def add(self, crop, drawn):
        return self.average.add(self.motion.add(crop), drawn)


@pytest.mark.parametrize("size_px", [SIDE, 2 * SIDE])
@pytest.mark.parametrize("step", [0, 2])
def test_noise_falls_and_what_is_drawn_stays(size_px, step):
    """Photographs that move by some pixels a frame; drawings with five times their noise."""
    dice, average = np.random.default_rng(1), Face()
    for number in range(12):
        place = moved(TEXTURE, number * step)
        clean = cv2.resize(255 - place, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        raw = noisy(clean, 10, dice)
        steady = average.add(noisy(place, 2, dice), raw)
    inner = (slice(size_px // 4, -size_px // 4),) * 2
    error, error_before = ((p[inner] - clean[inner]).std() for p in (steady * 1.0, raw * 1.0))
    assert error < 0.6 * error_before
    assert steady.dtype == np.uint8 and steady.shape == (size_px, size_px, 3)


def test_what_changes_in_the_photograph_shows_at_once():
    dice, average = np.random.default_rng(1), Face()
    for _ in range(5):
        average.add(noisy(TEXTURE, 2, dice), noisy(TEXTURE, 2, dice))
    changed = TEXTURE.copy()
    changed[40:90, 40:90] = 255 - changed[40:90, 40:90]
    steady = average.add(noisy(changed, 2, dice), changed.round().astype(np.uint8))
    inner = (slice(50, 80),) * 2
    assert np.abs(steady[inner] * 1.0 - changed[inner]).mean() < 6


def test_a_portrait_of_another_size_begins_anew():
    average, drawn = Face(), np.full((SIDE, SIDE, 3), 90, np.uint8)
    crop = TEXTURE.astype(np.uint8)
    assert (average.add(crop, drawn) == 90).all()
    larger = np.full((2 * SIDE, 2 * SIDE, 3), 200, np.uint8)
    assert (average.add(cv2.resize(crop, (2 * SIDE, 2 * SIDE)), larger) == 200).all()


def test_one_motion_serves_all_styles_of_a_face():
    dice, motion = np.random.default_rng(1), CropMotion()
    averages = [MotionAverage() for _ in range(2)]
    for _ in range(4):
        crop = noisy(TEXTURE, 2, dice)
        drawings = crop, cv2.resize(255 - crop, (2 * SIDE, 2 * SIDE))
        step = motion.add(crop)
        steady = [average.add(step, d) for average, d in zip(averages, drawings, strict=True)]
    assert [p.shape for p in steady] == [(SIDE, SIDE, 3), (2 * SIDE, 2 * SIDE, 3)]
    for one, drawn in zip(steady, drawings, strict=True):
        assert 0 < np.abs(one.astype(int) - drawn).mean() < 6
