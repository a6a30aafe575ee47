"""Drawn faces: people that never were, for tests, the demo and the recipe that needs no data.

Data flow: seed -> portrait. The same seed is the same person in every style, so the styles differ
as real ones do: in color (`ink` is grey, `pop` is loud) and in structure (larger eyes, smaller
mouth). Detectors find these faces, and their eyes and mouth lie where FFHQ alignment puts them.

Conventions
    u, v      picture coordinates from 0 to 1, to the right and down
    distance  signed, in picture sides; negative inside a shape
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsgcli.errors import UsageError
from dsgcli.faces import warp
from dsgcli.training.drawn_people import (
    DRAWN_STYLES,
    LOOKS,
    Color,
    DrawnStyle,
    Person,
    SyntheticLook,
    make_person,
)

Array = NDArray[np.float32]

EYE_X, EYE_Y, MOUTH_Y = 0.125, 0.472, 0.745
"""Where FFHQ alignment puts the eyes (from the middle) and the corners of the mouth."""


def draw_portrait(seed: int, size_px: int, style: DrawnStyle = "photo") -> NDArray[np.uint8]:
    """Draw one person's portrait, aligned like FFHQ's.

    Returns:
        (size_px, size_px, 3) uint8 RGB; the same for the same arguments.

    Raises:
        UsageError: no such style, or a size under 16 px.
    """
    if style not in DRAWN_STYLES:
        raise UsageError(f"no drawn style {style!r}; choose one of {', '.join(DRAWN_STYLES)}")
    if size_px < 16:
        raise UsageError(f"a drawn portrait has 16 px or more, got {size_px}")
    person = make_person(seed)
    canvas = _Canvas(size_px, LOOKS[style], light=person.light)
    _draw_background(canvas, person)
    _draw_person(canvas, person)
    return _finish(canvas, seed)


def cut_out(seed: int, size_px: int) -> Array:
    """(S, S, 4): the person without background, premultiplied by alpha."""
    person = make_person(seed)
    canvas = _Canvas(size_px, LOOKS["photo"], light=person.light)
    _draw_person(canvas, person)
    alpha = canvas.alpha * canvas.coverage(_ellipse(canvas, 0.5, 0.5, 0.49, 0.49), soft=0.02)
    return np.concatenate([canvas.rgb * alpha[:, :, None], alpha[:, :, None]], axis=2)


class _Canvas:
    """A picture that shapes are painted on, back to front."""

    def __init__(self, size_px: int, look: SyntheticLook, *, light: float) -> None:
        axis = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
        self.u, self.v = 0 * axis[:, None] + axis, axis[:, None] + 0 * axis
        self.pixel = 1.0 / size_px
        self.look, self.light = look, light
        self.rgb: Array = np.zeros((size_px, size_px, 3), np.float32)
        self.alpha: Array = np.zeros((size_px, size_px), np.float32)

    def coverage(self, distance: Array, soft: float = 0.0) -> Array:
        """1 inside, 0 outside, antialiased over a pixel or over `soft`."""
        width = max(self.pixel, soft)
        return np.clip(0.5 - distance / width, 0.0, 1.0).astype(np.float32)

    def paint(
        self,
        distance: Array,
        color: Color,
        *,
        shade: Array | float = 1.0,
        soft: float = 0.0,
        opacity: float = 1.0,
        line: bool = True,
    ) -> None:
        """Fill a shape; `shade` multiplies the color, `line` draws the style's outline."""
        tint = color.astype(np.float32)
        cover = self.coverage(distance, soft) * np.float32(opacity)
        box = _box(cover)
        shaded = np.clip(np.broadcast_to(shade, cover.shape)[box][:, :, None] * tint, 0.0, 1.0)
        self.rgb[box] += (shaded - self.rgb[box]) * cover[box][:, :, None]
        self.alpha[box] = np.maximum(self.alpha[box], cover[box])
        if line and self.look.outline:
            stroke = self.coverage(np.abs(distance) - self.look.outline / 2)[:, :, None]
            self.rgb += (np.float32(0.08) * tint - self.rgb) * stroke

    def shading(self, x: Array, y: Array) -> Array:
        """Light on a ball: x and y from -1 to 1 across it. In steps, if the style says so."""
        z = np.sqrt(np.clip(1.0 - x**2 - y**2, 0.02, 1.0))
        direction = np.array([self.light, -0.45, 0.9])
        direction /= np.linalg.norm(direction)
        lit: Array = np.clip(x * direction[0] + y * direction[1] + z * direction[2], 0.0, 1.0)
        if self.look.levels:
            lit = np.round(lit * self.look.levels) / self.look.levels
        brightness: Array = (0.5 + 0.58 * lit).astype(np.float32)
        return brightness


def _box(cover: Array) -> tuple[slice, slice]:
    """The rows and columns that hold anything: most shapes are small."""
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _ellipse(canvas: _Canvas, u: float, v: float, rx: float, ry: float) -> Array:
    """Distance to an ellipse, good near its edge."""
    x, y = canvas.u - u, canvas.v - v
    return ((np.hypot(x / rx, y / ry) - 1.0) * min(rx, ry)).astype(np.float32)


def _draw_background(canvas: _Canvas, person: Person) -> None:
    blend = np.clip(canvas.v + 0.3 * np.sin(5.0 * canvas.u + 3.0 * person.parting), 0.0, 1.0)
    canvas.rgb[:] = (
        blend[:, :, None] * person.background_2 + (1.0 - blend[:, :, None]) * person.background
    )


def _draw_person(canvas: _Canvas, person: Person) -> None:
    canvas.u += 0.058 * person.yaw  # turning moves eyes and mouth; alignment moves them back
    _draw_hair_behind(canvas, person)
    _draw_body(canvas, person)
    _draw_head(canvas, person)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, person, side)
    _draw_nose(canvas, person)
    _draw_mouth(canvas, person)
    _draw_fringe(canvas, person)


def _turned(person: Person, u: float, depth: float) -> float:
    """Where a feature lies that stands out of the face by `depth` when the head turns."""
    return 0.5 + u * (1.0 - 0.12 * abs(person.yaw)) + 0.09 * person.yaw * depth


def _draw_hair_behind(canvas: _Canvas, person: Person) -> None:
    center = 0.5 - 0.04 * person.yaw
    shape = _ellipse(canvas, center, 0.41, 0.275 * person.width, 0.3 + 0.03 * person.hair_top)
    if person.hair_length > 0.3:
        bottom = 0.45 + 0.5 * person.hair_length
        width = 0.262 * person.width + 0.05 * np.clip(canvas.v - 0.4, 0.0, 1.0)
        ends = 0.02 * np.sin(31.0 * canvas.u) - 1.5 * (canvas.u - center) ** 2
        fall = np.maximum(np.abs(canvas.u - center) - width, canvas.v - bottom - ends)
        shape = np.minimum(shape, np.maximum(fall, 0.4 - canvas.v)).astype(np.float32)
    canvas.paint(shape, person.hair, shade=_strands(canvas) * canvas.shading(*_head_ball(canvas)))


def _strands(canvas: _Canvas) -> Array:
    """Light and dark locks."""
    wave = 70.0 * canvas.u + 7.0 * np.sin(5.0 * canvas.v) + 2.0 * np.sin(190.0 * canvas.u)
    strands: Array = (0.85 + 0.14 * np.sin(wave)).astype(np.float32)
    return strands


def _draw_body(canvas: _Canvas, person: Person) -> None:
    neck = np.maximum(np.abs(canvas.u - 0.5) - 0.115 * person.width, 0.6 - canvas.v)
    canvas.paint(neck.astype(np.float32), person.skin, shade=0.68 + 0.0 * canvas.u)
    body = _ellipse(canvas, 0.5 - 0.05 * person.yaw, 1.17, 0.52, 0.25)
    canvas.paint(
        body, person.clothes, shade=canvas.shading(2.0 * canvas.u - 1.0, np.zeros_like(canvas.v))
    )


def _head_ball(canvas: _Canvas) -> tuple[Array, Array]:
    return (canvas.u - 0.5) / 0.29, (canvas.v - 0.52) / 0.42


def _head(canvas: _Canvas, person: Person) -> Array:
    """A skull that narrows to the chin."""
    below = np.clip((canvas.v - 0.52) / 0.4, 0.0, 1.0)
    narrowing = 1.0 - 0.36 * (2.0 - canvas.look.jaw) * below**1.8
    x = (canvas.u - 0.5) / (0.24 * person.width * narrowing)
    y = (canvas.v - 0.53) / np.where(canvas.v < 0.53, 0.33, 0.375 * person.chin)
    return ((np.hypot(x, y) - 1.0) * 0.22).astype(np.float32)


def _draw_head(canvas: _Canvas, person: Person) -> None:
    for side in (-1.0, 1.0):
        visible = 1.0 + 0.5 * side * person.yaw
        ear = _ellipse(canvas, 0.5 + side * 0.232 * person.width, 0.54, 0.032 * visible, 0.07)
        canvas.paint(ear, person.skin, shade=0.8)
    head = _head(canvas, person)
    shade = canvas.shading(*_head_ball(canvas))
    canvas.paint(head, person.skin, shade=shade)
    blush = person.skin * [1.05, 0.78, 0.74]
    for side in (-1.0, 1.0):
        cheek = _ellipse(canvas, _turned(person, side * 0.13, 0.6), 0.63, 0.075, 0.055)
        canvas.paint(cheek, blush, shade=shade, soft=0.08, opacity=0.45, line=False)
    if person.beard > 0.0:
        beard = np.maximum(head + 0.004, 0.685 - canvas.v + 0.4 * np.abs(canvas.u - 0.5))
        canvas.paint(
            beard, person.hair, shade=shade, soft=0.05, opacity=0.75 * person.beard, line=False
        )


def _draw_eye(canvas: _Canvas, person: Person, side: float) -> None:
    size = canvas.look.eye * person.eye
    u, v = _turned(person, side * EYE_X, 0.55), EYE_Y + 0.015 * person.pitch
    socket = _ellipse(canvas, u, v - 0.005, 0.075, 0.05)
    canvas.paint(socket, person.skin, shade=0.62, soft=0.06, opacity=0.6, line=False)
    rx, ry = 0.054 * min(size, 1.35), 0.0235 * size
    lids = np.maximum(
        _ellipse(canvas, u, v + 0.45 * ry, rx, 1.45 * ry),
        _ellipse(canvas, u, v - 0.4 * ry, rx, 1.4 * ry),
    )
    canvas.paint(lids, np.array([0.95, 0.94, 0.92]), line=False)
    iris = _ellipse(canvas, u + 0.006 * person.yaw, v, 0.023 * size, 0.024 * size)
    canvas.paint(np.maximum(iris, lids), person.iris, line=False)
    pupil = _ellipse(canvas, u + 0.006 * person.yaw, v, 0.011 * size, 0.012 * size)
    canvas.paint(np.maximum(pupil, lids), np.full(3, 0.03), line=False)
    glint = _ellipse(canvas, u - 0.007, v - 0.008, 0.005 * size, 0.005 * size)
    canvas.paint(np.maximum(glint, lids), np.ones(3), line=False)
    upper = np.maximum(np.abs(lids) - 0.0045, canvas.v - v - 0.1 * ry)
    canvas.paint(upper.astype(np.float32), person.hair * 0.3, line=False)
    lower = np.maximum(np.abs(lids) - 0.002, v - canvas.v)
    canvas.paint(lower.astype(np.float32), person.skin * 0.5, opacity=0.7, line=False)
    _draw_brow(canvas, person, side, u, v - 0.062 - 0.012 * (size - 1.0))


def _draw_brow(canvas: _Canvas, person: Person, side: float, u: float, v: float) -> None:
    along = (canvas.u - u) * side
    arch = v + 0.004 * person.brow * along / 0.06 + 2.2 * (along - 0.015) ** 2
    brow = np.maximum(
        np.abs(canvas.v - arch) - 0.0105 * (1.0 - 3.0 * np.clip(along, 0.0, 0.3)),
        np.abs(along) - 0.068,
    )
    canvas.paint(brow.astype(np.float32), person.hair * 0.6, soft=0.008, opacity=0.9, line=False)


def _draw_nose(canvas: _Canvas, person: Person) -> None:
    tip, width = _turned(person, 0.0, 1.25), 0.042 * person.nose
    base = 0.625 + 0.01 * person.pitch
    bridge = _ellipse(canvas, (tip + 0.5) / 2, 0.53, 0.016, 0.1)
    canvas.paint(bridge, person.skin * 1.12, soft=0.03, opacity=0.5, line=False)
    shadow_side = -0.022 if person.light > 0 else 0.022
    flank = _ellipse(canvas, tip + shadow_side, 0.555, 0.014, 0.075)
    canvas.paint(flank, person.skin * 0.66, soft=0.03, opacity=0.6, line=False)
    under = _ellipse(canvas, tip, base + 0.012, width * 1.1, 0.014)
    canvas.paint(under, person.skin * 0.55, soft=0.02, opacity=0.7, line=False)
    ball = _ellipse(canvas, tip, base - 0.012, width * 0.75, 0.024)
    canvas.paint(ball, person.skin * 1.08, soft=0.025, opacity=0.7, line=False)
    for side in (-1.0, 1.0):
        nostril = _ellipse(canvas, tip + side * width * 0.55, base + 0.006, 0.011, 0.0065)
        canvas.paint(nostril, person.skin * 0.22, soft=0.006, line=False)


def _draw_mouth(canvas: _Canvas, person: Person) -> None:
    u, half = _turned(person, 0.0, 0.85), 0.093 * canvas.look.mouth
    x = np.clip((canvas.u - u) / half, -1.0, 1.0)
    bend = 0.045 * person.smile
    middle = MOUTH_Y + bend * (0.75 - x**2) - 0.25 * bend
    gap = 0.022 * person.mouth_open * (1.0 - x**2)
    taper = np.sqrt(np.clip(1.0 - x**2, 0.0, 1.0))
    beyond = np.abs(canvas.u - u) - half
    upper = np.maximum(
        np.abs(canvas.v - (middle - 0.5 * gap - 0.010 * taper)) - 0.012 * taper, beyond
    )
    lower = np.maximum(
        np.abs(canvas.v - (middle + 0.5 * gap + 0.014 * taper)) - 0.016 * taper, beyond
    )
    lips = 0.75 * person.skin * [0.95, 0.62, 0.62] + [0.1, 0.02, 0.03]
    inside = np.maximum(np.abs(canvas.v - middle) - 0.5 * gap, beyond)
    canvas.paint(inside.astype(np.float32), np.array([0.25, 0.07, 0.07]), line=False)
    canvas.paint(upper.astype(np.float32), lips * 0.85, soft=0.004, line=False)
    canvas.paint(lower.astype(np.float32), lips * 1.08, soft=0.004, line=False)
    seam = np.maximum(np.abs(canvas.v - middle) - 0.003 - 0.5 * gap, beyond)
    canvas.paint(seam.astype(np.float32), lips * 0.3, soft=0.004, opacity=0.9, line=False)
    below = _ellipse(canvas, u, MOUTH_Y + 0.052, 0.05, 0.012)
    canvas.paint(below, person.skin * 0.62, soft=0.03, opacity=0.5, line=False)


def _draw_fringe(canvas: _Canvas, person: Person) -> None:
    """Hair over the forehead."""
    line = (
        0.3 - 0.06 * (person.hair_top - 1.0) + 0.35 * (canvas.u - 0.5 - 0.1 * person.parting) ** 2
    )
    wave = 0.012 * np.sin(40.0 * canvas.u + 5.0 * person.parting)
    cap = _ellipse(canvas, 0.5 - 0.02 * person.yaw, 0.42, 0.262 * person.width, 0.32)
    shape = np.maximum(cap, canvas.v - line - wave).astype(np.float32)
    canvas.paint(shape, person.hair, shade=_strands(canvas) * canvas.shading(*_head_ball(canvas)))


def _finish(canvas: _Canvas, seed: int) -> NDArray[np.uint8]:
    """The style's treatment of the whole picture, and quantization."""
    look, rgb = canvas.look, canvas.rgb
    grey = (rgb @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None]
    rgb = grey + look.saturation * (rgb - grey)
    if look.hatching:
        lines = 0.5 + 0.5 * np.sin(2.0 * np.pi * 46.0 * (canvas.u + canvas.v))
        depth = look.hatching * np.clip(0.55 - grey[:, :, 0], 0.0, 1.0)
        rgb = rgb - (depth * lines)[:, :, None]
        rgb = 0.08 + 0.92 * np.clip(1.4 * rgb, 0.0, 1.0)
    if look.grain:
        rng = np.random.default_rng([seed, 0x6EA1])
        rgb = rgb + rng.normal(0.0, look.grain, rgb.shape[:2])[:, :, None]
    return warp.to_uint8((rgb * 255.0).astype(np.float32))
