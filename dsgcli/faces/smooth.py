"""Smoothing over time: landmarks before the crop, codes after the encoder, grades of frames.

`zero_phase` looks a bounded time ahead and has no delay: the result at one instant is the value
there of a weighted straight line through the neighbors in time, so steady motion passes unchanged,
at any frame rate and at both ends of a track. It works in seconds, not in frames, and on one track
at a time; tracks end at scene cuts (`track.py`).

Measured on a clip of known motion (benchmarks/temporal.md): detected landmarks jitter by 0.44 px.
After `zero_phase` the jitter is 0.01 px, and the points lie nearer to the truth. A causal filter
(One Euro) reached 0.32 px and moved away from the truth. Smoothing the quad's center, size and
angle instead of the landmarks gives the same numbers.

Conventions
    values   float64 arrays of any shape, the same for a track's whole life
    time_s   seconds, growing
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEFAULT_SMOOTH_S = 0.2
"""Reach of `zero_phase` for faces and codes: of 0.1 to 0.5 s the one nearest to the truth, within
the noise, that trembles least (benchmarks/temporal.md)."""
DEVIATIONS = 2.5
"""Standard deviations of the weights that lie within the reach."""


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
        trust: (n,) weights, for example below 1 where a value was carried over and not seen.

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
    # moments of the weights; the line through the weighted values, read at offset 0
    sum_0, sum_1, sum_2 = (float((weight * offset**power).sum()) for power in (0, 1, 2))
    determinant = sum_0 * sum_2 - sum_1**2
    if determinant <= 1e-12 * seconds**2 * sum_0**2:  # all at one instant: no slope to be found
        share = weight / sum_0
    else:
        share = weight * (sum_2 - sum_1 * offset) / determinant
    # not np.tensordot: it calls BLAS, whose threads may hang where several Python threads call it
    steadied: Array = np.einsum("i,i...->...", share, np.asarray(values, np.float64))
    return steadied
