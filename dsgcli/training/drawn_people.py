"""People that never were: what a seed makes of proportions and colors, and a style of both.

Conventions
    colors    float64 RGB, 0 to 1, sRGB
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float64]
DrawnStyle = Literal["photo", "ink", "pop"]
DRAWN_STYLES: tuple[DrawnStyle, ...] = ("photo", "ink", "pop")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticLook:
    """Effect of a style on a face."""

    eye: float = 1.0
    """Size of the eyes, 1 as in life."""
    mouth: float = 1.0
    jaw: float = 1.0
    """Width of the jaw."""
    outline: float = 0.0
    """Width of the dark lines around shapes, in picture sides."""
    levels: int = 0
    """Steps of the shading; 0 for smooth."""
    saturation: float = 1.0
    grain: float = 0.0
    hatching: float = 0.0


LOOKS: dict[DrawnStyle, SyntheticLook] = {
    "photo": SyntheticLook(grain=0.012),
    "ink": SyntheticLook(
        eye=1.2, mouth=0.9, jaw=0.86, outline=0.006, levels=5, saturation=0.0, hatching=0.35
    ),
    "pop": SyntheticLook(eye=1.5, mouth=0.75, jaw=0.92, outline=0.004, levels=4, saturation=1.9),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Parameters of one drawn person: proportions around 1, angles around 0, colors."""

    yaw: float
    pitch: float
    width: float
    chin: float
    smile: float
    mouth_open: float
    brow: float
    eye: float
    nose: float
    hair_top: float
    hair_length: float
    parting: float
    beard: float
    light: float
    skin: Color
    hair: Color
    iris: Color
    clothes: Color
    background: Color
    background_2: Color


def make_person(seed: int) -> Person:
    """Invent a person; the same for the same seed."""
    rng = np.random.default_rng([seed, 0xFACE])

    def around(middle: float, spread: float) -> float:
        return float(middle + spread * np.clip(rng.normal(), -2.0, 2.0) / 2.0)

    return Person(
        yaw=around(0.0, 0.5),
        pitch=around(0.0, 0.3),
        width=around(1.0, 0.08),
        chin=around(1.0, 0.06),
        smile=around(0.35, 0.6),
        mouth_open=max(0.0, around(0.1, 0.7)),
        brow=around(0.0, 1.0),
        eye=around(1.0, 0.15),
        nose=around(1.0, 0.25),
        hair_top=around(1.0, 0.5),
        hair_length=float(rng.uniform(0.0, 1.0)),
        parting=around(0.0, 1.0),
        beard=float(max(0.0, rng.uniform(-2.0, 1.0))),
        light=around(-0.3, 1.2),
        skin=_skin(float(rng.uniform())),
        hair=_hsv(rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.08, 0.6)),
        iris=_hsv(rng.choice([0.07, 0.3, 0.56]), 0.55, rng.uniform(0.25, 0.5)),
        clothes=_hsv(rng.uniform(), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.9)),
        background=_hsv(rng.uniform(), rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.95)),
        background_2=_hsv(rng.uniform(), rng.uniform(0.05, 0.5), rng.uniform(0.2, 0.9)),
    )


def _skin(tone: float) -> Color:
    dark, light = np.array([0.36, 0.22, 0.16]), np.array([0.96, 0.79, 0.69])
    skin: Color = dark + (light - dark) * tone**0.8
    return skin


def _hsv(hue: float, saturation: float, value: float) -> Color:
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
