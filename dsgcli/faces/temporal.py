"""Average a drawn face over the last frames of a video, along the motion of the photograph.

crops and drawings, frame by frame -> drawings with less noise. A style raises the contrast of fine
detail, and with it the noise of camera and codec, which then swims on cheeks. The drawing of the
frame before is moved along the optical flow of the photographed crops (DIS: Kroeger et al.,
arXiv:1603.03590) and mixed in wherever the photographs themselves agree there; a blink, a mouth
that opens or a hand that comes in do not agree, and stay as drawn.

Conventions
    crop      (C, C, 3) uint8 RGB, the photograph
    drawn     (S, S, 3) uint8 RGB, its portrait
    flow      (F, F, 2) float32, x and y in pixels, from this frame to the one before
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from dsgcli.types import Pixels

FLOW_PX = 256
"""Crops are shrunk to this side for the flow, which takes a millisecond then."""
SHARE = 0.85
"""Share of the past where the photographs agree: noise falls to (1 - s) / (1 + s) = 1/12 of its
variance."""
NOISE = 10.0
"""Levels of 255 by which two photographs of the same place may differ by noise: the share falls as
exp(-(difference / NOISE)^2)."""
AROUND_PX = 7
"""Side of the square over which this difference is averaged, at FLOW_PX."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Where each pixel of a crop was in the crop before, and how far that is trusted."""

    x: Any
    """(F, F) float32, pixels of a crop shrunk to this side."""
    y: Any
    share: Any
    """(F, F) float32: share of the past, 0 to SHARE."""

    def at(self, size_px: int) -> Motion:
        """The motion scaled to portraits of another side."""
        side = len(self.x)
        if size_px == side:
            return self
        scale, size = size_px / side, (size_px, size_px)
        x, y = ((cv2.resize(places, size) + 0.5) * scale - 0.5 for places in (self.x, self.y))
        return Motion(x, y, cv2.resize(self.share, size))


class CropMotion:
    """Follows the crops of one face; the same for all styles that it is drawn in."""

    def __init__(self) -> None:
        self._gray: Any = None
        self._flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def add(self, crop: Pixels) -> Motion | None:
        """The motion from the next crop back to the one before; None for the first one, or one of
        another size."""
        side, before = min(FLOW_PX, len(crop)), self._gray
        gray: Any = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        if len(gray) > side:
            gray = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA)
        self._gray = gray
        if before is None or before.shape != gray.shape:
            return None
        start: Any = None
        flow: Any = self._flow_of.calc(gray, before, start)  # (F, F, 2)
        y, x = np.indices((side, side), np.float32)
        x, y = x + flow[..., 0], y + flow[..., 1]
        apart = cv2.absdiff(_look_up(before, x, y), gray).astype(np.float32)
        apart = cv2.blur(apart, (AROUND_PX, AROUND_PX))
        return Motion(x, y, SHARE * np.exp(-((apart / NOISE) ** 2)))


class MotionAverage:
    """The running average of one face's portraits in one style."""

    def __init__(self) -> None:
        self._average: Any = None

    def add(self, motion: Motion | None, drawn: Pixels) -> Pixels:
        """The portrait of the next frame, averaged; as it is without a motion, or of another size
        than the last."""
        before = self._average
        average: Any = drawn.astype(np.float32)
        if motion is not None and before is not None and before.shape == drawn.shape:
            moved = motion.at(len(drawn))
            past = _look_up(before, moved.x, moved.y)
            average = average + moved.share[..., None] * (past - average)
        self._average = average
        steady: Pixels = cv2.convertScaleAbs(average)
        return steady


def _look_up(picture: Any, x: Any, y: Any) -> Any:
    """A picture (H, W, ...) at places (S, S)."""
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
