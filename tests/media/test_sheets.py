"""Contact sheets keep every picture, in order."""

from __future__ import annotations

import numpy as np
import pytest

from dsgcli.media.sheets import make_sheet, marked


def tile(value, height=20, width=30):
    return np.full((height, width, 3), value, np.uint8)


def test_sheet_places_pictures_row_by_row():
    sheet = make_sheet([tile(i * 40) for i in range(5)], columns=3, gap_px=2)
    assert sheet.shape == (2 + 2 * 22, 2 + 3 * 32, 3)
    for i in range(5):
        y, x = 2 + i // 3 * 22, 2 + i % 3 * 32
        np.testing.assert_array_equal(sheet[y : y + 20, x : x + 30], tile(i * 40))


def test_sheet_is_about_square_without_columns():
    assert make_sheet([tile(0)] * 9, gap_px=0).shape == (60, 90, 3)


def test_labels_change_only_the_strip_below_each_picture():
    plain = make_sheet([tile(90)] * 2, columns=2, gap_px=3)
    sheet = make_sheet([tile(90)] * 2, columns=2, gap_px=3, labels=["one", "a very long label"])
    np.testing.assert_array_equal(sheet[: 3 + 20], plain[: 3 + 20])
    assert (sheet[23:, :30] < 128).any() and (sheet[23:, 36:] < 128).any()


def test_a_title_is_written_above_and_moves_all_the_rest_down():
    pictures = [np.full((40, 60, 3), 90, np.uint8)] * 4
    plain, titled = make_sheet(pictures), make_sheet(pictures, title="before and after")
    extra = titled.shape[0] - plain.shape[0]
    assert extra > 10
    np.testing.assert_array_equal(titled[extra:], plain)
    assert titled[:extra].min() < 100


def test_marks_are_written_at_their_places_and_stay_inside():
    picture = np.full((200, 300, 3), 90, np.uint8)
    places = [((150.0, 100.0), "0"), ((-50.0, -9.0), "1")]
    changed = (marked(picture, places) != picture).any(axis=2)
    assert changed[80:101, 140:161].any()
    assert changed[:30, :30].any()
    assert not changed[110:].any()
    assert (picture == 90).all()


def test_row_labels_stand_left_of_their_rows():
    sheet = make_sheet([tile(200)] * 4, columns=2, row_labels=["top", "bottom"], gap_px=2)
    left = sheet.shape[1] - (2 + 2 * 32)
    assert (sheet[2:22, :left] < 128).any() and (sheet[24:44, :left] < 128).any()


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (20, 30)])
def test_pictures_of_other_shapes_are_fitted_and_centered(shape):
    sheet = make_sheet([tile(50), tile(100, *shape)], columns=2, gap_px=0, cell_px=30)
    inside = (sheet == 100).all(-1)
    rows, cols = np.nonzero(inside)
    center = (rows.min() + rows.max()) / 2, (cols.min() + cols.max()) / 2
    cell = (sheet.shape[0] - 1) / 2, sheet.shape[1] * 0.75 - 0.5
    assert abs(center[0] - cell[0]) <= 1 and abs(center[1] - cell[1]) <= 1
    width, height = np.ptp(cols) + 1, np.ptp(rows) + 1
    assert abs(width / height - shape[1] / shape[0]) < 0.35


def test_sheet_of_one_picture_is_the_picture_with_a_border():
    sheet = make_sheet([tile(77)], gap_px=1)
    assert sheet.shape == (22, 32, 3)
    np.testing.assert_array_equal(sheet[1:-1, 1:-1], tile(77))
