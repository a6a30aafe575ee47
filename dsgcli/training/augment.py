"""Augmentation that does not leak into the pictures a GAN makes (Karras et al., arXiv:2006.06676).

Flow: pictures, real and generated alike -> turned, moved, scaled, recolored -> discriminator. Each
transform is applied to each picture with probability p, which `AdaptiveAugmentation` raises while
the discriminator is too sure of itself.

Conventions
    images    (B, 3, H, W) in [-1, 1]
    affine    (B, 3, 3), of output to input places: pixels relative to the picture's center, x to
              the right, y down
    color     (B, 4, 4), homogeneous (r, g, b, 1)

Everything can be differentiated twice with respect to the pictures, as R1 wants. Differences from
the published code, on purpose: translations really are fractions of the picture (there, fractions
of a *pixel*), and x and y are drawn apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgcli.training.stage import Draws

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""Low-pass taps of the wavelet sym6 (Daubechies): a sharp filter for resampling."""
MARGIN_PX = len(SYM6) // 4
"""Output pixels beside the picture that the filter needs."""
FILTER_LAG_PX = 0.25
"""The taps' center of mass lies half a fine sample before their middle, so the fine picture does:
without this, turning and scaling would have their fixed point beside the picture's center."""
LARGEST_SHIFT = 0.125
"""Shares of the picture's side: whole-pixel translation, and the deviation of the fractional
one."""
SCALE_SPREAD = 0.2 * math.log(2.0)
"""Deviation of the logarithm of scale and stretch."""
BRIGHTNESS_SPREAD, CONTRAST_SPREAD, SATURATION_SPREAD = 0.2, 0.5 * math.log(2.0), math.log(2.0)
GRAY_AXIS = (1 / math.sqrt(3.0),) * 3
"""Direction of equal red, green and blue."""

# ── elementary matrices ──────────────────────────────────────────────────────────────────────────


def translation(shift: Tensor) -> Tensor:
    """(B, n) -> (B, n+1, n+1) homogeneous."""
    n = shift.shape[1]
    matrix = torch.eye(n + 1).to(shift).repeat(len(shift), 1, 1)
    matrix[:, :n, n] = shift
    return matrix


def scaling(factors: Tensor) -> Tensor:
    """(B, n) -> (B, n+1, n+1) homogeneous."""
    return torch.diag_embed(F.pad(factors, (0, 1), value=1.0))


def rotation(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 3, 3) homogeneous, counterclockwise where y points up."""
    matrix = torch.eye(3).to(angle).repeat(len(angle), 1, 1)
    cos, sin = angle.cos(), angle.sin()
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, -sin
    matrix[:, 1, 0], matrix[:, 1, 1] = sin, cos
    return matrix


def hue_rotation(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 4, 4) about the gray axis (Rodrigues' formula)."""
    axis = angle.new_tensor(GRAY_AXIS)
    x, y, z = GRAY_AXIS
    cross = angle.new_tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turn = cos * torch.eye(3).to(angle) + sin * cross + (1 - cos) * torch.outer(axis, axis)
    return F.pad(turn, (0, 1, 0, 1)) + _corner(turn)


def luma_flip(flip: Tensor) -> Tensor:
    """(B,) of 0 and 1 -> (B, 4, 4): mirror at the plane of equal luma where 1."""
    return torch.eye(4).to(flip) - 2.0 * flip[:, None, None] * _gray_projection(flip)


def saturation(factor: Tensor) -> Tensor:
    """(B,) -> (B, 4, 4): stretch away from the gray axis.

    The homogeneous corner is stretched too, as published; harmless, since nothing follows it.
    """
    gray = _gray_projection(factor)
    return gray + (torch.eye(4).to(factor) - gray) * factor[:, None, None]


def _gray_projection(like: Tensor) -> Tensor:
    axis = like.new_tensor([*GRAY_AXIS, 0.0])
    return torch.outer(axis, axis)


def _corner(like: Tensor) -> Tensor:
    corner = like.new_zeros(4, 4)
    corner[3, 3] = 1.0
    return corner


# ── random transforms ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineParameters:
    """Random geometry of each picture; neutral where a transform is not applied."""

    flip: Tensor
    """(B,) 0 or 1: mirror left and right."""
    shift: Tensor
    """(B, 2) whole pixels, (x, y)."""
    scale: Tensor
    """(B,)"""
    angle_before: Tensor
    """(B,) radians, before the stretch."""
    stretch: Tensor
    """(B,): x by this, y by its inverse."""
    angle_after: Tensor
    """(B,) radians, after the stretch."""
    fine_shift: Tensor
    """(B, 2) pixels, (x, y)."""

    def matrix(self) -> Tensor:
        """(B, 3, 3), of input to output places; what is first applied is rightmost."""
        return (
            translation(self.fine_shift)
            @ rotation(-self.angle_after)
            @ scaling(torch.stack([self.stretch, 1.0 / self.stretch], dim=1))
            @ rotation(-self.angle_before)
            @ scaling(self.scale[:, None].expand(-1, 2))
            @ translation(self.shift)
            @ scaling(torch.stack([1.0 - 2.0 * self.flip, torch.ones_like(self.flip)], dim=1))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorParameters:
    """Random colors of each picture, (B,) each; neutral where not applied."""

    brightness: Tensor
    contrast: Tensor
    luma_flip: Tensor
    hue: Tensor
    saturation: Tensor

    def matrix(self) -> Tensor:
        """(B, 4, 4); what is first applied is rightmost."""
        return (
            saturation(self.saturation)
            @ hue_rotation(self.hue)
            @ luma_flip(self.luma_flip)
            @ scaling(self.contrast[:, None].expand(-1, 3))
            @ translation(self.brightness[:, None].expand(-1, 3))
        )


def draw_affine(draws: Draws, p: float, batch: int, height: int, width: int) -> AffineParameters:
    """Random geometry, each transform with probability `p`; the two rotations together with it."""
    size = torch.tensor([width, height])
    u = draws.uniform(batch, 14)
    n = draws.normal(batch, 4)
    size = size.to(u)
    on = (u[:, 7:] < p).to(u)
    turned = (u[:, 10:12] < 1.0 - math.sqrt(1.0 - p)).to(u)
    angles = (2.0 * u[:, 4:6] - 1.0) * math.pi * turned
    return AffineParameters(
        flip=(u[:, 0] < 0.5).to(u) * on[:, 0],
        shift=torch.round((2.0 * u[:, 1:3] - 1.0) * LARGEST_SHIFT * size) * on[:, 1:2],
        scale=torch.exp(n[:, 0] * SCALE_SPREAD * on[:, 2]),
        angle_before=angles[:, 0],
        stretch=torch.exp(n[:, 1] * SCALE_SPREAD * on[:, 5]),
        angle_after=angles[:, 1],
        fine_shift=n[:, 2:4] * LARGEST_SHIFT * size * on[:, 6:7],
    )


def draw_color(draws: Draws, p: float, batch: int) -> ColorParameters:
    """Random colors, each transform with probability `p`."""
    u = draws.uniform(batch, 7)
    n = draws.normal(batch, 3)
    on = (u[:, 2:] < p).to(u)
    return ColorParameters(
        brightness=n[:, 0] * BRIGHTNESS_SPREAD * on[:, 0],
        contrast=torch.exp(n[:, 1] * CONTRAST_SPREAD * on[:, 1]),
        luma_flip=(u[:, 0] < 0.5).to(u) * on[:, 2],
        hue=(2.0 * u[:, 1] - 1.0) * math.pi * on[:, 3],
        saturation=torch.exp(n[:, 2] * SATURATION_SPREAD * on[:, 4]),
    )


# ── application ──────────────────────────────────────────────────────────────────────────────────


def augment(images: Tensor, p: float, draws: Draws) -> Tensor:
    """Random geometry, then random colors; (B, 3, H, W) -> the same shape."""
    batch, _, height, width = images.shape
    affine = draw_affine(draws, p, batch, height, width).matrix()
    color = draw_color(draws, p, batch).matrix()
    return apply_color(apply_affine(images, torch.linalg.inv(affine.float())), color)


def apply_color(images: Tensor, color: Tensor) -> Tensor:
    """Linear map of the colors; (B, 3, H, W), (B, 4, 4) -> (B, 3, H, W)."""
    color = color.to(images)
    turned = torch.einsum("bij,bjhw->bihw", color[:, :3, :3], images)
    return turned + color[:, :3, 3, None, None]


def apply_affine(images: Tensor, affine: Tensor) -> Tensor:
    """Warp pictures, mirrored beyond their edges, without aliasing (arXiv:2006.06676, appendix B).

    The picture is filtered to twice its size, sampled bilinearly there, and filtered back, so the
    sampling has nothing near its limit to alias.

    Args:
        images: (B, C, H, W).
        affine: (B, 3, 3), output to input places.
    """
    height, width = images.shape[2:]
    left, right, top, bottom = padding_for(affine, height, width)
    padded = F.pad(images, (left, right, top, bottom), mode="reflect")
    fine = _filter_up(padded)  # (B, C, 2 (H + pads), 2 (W + pads))
    grid = _sampling_grid(affine.to(images), height, width, (left, right, top, bottom))
    return _filter_down(_sample(fine, grid))


def padding_for(affine: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add left, right, top and bottom so that no sample of the batch falls outside; at
    most one less than the side, which is all a reflection has."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    corners = affine.new_tensor([[-cx, -cy, 1.0], [cx, -cy, 1.0], [cx, cy, 1.0], [-cx, cy, 1.0]]).T
    places = (affine @ corners)[:, :2]  # (B, 2, 4)
    low, high = -places.amin(dim=(0, 2)), places.amax(dim=(0, 2))
    center = affine.new_tensor([cx, cy])
    limit = affine.new_tensor([width - 1, height - 1])
    pads = torch.stack([low, high]) - center + 2 * MARGIN_PX  # (before / after, x / y)
    before, after = torch.minimum(pads.clamp(min=0), limit).ceil().int().tolist()
    return before[0], after[0], before[1], after[1]


def _sampling_grid(
    affine: Tensor, height: int, width: int, pads: tuple[int, int, int, int]
) -> Tensor:
    """(B, 2 (H + 2 margin), 2 (W + 2 margin), 2): where to sample the padded picture, in the units
    of `grid_sample`, -1 to 1 from edge to edge."""

    def places(size: int) -> Tensor:
        steps = torch.arange(2 * (size + 2 * MARGIN_PX)).to(affine)
        return (steps + 0.5) / 2 - MARGIN_PX - size / 2 + FILTER_LAG_PX

    y, x = torch.meshgrid(places(height), places(width), indexing="ij")
    target = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # (H', W', 3), pixels from the center
    source = torch.einsum("bij,hwj->bhwi", affine[:, :2], target) - FILTER_LAG_PX
    left, right, top, bottom = pads
    size = affine.new_tensor([width, height])
    before, padded = (
        affine.new_tensor([left, top]),
        affine.new_tensor([left + width + right, top + height + bottom]),
    )
    return 2.0 * (source + size / 2 + before) / padded - 1.0


def _filter_up(images: Tensor) -> Tensor:
    """Twice the size: zeros between the samples, then SYM6 along each axis."""
    batch, channels, height, width = images.shape
    taps = images.new_tensor(SYM6)
    crop = len(SYM6) // 2 - 1
    flat = images.reshape(batch * channels, 1, height, width)
    flat = F.conv_transpose2d(flat, taps[None, None, None, :], stride=(1, 2))
    flat = flat[..., crop : crop + 2 * width]
    flat = F.conv_transpose2d(flat, taps[None, None, :, None], stride=(2, 1))
    flat = flat[:, :, crop : crop + 2 * height]
    return flat.reshape(batch, channels, 2 * height, 2 * width)


def _filter_down(images: Tensor) -> Tensor:
    """Half the size, less the margin: SYM6 mirrored along each axis, then every second sample."""
    batch, channels, height, width = images.shape
    taps = images.new_tensor(SYM6)
    flat = images.reshape(batch * channels, 1, height, width)[:, :, 1:-1, 1:-1]
    flat = F.conv2d(flat, taps[None, None, None, :], stride=(1, 2))
    flat = F.conv2d(flat, taps[None, None, :, None], stride=(2, 1))
    return flat.reshape(batch, channels, *flat.shape[2:])


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    result: Tensor = _Sample.apply(images, grid)  # type: ignore[no-untyped-call]
    return result


class _Sample(torch.autograd.Function):
    """Bilinear sampling, zeros outside. Linear in the pictures, so its gradient's gradient is
    sampling again; torch's own cannot be differentiated twice. None for the grid."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(grads[0], grid, ctx.size), None  # type: ignore[no-untyped-call]


class _Spread(torch.autograd.Function):
    """The adjoint of `_Sample`: adds each value to the places it was sampled from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        like = values.new_empty(1).expand(size)  # only its shape is used
        bilinear, zeros = 0, 0
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(
            values.contiguous(), like, grid, bilinear, zeros, False, (True, False)
        )
        result: Tensor = spread
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(grads[0], grid), None, None  # type: ignore[no-untyped-call]


# ── how much ─────────────────────────────────────────────────────────────────────────────────────


class AdaptiveAugmentation:
    """Chooses p so that the discriminator is right about real pictures only so often.

    r = E[sign D(real)] is the sign of overfitting (arXiv:2006.06676, eq. 1): above `target`, p
    rises by the share of `images` seen; below, it falls.
    """

    UPDATE_EVERY = 8
    """Iterations between updates."""

    def __init__(self, target: float = 0.6, images: int = 500_000, p: float = 0.0) -> None:
        self.target, self.images = target, images
        self.p, self.r = p, 0.0
        self._signs, self._count, self._calls = 0.0, 0.0, 0.0

    def update(self, mean_sign: float, batch: int) -> float:
        """Take one batch's mean sign of D(real), over all processes; returns p."""
        self._signs += mean_sign * batch
        self._count += batch
        self._calls += 1
        if self._calls == self.UPDATE_EVERY:
            self.r = self._signs / self._count
            step = self._count / self.images
            self.p = min(1.0, max(0.0, self.p + (step if self.r > self.target else -step)))
            self._signs = self._count = self._calls = 0.0
        return self.p

    def state(self) -> dict[str, float]:
        """All that an exact resume needs."""
        return {
            "p": self.p,
            "r": self.r,
            "signs": self._signs,
            "count": self._count,
            "calls": self._calls,
        }

    def load_state(self, state: dict[str, float]) -> None:
        self.p, self.r = state["p"], state["r"]
        self._signs, self._count, self._calls = state["signs"], state["count"], state["calls"]
