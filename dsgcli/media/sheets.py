"""Contact sheets: many pictures -> one, in rows and columns, with labels (Pillow)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

INK, PAPER = (40, 40, 40), (255, 255, 255)
LABEL_SHARE = 20
"""A label is a twentieth as high as a cell, and at least `SMALLEST_LABEL_PX`."""
SMALLEST_LABEL_PX = 10


def make_sheet(
    pictures: Sequence[Pixels],
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    cell_px: int | None = None,
    gap_px: int = 4,
    title: str = "",
) -> Pixels:
    """Arrange pictures row by row.

    Args:
        pictures: (H, W, 3) uint8 each, of any sizes; each is fitted into its cell, centered.
        columns: about a square sheet if None.
        labels: under each picture; as many as pictures.
        row_labels: left of each row.
        cell_px: longer side of a cell; of the largest picture if None.
        gap_px: between cells, and around the sheet.
        title: above all of them.

    Returns:
        (H, W, 3) uint8.
    """
    assert pictures, "a sheet has at least one picture"
    assert labels is None or len(labels) == len(pictures), "one label a picture"
    columns = min(columns or math.ceil(math.sqrt(len(pictures))), len(pictures))
    rows = math.ceil(len(pictures) / columns)
    width, height = (max(picture.shape[side] for picture in pictures) for side in (1, 0))
    if cell_px is not None:
        scale = cell_px / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    text_px = max(SMALLEST_LABEL_PX, max(width, height) // LABEL_SHARE)
    below = round(1.5 * text_px) if labels else 0
    left = _widest(row_labels or (), text_px) + (2 * gap_px if row_labels else 0)
    across, down = width + gap_px, height + below + gap_px
    top = 2 * text_px if title else 0
    size = (left + gap_px + columns * across, top + gap_px + rows * down)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        shown = _shorten(title, size[0] - 2 * gap_px, text_px)
        draw.text((gap_px, (top + gap_px) // 2), shown, INK, _font(text_px), "lm")
    for number, picture in enumerate(pictures):
        x, y = left + gap_px + number % columns * across, top + gap_px + number // columns * down
        fitted = Image.fromarray(np.ascontiguousarray(picture))
        scale = min(width / fitted.width, height / fitted.height)
        fits = (max(1, round(fitted.width * scale)), max(1, round(fitted.height * scale)))
        if fits != fitted.size:  # pictures that have the size stay as they are
            fitted = fitted.resize(fits, Image.Resampling.LANCZOS)
        sheet.paste(fitted, (x + (width - fitted.width) // 2, y + (height - fitted.height) // 2))
        if labels:
            text = _shorten(labels[number], width, text_px)
            draw.text((x + width // 2, y + height + below // 2), text, INK, _font(text_px), "mm")
    for row, text in enumerate(list(row_labels or ())[:rows]):
        y = top + gap_px + row * down + height // 2
        draw.text((gap_px, y), text, INK, _font(text_px), "lm")
    return np.array(sheet)


def marked(picture: Pixels, marks: Sequence[tuple[Points, str]]) -> Pixels:
    """A picture (H, W, 3) with short texts at places (x, y), readable on any ground."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    draw, text_px = ImageDraw.Draw(image), max(SMALLEST_LABEL_PX, max(image.size) // LABEL_SHARE)
    for (x, y), text in marks:
        place = (min(max(float(x), text_px), image.width - text_px), max(float(y), 1.2 * text_px))
        font, edge = _font(text_px), max(1, text_px // 8)
        draw.text(place, text, PAPER, font, "mb", stroke_width=edge, stroke_fill=INK)
    return np.array(image)


@lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _widest(texts: Sequence[str], text_px: int) -> int:
    return max((math.ceil(_font(text_px).getlength(text)) for text in texts), default=0)


def _shorten(text: str, width: int, text_px: int) -> str:
    """Cut a label that is wider than its picture, and say so with an ellipsis."""
    if _widest([text], text_px) <= width:
        return text
    while text and _widest([text + "…"], text_px) > width:
        text = text[:-1]
    return text + "…"
