"""Pasting back: exact where the mask is empty, the inverse of cutting where it is full."""

import cv2
import numpy as np
import pytest

from dsgcli.faces.align import cut
from dsgcli.faces.composite import (
    FROM_LINEAR,
    composite,
    cut_out,
    from_linear,
    match_color,
    rgb_to_lab,
    to_linear,
)
from dsgcli.faces.masks import (
    USUAL_CHIN_Y,
    Segmentation,
    hull_distance,
    make_cutout,
    make_mask,
    pick_kind,
)
from dsgcli.types import Crop, CropTransform, Face, Frame, Portrait

SIZE = 64


def lab_to_rgb(lab):
    """Lab -> sRGB bytes by OpenCV, which is an independent reference."""
    return np.rint(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB) * 255).astype(np.uint8)


def smooth_picture(height=120, width=160):
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 17 + k) * np.cos(y / 13 - k) for k in range(3)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def square(center, half, degrees=0.0, size_px=SIZE):
    turn = np.radians(degrees)
    right = half * np.array([np.cos(turn), np.sin(turn)])
    down = half * np.array([-np.sin(turn), np.cos(turn)])
    middle = np.array(center, float)
    quad = [middle - right - down, middle - right + down, middle + right + down]
    return CropTransform(quad=np.stack([*quad, middle + right - down]), size_px=size_px)


def portrait_of(frame, transform, pixels=None, face=None):
    crop = Crop(pixels=cut(frame.pixels, transform), transform=transform, face=face)
    return Portrait(pixels=crop.pixels if pixels is None else pixels, crop=crop)


@pytest.fixture
def frame():
    return Frame(pixels=smooth_picture())


FULL, EMPTY = np.ones((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32)


def test_srgb_bytes_survive_linear_light():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(from_linear(to_linear(every)), every)
    assert (np.diff(FROM_LINEAR.astype(int)) <= 1).all()


@pytest.mark.parametrize("degrees", [0, 30, -100])
def test_pasting_back_what_was_cut_changes_nothing(frame, degrees):
    portrait = portrait_of(frame, square((80, 60), 32, degrees))
    pasted = composite(frame, [portrait], [FULL]).pixels
    inside = np.abs(pasted.astype(int) - frame.pixels)[45:75, 65:95]
    assert inside.max() <= 2


@pytest.mark.parametrize("center", [(80, 60), (5, 5), (158, 118), (-500, 0)])
def test_an_empty_mask_leaves_the_frame_bit_for_bit(frame, center):
    portrait = portrait_of(frame, square(center, 40, 20), np.zeros((SIZE, SIZE, 3), np.uint8))
    np.testing.assert_array_equal(composite(frame, [portrait], [EMPTY]).pixels, frame.pixels)


def test_the_frame_outside_the_mask_stays_bit_for_bit(frame):
    half = FULL.copy()
    half[:, SIZE // 2 :] = 0
    black = portrait_of(frame, square((80, 60), 32), np.zeros((SIZE, SIZE, 3), np.uint8))
    pasted = composite(frame, [black], [half]).pixels
    np.testing.assert_array_equal(pasted[:, 84:], frame.pixels[:, 84:])
    assert pasted[30:90, 52:76].max() == 0


def test_a_portrait_much_larger_than_its_face_does_not_alias(frame):
    """A chequerboard of single pixels is grey from afar."""
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    portrait = portrait_of(frame, square((80, 60), 20, 7, size_px=512), pixels)
    mask = np.ones((512, 512), np.float32)
    inside = composite(frame, [portrait], [mask]).pixels[50:70, 70:90].astype(int)
    assert np.ptp(inside) <= 6 and abs(inside.mean() - 188) < 4  # half the light is 188 in sRGB


def test_a_soft_edge_is_blended_in_linear_light(frame):
    white = Frame(pixels=np.full_like(frame.pixels, 255))
    black = portrait_of(white, square((80, 60), 32), np.zeros((SIZE, SIZE, 3), np.uint8))
    pasted = composite(white, [black], [0.5 * FULL]).pixels
    assert abs(int(pasted[60, 80, 0]) - 188) <= 1


def test_opacity_fades_the_portrait(frame):
    black = portrait_of(frame, square((80, 60), 32), np.zeros((SIZE, SIZE, 3), np.uint8))
    gone = Portrait(pixels=black.pixels, crop=black.crop, opacity=0.0)
    np.testing.assert_array_equal(composite(frame, [gone], [FULL]).pixels, frame.pixels)


def test_the_larger_face_is_in_front(frame):
    def flat(value, half):
        return portrait_of(frame, square((80, 60), half), np.full((SIZE, SIZE, 3), value, np.uint8))

    pasted = composite(frame, [flat(200, 40), flat(50, 20)], [FULL, FULL]).pixels
    assert pasted[60, 80, 0] == 200


def test_a_cut_out_is_transparent_outside_its_mask(frame):
    portrait = portrait_of(frame, square((80, 60), 32))
    out = cut_out(frame, [portrait], [FULL])
    assert out.alpha[60, 80] == 255 and out.alpha[5, 5] == 0 and out.pixels[5, 5].max() == 0


# ── color ────────────────────────────────────────────────────────────────────────────────────────


def test_lab_survives_the_way_there_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert np.abs(lab_to_rgb(rgb_to_lab(pixels)).astype(int) - pixels).max() <= 1


def test_lab_of_known_colors():
    lab = rgb_to_lab(np.array([[255, 255, 255], [255, 0, 0]], np.uint8))
    np.testing.assert_allclose(lab, [[100, 0, 0], [53.24, 80.09, 67.2]], atol=0.05)


def test_matched_color_has_the_crops_mean(frame):
    tinted = np.clip(frame.pixels[:SIZE, :SIZE] * [0.5, 0.9, 0.4] + 30, 0, 255).astype(np.uint8)
    portrait = portrait_of(frame, square((80, 60), 32), tinted)
    means = [
        rgb_to_lab(match_color(portrait, FULL, strength).pixels).mean(axis=(0, 1))
        for strength in (0.0, 0.5, 1.0)
    ]
    wanted = rgb_to_lab(portrait.crop.pixels).mean(axis=(0, 1))
    gaps = [np.linalg.norm(mean - wanted) for mean in means]
    assert gaps[0] > 1.5 * gaps[1] > 3 * gaps[2]


def test_matched_color_is_the_move_in_lab_within_a_level(frame):
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    portrait = portrait_of(frame, square((80, 60), 32), drawn)
    ours, theirs = rgb_to_lab(drawn), rgb_to_lab(portrait.crop.pixels)
    stretch = theirs.std(axis=(0, 1)) / ours.std(axis=(0, 1))
    moved = (ours - ours.mean(axis=(0, 1))) * stretch.clip(1 / 1.5, 1.5) + theirs.mean(axis=(0, 1))
    matched = match_color(portrait, FULL, 1.0).pixels.astype(int)
    assert np.abs(matched - lab_to_rgb(moved)).max() <= 1


@pytest.mark.parametrize("side", [SIZE // 4, SIZE, 2 * SIZE])
def test_colors_are_matched_inside_masks_of_any_size(frame, side):
    """Masks are made at a size of their own."""
    drawn = np.full((SIZE, SIZE, 3), 200, np.uint8)
    drawn[:, SIZE // 2 :] = 20
    portrait = portrait_of(frame, square((80, 60), 32), drawn)
    left = np.zeros((side, side), np.float32)
    left[:, : side // 2] = 1.0
    half = np.zeros((SIZE, SIZE), np.float32)
    half[:, : SIZE // 2] = 1.0
    matched = match_color(portrait, left, 1.0).pixels
    np.testing.assert_array_equal(matched, match_color(portrait, half, 1.0).pixels)


# ── masks ────────────────────────────────────────────────────────────────────────────────────────


class HalfSegmenter:
    """Says that the left half of every picture is a person."""

    name = "half"

    def segment(self, pixels):
        person = np.zeros(pixels.shape[:2], np.float32)
        person[:, : pixels.shape[1] // 2] = 1
        return Segmentation(person=person)

    def close(self):
        """Nothing is open."""


def face_in(transform):
    """Landmarks on an oval in the middle of the crop."""
    angles = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    unit = 0.5 + np.stack([0.3 * np.cos(angles), 0.4 * np.sin(angles)], axis=1)
    unit[[10, 33, 152, 263]] = [[0.5, 0.1], [0.35, 0.45], [0.5, 0.9], [0.65, 0.45]]
    low, high = transform.quad[0], transform.quad[2]
    return Face(landmarks=low + unit * (high - low))


def test_hull_distance_is_the_distance_inside_a_square():
    corners = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75], [0.5, 0.5]])
    distance = hull_distance(corners, 100)
    assert abs(distance[49, 49] - 0.245) < 0.01 and distance[5, 5] < 0


@pytest.mark.parametrize("kind", ["feather", "face", "head", "person"])
def test_every_mask_is_full_in_the_middle_and_empty_at_the_edge(frame, kind):
    transform = square((80, 60), 32)
    portrait = portrait_of(frame, transform, face=face_in(transform))
    mask = make_mask(portrait, kind, blend=0.1, segmenter=HalfSegmenter())
    assert mask.dtype == np.float32 and mask.shape == (SIZE, SIZE)
    assert mask[32, 28] > 0.95 and max(mask[0].max(), mask[:, -1].max(), mask[-1].max()) < 0.05


def test_a_head_ends_under_the_chin(frame):
    transform = square((80, 60), 32)
    face = face_in(transform)
    face.landmarks[152] = [80, 64]  # the chin, at 0.56 of the square
    portrait = portrait_of(frame, transform, face=face)
    whole, head = (
        make_mask(portrait, kind, blend=0.02, segmenter=HalfSegmenter())
        for kind in ("person", "head")
    )
    assert whole[52, 6] > 0.95 and head[52, 6] < 0.05 and head[24, 6] > 0.95


def test_auto_takes_the_head_where_a_model_is_at_hand():
    assert pick_kind("auto", HalfSegmenter()) == "head"
    assert pick_kind("auto", None) == "face"


# ── cut-outs, and drawings that keep what their crop shows ───────────────────────────────────────

INK, PAPER, PERSON = (40, 30, 30), (220, 225, 230), 0.28


class RoughSegmenter:
    """Finds a round person, and is unsure of its edge by a sixteenth of the picture."""

    name = "rough"

    def segment(self, pixels):
        y, x = (np.mgrid[0 : len(pixels), 0 : len(pixels)] + 0.5) / len(pixels) - 0.5
        share = np.clip((PERSON - np.hypot(x, y)) * 16 + 0.5, 0, 1)
        return Segmentation(person=share.astype(np.float32))

    def close(self):
        pass


def round_person(side):
    """(side, side, 3), and where the person is."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side - 0.5
    inside = np.hypot(x, y) < PERSON
    return np.where(inside[:, :, None], INK, PAPER).astype(np.uint8), inside


def drawn_person(side, **options):
    pixels, inside = round_person(side)
    place = square((64, 64), 64, size_px=side)
    crop = Crop(pixels=pixels, transform=place)
    return Portrait(pixels=pixels, crop=crop, **options), inside


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("keeps", [False, True])
def test_a_cut_out_has_the_edge_of_the_drawing(side, keeps):
    portrait, inside = drawn_person(side, keeps_content=keeps)
    mask = make_cutout(portrait, "person", blend=0.05, segmenter=RoughSegmenter())
    assert mask.shape == (side, side)
    assert mask.dtype == np.float32
    assert mask[inside].mean() > 0.98
    assert mask[~inside].mean() < 0.02
    rough = RoughSegmenter().segment(portrait.pixels).person
    assert np.abs(mask - inside).mean() < 0.2 * np.abs(rough - inside).mean()


def test_a_cut_out_head_ends_softly_under_the_chin():
    portrait, inside = drawn_person(256)
    neck = make_cutout(portrait, "head", blend=0.05, segmenter=RoughSegmenter())[:, 128]
    whole = make_cutout(portrait, "person", blend=0.05, segmenter=RoughSegmenter())[:, 128]
    chin = int(USUAL_CHIN_Y * 256)
    np.testing.assert_allclose(neck[:chin], whole[:chin], atol=1e-6)
    assert inside.any()


@pytest.mark.parametrize("kind", ["feather", "face"])
def test_a_cut_out_without_a_model_is_its_mask_at_full_size(kind):
    portrait, _ = drawn_person(512)
    mask = make_cutout(portrait, kind, blend=0.05)
    assert mask.shape == (512, 512)
    assert mask[256, 256] == 1.0
    assert mask[0].max() < 0.1


def test_a_mask_follows_the_edges_of_a_drawing_that_keeps_its_crop():
    sharp, inside = drawn_person(256, keeps_content=True)
    soft, _ = drawn_person(256)

    def error(portrait):
        mask = make_mask(portrait, "person", blend=0.08, segmenter=RoughSegmenter())
        return np.abs(mask - inside).mean()

    assert error(sharp) < 0.5 * error(soft)


def test_the_edge_of_a_kept_square_is_wider():
    kept, _ = drawn_person(256, keeps_content=True)
    other, _ = drawn_person(256)
    wide, narrow = (make_mask(portrait, "feather", blend=0.1) for portrait in (kept, other))
    assert (wide <= narrow).all()
    assert wide[128, 26] < 0.6 < narrow[128, 26]
    assert wide[128, 128] == 1.0
