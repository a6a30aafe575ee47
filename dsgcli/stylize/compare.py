"""Before and after in one picture, or on a page with a slider."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dsgcli.errors import OutputExistsError
from dsgcli.faces import warp
from dsgcli.media.images import data_url
from dsgcli.store.files import write_text

if TYPE_CHECKING:
    from dsgcli.types import Frame, Pixels


def compared(before: Pixels, after: Frame, kind: Literal["side", "split"]) -> Frame:
    """The source and its drawing as one frame: side by side, or the left half of one and the right
    half of the other.

    Args:
        before: (H, W, 3); brought to the size of the drawing.
        after: (h, w, 3).
    """
    height, width = after.pixels.shape[:2]
    before = warp.resize(before, width, height)
    half = width // 2
    parts = [before, after.pixels] if kind == "side" else [before[:, :half], after.pixels[:, half:]]
    return replace(after, pixels=np.concatenate(parts, axis=1))


def page_beside(output: Path) -> Path:
    """Place of the page of a drawing: `photo_noir-3.compare.html` beside `photo_noir-3.jpg`."""
    return output.with_name(f"{output.stem}.compare.html")


def check_page(path: Path, *, overwrite: bool) -> None:
    """Make sure that nothing but an older page of ours lies where the page goes.

    Raises:
        OutputExistsError: one does.
    """
    if path.exists() and not overwrite and MARK not in path.read_bytes()[:400]:
        raise OutputExistsError(path)


JPEG_QUALITY = 92
MARK = b"dsg stylize --compare page"
"""Text by which our pages are known."""


def write_page(path: Path, before: Pixels, after: Pixels, title: str) -> None:
    """A page with a slider between two pictures; everything is in this one file.

    Args:
        before: (H, W, 3); brought to the size of the drawing.
        after: (h, w, 3).

    Raises:
        SinkError: it cannot be written.
    """
    height, width = after.shape[:2]
    pictures = warp.resize(before, width, height), after
    sources = [data_url(picture, "JPEG", JPEG_QUALITY) for picture in pictures]
    mark, title = MARK.decode("ascii"), html.escape(title)
    page = PAGE.format(mark=mark, title=title, before=sources[0], after=sources[1])
    write_text(path, page)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{mark}">
<title>{title}</title>
<style>
  body {{ margin: 0; background: #181818; color: #ddd; font: 16px/1.4 system-ui, sans-serif; }}
  figure {{ position: relative; width: fit-content; margin: 1rem auto; }}
  img {{ display: block; max-width: 100vw; max-height: calc(100vh - 6rem); }}
  #after {{ position: absolute; inset: 0; clip-path: inset(0 0 0 50%); }}
  #line {{ position: absolute; top: 0; bottom: 0; left: 50%; width: 2px; background: #fff; }}
  input {{ position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
          cursor: ew-resize; }}
  input:focus-visible + #line {{ background: #4af; }}
  figcaption {{ text-align: center; padding: .5rem; }}
</style>
<figure>
  <img src="{before}" alt="before">
  <img id="after" src="{after}" alt="after">
  <input type="range" min="0" max="100" value="50" step="0.5" aria-label="before and after">
  <div id="line"></div>
</figure>
<figcaption>{title}: drag, or use the arrow keys. Left is before, right is after.</figcaption>
<script>
  const slider = document.querySelector("input");
  slider.addEventListener("input", () => {{
    document.querySelector("#after").style.clipPath = `inset(0 0 0 ${{slider.value}}%)`;
    document.querySelector("#line").style.left = `${{slider.value}}%`;
  }});
</script>
</html>
"""
