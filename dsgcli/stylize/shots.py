"""The loop: frames -> faces -> crops -> latents -> portraits -> frames.

Each step is a generator that takes shots and gives them on with one thing more known; steps that
look ahead (smoothing) give them on later, in the same order. Threads are put between steps by
`prefetch`, so that decoding, detecting, drawing and encoding overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.types import Crop, Face, Frame


@dataclass(slots=True, kw_only=True)
class Shot:
    """A frame on its way through the loop, and what is known of it so far."""

    frame: Frame
    cut: bool = False
    """Whether a new scene begins here."""
    faces: list[Face] = field(default_factory=list)
    """Faces to draw, numbered by `Face.track`."""
    crops: list[Crop] = field(default_factory=list)
    """One a face, from the smoothed place."""
    codes: list[Tensor] = field(default_factory=list)
    """One a face, (L, D)."""
    opacity: list[float] = field(default_factory=list)
    """One a face: below 1 while a lost face fades."""
