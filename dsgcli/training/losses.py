"""The losses of DualStyleGAN, as functions of tensors (Yang et al., arXiv:2203.13248).

Flow: pictures, features, codes -> one number to descend. Which loss has which weight in which stage
is a recipe's matter; how they are combined, and how the published code did, is each stage's.

Conventions
    scores    (B, 1) discriminator outputs, high for real
    images    (B, 3, S, S) in [-1, 1]
    maps      list of feature maps (B, C_k, H_k, W_k), shallow to deep; five for VGG19 (relu1_1,
              relu2_1, relu3_1, relu4_1, relu5_1)
    reduction mean over the batch, unless a function states another one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PRETRAIN_LAYERS = (0.5, 0.5, 0.5, 0.0, 0.0)
"""Weights of the feature layers in the perceptual loss of color and structure pretraining."""
TRANSFER_LAYERS = (0.0, 0.5, 1.0, 0.0, 0.0)
"""Weights of the feature layers in the perceptual loss on pairs of the target domain."""
MATCHED_LAYERS = (1, 2)
"""Layers whose mean features are matched."""
CONTEXTUAL_LAYER = 2
"""Layer of the contextual loss: a quarter of the resolution, relu3_1."""
NUM_COMPARED = 3
"""No loss on feature maps looks at a deeper one than the contextual loss does."""
CONTEXTUAL_BAND = 0.2
PATH_DECAY = 0.01
"""Weight of a new path length in the running mean."""
SMALLEST_NOISE_PX = 8
"""Noise maps are halved while they are larger than this (arXiv:1912.04958, appendix D)."""

# ── adversarial ──────────────────────────────────────────────────────────────────────────────────


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Logistic loss, scores (B, 1) each (Goodfellow et al., arXiv:1406.2661, eq. 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of the generator, scores (B, 1) (the same, section 3)."""
    return F.softplus(-fake).mean()


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E ||grad D(x)||^2 on real pictures (Mescheder et al., arXiv:1801.04406, eq. 9).

    Args:
        scores: (B, 1), computed from `images`; of P patches (B, P), each with pixels of its own or
            nearly so: the penalty is then the mean over them.
        images: (B, 3, S, S) that require a gradient.
    """
    summed = scores.sum() / scores.shape[1] ** 0.5
    (gradient,) = torch.autograd.grad(summed, images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor, rows: slice = slice(None)) -> Tensor:
    """How far the picture moves with the code (Karras et al., arXiv:1912.04958, eq. 4).

    Args:
        images: (B, 3, H, W), computed from `ws`.
        ws: (B, L, D) codes in W+.
        noise: (B, 3, H, W), N(0, 1): the direction in which movement is measured.
        rows: rows of the code to average over; those that cannot move the picture (color rows that
            the extrinsic path replaces) only shrink the mean.

    Returns:
        (B,), the root of the mean over rows of the squared gradient.
    """
    direction = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * direction).sum(), ws, create_graph=True)
    return gradient[:, rows].square().sum(dim=2).mean(dim=1).sqrt()


def path_penalty(
    lengths: Tensor, mean: float, across: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Squared distance of path lengths (B,) to their running mean, and the new mean.

    The new mean carries a gradient into the penalty, as published.

    Args:
        across: mean over processes, differentiable; None if there is one.
    """
    now = lengths.mean() if across is None else across(lengths.mean())
    new_mean = mean + PATH_DECAY * (now - mean)
    return (lengths - new_mean).square().mean(), new_mean.detach()


# ── features ─────────────────────────────────────────────────────────────────────────────────────


def feature_l1(fake: Sequence[Tensor], real: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted L1 distance of feature maps: the perceptual loss."""
    layers = zip(weights, fake, real, strict=False)
    return torch.stack([w * F.l1_loss(a, b.detach()) for w, a, b in layers if w]).sum()


def feature_matching(
    fake: Sequence[Tensor], real: Sequence[Tensor], layers: Iterable[int] = MATCHED_LAYERS
) -> Tensor:
    """Squared distance of the features' means over the picture (Yang et al., section 3.3)."""
    pairs = [(fake[k].mean(dim=(2, 3)), real[k].mean(dim=(2, 3)).detach()) for k in layers]
    return torch.stack([F.mse_loss(a, b) for a, b in pairs]).sum()


def color_distance(fake: Tensor, real: Tensor) -> Tensor:
    """L1 distance of two batches of pictures, (B, 3, H, W), in the means and deviations of their
    channels and of the channels' differences: a tinted picture may spread each as a gray one does,
    but not all alike."""
    ours, theirs = ((x, x[:, :2] - x[:, 1:]) for x in (fake, real.detach()))
    distances = [
        F.l1_loss(a.mean(dim=(2, 3)), b.mean(dim=(2, 3)))
        + F.l1_loss(a.std(dim=(2, 3)), b.std(dim=(2, 3)))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(distances).sum()


def contextual_loss(
    x: Tensor,
    y: Tensor,
    band: float = CONTEXTUAL_BAND,
    across: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """How well each place of `y` finds a like in `x` (Mechrez et al., arXiv:1803.02077, eq. 1).

    Args:
        x: (B, C, H, W) features of the generated picture.
        y: (B, C, H', W') of the target, which gets no gradient.
        band: h, the width of the kernel.
        across: mean over processes for the features' center; None if there is one.
    """
    x, y = _exact(x), _exact(y.detach())
    center = y.mean(dim=(0, 2, 3), keepdim=True)
    if across is not None:
        center = across(center)
    pairs = zip(x - center, y - center, strict=True)
    with torch.autocast(x.device.type, enabled=False):  # distances are differences of near ones
        losses = [_one_contextual(a.flatten(1), b.flatten(1), band) for a, b in pairs]
    return torch.stack(losses).mean()


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _one_contextual(x: Tensor, y: Tensor, band: float) -> Tensor:
    """(C, N), (C, M) -> (). The N x M matrices are computed again for the backward pass: at 64x64
    each takes 64 MiB, and a batch would keep several of them a sample."""

    def loss(a: Tensor, b: Tensor) -> Tensor:
        affinity = contextual_affinity(relative_distance(cosine_distance(a, b)), band)
        return -torch.log(affinity.amax(dim=0).mean() + 1e-5)

    if x.requires_grad and torch.is_grad_enabled():
        result: Tensor = checkpoint(loss, x, y, use_reentrant=False)
        return result
    return loss(x, y)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """d_ij of columns: (C, N), (C, M) -> (N, M), 0 for equal directions, 2 for opposite ones."""
    return 1.0 - F.normalize(x, dim=0).T @ F.normalize(y, dim=0)


def relative_distance(distance: Tensor) -> Tensor:
    """d_ij over the smallest of its row (arXiv:1803.02077, eq. 2)."""
    return distance / (distance.amin(dim=1, keepdim=True) + 1e-5)


def contextual_affinity(relative: Tensor, band: float = CONTEXTUAL_BAND) -> Tensor:
    """CX_ij: exp((1 - d~) / h) over its sum in the row (the same, eq. 3 and 4), a softmax."""
    return torch.softmax((1.0 - relative) / band, dim=1)


def identity_loss(generated: Tensor, reference: Tensor) -> Tensor:
    """1 - cosine of embeddings (B, E) of unit length; the reference gets no gradient."""
    return (1.0 - (generated * reference.detach()).sum(dim=1)).mean()


# ── regularization ───────────────────────────────────────────────────────────────────────────────


def norm_sum(parameters: Iterable[Tensor]) -> Tensor:
    """Sum of the norms, not squared, of tensors: keeps the extrinsic path small, so that the face
    stays the photograph's (Yang et al., section 3.3)."""
    return torch.stack([p.norm() for p in parameters]).sum()


def code_spread(codes: Tensor) -> Tensor:
    """(B, L, D) -> (): mean standard deviation over the rows of a code, which keeps z+ near z
    (Yang et al., section 3.1)."""
    return codes.std(dim=1, unbiased=True).mean()


def noise_regularizer(noises: Iterable[Tensor]) -> Tensor:
    """Self-correlation of noise maps (B, 1, s, s) at all scales (arXiv:1912.04958, appendix D).

    The mean runs over the batch too, so several samples at once are regularized less than alone;
    see `noise_regularizer_each`.
    """
    return torch.stack([_correlation(noise, (0, 1, 2, 3)) for noise in noises]).sum()


def noise_regularizer_each(noises: Iterable[Tensor]) -> Tensor:
    """(B,): the same, each sample for itself."""
    return torch.stack([_correlation(noise, (1, 2, 3)) for noise in noises]).sum(dim=0)


def _correlation(noise: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Squared mean product with the neighbor to the right and below, summed over the scales."""
    total = noise.new_zeros(()) if 0 in dims else noise.new_zeros(len(noise))
    while True:
        for axis in (3, 2):
            total = total + (noise * noise.roll(1, axis)).mean(dims).square()
        if noise.shape[2] <= SMALLEST_NOISE_PX:
            return total
        noise = F.avg_pool2d(noise, 2)


@torch.no_grad()
def normalize_noise(noises: Iterable[Tensor]) -> None:
    """In place: mean 0 and deviation 1 over each whole tensor, batch included, as published."""
    for noise in noises:
        noise.sub_(noise.mean()).div_(noise.std(unbiased=True))


@torch.no_grad()
def normalize_noise_each(noises: Iterable[Tensor]) -> None:
    """In place: mean 0 and deviation 1 over each sample's map."""
    for noise in noises:
        dims = (1, 2, 3)
        noise.sub_(noise.mean(dims, keepdim=True)).div_(noise.std(dims, keepdim=True))


def ramped_rate(done: float, peak: float, ramp_up: float = 0.05, ramp_down: float = 0.25) -> float:
    """Learning rate of latent optimization: linear up, cosine down (arXiv:1912.04958, appendix D).

    Args:
        done: share of the steps that are done, in [0, 1); the first step has rate 0, as published.
    """
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1.0 - done) / ramp_down))
    return peak * down * min(1.0, done / ramp_up)


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────

PYRAMID_LEVELS = 3
EDGE_SHARE = 0.5
"""Weight of differences of neighbors, against that of pixels, where a recipe has one weight for
both."""
FACE_CENTER = (0.5, 0.56)
"""Center of the face in an aligned crop, x and y in shares of its side: between eyes and mouth."""
FACE_SPREAD = 0.17
"""Standard deviation of the bell around it."""
FEATURES = (
    ((0.377, 0.478), (0.05, 0.03)),
    ((0.623, 0.478), (0.05, 0.03)),
    ((0.5, 0.735), (0.08, 0.04)),
)
"""Eyes and mouth of an aligned crop, centers and deviations, measured on 70 portraits: their means,
and bells that hold all of them."""


def pyramid_l1(
    a: Tensor,
    b: Tensor,
    importance: Tensor | None = None,
    levels: int = PYRAMID_LEVELS,
    fine_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """L1 distance of pictures (B, 3, S, S), and of their horizontal and vertical differences, each
    summed over a pyramid of halved pictures.

    Args:
        importance: (1, 1, S, S) of mean 1, what each pixel counts; None counts all the same.
        fine_weight: of the finest level; the coarsest counts 1, those between geometrically.
    """
    pixel, edge = a.new_zeros(()), a.new_zeros(())
    for level in range(levels):
        if level:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
            importance = None if importance is None else F.avg_pool2d(importance, 2)
        delta = a - b
        across, down = delta.diff(dim=3), delta.diff(dim=2)
        if importance is not None:
            delta = delta * importance
            across, down = across * importance[..., 1:], down * importance[..., 1:, :]
        weight = fine_weight ** (1 - level / (levels - 1))
        pixel = pixel + weight * delta.abs().mean()
        edge = edge + weight * (across.abs().mean() + down.abs().mean())
    return pixel, edge


def stroke_distance(
    a: Tensor,
    photos: Tensor,
    exemplars: Tensor,
    degrees: Tensor,
    importance: Tensor,
    places: Tensor,
    directions: Tensor,
) -> Tensor:
    """Sliced Wasserstein distance of the Laplacian patches of portraits and their exemplars.

    Patches of STROKE_PX pixels a side, at random places where the face is, are projected onto
    random directions; along each, the sorted projections of portrait and target are compared
    (Karras et al., arXiv:1710.10196, section 5). The target lies between photograph and exemplar,
    as far as the degree says: sorted numbers are blended, the shortest way between two
    distributions.

    Args:
        a: portraits (B, 3, S, S).
        photos, exemplars: (B, 3, S, S), the face at the same place in both.
        degrees: (B,) in [0, 1].
        importance: (B, 1, S, S): a patch is drawn as often as its center counts.
        places: (L, B, P) uniform in [0, 1): P patches of each of L levels.
        directions: (L, K, 3 * STROKE_PX**2) of length 1.
    """
    total = a.new_zeros(())
    pictures = [a, photos, exemplars]
    degree = degrees.view(-1, 1, 1)
    for at, along in zip(places, directions, strict=True):
        details, smaller = zip(*(_laplacian(picture) for picture in pictures), strict=True)
        indices = _patch_indices(importance, at)  # (B, P, 49)
        ours, photo, exemplar = (_patches(detail, indices) for detail in details)  # (B, P, 147)
        scale = exemplar.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=STROKE_FLOOR)
        ours, photo, exemplar = (
            (patches / scale @ along.T).sort(dim=1).values for patches in (ours, photo, exemplar)
        )
        wanted = torch.lerp(photo, exemplar, degree)
        total = total + (ours - wanted).abs().mean()
        pictures, importance = list(smaller), F.avg_pool2d(importance, 2)
    return total


STROKE_PX = 7
STROKE_FLOOR = 0.01
"""Least contrast by which patches are divided: a level of 255."""


def _laplacian(picture: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S) -> the detail that a picture of half the size lacks, and that picture."""
    smaller = F.interpolate(picture, scale_factor=0.5, mode="bilinear", antialias=True)
    larger = F.interpolate(smaller, scale_factor=2, mode="bilinear")
    return picture - larger, smaller


def _patch_indices(importance: Tensor, places: Tensor) -> Tensor:
    """(B, 1, S, S) and places (B, P) -> (B, P, 49) positions in a flattened picture, centers drawn
    in proportion to importance."""
    side, margin = importance.shape[-1], STROKE_PX // 2
    inner = importance[:, 0, margin : side - margin, margin : side - margin]
    flat = inner.flatten(1).cumsum(dim=1)
    at = torch.searchsorted(flat, places * flat[:, -1:]).clamp(max=flat.shape[1] - 1)
    width = side - 2 * margin
    corner = at // width * side + at % width  # upper left of the patch
    steps = torch.arange(STROKE_PX, device=at.device)
    window = (steps[:, None] * side + steps[None]).flatten()
    return corner[..., None] + window


def _patches(picture: Tensor, indices: Tensor) -> Tensor:
    """(B, 3, S, S) at (B, P, 49) -> (B, P, 147)."""
    batch, count, size = indices.shape
    flat = picture.flatten(2)  # (B, 3, S * S)
    where = indices.flatten(1)[:, None].expand(-1, 3, -1)
    return flat.gather(2, where).view(batch, 3, count, size).transpose(1, 2).flatten(2)


def contrast_distance(a: Tensor, b: Tensor, levels: int = PYRAMID_LEVELS) -> Tensor:
    """L1 distance of the local contrast of two batches of pictures, (B, 3, S, S), summed over the
    levels of a Laplacian pyramid of their luma: the root of the mean square of each level over
    squares of CONTRAST_PX. It says how strong strokes are and leaves open where they lie."""
    total = a.new_zeros(())
    x, y = a.mean(dim=1, keepdim=True), b.mean(dim=1, keepdim=True)
    for _ in range(levels):
        found = []
        smaller = [F.avg_pool2d(picture, 2) for picture in (x, y)]
        for picture, small in zip((x, y), smaller, strict=True):
            detail = picture - F.interpolate(small, scale_factor=2, mode="bilinear")
            energy = F.avg_pool2d(detail.square(), CONTRAST_PX, CONTRAST_PX // 2)
            found.append((energy + CONTRAST_FLOOR).sqrt())
        ours, theirs = found
        total = total + F.l1_loss(ours, theirs)
        x, y = smaller
    return total


CONTRAST_PX = 8
CONTRAST_FLOOR = 1e-5
"""Keeps the gradient of the root finite: a contrast of a third of a level of 255."""


def face_importance(size_px: int, weight: float, features: float = 1.0) -> Tensor:
    """(1, 1, S, S) of mean 1: an aligned crop's face counts up to `weight` times its corners, its
    eyes and its mouth up to `features` - 1 times more."""
    place = (torch.arange(size_px) + 0.5) / size_px
    importance = 1.0 + (weight - 1.0) * _bell(place, FACE_CENTER, (FACE_SPREAD, FACE_SPREAD))
    for center, spread in FEATURES:
        importance = importance + (features - 1.0) * _bell(place, center, spread)
    return (importance / importance.mean())[None, None]


def _bell(place: Tensor, center: tuple[float, float], spread: tuple[float, float]) -> Tensor:
    """(S, S): 1 at `center` (x, y), falling off with `spread`, all in sides of the picture."""
    x, y = (place[None, :] - center[0]) / spread[0], (place[:, None] - center[1]) / spread[1]
    return torch.exp(-(x.square() + y.square()) / 2)
