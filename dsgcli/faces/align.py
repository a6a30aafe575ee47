"""Cut faces out of frames the way FFHQ was cut: frame + face -> crop.

Networks trained on FFHQ expect the eyes and the mouth at fixed places of an upright square;
`composite.py` takes the way back with the same `CropTransform`.

Conventions
    eyes, mouth  (2, 2): the one on the left of an upright picture first, frame pixels
    quad         (4, 2): upper left, lower left, lower right, upper right corner of the crop
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from dsgcli.faces import warp
from dsgcli.types import Crop, CropTransform, Face, Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dsgcli.types import Pixels, Points

EYE_SPAN, MOUTH_SPAN = 2.0, 1.8
"""The crop's half side in eye distances, or in eye-to-mouth distances: the larger one counts."""
CENTER_DROP = 0.1
"""The crop's center lies this far on the way from the eyes to the mouth."""
BORDER, MIN_BORDER_PX = 0.1, 3
"""Margin kept around the quad before padding, in quad sides and in pixels."""
PAD = 0.3
"""Padding on each side, in quad sides, once any is needed."""
PAD_BLUR = 0.02
"""Standard deviation of the blur that fades mirrored content, in quad sides."""
BLUR_SIGMA_PX = 2.5
"""Wider blurs are done on a copy shrunk so that they are this wide."""
ALIGNED_OFFSET = 0.1
"""How far, in sides, a corner of the face's quad may lie from the corner of a picture that counts
as aligned. Measured: 220 aligned portraits, photographed and painted, stay below 0.03; portrait
photographs start at 0.24."""

_UNIT_CORNERS = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.float64)  # in the order of a quad


def ffhq_quad(eyes: Points, mouth: Points) -> Points:
    """The oriented square of FFHQ alignment (Karras et al., arXiv:1812.04948, appendix C).

    Returns:
        (4, 2) in the units of the landmarks.
    """
    eye_to_eye = eyes[1] - eyes[0]
    center = eyes.mean(0)
    eye_to_mouth = mouth.mean(0) - center
    # x and y of the crop in frame pixels: half a side each, perpendicular
    along_x = eye_to_eye - _quarter_turn(eye_to_mouth)
    along_x /= np.hypot(*along_x)
    along_x *= max(np.hypot(*eye_to_eye) * EYE_SPAN, np.hypot(*eye_to_mouth) * MOUTH_SPAN)
    along_y = _quarter_turn(along_x)
    center = center + CENTER_DROP * eye_to_mouth
    return np.stack(
        [
            center - along_x - along_y,
            center - along_x + along_y,
            center + along_x + along_y,
            center + along_x - along_y,
        ]
    )


def _quarter_turn(vector: Points) -> Points:
    """Turn (x, y) by 90 degrees: right becomes down."""
    return np.array([-vector[1], vector[0]])


def crop_side(face: Face) -> float:
    """Side of the crop that FFHQ alignment would cut, in frame pixels."""
    upper_left, _, _, upper_right = ffhq_quad(face.eyes, face.mouth)
    return float(np.hypot(*(upper_right - upper_left)))


def face_transform(face: Face, size_px: int) -> CropTransform:
    """Where FFHQ alignment would cut this face, at this resolution."""
    return CropTransform(quad=ffhq_quad(face.eyes, face.mouth), size_px=size_px)


def crop_face(frame: Frame, face: Face, size_px: int) -> Crop:
    """Cut one face out of a frame: a crop of `size_px` pixels."""
    transform = face_transform(face, size_px)
    return Crop(pixels=cut(frame.pixels, transform), transform=transform, face=face)


def crop_whole(frame: Frame, size_px: int, face: Face | None = None) -> Crop:
    """Take a picture that is already aligned as it is, resized; its middle square if not square.

    Nothing lies outside, so nothing is faded: a picture of this size comes back unchanged.
    """
    width, height = frame.size_px
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    transform = CropTransform(quad=side * _UNIT_CORNERS + (left, top), size_px=size_px)
    if side == size_px and left % 1 == top % 1 == 0:  # what the lookup would give
        x, y = int(left), int(top)
        pixels = np.ascontiguousarray(frame.pixels[y : y + side, x : x + side])
    else:
        pixels = warp.to_uint8(warp.warp(frame.pixels, transform.matrix(), size_px, size_px))
    return Crop(pixels=pixels, transform=transform, face=face)


def looks_aligned(frame: Frame, faces: Sequence[Face]) -> bool:
    """Whether the picture is an FFHQ crop already: square, and its largest face's quad is the
    picture's own outline."""
    width, height = frame.size_px
    if width != height or not faces:
        return False
    return aligned_offset(frame, max(faces, key=lambda face: face.height_px)) <= ALIGNED_OFFSET


def aligned_offset(frame: Frame, face: Face) -> float:
    """Largest distance between the corners of the face's quad and of the frame, in frame sides."""
    distances = np.hypot(*(ffhq_quad(face.eyes, face.mouth) - frame.size_px * _UNIT_CORNERS).T)
    return float(distances.max() / min(frame.size_px))


def cut(pixels: Pixels, transform: CropTransform) -> Pixels:
    """Cut a square out of a picture, prefiltered; what lies outside is filled as FFHQ's was. A
    square that lies wholly outside is filled with the picture's nearest border.

    Args:
        pixels: (H, W, 3) uint8.

    Returns:
        (S, S, 3) uint8.
    """
    matrix, quad, size_px = transform.matrix(), transform.quad, transform.size_px
    height, width = pixels.shape[:2]
    side = warp.scale_of(matrix) * size_px
    # the warp needs a margin around the quad; a few pixels of it may lie outside
    overlaps = (quad.max(0) > 0.0).all() and (quad.min(0) < (width, height)).all()
    if overlaps and max(_lacking(quad, width, height, side)) > _border_px(side) - 4:
        pixels, matrix = _padded(pixels, transform, side)
    return warp.to_uint8(warp.warp(pixels, matrix, size_px, size_px))


def _border_px(side: float) -> int:
    return max(round(side * BORDER), MIN_BORDER_PX)


def _lacking(quad: Points, width: int, height: int, side: float) -> list[int]:
    """How many pixels a picture lacks to hold the quad and its border: left, top, right, bottom."""
    border = _border_px(side)
    low = border - np.floor(quad.min(0)).astype(int)
    high = np.ceil(quad.max(0)).astype(int) + border - (width, height)
    return [max(int(n), 0) for n in (*low, *high)]


def _padded(pixels: Pixels, transform: CropTransform, side: float) -> tuple[Pixels, warp.Matrix]:
    """The part of the frame within the quad and its border, at no more than the crop's scale, and
    continued outside.

    Returns:
        pixels, and the matrix crop -> these pixels.
    """
    size, border = np.array([pixels.shape[1], pixels.shape[0]]), _border_px(side)
    # first only what the crop needs, so that a small face in a large frame stays cheap
    low = np.clip(np.floor(transform.quad.min(0)) - border, 0, size - 1).astype(int)
    high = np.clip(np.ceil(transform.quad.max(0)) + border, low + 1, size).astype(int)
    region = pixels[low[1] : high[1], low[0] : high[0]]
    matrix = transform.matrix() - np.array([[0.0, 0.0, low[0]], [0.0, 0.0, low[1]]])
    scale = warp.scale_of(matrix)
    if scale > 1.0:
        height, width = region.shape[:2]
        region = warp.resize(region, max(1, round(width / scale)), max(1, round(height / scale)))
        matrix = matrix * np.array([[region.shape[1] / width], [region.shape[0] / height]])
        side = float(transform.size_px)
    # (4, 2): the quad in pixels of the region, which may reach over its edges
    quad = warp.apply(matrix, _UNIT_CORNERS * transform.size_px)
    lacking = _lacking(quad, region.shape[1], region.shape[0], side)
    left, top, _, _ = pads = [max(n, round(side * PAD)) for n in lacking]
    return _continued(region, pads, side), matrix + np.array([[0.0, 0.0, left], [0.0, 0.0, top]])


def _continued(region: Pixels, pads: Sequence[int], side: float) -> Pixels:
    """Continue the picture as FFHQ did: mirrored, blurred towards the outside, fading into the
    median color, so that no hard edge is learned or drawn.

    The fade reaches a little into the picture: that is how the networks' training data looks.
    """
    left, top, right, bottom = pads
    padded = np.pad(region, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    picture = padded.astype(np.float32)
    x = np.arange(picture.shape[1], dtype=np.float32)
    y = np.arange(picture.shape[0], dtype=np.float32)[:, None]
    # depth (H, W, 1): 1 at the outer edge, 0 at the picture's edge, negative inside
    depth_x = 1.0 - np.minimum(x / left, x[::-1] / right)
    depth_y = 1.0 - np.minimum(y / top, y[::-1] / bottom)
    depth = np.maximum(depth_x, depth_y)[:, :, None]
    # the blur begins inside the picture, the median color at its edge
    picture += (_blur(picture, side * PAD_BLUR) - picture) * np.clip(depth * 3.0 + 1.0, 0.0, 1.0)
    picture += (np.median(picture, axis=(0, 1)) - picture) * np.clip(depth, 0.0, 1.0)
    return warp.to_uint8(picture)


def _blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of (H, W, C), cut off at four standard deviations. A wide one is done on a
    smaller copy: ten times as fast, and the same within half a level."""
    height, width = picture.shape[:2]
    shrink = max(1.0, sigma / BLUR_SIGMA_PX)
    small = warp.resize(picture, max(1, round(width / shrink)), max(1, round(height / shrink)))
    sigma /= shrink
    kernel = cv2.getGaussianKernel(2 * int(4.0 * sigma + 0.5) + 1, sigma)
    small = cv2.sepFilter2D(small, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    blurred: NDArray[np.float32] = warp.resize(small, width, height)
    return blurred
