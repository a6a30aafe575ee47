"""report.html of a run: what was done, how the losses went, what came out; one file, no network.

Flow: run folder -> page with curves (SVG), sheets over time, figures, the recipe, the environment.
"""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from dsgcli.recipe import Recipe, recipe_values, write_toml
from dsgcli.store.files import write_text
from dsgcli.training.audit_report import thumbnail_url
from dsgcli.training.candidates import read_scores
from dsgcli.training.evaluate import read_metrics_of
from dsgcli.training.plots import Curve, plot
from dsgcli.training.prepare import SETS, read_audit
from dsgcli.training.record import METRICS, read_metrics
from dsgcli.training.run_dir import ENVIRONMENT, REPORT, RunFolder

MOST_SHEETS = 6
"""Sheets that are shown of one kind: the first, the last, and some between."""
SHEET_PX = 640

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222;
       margin: 2em auto; padding: 0 1em; max-width: 1200px }
h2 { border-bottom: 1px solid #ddd; margin-top: 2em }
table { border-collapse: collapse } td, th { padding: 2px 12px 2px 0; text-align: left }
figure { display: inline-block; margin: 6px 12px 6px 0; vertical-align: top; font-size: 12px }
figure img { max-width: 560px; height: auto } pre { background: #f6f6f6; padding: 1em }
figure.large img { max-width: 100% } summary { cursor: pointer; margin: .6em 0; font-weight: 600 }
svg text { font-size: 10px; fill: #666 } figcaption span { margin-left: .6em; font-weight: 600 }
"""


def write_report(run: RunFolder, recipe: Recipe) -> None:
    """Write the page from what lies in the folder."""
    name = html.escape(recipe.run.name)
    body = [
        f"<h1>{name}</h1>",
        _result(run, recipe),
        _learnt(run, recipe),
        "<h2>Stages</h2>",
        _overview(run, recipe),
        _next(run, recipe),
        *(_stage(run, stage) for stage in recipe.stages),
        _folded("Recipe", f"<pre>{html.escape(write_toml(recipe_values(recipe)))}</pre>"),
        _environment(run),
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>"
        f"<style>{STYLE}</style>{''.join(body)}</html>\n"
    )
    write_text(run.path / REPORT, page)


RESULTS = ("pairs", "people", "styles", "portraits", "samples")
"""Kinds of sheets, the most telling first."""
READ_SHEET = {
    "pairs": "In each group of four: a person, an exemplar, what the teacher drew of the person, "
    "and what the network draws now. The last two should be alike.",
    "samples": "People as the network draws them now.",
}
RESULT_PX = 1600


def _result(run: RunFolder, recipe: Recipe) -> str:
    """The newest sheet, large, with how to read it."""
    for stage in reversed(recipe.stages):
        folder = run.stage(stage)
        newest = {
            path.stem.rpartition("-")[0].rpartition("-")[2] or path.stem: path
            for path in sorted((folder / "sheets").glob("*.jpg"), key=lambda p: p.stat().st_mtime)
        }
        found = [newest[kind] for kind in RESULTS if kind in newest] or list(newest.values())
        single = folder / "sheet.jpg"
        found += [single] if single.is_file() else []
        if found:
            kind = next((kind for kind in RESULTS if newest.get(kind) == found[0]), "")
            how = READ_SHEET.get(kind, "What the network draws now.")
            return f"<h2>What it draws</h2><p>{how}</p>{_sheet(found[0], RESULT_PX, 'large')}"
    return "<p>Nothing is drawn yet: first pictures come some minutes after the start.</p>"


LEARNT = {
    "pixel": "difference from the teacher's picture",
    "edge": "difference of edges",
    "contrast": "difference of light and shadow",
    "strokes": "difference of strokes from the exemplar",
    "style": "distance to the exemplar",
}
"""Scalars that fall while something is learnt, in words."""
ENDS = 0.1
"""Share of a run whose mean stands for its beginning, and for its end."""


def _learnt(run: RunFolder, recipe: Recipe) -> str:
    """How far the figures fell that say something about pictures."""
    lines = []
    for stage in recipe.stages:
        path = run.stage(stage) / METRICS
        values: dict[str, list[float]] = defaultdict(list)
        for row in read_metrics(path) if path.is_file() else ():
            for name, value in row.items():
                if name in LEARNT and isinstance(value, int | float):
                    values[name].append(float(value))
        for name, curve in values.items():
            some = max(1, round(ENDS * len(curve)))
            first, last = np.mean(curve[:some]), np.mean(curve[-some:])
            if len(curve) >= 2 * some and first > 0:
                change = round(100 * (1 - float(last / first)))
                moved = f"fell by {change} %" if change > 0 else f"rose by {-change} %"
                lines.append(f"<li>{stage}: the {LEARNT[name]} {moved}.</li>")
    if not lines:
        return ""
    told = "".join(lines)
    return f"<h2>What was learnt</h2><ul>{told}</ul><p>Trust your eyes more than these.</p>"


def _next(run: RunFolder, recipe: Recipe) -> str:
    """The next command, as a paragraph."""
    name, models = recipe.run.name, run.path / "pretrained"
    if not all(run.state(stage).get("done") for stage in recipe.stages):
        return "<p>To continue, type the same <code>dsg train</code> command again.</p>"
    if (models / name / f"{name}.safetensors").is_file():
        command = f"dsg stylize photo.jpg --style {name} --pretrained {models}"
        return f"<p>Next: <code>{html.escape(command)}</code></p>"
    return ""


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def _overview(run: RunFolder, recipe: Recipe) -> str:
    rows = []
    for stage in recipe.stages:
        state = run.state(stage)
        status = "done" if state.get("done") else "started" if state else "to do"
        elapsed_s = state.get("elapsed_s")
        rows.append((stage, status, "" if elapsed_s is None else f"{elapsed_s / 60:.1f} min"))
    return table(("stage", "status", "time"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table; a path in it can be followed."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_shown(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _shown(cell: object) -> str:
    text = html.escape(f"{cell:.5g}" if isinstance(cell, float) else str(cell))
    return f'<a href="{text}">{text}</a>' if isinstance(cell, PurePath) else text


# ── a stage ──────────────────────────────────────────────────────────────────────────────────────


def _stage(run: RunFolder, name: str) -> str:
    folder = run.stage(name)
    curves = "".join(_curves(folder))
    if curves:
        how = (
            "Each curve is a number that the training tries to make small, from left to right. "
            "It should fall or stay; look closer where one jumps up and stays there. Curves of "
            "two networks that work against each other (loss/d, score) go up and down."
        )
        curves = _folded("Curves", f"<p>{how}</p>{curves}")
    timeline = "".join(_timeline(folder))
    content = "".join(
        [
            _audits(folder) if name == "prepare" else "",
            _candidates(folder),
            _figures(folder),
            _folded("Pictures over time", timeline) if timeline else "",
            curves,
        ]
    )
    return f"<h2>{name}</h2>{content}" if content else ""


def _audits(folder: Path) -> str:
    rows = []
    for name in SETS:
        pictures = read_audit(folder / name).get("pictures", {})
        left_out = sum(bool(picture["problem"]) for picture in pictures.values())
        if pictures:
            more = PurePosixPath("prepare", name, "report.html")
            rows.append((name, len(pictures) - left_out, left_out, more))
    return table(("portraits", "used", "left out", "more"), rows) if rows else ""


def _curves(folder: Path) -> Iterator[str]:
    """One plot for each kind of scalar of each loop."""
    if not (folder / METRICS).is_file():
        return
    loops: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in read_metrics(folder / METRICS):
        for name, value in row.items():
            if name not in ("run", "step", "time_s"):
                loops[row["run"]][group_of(name)][name].append((row["step"], value))
    for label, groups in loops.items():
        for group, curves in groups.items():
            shown: dict[str, Curve] = {k.partition("/")[2] or k: v for k, v in curves.items()}
            yield plot(f"{label}, {group}", shown)


def group_of(scalar: str) -> str:
    """Scalars of one group share a plot: `loss/d` and `loss/g`; others by what they are."""
    kind, slash, _ = scalar.partition("/")
    if slash:
        return kind
    return "speed" if scalar == "images_per_s" else scalar


def _candidates(folder: Path) -> str:
    found = read_scores(folder)
    if not found:
        return ""
    rows = [
        (s["step"], s["style"], s["identity"], "proposed" if s["step"] == found["proposed"] else "")
        for s in found["scores"]
    ]
    head = ("candidate", "style distance", "identity distance", "")
    return "<h3>Candidates</h3>" + table(head, rows)


def _figures(folder: Path) -> str:
    found = read_metrics_of(folder)
    return table(("figure", "value"), list(found.items())) if found else ""


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def _timeline(folder: Path) -> Iterator[str]:
    """Sheets over time, a row for each kind."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((folder / "sheets").glob("*.jpg")):
        kind, _, step = path.stem.rpartition("-")
        kinds[kind if step.isdigit() else "portraits"].append(path)
    for kind, paths in kinds.items():
        figures = "".join(_sheet(path) for path in spread(paths, MOST_SHEETS))
        more = f" ({len(paths)} in {folder.name}/sheets)" if len(paths) > MOST_SHEETS else ""
        yield f"<h3>{html.escape(kind)}{more}</h3>{figures}"
    single = folder / "sheet.jpg"
    if single.is_file():
        yield _sheet(single)


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """The first, the last, and some evenly between."""
    if len(paths) <= most:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (most - 1))] for i in range(most)]


def _sheet(path: Path, side_px: int = SHEET_PX, kind: str = "") -> str:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    caption = html.escape(path.stem)
    return (
        f'<figure class="{kind}"><img src="{thumbnail_url(pixels, side_px)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _environment(run: RunFolder) -> str:
    path = run.path / ENVIRONMENT
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return _folded("Environment", table(("", ""), list(found.items()))) if found else ""
