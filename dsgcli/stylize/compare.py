"""Before and after in one picture, or on a page with a slider."""

from __future__ import annotations

import base64
import html
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dsgcli.errors import OutputExistsError
from dsgcli.faces import warp
from dsgcli.media.files import AtomicFile, sink_error

if TYPE_CHECKING:
    from dsgcli.stylize.options import Compare
    from dsgcli.types import Frame, Pixels


def compared(before: Pixels, after: Frame, kind: Compare) -> Frame:
    """The source and its drawing as one frame.

    Args:
        before: (H, W, 3); brought to the size of the drawing.
        after: (h, w, 3).
    """
    height, width = after.pixels.shape[:2]
    before = warp.resize(before, width, height)
    if kind == "side":
        return replace(after, pixels=np.concatenate([before, after.pixels], axis=1))
    if kind == "split":
        half = width // 2
        pixels = np.concatenate([before[:, :half], after.pixels[:, half:]], axis=1)
        return replace(after, pixels=pixels)
    return after


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
    sources = [_source(warp.resize(before, width, height)), _source(after)]
    page = PAGE.format(title=html.escape(title), before=sources[0], after=sources[1])
    beside = AtomicFile(path)
    try:
        beside.temporary.write_text(page, "utf-8")
        beside.commit()
    except OSError as error:
        raise sink_error(path, error) from error
    finally:
        beside.discard()


def _source(pixels: Pixels) -> str:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="dsg stylize --compare page">
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
