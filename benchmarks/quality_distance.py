"""How far two sets of pictures are apart in strokes and light: sliced Wasserstein distance.

Karras et al., "Progressive Growing of GANs", arXiv:1710.10196, section 5: patches of 7 x 7 pixels
from each level of the Laplacian pyramid; each level's color channels brought to mean 0 and standard
deviation 1, each set by itself; both sets projected onto random directions; the distance along each
is that between the sorted projections. Mean over directions and levels.

Here sets may be small and of unequal size: the sorted projections are compared at common quantiles.

Shapes: N pictures, S their side, P patches of a level, K = 7 * 7 * 3 numbers of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dsgcli.types import Pixels

Array = NDArray[np.float32]
Moments = tuple[Array, Array]
"""Mean and standard deviation (3,) of the channels of a level."""

PATCH_PX = 7
COARSEST_PX = 16
"""Side of the last level, which is what the pyramid leaves over."""
DIRECTIONS, QUANTILES = 128, 512
PATCHES = 8192
"""Patches of each level of a set."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """A set of pictures by patches at random places."""

    levels: tuple[Array, ...]
    """(P, 3, 7 * 7) each, the finest first."""
    seed: int
    """Sketches are compared only with those of the same seed."""

    @cached_property
    def moments(self) -> tuple[Moments, ...]:
        return tuple(moments_of(level) for level in self.levels)

    @cached_property
    def normalised(self) -> tuple[Array, ...]:
        """(DIRECTIONS, QUANTILES) of each level, channels of mean 0 and standard deviation 1."""
        return self.projected(self.moments)

    def projected(self, moments: Sequence[Moments]) -> tuple[Array, ...]:
        """The same in other means and deviations."""
        pairs = zip(self.levels, moments, strict=True)
        return tuple(projected(level, *own, seed=self.seed) for level, own in pairs)


def sketch(pictures: Sequence[Pixels], count: int = PATCHES, seed: int = 0) -> Sketch:
    """The same number of patches of every picture, `count` in all or a few more."""
    levels = zip(*(pyramid(picture) for picture in pictures), strict=True)
    rng = np.random.default_rng(seed)
    each = -(-count // len(pictures))
    return Sketch(tuple(patches_of(level, each, rng) for level in levels), seed)


def distance(ours: Sketch, theirs: Sketch) -> float:
    """As Karras et al.: in standard deviations of a channel, each set's own. Mean over levels."""
    return _apart(ours.normalised, theirs.normalised)


def toned_distance(ours: Sketch, theirs: Sketch) -> float:
    """The same with both sets in their means and standard deviations, so that light, contrast and
    color count as well."""
    return _apart(ours.projected(theirs.moments), theirs.normalised)


def _apart(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(ours, theirs, strict=True)]))


def pyramid(picture: Pixels) -> list[Array]:
    """Laplacian pyramid (s, s, 3), s = S, S/2, ... 16; the last is the picture itself, shrunk."""
    levels, current = [], picture.astype(np.float32)
    while current.shape[0] > COARSEST_PX:
        smaller = cv2.pyrDown(current)
        height, width = current.shape[:2]
        levels.append(current - cv2.pyrUp(smaller, dstsize=(width, height)))
        current = smaller
    return [*levels, current]


def patches_of(level: Sequence[Array], each: int, rng: np.random.Generator) -> Array:
    """(N * each, 3, 7 * 7) from N pictures (s, s, 3) of a level, at random places."""
    side = level[0].shape[0] - PATCH_PX + 1
    found = []
    for picture in level:
        windows = np.lib.stride_tricks.sliding_window_view(picture, (PATCH_PX, PATCH_PX), (0, 1))
        y, x = rng.integers(0, side, (2, each))
        found.append(windows[y, x].reshape(each, 3, -1))
    return np.concatenate(found)


def moments_of(patches: Array) -> Moments:
    """Mean and standard deviation (3,) of each channel of (P, 3, 49)."""
    mean = patches.mean(axis=(0, 2))
    variance = np.square(patches).mean(axis=(0, 2)) - mean**2
    return mean, np.sqrt(np.maximum(variance, 1e-6))


def projected(patches: Array, mean: Array, spread: Array, *, seed: int) -> Array:
    """(DIRECTIONS, QUANTILES): patches (P, 3, 49) less a mean and over a deviation, along random
    directions; sorted, at common quantiles."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((DIRECTIONS, 3, PATCH_PX**2), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True) * spread[:, None]
    along = directions.reshape(DIRECTIONS, -1) @ patches.reshape(len(patches), -1).T
    along -= (directions * mean[:, None]).sum(axis=(1, 2))[:, None]
    along.sort(axis=1)  # (DIRECTIONS, P)
    places = (np.arange(QUANTILES) + 0.5) / QUANTILES * len(patches) - 0.5
    places = np.clip(places, 0, len(patches) - 1)
    low = places.astype(int)
    share = (places - low).astype(np.float32)
    between: Array = (1 - share) * along[:, low]
    between += share * along[:, np.minimum(low + 1, len(patches) - 1)]
    return between
