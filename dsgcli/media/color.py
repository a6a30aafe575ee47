"""Between the pictures of codecs (YUV of many kinds) and frames (upright sRGB, square pixels).

Data flow: av.VideoFrame -> pixels, alpha (reading); pixels, alpha -> av.VideoFrame (writing).
High dynamic range and wide gamuts pass through a table (transfer, primaries, peak) -> (N, N, N, 3),
which maps R'G'B' of the video to R'G'B' of sRGB, both in [0, 1], and which a filter applies.

Conventions
    codes   of matrix, primaries and transfer: ITU-T H.273, as in `ColorFacts`
    SDR     R'G'B' values are taken as sRGB, as every player shows them; only wide gamuts (bt2020,
            P3) are converted. Chroma is interpolated with accurate rounding: swscale's fast paths
            darken by one level each way, and a round trip would show it.
    HDR     PQ and HLG are mapped to SDR; the mathematics are at the end
"""

from __future__ import annotations

import struct
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.reformatter import Interpolation as Flag

from dsgcli.errors import SourceError
from dsgcli.media.base import ColorFacts

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from numpy.typing import NDArray

    from dsgcli.types import Pixels

    Light = NDArray[np.float64]

UNKNOWN = 2
"""H.273's "not said"."""
RGB, BT709, BT470BG, BT601, BT2020 = 0, 1, 5, 6, 9
WIDE_PRIMARIES = (9, 11, 12)
"""bt2020 and two kinds of P3."""

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

_EXACT = Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.BITEXACT
SCALING = Flag.BICUBIC | _EXACT
"""For pictures whose size changes, and for thinning out chroma."""
SAME_SIZE = Flag.BILINEAR | _EXACT
"""For filling in chroma: as close after a round trip as `SCALING`, in two thirds of the time."""

_MATRICES = {
    BT709: Colorspace.ITU709,
    4: Colorspace.FCC,
    BT470BG: Colorspace.ITU601,
    BT601: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    BT2020: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def color_facts(frame: VideoFrame, context: VideoCodecContext) -> ColorFacts:
    """How the first frame of a stream stores its colors; the frame's own tags come first."""

    def tag(name: str) -> int:
        own = int(getattr(frame, name))
        return own if own != UNKNOWN else int(getattr(context, name))

    transfer, primaries, matrix = tag("color_trc"), tag("color_primaries"), tag("colorspace")
    guessed = matrix == UNKNOWN and not frame.format.is_rgb
    if frame.format.is_rgb:
        matrix = RGB
    elif guessed and transfer in (PQ, HLG):
        matrix = BT2020
    elif guessed:
        matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
    full = frame.color_range or context.color_range
    return ColorFacts(
        matrix=matrix,
        primaries=BT2020 if transfer in (PQ, HLG) and primaries == UNKNOWN else primaries,
        transfer=transfer,
        full_range=full == ColorRange.JPEG or matrix == RGB or frame.format.name.startswith("yuvj"),
        bits=max(c.bits for c in frame.format.components),
        guessed=guessed,
    )


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the pixel format has an alpha component."""
    return any(component.is_alpha for component in frame.format.components)


# ── orientation ──────────────────────────────────────────────────────────────────────────────────


def orientation(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: x' = a x + c y, y' = b x + d y, each -1, 0 or 1.

    Angles in between are rounded to the next quarter turn.
    """
    said = _side_data(frame, "DISPLAYMATRIX")
    if len(said) < 20:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack("<5i", said[:20])
    straight = abs(a) + abs(d) >= abs(b) + abs(c)
    a, b, c, d = (-1 if value < 0 else 1 for value in (a, b, c, d))
    return (a, 0, 0, d) if straight else (0, b, c, 0)


def turn(pixels: Pixels, matrix: tuple[int, int, int, int]) -> Pixels:
    """Apply an orientation to (H, W) or (H, W, C)."""
    a, b, c, d = matrix
    if b:
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b  # after the exchange, c mirrors along x and b along y
    return np.ascontiguousarray(pixels[::d, ::a])


def display_size(
    frame: VideoFrame, aspect: Fraction | None, matrix: tuple[int, int, int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((width, height) with square pixels before turning, the same after turning).

    Pixels are made square by stretching, never by shrinking, so that nothing is lost; to an even
    size, which every encoder takes.
    """
    width, height = frame.width, frame.height
    if aspect and aspect != 1:
        if aspect > 1:
            width = 2 * round(width * aspect / 2)
        else:
            height = 2 * round(height / aspect / 2)
    upright = (height, width) if matrix[1] else (width, height)
    return (width, height), upright


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


class FrameReader:
    """Decoded pictures of one stream -> (pixels (H, W, 3) uint8, alpha (H, W) uint8 or None)."""

    def __init__(
        self,
        color: ColorFacts,
        size_px: tuple[int, int],
        matrix: tuple[int, int, int, int],
        *,
        with_alpha: bool,
    ) -> None:
        self._color, self._size, self._turn = color, size_px, matrix
        self._with_alpha = with_alpha
        self._needs_cube = color.hdr or color.primaries in WIDE_PRIMARIES
        self._first, self._second = VideoReformatter(), VideoReformatter()
        self._cube: _CubeFilter | None = None

    def __call__(self, frame: VideoFrame) -> tuple[Pixels, Pixels | None]:
        """Convert one picture.

        Raises:
            SourceError: its colors are stored in a way that cannot be converted.
        """
        try:
            last = "rgba" if self._with_alpha else "rgb24"
            if self._needs_cube:
                between = "gbrap16le" if self._with_alpha else "gbrp16le"
                if self._cube is None:
                    self._cube = _CubeFilter(self._color, _peak_nits(frame), self._size, between)
                mapped = self._cube(self._reformat(frame, between))
                frame = self._second.reformat(mapped, format=last, interpolation=SAME_SIZE)
            else:
                frame = self._reformat(frame, last)
            stored: Pixels = frame.to_ndarray()  # type: ignore[assignment]  # (H, W, 3 or 4)
        except av.FFmpegError as error:
            raise SourceError(
                f"the colors of {frame.format.name} with matrix {self._color.matrix} cannot be "
                f"converted; convert the video to H.264 first"
            ) from error
        upright = turn(stored, self._turn)
        if not self._with_alpha:
            return upright, None
        # (H, W, 4) -> (H, W, 3) and (H, W), each whole in memory
        return np.ascontiguousarray(upright[..., :3]), np.ascontiguousarray(upright[..., 3])

    def _reformat(self, frame: VideoFrame, pix_fmt: str) -> VideoFrame:
        color, plain_rgb = self._color, frame.format.is_rgb
        same = (frame.width, frame.height) == self._size
        return self._first.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format=pix_fmt,
            interpolation=SAME_SIZE if same else SCALING,
            src_colorspace=None if plain_rgb else _MATRICES.get(color.matrix),
            src_color_range=ColorRange.JPEG if plain_rgb or color.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
        )


def _peak_nits(frame: VideoFrame) -> float:
    """The brightest light of an HDR video, from what its mastering said of it."""
    levels = _side_data(frame, "CONTENT_LIGHT_LEVEL")
    if len(levels) >= 8 and (brightest := struct.unpack("<I", levels[:4])[0]) > 0:
        return float(brightest)
    display = _side_data(frame, "MASTERING_DISPLAY_METADATA")
    if len(display) >= 88:  # ten rationals and two flags; the last rational is the maximum
        above, below, _, known = struct.unpack("<iiii", display[72:88])
        if known and below > 0 and above > 0:
            return float(above / below)
    return USUAL_PEAK_NITS


def _side_data(frame: VideoFrame, name: str) -> bytes:
    """Side data of a frame; empty if there is none, or some of a kind that PyAV does not know."""
    try:
        return bytes(frame.side_data[name])  # type: ignore[literal-required]
    except (KeyError, ValueError):
        return b""


class _CubeFilter:
    """Applies a table of colors to pictures of one size."""

    def __init__(
        self, color: ColorFacts, peak_nits: float, size_px: tuple[int, int], pix_fmt: str
    ) -> None:
        self._graph = Graph()
        with NamedTemporaryFile("w", suffix=".cube", delete=False) as file:
            file.write(_cube_text(color.transfer, color.primaries, peak_nits))
        try:
            nodes = [
                self._graph.add(
                    "buffer",
                    f"video_size={size_px[0]}x{size_px[1]}:pix_fmt={pix_fmt}:time_base=1/1000"
                    f":pixel_aspect=1/1:colorspace={RGB}:range={int(ColorRange.JPEG)}",
                ),
                self._graph.add("lut3d", file=file.name, interp="tetrahedral"),
                self._graph.add("buffersink"),
            ]
        finally:
            Path(file.name).unlink()
        self._graph.link_nodes(*nodes)
        self._graph.configure()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        frame.colorspace, frame.color_range = RGB, ColorRange.JPEG
        self._graph.vpush(frame)
        return self._graph.vpull()


@lru_cache(maxsize=4)
def _cube_text(transfer: int, primaries: int, peak_nits: float) -> str:
    """A table in the format of .cube files, in which red runs fastest."""
    cube = srgb_cube(transfer, primaries, peak_nits)
    rows = cube.transpose(2, 1, 0, 3).reshape(-1, 3).tolist()
    lines = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in rows)
    return f"LUT_3D_SIZE {len(cube)}\n{lines}\n"


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


class FramePainter:
    """Pixels -> pictures for an encoder, in its pixel format, with its matrix and range."""

    def __init__(self, size_px: tuple[int, int], pix_fmt: str, color: ColorFacts) -> None:
        self._size, self._pix_fmt, self._color = size_px, pix_fmt, color
        self._reformatter = VideoReformatter()

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> VideoFrame:
        """Convert one frame; a last column or row is repeated where the size asks for it."""
        stored = pixels if alpha is None else np.dstack([pixels, alpha])  # (H, W, 3 or 4)
        height, width = stored.shape[:2]
        right, below = self._size[0] - width, self._size[1] - height
        assert right in (0, 1) and below in (0, 1), "frames of one video have one size"
        if right or below:
            stored = np.pad(stored, ((0, below), (0, right), (0, 0)), mode="edge")
        stored = np.ascontiguousarray(stored)
        picture = VideoFrame.from_ndarray(stored, "rgb24" if alpha is None else "rgba")
        picture.colorspace, picture.color_range = RGB, ColorRange.JPEG
        color = self._color
        painted = self._reformatter.reformat(
            picture,
            format=self._pix_fmt,
            interpolation=SCALING,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=_MATRICES.get(color.matrix),
            dst_color_range=ColorRange.JPEG if color.full_range else ColorRange.MPEG,
        )
        painted.colorspace = color.matrix
        painted.color_range = ColorRange.JPEG if color.full_range else ColorRange.MPEG
        painted.color_primaries, painted.color_trc = color.primaries, color.transfer
        return painted


def output_color(source: ColorFacts | None, pix_fmt: str) -> ColorFacts:
    """How to store the frames of a source: with its own SDR tags, else as bt709."""
    rgb = av.VideoFormat(pix_fmt).is_rgb
    full = rgb or pix_fmt.startswith("yuvj")
    if source is None or source.hdr or source.primaries in WIDE_PRIMARIES:
        return ColorFacts(
            matrix=RGB if rgb else BT709, primaries=BT709, transfer=BT709, full_range=full
        )
    kept = source.matrix if source.matrix in (BT709, BT470BG, BT601) else BT709
    return ColorFacts(
        matrix=RGB if rgb else kept,
        primaries=source.primaries,
        transfer=source.transfer,
        full_range=full,
    )


# ── high dynamic range ───────────────────────────────────────────────────────────────────────────
#
# signal -> light (SMPTE ST 2084, or ITU-R BT.2100 for HLG) -> brightness curve of ITU-R BT.2390
# (section 5.4.1), by the largest of R, G and B, so that hues stay -> BT.709 primaries -> what lies
# outside is moved toward grey until it fits -> sRGB. Diffuse white is 203 cd/m2 (ITU-R BT.2408); it
# becomes a bright grey, and highlights find room above it.


def srgb_cube(transfer: int, primaries: int, peak_nits: float = USUAL_PEAK_NITS) -> Light:
    """(N, N, N, 3), indexed by red, green, blue of the video.

    Args:
        peak_nits: the brightest light in the video, for PQ.
    """
    axis = np.linspace(0, 1, CUBE_SIDE)  # (N,)
    signal = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)  # (N, N, N, 3)
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
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])  # (...,), BT.2020
    gain = USUAL_PEAK_NITS * np.maximum(luminance, 1e-9) ** (HLG_GAMMA - 1)
    return np.asarray(scene * gain[..., None])


def compress(nits: Light, peak_nits: float) -> Light:
    """BT.2390's EETF from `peak_nits` to `SDR_WHITE_NITS`, by the largest channel."""
    nits = np.minimum(nits, peak_nits)
    brightest = nits.max(-1, keepdims=True)  # (..., 1): one factor for all three channels
    peak = nits_to_pq(peak_nits)
    signal = nits_to_pq(brightest) / peak
    highest = nits_to_pq(SDR_WHITE_NITS) / peak
    knee = 1.5 * highest - 0.5  # KS of BT.2390; below it nothing is changed
    # Hermite spline from the knee to the highest signal (P of BT.2390, maxLum = highest)
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
    away = light - grey  # (..., 3); share of it that can be gone until a channel is 0 or 1
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
    # scaled so that R = G = B = 1 is white (SMPTE RP 177)
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
