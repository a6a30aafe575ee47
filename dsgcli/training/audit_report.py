"""The audit as one page to look at: what is used, what is left out and why.

Flow: kept and left-out pictures -> report.html, self-contained.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dsgcli.media.images import data_url
from dsgcli.store.files import write_text
from dsgcli.training.audit import Examined

if TYPE_CHECKING:
    from dsgcli.types import Pixels

THUMB_PX = 96
MOST_LEFT_OUT = 400
"""Left-out pictures that are shown; the JSON beside the page has all."""

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222 }
figure { display: inline-block; width: 110px; margin: 4px; vertical-align: top; font-size: 11px }
figure img { width: 96px; height: 96px; object-fit: cover; background: #ddd }
figcaption { overflow-wrap: anywhere }
"""


def thumbnail_url(pixels: Pixels, size_px: int, quality: int = 80) -> str:
    """A JPEG of at most `size_px` wide, as a URL that needs no file."""
    image = Image.fromarray(pixels)
    if image.width > size_px:
        height = max(1, round(image.height * size_px / image.width))
        image = image.resize((size_px, height), Image.Resampling.LANCZOS)
    return data_url(np.asarray(image), "JPEG", quality)


def write_audit_report(
    path: Path, name: str, kept: Sequence[Examined], left_out: Sequence[Examined]
) -> None:
    """Write the page."""
    parts = [
        f"<h1>Portraits of {html.escape(name)}</h1>",
        f"<p>{len(kept)} used, {len(left_out)} left out. Nothing was deleted.</p>",
        "<h2>Left out</h2>" if left_out else "",
        *(_figure(found, found.problem) for found in left_out[:MOST_LEFT_OUT]),
        _more(len(left_out) - MOST_LEFT_OUT),
        "<h2>Used (the first)</h2>",
        *(_figure(found, _measures(found)) for found in kept if found.crop is not None),
        "<h2>Blurriest of those used</h2>" if kept else "",
        _blurriest(kept),
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Portraits of "
        f"{html.escape(name)}</title><style>{STYLE}</style>{''.join(parts)}</html>\n"
    )
    write_text(path, page)


def _figure(found: Examined, text: str) -> str:
    image = (
        "" if found.crop is None else f'<img src="{thumbnail_url(found.crop, THUMB_PX)}" alt="">'
    )
    caption = f"<b>{html.escape(found.path.name)}</b><br>{html.escape(text)}"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _measures(found: Examined) -> str:
    face = f"face {found.face_px:.0f} px, " if found.face_px else ""
    return f"{face}sharpness {found.sharpness:.0f}"


def _blurriest(kept: Sequence[Examined]) -> str:
    lowest = sorted(kept, key=lambda found: found.sharpness)[:20]
    rows = "".join(
        f"<li>{html.escape(found.path.name)}: sharpness {found.sharpness:.1f}</li>"
        for found in lowest
    )
    return f"<ol>{rows}</ol>"


def _more(count: int) -> str:
    return f"<p>... and {count} more, in audit.json.</p>" if count > 0 else ""
