"""How far generated portraits are from real ones, in numbers.

Flow: features (N, F) of two sets of pictures -> FID, KID; pairs of pictures -> PSNR.

FID   Frechet distance of two normal distributions (Heusel et al., arXiv:1706.08500)
KID   squared maximum mean discrepancy with a cubic kernel (Binkowski et al., arXiv:1801.01401);
      unbiased, so it is meaningful for some hundred pictures, where FID is not

Figures made with different features cannot be compared; the features' name is part of a figure.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fid(a: Tensor, b: Tensor) -> float:
    """Frechet distance of features (N, F) and (M, F); 0 for the same distribution."""
    a, b = a.double(), b.double()
    mean_term = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = _square_root(cov_a)
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float(mean_term + cov_a.trace() + cov_b.trace() - 2 * cross)


def _square_root(matrix: Tensor) -> Tensor:
    """Square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def kid(a: Tensor, b: Tensor) -> float:
    """Kernel distance of features (N, F) and (M, F); 0 on average for the same distribution."""
    a, b = a.double(), b.double()
    n, m = len(a), len(b)
    within_a, within_b, between = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    own_a = (within_a.sum() - within_a.trace()) / (n * (n - 1))
    own_b = (within_b.sum() - within_b.trace()) / (m * (m - 1))
    return float(own_a + own_b - 2 * between.mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(N,): decibels between pictures (N, 3, S, S) in [-1, 1]."""
    error = (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean(dim=(1, 2, 3)) / 4
    return -10 * torch.log10(error + 1e-10)
