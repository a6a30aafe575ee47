"""Drawn people: reproducible, different from each other, and faces to a detector."""

import numpy as np
import pytest

from dsgcli.errors import UsageError
from dsgcli.faces import mediapipe_models, warp
from dsgcli.faces.align import aligned_offset
from dsgcli.faces.detect import open_detector
from dsgcli.training.drawn import cut_out, draw_portrait
from dsgcli.training.drawn_clip import clip_matrix, draw_clip
from dsgcli.training.drawn_people import DRAWN_STYLES, make_person
from dsgcli.types import Frame


@pytest.fixture(scope="module")
def detector():
    if not mediapipe_models.has_face_mesh():
        pytest.skip("this MediaPipe has no bundled face mesh")
    with open_detector("face_mesh") as opened:
        yield opened


@pytest.mark.parametrize("style", DRAWN_STYLES)
@pytest.mark.parametrize("size_px", [32, 256])
def test_the_same_seed_draws_the_same_bits(style, size_px):
    portrait = draw_portrait(5, size_px, style)
    assert portrait.shape == (size_px, size_px, 3)
    assert portrait.dtype == np.uint8
    np.testing.assert_array_equal(portrait, draw_portrait(5, size_px, style))


def test_seeds_are_different_people():
    portraits = np.stack([draw_portrait(seed, 48) for seed in range(12)]).astype(float)
    apart = np.abs(portraits[:, None] - portraits[None]).mean((2, 3, 4))
    assert apart[~np.eye(12, dtype=bool)].min() > 10.0
    assert len({make_person(seed).skin.tobytes() for seed in range(50)}) == 50


def test_size_only_changes_detail():
    large = draw_portrait(2, 256).astype(np.float32)
    small = draw_portrait(2, 64).astype(np.float32)
    assert np.abs(warp.resize(large, 64, 64) - small).mean() < 4.0


def test_ink_is_grey_and_pop_is_loud():
    def loudness(style):
        pixels = draw_portrait(3, 64, style).astype(float)
        return (pixels.max(2) - pixels.min(2)).mean()

    assert loudness("ink") < 1.0
    assert loudness("pop") > 1.4 * loudness("photo")


@pytest.mark.parametrize("style", DRAWN_STYLES)
def test_a_detector_finds_every_portrait_where_ffhq_has_it(detector, style):
    for seed in range(6):
        frame = Frame(pixels=draw_portrait(seed, 256, style))
        faces = detector.detect(frame)
        assert len(faces) == 1, seed
        assert aligned_offset(frame, faces[0]) < 0.1, seed


def test_pop_has_larger_eyes_than_photo(detector):
    """Structure differs, not only color."""

    def openness(style):
        openings = []
        for seed in range(4):
            (face,) = detector.detect(Frame(pixels=draw_portrait(seed, 256, style)))
            openings.append(np.hypot(*(face.landmarks[159] - face.landmarks[145])))
        return np.mean(openings)

    assert openness("pop") > 1.15 * openness("photo")


@pytest.mark.parametrize("arguments", [(0, 256, "oil"), (0, 8)])
def test_what_cannot_be_drawn_is_refused(arguments):
    with pytest.raises(UsageError):
        draw_portrait(*arguments)


def test_a_cut_out_has_no_background():
    person = cut_out(0, 96)
    color, alpha = person[:, :, :3], person[:, :, 3]
    assert (color[alpha == 0.0] == 0.0).all()
    assert (alpha[0] == 0.0).all()
    assert alpha[30:70, 35:60].min() == 1.0


def test_a_clip_has_exact_times_and_is_the_same_each_time():
    frames, again = list(draw_clip(4, 120, 90, fps=30)), list(draw_clip(4, 120, 90, fps=30))
    assert [float(frame.time * 30) for frame in frames] == [0, 1, 2, 3]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    for a, b in zip(frames, again, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
    assert (frames[0].pixels != frames[3].pixels).any()


@pytest.mark.parametrize("faces", [1, 2])
def test_a_clips_faces_are_where_its_motion_says(detector, faces):
    for frame in list(draw_clip(60, 480, 360, faces=faces, seed=2))[::20]:
        found = detector.detect(frame)
        assert found
        for face in found:
            offsets = []
            for number in range(faces):
                matrix = clip_matrix(float(frame.time), number, faces, 480, 360)
                own = warp.apply(warp.invert(matrix), face.eyes)
                offsets.append(np.abs(own - [(0.375, 0.472), (0.625, 0.472)]).max())
            assert min(offsets) < 0.06


def test_two_people_pass_each_other():
    start, end = (
        [clip_matrix(t, face, 2, 320, 240)[0] @ [0.5, 0.5, 1] for face in (0, 1)] for t in (0, 2.2)
    )
    assert start[0] < start[1]
    assert end[0] > end[1]
