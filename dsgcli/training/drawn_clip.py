"""Clips of drawn people that move, with the motion known: for tests of tracking, and the demo.

Data flow: seed -> frames. Conventions as in `drawn.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dsgcli.faces import warp
from dsgcli.training.drawn import cut_out
from dsgcli.types import Frame

Array = NDArray[np.float32]

PORTRAIT_PX = 192
"""Resolution that the people are drawn at before they are placed."""


def draw_clip(
    num_frames: int,
    width: int = 320,
    height: int = 240,
    *,
    faces: int = 1,
    seed: int = 0,
    fps: int = 25,
) -> Iterator[Frame]:
    """People that move, turn and come nearer; two of them pass each other.

    Yields:
        Frames with exact times; `clip_matrix` says where the faces truly are.
    """
    portraits = [cut_out(seed + i, PORTRAIT_PX) for i in range(faces)]
    backdrop = _backdrop(seed, width, height)
    for index in range(num_frames):
        picture = backdrop.copy()
        for i, portrait in enumerate(portraits):
            matrix = clip_matrix(index / fps, i, faces, width, height)
            _paste(picture, portrait, matrix)
        yield Frame(
            pixels=warp.to_uint8(picture * 255.0),
            index=index,
            time=Fraction(index, fps),
            duration=Fraction(1, fps),
        )


def clip_matrix(
    time_s: float, face: int, faces: int, width: int, height: int
) -> NDArray[np.float64]:
    """The true motion of `draw_clip`: (2, 3), portrait (u, v, 1) -> frame pixels."""
    phase = time_s + 1.7 * face
    side = 0.62 * height * (1.0 + 0.1 * np.sin(1.1 * phase))
    angle = np.deg2rad(8.0 * np.sin(0.9 * phase))
    start, sway = (0.5, 0.12) if faces == 1 else [(0.23, 0.3), (0.77, -0.3)][face % 2]
    x = width * (start + sway * np.sin(0.7 * time_s))
    y = height * (0.52 + 0.03 * np.sin(1.7 * phase))
    turn = side * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, (np.array([x, y]) - turn @ [0.5, 0.5])[:, None]], axis=1)


def _paste(picture: Array, portrait: Array, matrix: NDArray[np.float64]) -> None:
    """Lay a premultiplied cut-out over a picture, in place."""
    height, width = picture.shape[:2]
    to_portrait = warp.invert(matrix) * len(portrait)
    layer = warp.warp(portrait, to_portrait, width, height, outside="zeros")
    picture *= 1.0 - np.clip(layer[:, :, 3:], 0.0, 1.0)
    picture += layer[:, :, :3]


def _backdrop(seed: int, width: int, height: int) -> Array:
    """A wall with a few large soft patches, so that motion and cuts can be seen."""
    rng = np.random.default_rng([seed, 0xBAC])
    coarse = rng.uniform(0.2, 0.8, (5, 8, 3)).astype(np.float32)
    return np.clip(warp.resize(coarse, width, height), 0.0, 1.0)
