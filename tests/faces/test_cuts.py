"""Scene cuts: found where the scene changes, and not where people move or lamps flash."""

import numpy as np
import pytest

from dsgcli.faces.track import CutDetector, difference, thumbnail_of
from dsgcli.training.drawn_clip import draw_clip


def scene(seed, frames=8, **options):
    return [f.pixels for f in draw_clip(frames, 160, 120, seed=seed, **options)]


def cuts(frames):
    detector = CutDetector()
    return [i for i, frame in enumerate(frames) if detector.update(thumbnail_of(frame))]


def test_cuts_are_found_where_scenes_change():
    assert cuts(scene(0) + scene(50) + scene(100, faces=2)) == [8, 16]


def test_motion_is_no_cut():
    assert cuts(scene(3, 100, faces=2)[::4]) == []


@pytest.mark.parametrize("gain", [0.6, 1.2])
def test_a_flash_is_no_cut(gain):
    frames = scene(1)
    frames[4] = np.clip(frames[4] * gain, 0, 255).astype(np.uint8)
    assert cuts(frames) == []


def test_noise_on_a_plain_frame_is_no_cut():
    rng = np.random.default_rng(0)
    frames = [np.clip(90 + rng.normal(0, 8, (90, 160, 3)), 0, 255) for _ in range(20)]
    assert cuts([f.astype(np.uint8) for f in frames]) == []


def test_a_restored_detector_knows_the_frame_before():
    first, second = CutDetector(), CutDetector()
    first.update(thumbnail_of(scene(0, 1)[0]))
    second.restore(first.state())
    assert second.update(thumbnail_of(scene(50, 1)[0]))
    assert not CutDetector().update(thumbnail_of(scene(50, 1)[0]))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7)])
def test_frames_of_any_shape_are_compared(size):
    assert cuts([np.zeros((*size, 3), np.uint8)] * 3) == []


def test_difference_is_symmetric_and_zero_for_the_same():
    a, b = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    assert difference(a, a) == 0.0
    assert difference(a, b) == difference(b, a) > 0.0
