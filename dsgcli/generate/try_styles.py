"""One person in every style: `dsg try`.

photograph -> face -> crop -> a portrait for each of some exemplars of each style -> a sheet, and a
page on which every portrait has the command that makes it.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.errors import DsgError, ModelMissingError, NoFaceError, UsageError
from dsgcli.faces.align import crop_face, crop_whole, looks_aligned
from dsgcli.faces.detect import open_detector
from dsgcli.generate.gallery import WEBP_QUALITY
from dsgcli.media.files import check_output, no_empty_folders, numbered_neighbors
from dsgcli.media.images import data_url, read_opaque, write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.pipeline import TranslatorPipeline, load_pipeline
from dsgcli.portraits import Look, pick_weights, to_images, to_pixels
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.runtime import BackendName, Precision
from dsgcli.store import ModelStore
from dsgcli.store.catalog import DEFAULT_SET
from dsgcli.store.codes import short_name
from dsgcli.store.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from dsgcli.portraits import Portraits
    from dsgcli.types import Frame, Pixels

CELL_PX = 256
"""Side of the portraits: what the shipped styles draw quickest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryOptions:
    """Every choice of `dsg try`; the names are those of its arguments and flags."""

    photo: Path
    output: Path | None = None
    """The page; the sheet lies beside it. None is `PHOTO_try.html`, here."""
    style: tuple[str, ...] = ()
    """Names of styles; none tries all that are here."""
    count: int = 12
    """Exemplars of each style, its first ones."""
    face: int | None = None
    """Number of the face, from the left, from 0; None takes the largest."""
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    backend: BackendName = "auto"
    batch_size: int | None = None
    pretrained: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleTrial:
    """The portraits of one style."""

    name: str
    references: list[str] = field(default_factory=list)
    """Values for `--style`, such as `noir:3`, one for each picture."""
    pictures: list[Pixels] = field(default_factory=list)


def try_styles(options: TryOptions, progress: Progress = NULL_PROGRESS) -> dict[str, Any]:
    """Draw a face in some exemplars of every style, and write a page and a sheet.

    Returns:
        page, sheet and the references that were drawn, for `--json`.

    Raises:
        NoFaceError: no face in the photograph. UsageError: no face of that number, a bad name for
            the page. ModelError: no style, or none of this name.
    """
    page = options.output or Path(f"{options.photo.stem}_try.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o takes the name of a page that ends in .html, got {page}")
    page = free_page(page, overwrite=options.overwrite)
    sheet = page.with_suffix(".png")
    store = ModelStore.open(options.pretrained)
    names = style_names(store, options.style)
    with no_empty_folders([page]):
        for path in (page, sheet):
            check_output(path, overwrite=options.overwrite)
        crop = find_face(read_opaque(options.photo), options, store, progress)
        trials = list(draw_trials(crop, names, options, store, progress))
        write_image(sheet, sheet_of(crop, trials), overwrite=options.overwrite)
        write_text(page, page_of(options.photo, crop, trials))
    return {
        "page": str(page),
        "sheet": str(sheet),
        "styles": {trial.name: trial.references for trial in trials},
    }


def free_page(path: Path, *, overwrite: bool) -> Path:
    """The path of a page; where `dsg try` has written one before, a numbered neighbor."""
    if overwrite or not path.is_file() or GENERATOR.encode() not in path.read_bytes()[:400]:
        return path
    return next(beside for beside in numbered_neighbors(path) if not beside.exists())


GENERATOR = '<meta name="generator" content="dsg try">'
"""By which pages of ours are known."""


def style_names(store: ModelStore, wanted: Sequence[str]) -> list[str]:
    """The styles to try: those named, else all that can be used.

    Raises:
        ModelMissingError: there is none, or none of a name.
    """
    if wanted:
        return [store.info(store.parse(name).style).name for name in wanted]
    styles = [style for style in store.styles() if not (style.shadowed or style.problem)]
    if not styles:
        raise ModelMissingError("no style is here; `dsg models list --published` has what there is")
    # the shipped DualStyleGAN is there for the method's own sake, and is tried if it is named
    kept = [s for s in styles if s.of_translator or s.set_name != DEFAULT_SET]
    styles = kept or styles
    # the usual style first, and those last that do not keep what the photograph shows
    usual = store.info(DEFAULT_SET).name if any(s.set_name == DEFAULT_SET for s in styles) else ""
    styles.sort(key=lambda style: (style.name != usual, not style.of_translator))
    return [style.name for style in styles]


def find_face(frame: Frame, options: TryOptions, store: ModelStore, progress: Progress) -> Pixels:
    """(CELL_PX, CELL_PX, 3): the aligned face that was asked for.

    Raises:
        NoFaceError, UsageError: as `try_styles`.
    """
    with open_detector(task_file=store.face_landmarker()) as detector:
        faces = detector.detect(frame, effort="search")
        if not faces:
            raise NoFaceError(str(options.photo), detector=detector.name)
    if options.face is not None and options.face >= len(faces):
        several = f"faces 0 to {len(faces) - 1}" if len(faces) > 1 else "one face, number 0"
        raise UsageError(f"--face {options.face}: {options.photo} has {several}")
    if options.face is None and looks_aligned(frame, faces):
        return crop_whole(frame, CELL_PX).pixels
    if options.face is not None:
        face = faces[options.face]
    else:
        face = max(faces, key=lambda found: found.height_px)
        if len(faces) > 1:
            progress.note(
                f"{options.photo.name} has {len(faces)} faces; the largest is tried, --face takes "
                f"another (0 to {len(faces) - 1}, from the left)"
            )
    return crop_face(frame, face, CELL_PX).pixels


def draw_trials(
    crop: Pixels,
    names: Sequence[str],
    options: TryOptions,
    store: ModelStore,
    progress: Progress,
) -> Iterator[StyleTrial]:
    """The portraits of each style. A style that cannot draw a photograph is left out with a
    warning, unless it was named.

    Raises:
        ModelError: of a style that was named, or if no style is left.
    """
    plan = {name: store.style(name).names[: options.count] for name in names}
    drawn, problem = 0, None
    with progress.task("Drawing", sum(map(len, plan.values())), unit="pictures") as task:
        for name, exemplars in plan.items():
            try:
                pipeline = load_pipeline(
                    store,
                    name,
                    device=options.device,
                    precision=options.precision,
                    backend=options.backend,
                )
            except DsgError as error:
                if options.style:
                    raise
                problem = error
                progress.warn(f"{name} is left out: {error}")
                continue
            trial = StyleTrial(name=name)
            codes = None if isinstance(pipeline, TranslatorPipeline) else pipeline.encode([crop])
            for number, exemplar in enumerate(exemplars):
                exstyle = store.style(name).default[number]
                trial.pictures.append(draw_one(pipeline, crop, codes, exstyle))
                trial.references.append(f"{name}:{short_name(exemplar, number)}")
                task.advance()
            drawn += len(exemplars)
            yield trial
    if not drawn and problem is not None:
        raise problem


def draw_one(
    pipeline: Portraits | TranslatorPipeline, crop: Pixels, codes: Tensor | None, exstyle: Tensor
) -> Pixels:
    """(S, S, 3): the crop in one exemplar's style, at the usual weights."""
    weights = pick_weights(pipeline.layout, usual=pipeline.usual_weight)
    if isinstance(pipeline, TranslatorPipeline):
        run = pipeline.bound_once(exstyle, weights.layers)
        drawn: Pixels = to_pixels(run(to_images([crop], pipeline.device)))[0]
        return drawn
    assert codes is not None, "a DualStyleGAN draws from codes"
    look = Look(exstyle=exstyle, weights=weights)
    portrait: Pixels = pipeline.draw_crops([crop], codes, look, pipeline.size_px)[0]
    return portrait


def sheet_of(crop: Pixels, trials: Sequence[StyleTrial]) -> Pixels:
    """(H, W, 3): a row a style, the photograph first in each."""
    columns = 1 + max(len(trial.pictures) for trial in trials)
    cells: list[Pixels] = []
    labels: list[str] = []
    for trial in trials:
        lacking = columns - 1 - len(trial.pictures)
        blank = np.full_like(crop, 255)
        cells += [crop, *trial.pictures, *[blank] * lacking]
        labels += ["photograph", *trial.references, *[""] * lacking]
    return make_sheet(cells, columns=columns, labels=labels, cell_px=SHEET_CELL_PX)


SHEET_CELL_PX = 192

# ── the page ─────────────────────────────────────────────────────────────────────────────────────

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="dsg try">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1400px;
  padding: 0 1rem; }}
header {{ display: flex; gap: 1.5rem; align-items: center; }}
header img {{ width: 160px; border-radius: 8px; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1rem; }}
button {{ all: unset; cursor: pointer; display: block; }}
button:focus-visible {{ outline: 3px solid #2563eb; border-radius: 8px; }}
button img {{ width: 100%; display: block; border-radius: 8px; }}
button:hover img {{ outline: 3px solid #2563eb; }}
b {{ display: block; padding-top: .25rem; }}
code {{ font-size: 12px; opacity: .75; overflow-wrap: anywhere; }}
#copied {{ position: fixed; bottom: 1rem; left: 50%; transform: translateX(-50%);
  background: #111; color: #fff; padding: .5rem 1rem; border-radius: 8px; opacity: 0;
  transition: opacity .2s; pointer-events: none; }}
#copied.shown {{ opacity: 1; }}
</style>
</head>
<body>
<header><img alt="photograph" src="{photo}"><div><h1>{title}</h1>
<p>Click a picture to copy the command that makes it.</p></div></header>
{styles}
<div id="copied" role="status"></div>
<script>
function copy(text) {{
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");  // pages opened from the disk
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}}
for (const button of document.querySelectorAll("button"))
  button.onclick = () => {{
    copy(button.dataset.command);
    const said = document.getElementById("copied");
    said.textContent = "Copied: " + button.dataset.command;
    said.classList.add("shown");
    setTimeout(() => said.classList.remove("shown"), 2000);
  }};
</script>
</body>
</html>
"""


def page_of(photo: Path, crop: Pixels, trials: Sequence[StyleTrial]) -> str:
    """A page with all pictures inside; it needs no other file and no network."""
    sections = []
    for trial in trials:
        buttons = []
        for reference, picture in zip(trial.references, trial.pictures, strict=True):
            words = ["dsg", "stylize", str(photo), "--style", reference]
            command = html.escape(" ".join(map(shlex.quote, words)), quote=True)
            name, source = html.escape(reference), data_url(picture, "WEBP", WEBP_QUALITY)
            buttons.append(
                f'<button data-command="{command}"><img alt="{name}" src="{source}">'
                f"<b>{name}</b><code>{command}</code></button>\n"
            )
        sections.append(f"<h2>{html.escape(trial.name)}</h2>\n<main>{''.join(buttons)}</main>\n")
    return _PAGE.format(
        title=html.escape(f"{photo.name} in {len(trials)} styles"),
        photo=data_url(crop, "WEBP", WEBP_QUALITY),
        styles="".join(sections),
    )
