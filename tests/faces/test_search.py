"""Looking for faces: small ones, turned ones, several, none; with a finder made of marks, whose
weaknesses are MediaPipe's."""

import numpy as np
import pytest
from scripted_faces import MarkFinder, face, mark, mesh

from dsgcli.faces.detect import (
    SAME_FACE_SHIFT,
    SWEEP_S,
    MeshDetector,
    Sweep,
    View,
    find_faces,
    shift,
    size_of,
)
from dsgcli.types import Frame


def error(found, center, size, degrees=0.0):
    return shift(mesh(center, size, degrees), found.landmarks)


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_a_large_face_is_found_at_any_turn(degrees):
    frame = mark(640, 480, ((300, 250), 150, degrees))
    (found,) = find_faces(MarkFinder(), frame, effort="any")
    assert error(found, (300, 250), 150, degrees) < 0.02


@pytest.mark.parametrize("degrees", [150, 180, 200])
def test_an_upside_down_face_is_not_taken_for_an_upright_one(degrees):
    finder = MarkFinder(upside_down=True)
    frame = mark(640, 480, ((300, 250), 150, degrees))
    (found,) = find_faces(finder, frame, effort="any")
    assert error(found, (300, 250), 150, degrees) < 0.02


@pytest.mark.parametrize("size", [40, 60, 110, 220, 500])
@pytest.mark.parametrize("center", [(250, 300), (1111, 601), (1650, 800)])
def test_faces_down_to_40_px_are_found_in_a_1080p_frame(size, center):
    center = np.clip(center, size, np.array([1920, 1080]) - size)
    frame = mark(1920, 1080, (center, size, 10))
    (found,) = find_faces(MarkFinder(), frame, effort="any")
    assert error(found, center, size, 10) < 0.04


def test_a_small_face_that_lies_on_its_side_is_found():
    (found,) = find_faces(MarkFinder(), mark(960, 540, ((700, 200), 50, 90)))
    assert error(found, (700, 200), 50, 90) < 0.04


def test_two_faces_come_from_the_left_and_once_each():
    frame = mark(640, 480, ((450, 200), 140, -20), ((150, 250), 120, 15))
    left, right = find_faces(MarkFinder(), frame, effort="everywhere")
    assert error(left, (150, 250), 120, 15) < 0.02
    assert error(right, (450, 200), 140, -20) < 0.02


def test_no_face_is_an_empty_list_and_a_bounded_search():
    class Blind(MarkFinder):
        def find(self, pixels):
            self.shown.append(pixels.shape[:2])
            return []

    finder = Blind()
    assert find_faces(finder, np.zeros((1080, 1920, 3), np.uint8)) == []
    assert len(finder.shown) < 520
    assert min(map(min, finder.shown)) >= 144


def test_a_large_face_costs_few_looks():
    finder = MarkFinder()
    find_faces(finder, mark(640, 480, ((300, 250), 150, 0)), effort="any")
    assert len(finder.shown) <= 2


def test_a_glance_does_not_search():
    finder = MarkFinder()
    assert find_faces(finder, mark(1920, 1080, ((500, 500), 50, 0)), effort="glance") == []
    assert len(finder.shown) == 1


@pytest.mark.parametrize("degrees", [0, 90])
def test_small_faces_beside_large_ones_are_found(degrees):
    frame = mark(1280, 720, ((400, 360), 300, 0), ((1100, 100), 64, degrees))
    assert len(find_faces(MarkFinder(), frame, effort="any")) == 1
    assert len(find_faces(MarkFinder(), frame)) == 2
    assert len(find_faces(MarkFinder(), frame, effort="everywhere")) == 2


def test_a_search_is_bounded_where_faces_are_found():
    finder = MarkFinder()
    find_faces(finder, mark(1920, 1080, ((500, 500), 300, 0)))
    assert len(finder.shown) < 240


@pytest.mark.slow
@pytest.mark.parametrize("rate", [10, 25])
def test_a_sweep_finds_a_small_face_beside_a_large_one_in_a_few_looks_a_frame(rate):
    frame = mark(1280, 720, ((400, 360), 300, 0), ((1100, 100), 48, 0))
    hints, most = [], 0
    for index in range(int(SWEEP_S * rate) + 1):
        finder = MarkFinder()
        sweep = Sweep(index / rate, (index + 1) / rate)
        hints = find_faces(finder, frame, hints=hints, effort=sweep)
        most = max(most, len(finder.shown))
    assert len(hints) == 2
    assert most < 12 + 60 / rate


def test_a_mesh_upside_down_on_a_face_is_not_looked_at_again():
    finder = MarkFinder(upside_down=True)
    find_faces(finder, mark(640, 480, ((300, 250), 150, 0)))
    assert finder.shown.count((256, 256)) <= 4


def test_a_hint_makes_a_small_face_cheap():
    finder = MarkFinder()
    frame = mark(1920, 1080, ((500, 500), 50, 100))
    hints = [face((508, 495), 52, 92)]
    (found,) = find_faces(finder, frame, hints=hints, effort="glance")
    assert error(found, (500, 500), 50, 100) < 0.04
    assert len(finder.shown) <= 3


def test_a_hint_where_nobody_is_finds_nobody():
    frame = mark(640, 480)
    assert find_faces(MarkFinder(), frame, hints=[face((300, 200), 90)], effort="glance") == []


def test_a_face_seen_only_once_is_none():
    """A finder that sees a face in the whole frame and not when it looks there."""

    class Once(MarkFinder):
        def find(self, pixels):
            self.shown.append(pixels.shape[:2])
            return [mesh((100, 100), 60)] if len(self.shown) == 1 else []

    assert find_faces(Once(), np.zeros((200, 200, 3), np.uint8)) == []


def test_score_falls_as_looks_disagree():
    class Shaky(MarkFinder):
        def find(self, pixels):
            found = super().find(pixels)
            side = self.wobble * (-1) ** len(self.shown)
            return [points + side * size_of(points) for points in found]

    scores = []
    for wobble in (0.0, 0.002, 0.008):
        finder = Shaky()
        finder.wobble = wobble
        scores.append(
            find_faces(finder, mark(400, 400, ((200, 200), 120, 0)), effort="any")[0].score
        )
    assert 1.0 >= scores[0] > scores[1] > scores[2] > 0.5


@pytest.mark.parametrize("turns", range(4))
def test_a_views_points_come_back(turns):
    frame = mark(400, 300, ((220, 140), 80, 0))
    view = View(100, 50, 240, 200, turns)
    pixels = view.pixels(frame)
    rows, columns = np.nonzero(pixels[:, :, 2] == 250)
    points = view.to_frame(np.stack([columns + 0.5, rows + 0.5], axis=1))
    back = np.floor(points).astype(int)
    np.testing.assert_array_equal(pixels[rows, columns], frame[back[:, 1], back[:, 0]])


@pytest.mark.parametrize("degrees", [0, 45, 90, 200])
def test_size_does_not_depend_on_the_turn(degrees):
    assert size_of(mesh((50, 60), 100, degrees)) == pytest.approx(size_of(mesh((0, 0), 100)))


def test_upside_down_is_far_from_upright():
    assert shift(mesh(), mesh(degrees=180)) > 1.5 * SAME_FACE_SHIFT


def test_the_detector_is_its_finder_and_closes_it():
    finder = MarkFinder()
    with MeshDetector(finder) as detector:
        faces = detector.detect(Frame(pixels=mark(640, 480, ((300, 250), 150, 0))))
        assert (detector.name, len(faces)) == ("marks", 1)
    assert finder.closed
