"""High dynamic range and wide gamuts -> sRGB, as a table that a video filter applies.

Data flow: (transfer, primaries, peak) -> cube (N, N, N, 3), which maps R'G'B' of the video to
R'G'B' of sRGB, both in [0, 1].

The steps: signal -> light (SMPTE ST 2084, or ITU-R BT.2100 for HLG) -> brightness curve of ITU-R
BT.2390 (section 5.4.1), by the largest of R, G and B, so that hues stay -> BT.709 primaries -> what
lies outside is moved toward grey until it fits -> sRGB. Diffuse white is 203 cd/m2 (ITU-R BT.2408);
it becomes a bright grey, and highlights find room above it.

Codes of transfer and primaries are those of ITU-T H.273.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Light = NDArray[np.float64]

PQ, HLG = 16, 18
SDR_WHITE_NITS = 203.0
USUAL_PEAK_NITS = 1000.0
"""Peak of the mastering display where the video does not say: that of nearly all HDR video."""
MAX_PEAK_NITS = 10_000.0
CUBE_SIDE = 33
"""Points along each axis; between them it is interpolated, with errors below one level of 255."""

HLG_GAMMA = 1.2
"""System gamma of a display with 1000 cd/m2 (BT.2100)."""
LUMA = np.array([0.2126, 0.7152, 0.0722])
"""BT.709."""

_WHITE = (0.3127, 0.3290)
_CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x, y of red, green and blue: BT.709, BT.2020, and P3 (white is taken as D65 in both kinds)."""


def srgb_cube(transfer: int, primaries: int, peak_nits: float = USUAL_PEAK_NITS) -> Light:
    """(N, N, N, 3), indexed by red, green, blue of the video.

    Args:
        peak_nits: the brightest light in the video, for PQ.
    """
    axis = np.linspace(0, 1, CUBE_SIDE)
    signal = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return to_srgb(signal, transfer, primaries, peak_nits)


def to_srgb(signal: Light, transfer: int, primaries: int, peak_nits: float) -> Light:
    """(..., 3) R'G'B' of the video -> (..., 3) R'G'B' of sRGB, both in [0, 1]."""
    if transfer in (PQ, HLG):
        nits = pq_to_nits(signal) if transfer == PQ else hlg_to_nits(signal)
        peak = peak_nits if transfer == PQ else USUAL_PEAK_NITS
        light = compress(nits, min(max(peak, SDR_WHITE_NITS), MAX_PEAK_NITS)) / SDR_WHITE_NITS
    else:
        light = srgb_to_linear(signal)
    return linear_to_srgb(fit_gamut(light @ to_bt709(primaries).T))


def pq_to_nits(signal: Light) -> Light:
    """SMPTE ST 2084, equation 4.1: signal -> cd/m2."""
    power = signal ** (32 / 2523)
    ratio = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return np.asarray(10_000 * ratio ** (16384 / 2610))


def nits_to_pq(nits: Light | float) -> Light:
    """SMPTE ST 2084, equation 5.2: cd/m2 -> signal."""
    power = (np.asarray(nits) / 10_000) ** (2610 / 16384)
    return np.asarray(
        ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    )


def hlg_to_nits(signal: Light) -> Light:
    """BT.2100: the inverse of HLG's OETF, then its OOTF for a display of 1000 cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    gain = USUAL_PEAK_NITS * np.maximum(luminance, 1e-9) ** (HLG_GAMMA - 1)
    return np.asarray(scene * gain[..., None])


def compress(nits: Light, peak_nits: float) -> Light:
    """BT.2390's EETF from `peak_nits` to `SDR_WHITE_NITS`, by the largest channel."""
    nits = np.minimum(nits, peak_nits)
    brightest = nits.max(-1, keepdims=True)
    peak = nits_to_pq(peak_nits)
    signal = nits_to_pq(brightest) / peak
    highest = nits_to_pq(SDR_WHITE_NITS) / peak
    knee = 1.5 * highest - 0.5
    t = np.maximum(signal - knee, 0) / max(1 - float(knee), 1e-9)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * highest
    )
    mapped = pq_to_nits(np.where(signal < knee, signal, spline) * peak)
    return np.asarray(nits * mapped / np.maximum(brightest, 1e-9))


def fit_gamut(light: Light) -> Light:
    """Move colors with a channel outside [0, 1] along the line to the grey of their luminance."""
    grey = np.clip(light @ LUMA, 0, 1)[..., None]
    away = light - grey
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0, (1 - grey) / away, np.where(away < 0, -grey / away, np.inf))
    share = np.clip(room.min(-1, keepdims=True), 0, 1)
    return np.asarray(np.clip(grey + share * away, 0, 1))


def to_bt709(primaries: int) -> Light:
    """(3, 3): linear RGB of these primaries -> linear RGB of BT.709; unknown ones are BT.709's."""
    source = _to_xyz(_CHROMATICITIES.get(primaries, _CHROMATICITIES[1]))
    return np.linalg.inv(_to_xyz(_CHROMATICITIES[1])) @ source


def _to_xyz(corners: tuple[tuple[float, float], ...]) -> Light:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
    x, y = _WHITE
    white = np.array([x / y, 1, (1 - x - y) / y])
    return np.asarray(columns * np.linalg.solve(columns, white), np.float64)


def srgb_to_linear(signal: Light) -> Light:
    """IEC 61966-2-1."""
    curve = ((signal + 0.055) / 1.055) ** 2.4
    return np.asarray(np.where(signal <= 0.04045, signal / 12.92, curve), np.float64)


def linear_to_srgb(light: Light) -> Light:
    """IEC 61966-2-1."""
    curve = 1.055 * light ** (1 / 2.4) - 0.055
    return np.asarray(np.where(light <= 0.0031308, light * 12.92, curve), np.float64)
