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

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

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


class MotionAverage:
    """The running average of one face's portraits in one style."""

    def __init__(self) -> None:
        self._gray: NDArray[np.uint8] | None = None
        self._drawn: NDArray[np.float32] | None = None
        self._flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def add(self, crop: Pixels, drawn: Pixels) -> Pixels:
        """The portrait of the next frame, averaged; the first one, or one of another size than the
        last, as it is."""
        side, before, before_drawn = min(FLOW_PX, len(crop)), self._gray, self._drawn
        gray: Any = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        if len(gray) > side:
            gray = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA)
        average: Any = drawn.astype(np.float32)
        if before is not None and before_drawn is not None and before.shape == gray.shape:
            same_size = before_drawn.shape == drawn.shape
            average = self._mixed(gray, before, average, before_drawn) if same_size else average
        self._gray, self._drawn = gray, average
        steady: Pixels = cv2.convertScaleAbs(average)
        return steady

    def _mixed(self, gray: Any, before: Any, drawn: Any, before_drawn: Any) -> Any:
        """(S, S, 3) float32: the drawing, and the average before it where that is trusted."""
        start: Any = None
        flow: Any = self._flow_of.calc(gray, before, start)  # (F, F, 2)
        side, size_px = len(gray), len(drawn)
        y, x = np.indices((side, side), np.float32)
        x, y = x + flow[..., 0], y + flow[..., 1]
        apart = cv2.absdiff(_look_up(before, x, y), gray).astype(np.float32)
        apart = cv2.blur(apart, (AROUND_PX, AROUND_PX))
        share = SHARE * np.exp(-((apart / NOISE) ** 2))  # (F, F)
        if size_px != side:
            scale, size = size_px / side, (size_px, size_px)
            x, y = ((cv2.resize(places, size) + 0.5) * scale - 0.5 for places in (x, y))
            share = cv2.resize(share, size)
        return drawn + share[..., None] * (_look_up(before_drawn, x, y) - drawn)


def _look_up(picture: Any, x: Any, y: Any) -> Any:
    """A picture (H, W, ...) at places (S, S)."""
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
