"""The nouns of the data flow: frames -> faces -> crops -> latents -> portraits -> frames.

Conventions
    points    (x, y) in frame pixels; (0, 0) is the upper left *corner* of the upper left pixel,
              so the centre of that pixel is (0.5, 0.5)
    pictures  (H, W, 3) uint8, RGB, full range, sRGB, upright, square pixels
    time      seconds from the start of the stream, an exact Fraction taken from the stream
    latents   z, w: (D,);  z+, w+: (L, D), row l drives the layers that `LatentLayout` names
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dsgcli.errors import StyleRefError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Points = NDArray[np.float64]
    Mask = NDArray[np.float32]

# ── frames and faces ─────────────────────────────────────────────────────────────────────────────

LEFT_EYE = (33, 133, 159, 145)
"""Landmarks around the eye on the left of an upright picture: corners, upper lid, lower lid."""
RIGHT_EYE = (362, 263, 386, 374)
"""Landmarks around the eye on the right: corners, upper lid, lower lid."""
MOUTH_CORNERS = (61, 291)
"""Landmarks at the corners of the mouth, the one on the left of an upright picture first."""
NUM_LANDMARKS = 478
"""MediaPipe's face mesh with irises; both of its interfaces give the same points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture of a stream, upright and in display order."""

    pixels: Pixels
    """(H, W, 3) uint8 RGB."""
    index: int = 0
    """Position in the stream, from 0."""
    time: Fraction = Fraction(0)
    """Seconds from the start of the stream."""
    duration: Fraction | None = None
    """Seconds on the screen; None if unknown."""
    alpha: Pixels | None = None
    """(H, W) uint8, 255 is opaque; None if the picture has none."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One detected face."""

    landmarks: Points
    """(478, 2) float64, frame pixels, in the order of MediaPipe's face mesh."""
    score: float = 1.0
    """Confidence of the detector, 0 to 1."""
    track: int = -1
    """Number of the person over time; -1 before tracking."""
    held: bool = False
    """True if not seen in this frame, but carried over from the track's past."""

    @property
    def eyes(self) -> Points:
        """(2, 2): centres of the eyes, the one on the left of an upright picture first."""
        import numpy as np

        return np.stack(
            [self.landmarks[list(LEFT_EYE)].mean(0), self.landmarks[list(RIGHT_EYE)].mean(0)]
        )

    @property
    def mouth(self) -> Points:
        """(2, 2): corners of the mouth, the one on the left of an upright picture first."""
        corners: Points = self.landmarks[list(MOUTH_CORNERS)]
        return corners

    @property
    def box(self) -> Points:
        """(4,): left, top, right, bottom of the landmarks' bounding box."""
        import numpy as np

        return np.concatenate([self.landmarks.min(0), self.landmarks.max(0)])

    @property
    def height_px(self) -> float:
        """Side of the square with the area of the bounding box: the face's size in pixels."""
        left, top, right, bottom = self.box
        return float(((right - left) * (bottom - top)) ** 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropTransform:
    """Where a square crop lies in its frame: an affine map between the two."""

    quad: Points
    """(4, 2): the crop's upper left, lower left, lower right and upper right corner in frame
    pixels; a parallelogram (a square, for FFHQ alignment)."""
    size_px: int
    """Side of the crop in crop pixels."""

    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): crop pixels (x, y, 1) -> frame pixels."""
        import numpy as np

        upper_left, lower_left, _, upper_right = self.quad
        along_x, along_y = upper_right - upper_left, lower_left - upper_left
        return np.stack([along_x / self.size_px, along_y / self.size_px, upper_left], axis=1)

    def with_size(self, size_px: int) -> CropTransform:
        """This transform with another crop resolution."""
        return replace(self, size_px=size_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One aligned face, cut from a frame."""

    pixels: Pixels
    """(S, S, 3) uint8 RGB."""
    transform: CropTransform
    face: Face | None = None
    """The face it was aligned to; None for a picture that came aligned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """A stylized crop."""

    pixels: Pixels
    """(S, S, 3) uint8 RGB; S is the generator's resolution."""
    crop: Crop
    opacity: float = 1.0
    """0 keeps the frame, 1 the portrait; in between while a lost face fades."""
    keeps_content: bool = False
    """Whether everything in the crop, hair and background too, is drawn in its place."""


# ── the latent layout ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LatentLayout:
    """Which row of a latent code drives which layer of a generator of this size.

    Row 0 drives the 4x4 convolution; row 1 the 4x4 ToRGB and the first 8x8 convolution; of the
    block at resolution 8 * 2^k, `convs.2k` takes row 2k+1, `convs.2k+1` row 2k+2, and ToRGB row
    2k+3, which it shares with the next block's first convolution.
    """

    size_px: int
    """Resolution of the generator's picture: a power of two from 32 to 1024."""
    last_structure: int = 6
    """The last row with a modulative residual block (`res_index`); even. 6 is the 32x32 block."""

    def __post_init__(self) -> None:
        if self.size_px < 32 or self.size_px > 1024 or self.size_px & (self.size_px - 1):
            raise UsageError(
                f"a generator's size is a power of two from 32 to 1024, got {self.size_px}"
            )
        if self.last_structure % 2 or not 0 <= self.last_structure < self.num_latents - 1:
            raise UsageError(
                f"the last structure layer is an even number below {self.num_latents - 1} "
                f"at {self.size_px} px, got {self.last_structure}"
            )

    @classmethod
    def of_rows(cls, rows: int, last_structure: int = 6) -> LatentLayout:
        """The layout whose codes have so many rows."""
        return cls(1 << (rows + 2) // 2, last_structure)

    @property
    def log2_size(self) -> int:
        """5 for 32 px, 10 for 1024 px."""
        return self.size_px.bit_length() - 1

    @property
    def num_latents(self) -> int:
        """Rows of a z+ or w+ code: 8 at 32 px, 18 at 1024 px."""
        return 2 * self.log2_size - 2

    @property
    def num_blocks(self) -> int:
        """Blocks above 4x4, each of two convolutions and a ToRGB."""
        return self.log2_size - 2

    @property
    def num_noises(self) -> int:
        """Noise maps, one a convolution."""
        return self.num_latents - 1

    @property
    def noise_sizes_px(self) -> tuple[int, ...]:
        """Side of each noise map: 4, 8, 8, 16, 16, ..."""
        return tuple(1 << ((i + 5) // 2) for i in range(self.num_noises))

    def block_rows(self, block: int) -> tuple[int, int, int]:
        """Rows of the block at 8 * 2^block px: its first and second convolution, its ToRGB."""
        return 2 * block + 1, 2 * block + 2, 2 * block + 3

    @property
    def rgb_rows(self) -> tuple[int, ...]:
        """Rows that drive a ToRGB, from 4x4 up."""
        return tuple(range(1, self.num_latents, 2))

    def blocks_to(self, size_px: int) -> int:
        """How many blocks lead from 4x4 to this resolution."""
        return size_px.bit_length() - 3

    @property
    def resolutions_px(self) -> tuple[int, ...]:
        """4, 8, ..., size."""
        return tuple(1 << k for k in range(2, self.log2_size + 1))

    @property
    def structure(self) -> slice:
        """Rows of the structure: up to 32x32, bent by the modulative residual blocks."""
        return slice(0, self.last_structure + 1)

    @property
    def color(self) -> slice:
        """Rows of the color: from the 32x32 ToRGB on, blended by T_c."""
        return slice(self.last_structure + 1, self.num_latents)

    @property
    def num_structure(self) -> int:
        return self.last_structure + 1

    @property
    def num_color(self) -> int:
        return self.num_latents - self.num_structure

    @property
    def destylized_color(self) -> slice:
        """Rows that destylization and stage three take for color: one later than `color`.
        Kept, because the published codes were made so."""
        return slice(self.last_structure + 2, self.num_latents)


# ── what to draw: styles and weights ─────────────────────────────────────────────────────────────

DEFAULT_TRUNCATION = 0.75
"""How far people may be from the average one, 0 to 1, where nothing else is asked for: the value of
the published scripts that stylize."""


@dataclass(frozen=True, slots=True)
class StyleTerm:
    """One exemplar of one style, with its share of a blend."""

    style: str
    exemplar: str | None = None
    """Its number or its name; None for the style's first."""
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class StyleRef:
    """A value of `--style`: `arcane`, `arcane:12`, `arcane:Jinx_02`, or a blend of such,
    `arcane:12*0.6+arcane:40*0.4`."""

    terms: tuple[StyleTerm, ...]

    @classmethod
    def parse(cls, text: str) -> StyleRef:
        """Read a reference; names are looked up later, by the store.

        Raises:
            StyleRefError: empty names, shares that are not positive numbers, two different styles.
        """
        terms = tuple(_parse_term(part, text) for part in text.split("+"))
        if len({term.style for term in terms}) > 1:
            raise StyleRefError(f"{text!r} blends exemplars of different styles; name one style")
        total = sum(term.share for term in terms)
        return cls(tuple(replace(term, share=term.share / total) for term in terms))

    @property
    def style(self) -> str:
        return self.terms[0].style

    def __str__(self) -> str:
        if len(self.terms) == 1:
            term = self.terms[0]
            return term.style if term.exemplar is None else f"{term.style}:{term.exemplar}"
        return "+".join(
            f"{t.style}{'' if t.exemplar is None else ':' + t.exemplar}*{t.share:g}"
            for t in self.terms
        )


def _parse_term(part: str, text: str) -> StyleTerm:
    body, star, share_text = part.partition("*")
    body = body.strip()
    drive = 2 if re.match(r"[A-Za-z]:[\\/]", body) else 0  # of a path on Windows
    style, colon, exemplar = body[drive:].partition(":")
    style = body[:drive] + style
    try:
        share = float(share_text) if star else 1.0
    except ValueError:
        share = 0.0
    if not style or (colon and not exemplar) or not 0 < share < float("inf"):
        raise StyleRefError(
            f"{text!r} is no style reference; write NAME, NAME:NUMBER, NAME:EXEMPLAR, "
            f"or a blend like NAME:1*0.6+NAME:2*0.4"
        )
    return StyleTerm(style, exemplar or None, share)


@dataclass(frozen=True, slots=True)
class StyleWeights:
    """How far each row of the code goes from the photograph (0) to the exemplar (1)."""

    layers: tuple[float, ...]
    """One weight a row; structure rows scale a residual, color rows blend codes."""

    @classmethod
    def of(
        cls, layout: LatentLayout, *, structure: float = 0.75, color: float = 1.0
    ) -> StyleWeights:
        """Two numbers for all rows; the defaults are the published ones."""
        return cls((structure,) * layout.num_structure + (color,) * layout.num_color)

    def scaled(self, strength: float) -> StyleWeights:
        """Every weight times `strength`."""
        return self if strength == 1.0 else StyleWeights(tuple(strength * w for w in self.layers))

    @classmethod
    def fit(cls, values: Sequence[float], layout: LatentLayout) -> StyleWeights:
        """Per-row weights, written for this size or for 1024 px (18 values, the usual form);
        the latter is cut to the rows that a smaller model has.

        Raises:
            UsageError: another number of values, or a value that is not finite.
        """
        published = LatentLayout(1024).num_latents
        if len(values) not in (layout.num_latents, published):
            raise UsageError(
                f"--weights takes {layout.num_latents} numbers for a {layout.size_px} px model "
                f"(or {published}, of which the first {layout.num_latents} count), "
                f"got {len(values)}"
            )
        if not all(abs(v) < float("inf") for v in values):
            raise UsageError("--weights takes finite numbers")
        return cls(tuple(float(v) for v in values[: layout.num_latents]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a file of ours comes from; stored in its header and shown by `dsg models`."""

    license: str = "unknown"
    source: str = ""
    notes: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
