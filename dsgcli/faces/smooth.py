"""Steady what is known of each face: landmarks before the crop, codes after the encoder.

`zero_phase` looks a bounded time ahead and lags by nothing: a value becomes what a weighted
straight line through its neighbours in time is at that instant, so steady motion passes unchanged,
at any frame rate and at both ends as well. `OneEuro` knows only the past; it lags when things move.
Both work in seconds, not in frames, and on one track at a time: tracks end at scene cuts
(`track.py`).

Measured on a clip of known motion (benchmarks/temporal.md): as found, landmarks tremble by 0.44 px.
After `zero_phase` it is 0.01 px, and they lie nearer to the truth; after `OneEuro` 0.32 px, and
they lie farther from it. Smoothing the quad's center, size and angle instead of the landmarks gives
the same numbers.

Conventions
    values   float64 arrays of any shape, the same for a track's whole life
    time_s   seconds, growing
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEFAULT_SMOOTH_S = 0.2
"""Reach of `zero_phase` for faces and codes: of 0.1 to 0.5 s the one nearest to the truth, within
the noise, that trembles least (benchmarks/temporal.md)."""
DEVIATIONS = 2.5
"""Standard deviations of the weights that lie within the reach."""


class Smoother(Protocol):
    """Steadies one track with what came before."""

    def update(self, values: Array, time_s: float) -> Array:
        """The steadied values at this instant."""
        ...

    def reset(self) -> None:
        """Forget the past."""
        ...


class OneEuro:
    """A low-pass whose cutoff rises with speed: calm when still, quick when moving.

    Casiez, Roussel and Vogel, "1 € Filter", CHI 2012, with one cutoff for the whole array, so that
    a face keeps its shape, and with speed measured in spreads of the array, so that faces of any
    size, and codes, take the same settings.

    Args:
        cutoff_hz: at rest. Lower is calmer.
        beta: hertz a unit of speed. Higher lags less.
        speed_cutoff_hz: of the low-pass on the speed.
    """

    def __init__(
        self, cutoff_hz: float = 1.5, beta: float = 16.0, speed_cutoff_hz: float = 2.0
    ) -> None:
        self.cutoff_hz, self.beta, self.speed_cutoff_hz = cutoff_hz, beta, speed_cutoff_hz
        self.reset()

    def reset(self) -> None:
        self._values: Array | None = None
        self._velocity: Array | None = None
        self._time_s = 0.0

    def update(self, values: Array, time_s: float) -> Array:
        values = np.asarray(values, np.float64)
        step_s = time_s - self._time_s
        if self._values is None or self._velocity is None:
            self._values, self._velocity = values, np.zeros_like(values)
        elif step_s > 0.0:
            velocity = (values - self._values) / step_s
            self._velocity = self._velocity + _share(self.speed_cutoff_hz, step_s) * (
                velocity - self._velocity
            )
            cutoff = self.cutoff_hz + self.beta * self._speed()
            self._values = self._values + _share(cutoff, step_s) * (values - self._values)
        self._time_s = time_s
        return self._values

    def _speed(self) -> float:
        """Root mean square of the velocity, in spreads of the values a second."""
        assert self._values is not None and self._velocity is not None
        spread = float(self._values.std(axis=0).mean()) if self._values.ndim > 1 else 1.0
        return float(np.sqrt(np.mean(self._velocity**2))) / max(spread, 1e-9)


def zero_phase(
    times_s: Array, values: Array, *, at: float, seconds: float, trust: Array | None = None
) -> Array:
    """The value at one instant, steadied with what came before it and what comes after.

    Local linear regression with Gaussian weights (Fan and Gijbels, "Local Polynomial Modelling",
    1996, equation 2.4). Without a lag on any straight line, whatever the times are.

    Args:
        times_s: (n,), in any order; those within reach count.
        values: (n, ...), one a time.
        at: the instant; need not be one of the times.
        seconds: reach to both sides; 0 takes the value at the nearest time.
        trust: (n,) weights, say below 1 where a value was carried over and not seen.

    Returns:
        (...).
    """
    assert len(times_s) == len(values) > 0, (len(times_s), len(values))
    offset = np.asarray(times_s, np.float64) - at
    near = np.abs(offset) <= seconds + 1e-6  # a frame on the very edge counts on both sides
    if seconds <= 0.0 or near.sum() < 2:
        nearest: Array = np.asarray(values[int(np.abs(offset).argmin())], np.float64)
        return nearest
    offset, values = offset[near], values[near]
    weight = np.exp(-0.5 * (offset * DEVIATIONS / seconds) ** 2)
    if trust is not None:
        weight *= trust[near]
    sum_0, sum_1, sum_2 = (float((weight * offset**power).sum()) for power in (0, 1, 2))
    determinant = sum_0 * sum_2 - sum_1**2
    if determinant <= 1e-12 * seconds**2 * sum_0**2:  # all at one instant: no slope to be found
        share = weight / sum_0
    else:
        share = weight * (sum_2 - sum_1 * offset) / determinant
    # not np.tensordot: it calls BLAS, whose threads may hang where several Python threads call it
    steadied: Array = np.einsum("i,i...->...", share, np.asarray(values, np.float64))
    return steadied


def _share(cutoff_hz: float, step_s: float) -> float:
    """How much of a new value a first-order low-pass takes after this time."""
    rate = 2.0 * np.pi * cutoff_hz * step_s
    return float(rate / (rate + 1.0))
