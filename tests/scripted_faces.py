"""Faces without a detector: meshes of known place, and a finder that sees what it is told to."""

from __future__ import annotations

import numpy as np

from dsgcli.faces import warp
from dsgcli.types import LEFT_EYE, MOUTH_CORNERS, NUM_LANDMARKS, RIGHT_EYE, Face


def mesh(center=(0.0, 0.0), size=100.0, degrees=0.0):
    """(478, 2): a face of about this size; eyes, mouth and outline where a face has them."""
    rng = np.random.default_rng(7)
    radius, angle = np.sqrt(rng.uniform(0, 1, NUM_LANDMARKS)), rng.uniform(0, 7, NUM_LANDMARKS)
    points = 0.5 * np.stack([0.85 * radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    lids = np.array([[-0.08, -0.15], [0.08, -0.15], [0.0, -0.18], [0.0, -0.12]])
    points[list(LEFT_EYE)] = lids - (0.2, 0.0)
    points[list(RIGHT_EYE)] = lids - (-0.2, 0.0)
    points[list(MOUTH_CORNERS)] = [[-0.15, 0.25], [0.15, 0.25]]
    turn = np.radians(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return size * points @ matrix.T + center


def face(center=(0.0, 0.0), size=100.0, degrees=0.0, **fields):
    return Face(landmarks=mesh(center, size, degrees), **fields)


class MarkFinder:
    """Finds faces drawn as gradients by `mark`, as MediaPipe would: large enough ones, and upright
    or upside down (which it mistakes for upright); and notes the views it was shown."""

    name = "marks"

    def __init__(self, smallest=0.15, upside_down=False):
        self.smallest, self.upside_down = smallest, upside_down
        self.shown, self.closed = [], False

    def find(self, pixels):
        self.shown.append(pixels.shape[:2])
        found = []
        for blue in MARK_COLORS:
            rows, columns = np.nonzero(np.abs(pixels[:, :, 2].astype(int) - blue) <= 2)
            if len(rows) < 60:
                continue
            place = fit_mark(pixels, rows, columns)
            if place is None:
                continue
            center, size, degrees = place
            upright = abs((degrees + 180) % 360 - 180) < 60
            if self.upside_down and abs(degrees % 360 - 180) < 60:
                # as wrong as MediaPipe's: eyes where the mouth is, and never twice the same
                wobble = 0.1 * len(self.shown) % 0.3
                found.append(mesh(center + wobble * size, size * (1 + wobble), degrees - 180))
            elif upright and size > self.smallest * max(pixels.shape[:2]):
                found.append(mesh(center, size, degrees))
        return found

    def close(self):
        self.closed = True


MARK_COLORS = (250, 200)
MARK_SIZE = 64
"""Side of the square that a mark is drawn on, in its own units."""


def mark(width, height, *places, background=40):
    """A frame with a mark for each (center, size, degrees): red grows to the face's right, green
    downwards, so that place, size and turn can be read from the pixels again."""
    frame = np.full((height, width, 3), background, np.uint8)
    for (center, size, degrees), blue in zip(places, MARK_COLORS, strict=False):
        turn = np.radians(degrees)
        axes = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        to_frame = np.concatenate([axes, np.array(center, float)[:, None]], axis=1)
        y, x = np.mgrid[0:height, 0:width] + 0.5
        own = warp.apply(warp.invert(to_frame), np.stack([x.ravel(), y.ravel()], axis=1))
        inside = (np.abs(own) <= 0.5).all(axis=1).reshape(height, width)
        colors = np.rint(128 + 200 * np.clip(own, -0.5, 0.5)).astype(np.uint8)
        frame[inside, :2] = colors.reshape(height, width, 2)[inside]
        frame[inside, 2] = blue
    return frame


def fit_mark(pixels, rows, columns):
    """Center, size and degrees of the mark at these pixels; None if it is cut off."""
    red, green = ((pixels[rows, columns, i].astype(float) - 128) / 200 for i in (0, 1))
    if min(-red.min(), red.max(), -green.min(), green.max()) < 0.4:
        return None
    own = np.stack([red, green, np.ones_like(red)], axis=1)
    places = np.stack([columns + 0.5, rows + 0.5], axis=1)
    (along_x, along_y, center), *_ = np.linalg.lstsq(own, places, rcond=None)
    size = float(np.sqrt(abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])))
    return center, size, float(np.degrees(np.arctan2(along_x[1], along_x[0])))
