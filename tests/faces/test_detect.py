"""One suite for every face detector, on drawn faces.

The Tasks API needs a model file: DSG_FACE_LANDMARKER, or face_landmarker.task in the models folder.
"""

import os
import threading
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from dsgcli.errors import ModelCorruptError, ModelMissingError, UsageError
from dsgcli.faces import mediapipe_models, warp
from dsgcli.faces.align import aligned_offset, looks_aligned
from dsgcli.faces.detect import TASK_NAME, TASK_URL, open_detector, shift
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.drawn_clip import draw_clip
from dsgcli.types import NUM_LANDMARKS, Frame


def task_file():
    places = [
        os.environ.get("DSG_FACE_LANDMARKER", ""),
        Path(os.environ.get("DSG_HOME", ""), TASK_NAME),
        Path(platformdirs.user_data_dir("dsg"), TASK_NAME),
    ]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


@pytest.fixture(scope="module", params=["face_mesh", "tasks"])
def detector(request):
    if request.param == "face_mesh" and not mediapipe_models.has_face_mesh():
        pytest.skip("this MediaPipe has no bundled face mesh")
    if request.param == "tasks" and task_file() is None:
        pytest.skip(f"no {TASK_NAME}; name one with DSG_FACE_LANDMARKER")
    with open_detector(request.param, task_file()) as opened:
        yield opened


def on_wall(*placed, width=640, height=480):
    """A frame with drawn portraits, each (seed, left, top, side, quarter turns)."""
    pixels = np.full((height, width, 3), (90, 110, 120), np.uint8)
    for seed, left, top, side, turns in placed:
        portrait = warp.resize(draw_portrait(seed, 256), side, side)
        pixels[top : top + side, left : left + side] = np.rot90(portrait, turns)
    return Frame(pixels=pixels)


def test_nothing_is_an_empty_list(detector):
    assert detector.detect(Frame(pixels=np.zeros((90, 120, 3), np.uint8))) == []


def test_a_portrait_has_one_face_of_478_points(detector):
    frame = Frame(pixels=draw_portrait(3, 256))
    (face,) = detector.detect(frame)
    assert face.landmarks.shape == (NUM_LANDMARKS, 2)
    assert face.landmarks.dtype == np.float64
    assert 0.5 < face.score <= 1.0
    assert (face.landmarks > 0).all()
    assert (face.landmarks < 256).all()


@pytest.mark.parametrize("seed", range(4))
def test_drawn_portraits_are_aligned_like_ffhq(detector, seed):
    frame = Frame(pixels=draw_portrait(seed, 256))
    faces = detector.detect(frame)
    assert looks_aligned(frame, faces)
    assert aligned_offset(frame, faces[0]) < 0.08


def test_landmarks_are_where_types_says(detector):
    (face,) = detector.detect(Frame(pixels=draw_portrait(1, 256)))
    left, right = face.eyes
    assert left[0] + 40 < right[0]
    assert face.mouth[0][0] + 20 < face.mouth[1][0]
    assert face.mouth.mean(0)[1] > face.eyes.mean(0)[1] + 40


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_points_turn_with_the_picture(detector, turns):
    straight, turned = on_wall((1, 100, 90, 300, 0)), on_wall((1, 100, 90, 300, turns))
    (expected,), (found,) = detector.detect(straight), detector.detect(turned)
    own = (expected.landmarks - (250, 240)) / 150
    for _ in range(turns):
        own = np.stack([own[:, 1], -own[:, 0]], axis=1)
    assert shift(own * 150 + (250, 240), found.landmarks) < 0.03


def test_points_grow_with_the_picture(detector):
    small, large = Frame(pixels=draw_portrait(2, 128)), Frame(pixels=draw_portrait(2, 512))
    (a,), (b,) = detector.detect(small), detector.detect(large)
    assert shift(a.landmarks * 4, b.landmarks) < 0.03


def test_two_faces_come_from_the_left(detector):
    faces = detector.detect(on_wall((5, 350, 60, 280, 0), (1, 20, 150, 280, 0)))
    assert [face.landmarks[0, 0] < 320 for face in faces] == [True, False]


def test_a_small_face_in_a_large_frame_is_found(detector):
    (face,) = detector.detect(on_wall((1, 1200, 300, 80, 0), width=1920, height=1080))
    assert np.hypot(*(face.landmarks.mean(0) - (1240, 345))) < 8
    assert 34 < face.height_px < 50


def test_small_faces_beside_a_large_one_are_found(detector):
    """The search once stopped with the first size at which it found somebody."""
    places = [
        (5, 20, 20, 680, 0),
        (1, 900, 60, 110, 0),
        (2, 1100, 400, 160, 0),
        (3, 760, 560, 90, 0),
    ]
    faces = detector.detect(on_wall(*places, width=1280, height=720))
    assert [round(face.landmarks.mean(0)[0] / 100) for face in faces] == [4, 8, 10, 12]


def test_detection_has_no_memory(detector):
    frame, other = on_wall((1, 100, 90, 300, 0)), on_wall((5, 300, 60, 250, 0))
    (first,) = detector.detect(frame)
    detector.detect(other)
    (again,) = detector.detect(frame)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)


def test_pixels_may_be_read_only_and_mirrored(detector):
    pixels = draw_portrait(3, 256)[:, ::-1]
    pixels.setflags(write=False)
    assert len(detector.detect(Frame(pixels=pixels))) == 1


def test_threads_share_a_detector(detector):
    frame = Frame(pixels=draw_portrait(3, 128))
    (expected,) = detector.detect(frame)
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(detector.detect(frame))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(face.landmarks, expected.landmarks) for face in found)


def test_a_moving_face_is_followed(detector):
    hints = []
    for frame in draw_clip(6, 320, 240, seed=2):
        hints = detector.detect(frame, hints=hints, effort="glance")
        assert len(hints) == 1


# ── opening ──────────────────────────────────────────────────────────────────────────────────────


def test_opening_says_nothing_on_stderr(capfd):
    if not mediapipe_models.has_face_mesh():
        pytest.skip("this MediaPipe has no bundled face mesh")
    with open_detector("face_mesh") as opened:
        opened.detect(Frame(pixels=draw_portrait(3, 128)))
    assert capfd.readouterr().err == ""


def test_closing_twice_is_harmless():
    if not mediapipe_models.has_face_mesh():
        pytest.skip("this MediaPipe has no bundled face mesh")
    opened = open_detector("face_mesh")
    opened.close()
    opened.close()


def test_an_unknown_backend_is_refused():
    with pytest.raises(UsageError, match="auto, face_mesh, tasks"):
        open_detector("dlib")


def test_without_a_model_file_the_tasks_backend_says_where_to_get_it():
    with pytest.raises(ModelMissingError) as raised:
        open_detector("tasks")
    assert TASK_URL in str(raised.value)
    assert "dsg models pull face_landmarker" in str(raised.value)


@pytest.mark.parametrize("backend", ["auto", "face_mesh"])
def test_without_the_bundled_mesh_the_message_names_the_way_out(backend, monkeypatch):
    monkeypatch.setattr(mediapipe_models, "has_face_mesh", lambda: False)
    with pytest.raises(ModelMissingError, match=TASK_NAME):
        open_detector(backend)


def test_a_model_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelMissingError, match=r"nowhere\.task"):
        open_detector("tasks", tmp_path / "nowhere.task")


def test_a_model_file_of_other_content_is_refused(tmp_path):
    path = tmp_path / TASK_NAME
    path.write_bytes(b"not a model")
    with pytest.raises(ModelCorruptError, match="download it again"):
        open_detector("auto", path)


def test_auto_takes_the_bundled_mesh_where_there_is_no_file():
    if not mediapipe_models.has_face_mesh():
        pytest.skip("this MediaPipe has no bundled face mesh")
    with open_detector() as opened:
        assert opened.name == mediapipe_models.BundledMesh.name


def test_the_tasks_api_is_here_in_every_mediapipe():
    assert mediapipe_models.has_tasks()


def test_a_detector_without_its_model_says_how_to_get_it_and_where_to_read_more(monkeypatch):
    """As on Python 3.13, whose MediaPipe comes without one."""
    monkeypatch.setattr("dsgcli.faces.mediapipe_models.has_face_mesh", lambda: False)
    with pytest.raises(ModelMissingError, match="`dsg models pull face_landmarker`") as raised:
        open_detector(task_file=None)
    assert raised.value.see == "no-face-detector"
