"""Galleries of a style, drawn from its codes alone: `dsg styles show`.

codes -> scenes -> pictures -> a sheet, or a page that needs no other file.

An exemplar is drawn from its own codes: its intrinsic code (or, in styles that have none, its
extrinsic one), wholly in its own style. This shows how near the model comes to the original
picture, which is not in the model.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import UsageError
from dsgcli.generate.figures import (
    check_sheet,
    exemplar_scene,
    free_output,
    is_sheet,
    near_square,
)
from dsgcli.generate.keyframes import StyleKeyframe
from dsgcli.generate.scenes import AnyRenderer, Scene, make_renderer
from dsgcli.media.files import check_output, no_empty_folders
from dsgcli.media.images import data_url, write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.pipeline import load_pipeline
from dsgcli.portraits import to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.runtime import BackendName, Precision
from dsgcli.store import ModelStore
from dsgcli.store.files import write_text
from dsgcli.types import StyleRef, StyleTerm

if TYPE_CHECKING:
    from dsgcli.store import StyleInfo
    from dsgcli.types import Pixels

THUMBNAIL_PX = 256
"""Side of the pictures of a gallery; larger models draw them by the layers up to there."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights at which one exemplar is shown; 0 is the face behind it."""
SMALLEST_CELL_PX = 64
PAGE_SUFFIXES = frozenset({".html", ".htm"})
WEBP_QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions:
    """Every choice of `dsg styles show`; the names are those of its arguments and flags."""

    name: str
    """A style, or one exemplar of it."""
    output: Path | None = None
    """A sheet or a page; None is a sheet named after the style, here."""
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    backend: BackendName = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaptionedPicture:
    """One picture with its caption."""

    caption: str
    pixels: Pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """The scenes of a style, and what draws them."""

    info: StyleInfo
    title: str
    scenes: list[tuple[str, Scene]]
    """Captions, and what to draw above them."""
    renderer: AnyRenderer
    large: bool
    """One exemplar: the first scene is it, the others its weights; else all exemplars."""
    numbers: list[int]
    """Numbers of the exemplars that are shown."""

    @property
    def cell_px(self) -> int:
        """Side of a picture on a sheet."""
        size_px = self.renderer.portraits.size_px
        across = len(WEIGHTS) if self.large else 1
        return max(SMALLEST_CELL_PX, size_px // across)

    @property
    def columns(self) -> int:
        """Columns of a sheet."""
        return len(WEIGHTS) if self.large else near_square(len(self.scenes))


def show(options: ShowOptions, progress: Progress = NULL_PROGRESS) -> dict[str, Any]:
    """Draw a style and write it.

    Returns:
        output, and the exemplars by number, for `--json`.

    Raises:
        UsageError, ModelError, MediaError: before anything is drawn.
    """
    output = options.output or default_output(options.name)
    page = output.suffix.lower() in PAGE_SUFFIXES
    if not page and not is_sheet(output):
        raise UsageError(f"-o takes a sheet (.png .jpg .webp) or a page (.html), got {output}")
    output = free_output(output, overwrite=options.overwrite)
    with no_empty_folders([output]):
        check_output(output, overwrite=options.overwrite)
        gallery = plan_gallery(options)
        columns, rows = gallery.columns, -(-len(gallery.scenes) // gallery.columns)
        if not page:
            check_sheet(output, columns, rows, gallery.cell_px, overwrite=options.overwrite)
        pictures = draw_gallery(gallery, progress)
        if page:
            write_text(output, page_of(gallery, pictures))
        else:
            metadata = {"style": gallery.title}
            sheet = sheet_of(gallery, pictures)
            write_image(output, sheet, metadata=metadata, overwrite=options.overwrite)
    names = gallery.info.exemplars
    return {
        "output": str(output),
        "style": gallery.info.name,
        "exemplars": [{"number": n, "name": names[n]} for n in gallery.numbers],
        "size_px": gallery.info.size_px,
        "license": gallery.info.license or "unknown",
    }


def default_output(name: str) -> Path:
    """`toon.png`, `toon-3.png`: in the working folder, whatever the name is of."""
    ref = StyleRef.parse(name)
    parts = [Path(ref.style).stem, *(term.exemplar for term in ref.terms if term.exemplar)]
    kept = "-".join(Path(part).stem for part in parts)
    return Path(f"{kept}.png")


def plan_gallery(options: ShowOptions) -> Gallery:
    """All exemplars of a style; or one, large, and at several weights.

    Raises:
        ModelError, StyleRefError: no such style, no such exemplar.
    """
    store = ModelStore.open(options.pretrained)
    ref = store.parse(options.name)
    style = store.style(ref.style)
    whole = ref.terms == (StyleTerm(ref.style),)
    resolved = store.resolve(ref)
    portraits = load_pipeline(
        store,
        ref.style,
        encoder=None,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        size=min(style.info.size_px or THUMBNAIL_PX, THUMBNAIL_PX) if whole else None,
    )
    if whole:  # each called by its number and name, which may begin with digits
        instyle = style.default if style.instyle is None else style.instyle
        exemplars = [
            StyleKeyframe.of(f"{number}: {Path(name).stem}", portraits, exstyle, intrinsic)
            for number, (name, exstyle, intrinsic) in enumerate(
                zip(style.names, style.default, instyle, strict=True)
            )
        ]
        scenes = [(exemplar.label, exemplar_scene(exemplar)) for exemplar in exemplars]
    else:
        exemplar = StyleKeyframe.of(resolved.label, portraits, resolved.exstyle, resolved.instyle)
        scenes = [(exemplar.label, exemplar_scene(exemplar))]
        scenes += [(f"weight {weight:g}", exemplar_scene(exemplar, weight)) for weight in WEIGHTS]
    shown = style.names if whole else resolved.exemplars
    return Gallery(
        info=style.info,
        title=style.name if whole else resolved.label,
        scenes=scenes,
        renderer=make_renderer(portraits, options.batch_size),
        large=not whole,
        numbers=[style.names.index(name) for name in shown],
    )


def draw_gallery(gallery: Gallery, progress: Progress = NULL_PROGRESS) -> list[CaptionedPicture]:
    """A picture for each scene."""
    drawn = []
    with progress.task("Drawing", len(gallery.scenes), unit="pictures") as task:
        images = gallery.renderer.images(scene for _, scene in gallery.scenes)
        for (caption, _), image in zip(gallery.scenes, images, strict=True):
            drawn.append(CaptionedPicture(caption=caption, pixels=to_pixels(image[None])[0]))
            task.advance()
    return drawn


# ── sheets ───────────────────────────────────────────────────────────────────────────────────────


def sheet_of(gallery: Gallery, pictures: Sequence[CaptionedPicture]) -> Pixels:
    """(H, W, 3): all pictures with their captions, or one as it is above its weights."""
    if not gallery.large:
        return _sheet(pictures, gallery.columns, gallery.cell_px)
    parts = [_sheet(pictures[:1], 1), _sheet(pictures[1:], gallery.columns, gallery.cell_px)]
    width = max(part.shape[1] for part in parts)
    padded = []
    for part in parts:  # centered on white
        lacking = width - part.shape[1]
        sides = (lacking // 2, lacking - lacking // 2)
        padded.append(np.pad(part, ((0, 0), sides, (0, 0)), constant_values=255))
    return np.concatenate(padded)


def _sheet(
    pictures: Sequence[CaptionedPicture], columns: int, cell_px: int | None = None
) -> Pixels:
    return make_sheet(
        [shown.pixels for shown in pictures],
        columns=columns,
        labels=[shown.caption for shown in pictures],
        cell_px=cell_px,
    )


# ── pages ────────────────────────────────────────────────────────────────────────────────────────

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({cell_px}px, 1fr));
  gap: 1rem; }}
figure {{ margin: 0; }}
figure.large {{ grid-column: 1 / -1; max-width: {large_px}px; }}
img {{ width: 100%; display: block; border-radius: 4px; }}
figcaption {{ overflow-wrap: anywhere; padding-top: .25rem; }}
code {{ font-size: 12px; opacity: .75; user-select: all; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{about}</p>
<main>
{figures}</main>
</body>
</html>
"""


def page_of(gallery: Gallery, pictures: Sequence[CaptionedPicture]) -> str:
    """A page with all pictures inside."""
    info = gallery.info
    about = f"{info.size_px} px, license: {info.license or 'unknown'}"
    if not gallery.large:
        about = f"{len(pictures)} exemplars, {about}"
    figures = []
    for index, shown in enumerate(pictures):
        large, caption = gallery.large and index == 0, html.escape(shown.caption)
        alt = caption
        if not gallery.large:  # with the flag that takes it
            style = f"--style {info.name}:{gallery.numbers[index]}"
            caption += f"<br><code>{html.escape(style)}</code>"
        figures.append(
            f"<figure{' class=large' if large else ''}>"
            f'<img alt="{alt}" src="{data_url(shown.pixels, "WEBP", WEBP_QUALITY)}">'
            f"<figcaption>{caption}</figcaption></figure>\n"
        )
    return _PAGE.format(
        title=html.escape(gallery.title),
        about=html.escape(f"{about}. Drawn from the codes of the style by dsg."),
        cell_px=160 if gallery.large else 200,
        large_px=pictures[0].pixels.shape[1],
        figures="".join(figures),
    )
