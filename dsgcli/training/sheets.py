"""Contact sheets: many pictures on one, for people to look at.

Flow: (N, 3, S, S) in [-1, 1] -> (N, S, S, 3) uint8 -> one JPEG beside its target, then renamed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from dsgcli.types import Pixels

GAP_PX = 2
"""Between the pictures of a sheet."""
SHEET_WIDTH_PX = 1600
"""Sheets are made no wider: they are looked at, not measured."""


def to_pixels(images: Tensor) -> Pixels:
    """(N, 3, S, S) in [-1, 1] -> (N, S, S, 3) uint8, rounded and clamped."""
    values = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    pixels: Pixels = values.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)
    return pixels


def grid(pixels: Pixels, columns: int | None = None) -> Pixels:
    """(N, S, S, 3) -> one picture, row by row, white gaps between; near square by default."""
    count, height, width, _ = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    shape = (rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for index, picture in enumerate(pixels):
        row, column = divmod(index, columns)
        top, left = row * (height + GAP_PX), column * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def save_sheet(path: Path, images: Tensor, columns: int | None = None) -> None:
    """Write (N, 3, S, S) in [-1, 1] as one JPEG sheet; of (N, M, 3, S, S), M stay side by side."""
    if images.ndim == 5:
        count, together = images.shape[:2]
        columns = columns or together * max(1, round(math.sqrt(count / together)))
        images = images.flatten(0, 1)
    save_picture(path, grid(to_pixels(images), columns))


def save_picture(path: Path, pixels: Pixels) -> None:
    """Write (H, W, 3) uint8 as a JPEG, whole or not at all; wide ones are scaled down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if picture.width > SHEET_WIDTH_PX:
        height = round(picture.height * SHEET_WIDTH_PX / picture.width)
        picture = picture.resize((SHEET_WIDTH_PX, height), Image.Resampling.LANCZOS)
    partial = path.with_name(f".{path.name}.partial")
    picture.save(partial, format="JPEG", quality=90)
    partial.replace(path)
