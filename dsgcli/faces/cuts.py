"""Find scene cuts, so that nothing is tracked or smoothed across one.

Two frames are compared in two ways: where things are (a thumbnail) and what colors there are (a
histogram). Motion changes the first, a flash the second, a cut both; and a cut stands out against
the frames just before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dsgcli.types import Pixels

GRID = 16
"""The thumbnail's side in cells."""
SAMPLES = 6
"""Pixels looked at in each cell and direction: exact averages would cost more and tell no more."""
MIN_SPREAD = 0.05
"""Contrast below which a frame is called plain: its noise must not pass for structure."""
BINS = 8
"""Bins of the histogram a channel."""
CUT, STAND_OUT = 0.09, 3.0
"""A change above the first, and this many times the usual one, is a cut. Measured on real clips:
0.02 at most within a scene, 0.05 if only every fifth frame is looked at, a flash of half a stop
0.09; 0.10 between two people before the same wall, 0.15 and more between other scenes."""
MOVED_ALONE = 0.25
"""How much places count without colors: scenes of one palette differ by 0.5 in places, a pan by a
quarter of the picture from one frame to the next by 0.35."""
MEMORY = 0.8
"""How much of the usual change is kept from frame to frame."""


class CutDetector:
    """Tells where a new scene begins, frame by frame."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual = 0.0

    def update(self, pixels: Pixels) -> bool:
        """Whether this frame, (H, W, 3) uint8, begins a new scene; False for the first."""
        return self.follow(thumbnail_of(pixels))

    def follow(self, thumbnail: NDArray[np.float32]) -> bool:
        """The same by the frame's thumbnail."""
        last, self._last = self._last, thumbnail
        if last is None:
            return False
        change = difference(last, thumbnail)
        cut = self._is_cut(change)
        self._usual = 0.0 if cut else MEMORY * self._usual + (1.0 - MEMORY) * change
        return cut

    def would_cut(self, thumbnail: NDArray[np.float32]) -> bool:
        """What `follow` would return for this frame, without going on to it."""
        return self._last is not None and self._is_cut(difference(self._last, thumbnail))

    def _is_cut(self, change: float) -> bool:
        return change > max(CUT, STAND_OUT * self._usual)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here."""
        return {"last": self._last, "usual": self._usual}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another detector was."""
        self._last, self._usual = state["last"], float(state["usual"])


def difference(thumbnail: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How different two thumbnails are, from 0 to 1: by the lesser of both comparisons, or by
    places alone if nothing is where it was."""
    moved = float(np.abs(_leveled(thumbnail) - _leveled(other)).mean()) / 2.0
    recolored = float(np.abs(_histogram(thumbnail) - _histogram(other)).sum()) / 6.0
    return max(min(moved, recolored), MOVED_ALONE * moved)


def _leveled(thumbnail: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each channel with mean 0 and spread 1, as a flash or an exposure meter leaves it."""
    spread = np.maximum(thumbnail.std(axis=(0, 1)), MIN_SPREAD)
    leveled: NDArray[np.float32] = (thumbnail - thumbnail.mean(axis=(0, 1))) / spread
    return leveled


def thumbnail_of(pixels: Pixels) -> NDArray[np.float32]:
    """(GRID * SAMPLES, GRID * SAMPLES, 3): pixels on a grid, averaged over their cells, 0 to 1."""
    side = GRID * SAMPLES
    rows = (np.arange(side) + 0.5) * pixels.shape[0] / side
    columns = (np.arange(side) + 0.5) * pixels.shape[1] / side
    looked_at = pixels[rows.astype(int)][:, columns.astype(int)].astype(np.float32)
    cells = looked_at.reshape(GRID, SAMPLES, GRID, SAMPLES, 3).mean(axis=(1, 3))
    thumbnail: NDArray[np.float32] = cells / np.float32(255.0)
    return thumbnail


def _histogram(thumbnail: NDArray[np.float32]) -> NDArray[np.float64]:
    """(3, BINS): shares of the cells, a channel; a cell between two bins counts in both."""
    place = thumbnail.reshape(-1, 3) * (BINS - 1)
    low = np.minimum(place.astype(int), BINS - 2)
    share = place - low
    counts = np.zeros((3, BINS))
    for channel in range(3):
        np.add.at(counts[channel], low[:, channel], 1.0 - share[:, channel])
        np.add.at(counts[channel], low[:, channel] + 1, share[:, channel])
    return counts / len(place)
