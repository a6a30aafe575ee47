"""Frozen networks that tell how alike two pictures are, and how alike two faces.

Flow: pictures -> feature maps, distances, embeddings -> losses.py.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fit(images: Tensor, size_px: int) -> Tensor:
    """Pictures (B, 3, S, S) at another size: block means when smaller, repeated pixels when larger
    (as the published code, which pools to 256 px whatever comes)."""
    if images.shape[2] == size_px:
        return images
    return F.adaptive_avg_pool2d(images, size_px)
