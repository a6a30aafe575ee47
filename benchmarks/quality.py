"""How good a model is on photographs that it has never seen.

    python benchmarks/quality.py --translator FILE [--style NAME ...] [--output DIR]
    python benchmarks/quality.py --style NAME ... [--pretrained DIR] [--output DIR]

FILE is a translator, or a checkpoint of the stage `distill`
(RUN/distill/checkpoints/distill-192px-1.safetensors), of which the average is taken; its styles are
the folders of --styles-data/styles, encoded by its own style encoder. --style measures styles of
the store, of either kind, with their own codes; a DualStyleGAN can so stand beside a translator.

People are those of --photos and, in columns of their own, the photographs of --styles-data that
training held out. With a translator, two more columns are drawn after painted portraits: `painted`
after some that it was trained on, `unseen` after some that were held out.

Everything is measured on aligned crops, of 256 px unless --size-px says otherwise; what each figure
is, quality_figures.py says. Correlations over people are taken for each exemplar by itself, and the
mean over exemplars is told. --output gets quality.md, quality.json and a sheet for each column:
exemplars on top, a row a person, the photograph first. --video measures flicker as well.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import quality_figures as figures
import quality_video
from quality_distance import Sketch, distance, sketch, toned_distance
from quality_models import (
    Painter,
    TranslatorPainter,
    find_by_codes,
    open_painter,
    open_translator,
    step_of,
)
from quality_photos import (
    Exemplar,
    Find,
    Photograph,
    finder,
    named_exemplars,
    pictures_of,
    read_exemplars,
    read_photographs,
    split,
    spread,
)

from dsgcli.faces.detect import open_detector
from dsgcli.faces.masks import hull_distance
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.store import ModelStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dsgcli.types import Face, Frame, Pixels, Points

STYLES = ("toon", "comic", "noir", "neon")
PHOTOS, PAINTED = "base/photos", "base/painted"
"""Folders of the training data."""
HELD_OUT_SHARE = 0.04
"""As in the recipes of the default model."""
CLIPS, CLIP_NAMES = Path("../shared/media/clips"), ("one_person.mp4", "real_man.mp4")
GENERAL = ("painted", "unseen")
"""Columns of painted portraits: some that were trained on, some held out."""
REALS = 96
"""Pictures that stand for a style."""
DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0)
OWN_PATCHES = 4096
"""Patches of each level where one exemplar is compared."""
SHOWN = 12
"""People on a sheet."""


@dataclass(frozen=True, eq=False)
class People:
    """Those who are drawn: of --photos, or held out of the training data."""

    name: str
    """Empty, or `held out`."""
    photographs: tuple[Photograph, ...]

    @cached_property
    def crops(self) -> list[Pixels]:
        return [photograph.pixels for photograph in self.photographs]

    @cached_property
    def faces(self) -> list[NDArray[np.bool_]]:
        """(S, S): inside the face."""
        return [hull_distance(p.points, p.pixels.shape[0]) >= 0 for p in self.photographs]

    @cached_property
    def sketch(self) -> Sketch:
        return sketch(self.crops)

    def measured(self, measure: Callable[[Photograph], float]) -> figures.Array:
        """(N,)."""
        return np.array([measure(photograph) for photograph in self.photographs])


@dataclass(frozen=True, eq=False)
class Subject:
    """A style to measure."""

    name: str
    painter: Painter
    exemplars: tuple[Exemplar, ...]
    """Those that are drawn after."""
    reals: tuple[Pixels, ...]
    """More of the style's real exemplars; none where their pictures are not here."""
    command: str = ""
    """NAME as `dsg stylize --style` takes it; empty for a translator that is in no store."""

    @cached_property
    def sketch(self) -> Sketch:
        return sketch(self.reals)


# ── one style ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a style makes of some people, and where the faces are: E exemplars, N people."""

    pictures: Pixels
    """(E, N, S, S, 3)."""
    points: tuple[tuple[Points | None, ...], ...]
    """Landmarks (478, 2) of each, in widths."""

    def measured(self, measure: Callable[[Pixels, Points], float]) -> figures.Array:
        """(E, N), nan where no face was found."""
        rows = zip(self.pictures, self.points, strict=True)
        return np.array(
            [
                [
                    math.nan if p is None else measure(picture, p)
                    for picture, p in zip(*row, strict=True)
                ]
                for row in rows
            ]
        )


def draw(subject: Subject, people: People, find: Find) -> Drawn:
    pictures = np.stack([subject.painter.draw(people.crops, e) for e in subject.exemplars])
    points = tuple(tuple(find(picture) for picture in row) for row in pictures)
    return Drawn(pictures, points)


def judge(subject: Subject, people: People, drawn: Drawn) -> dict[str, float]:
    """Every figure of a style on some people."""
    found = [points is not None for row in drawn.points for points in row]
    return {
        "people": len(people.photographs),
        "exemplars": len(subject.exemplars),
        figures.FOUND: 100 * float(np.mean(found)),
        **follow_people(people, drawn),
        **figures.differ(drawn.pictures),
        **distances(subject, people, drawn),
        **slide(subject, people, drawn),
    }


def follow_people(people: People, drawn: Drawn) -> dict[str, float]:
    """What is still the person's."""

    def follow(
        alike: Callable[[figures.Array, figures.Array], float],
        measure: Callable[[Pixels, Points], float],
    ) -> float:
        theirs = people.measured(lambda p: measure(p.pixels, p.points))
        return alike(theirs, drawn.measured(measure))

    def correlated(measure: Callable[[Points], float]) -> float:
        def alike(theirs: figures.Array, ours: figures.Array) -> float:
            return figures.over_people(figures.correlation, theirs, ours)

        return follow(alike, lambda _, points: measure(points))

    def ordered(theirs: figures.Array, ours: figures.Array) -> float:
        return figures.over_people(figures.rank_correlation, theirs, ours)

    pairs = [
        (photograph, picture, face)
        for row in drawn.pictures
        for photograph, picture, face in zip(people.crops, row, people.faces, strict=True)
    ]
    sharp = [figures.sharpness(*pair) for pair in pairs]
    return {
        figures.MOUTH: correlated(figures.mouth_opening),
        "eyes' opening follows the person, correlation": correlated(figures.eye_opening),
        "turn of the head follows the person, correlation": correlated(figures.yaw),
        figures.EDGES: figures.mean([figures.edges_kept(a, b) for a, b, _ in pairs]),
        figures.SKIN: follow(ordered, figures.cheek_lightness),
        figures.EYE: follow(figures.growth, lambda _, points: figures.eye_height(points)),
        figures.SHARP: float(np.median(sharp)),
    }


def distances(subject: Subject, people: People, drawn: Drawn) -> dict[str, float]:
    """To the real exemplars, the photographs' own being 1."""
    if not subject.reals:
        return {}
    ours = sketch(list(drawn.pictures.reshape(-1, *drawn.pictures.shape[2:])))
    scale = distance(people.sketch, subject.sketch)
    own = []
    for exemplar, pictures in zip(subject.exemplars, drawn.pictures, strict=True):
        theirs = sketch([exemplar.shown], OWN_PATCHES)
        photographed = distance(people.sketch, theirs)
        own.append(distance(sketch(list(pictures), OWN_PATCHES), theirs) / photographed)
    halves = [sketch(subject.reals[start::2]) for start in (0, 1)]
    toned = toned_distance(ours, subject.sketch) / toned_distance(people.sketch, subject.sketch)
    return {
        figures.STYLE: distance(ours, subject.sketch) / scale,
        "  with light, contrast and color": toned,
        "  of one half of them to the other": distance(*halves) / scale,
        figures.OWN: float(np.mean(own)),
    }


def slide(subject: Subject, people: People, drawn: Drawn) -> dict[str, float]:
    """Each person after one exemplar, the exemplars in turn, at degrees between 0 and 1."""
    count, far, toned = len(subject.exemplars), [], []
    for degree in DEGREES:
        pictures = np.stack(people.crops)
        for number, exemplar in enumerate(subject.exemplars):
            theirs = slice(number, None, count)
            if degree == 1.0:
                pictures[theirs] = drawn.pictures[number, theirs]
            elif people.crops[theirs]:
                pictures[theirs] = subject.painter.draw(people.crops[theirs], exemplar, degree)
        if degree == 0.0:
            pairs = zip(people.crops, pictures, strict=True)
            kept = figures.mean([figures.decibels(a, b) for a, b in pairs])
        if subject.reals:
            ours = sketch(list(pictures))
            far.append(distance(ours, subject.sketch))
            toned.append(toned_distance(ours, subject.sketch))
    steps = {
        f"  at {degree:g}": value / far[0] for degree, value in zip(DEGREES, far, strict=bool(far))
    }
    if far:
        by_light = "  with light, contrast and color: steps at which it does not fall"
        steps = {figures.SLIDER: figures.rises(far), by_light: figures.rises(toned), **steps}
    return {figures.ZERO: kept, **steps}


def shake(
    subject: Subject,
    clips: dict[Path, list[tuple[Frame, Face]]],
    size_px: int,
    pretrained: Path | None,
) -> dict[str, float]:
    """Flicker of the worst of the clips, after the first exemplar: of what `dsg stylize` makes, or
    of aligned crops alone for a translator that is in no store."""
    exemplar, found = subject.exemplars[0], []
    for clip, seen in clips.items():
        if subject.command:
            style = f"{subject.command}:{exemplar.name}"
            found.append(quality_video.of_command(clip, seen, style, pretrained))
        else:
            found.append(quality_video.of_crops(seen, subject.painter, exemplar, size_px))
    return {name: max(one[name] for one in found) for name in found[0]} if found else {}


def sheet_of(subject: Subject, people: People, drawn: Drawn) -> Pixels:
    """Exemplars on top; a row a person, the photograph first."""
    blank = np.full_like(people.crops[0], 255)
    rows = [[blank, *(exemplar.shown for exemplar in subject.exemplars)]]
    rows += [
        [people.crops[number], *drawn.pictures[:, number]]
        for number in spread_numbers(len(people.crops), SHOWN)
    ]
    return make_sheet([cell for row in rows for cell in row], columns=len(rows[0]))


def spread_numbers(length: int, count: int) -> list[int]:
    """At most `count` places of a row, at equal distances."""
    numbers: list[int] = np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()
    return numbers


# ── all of them ──────────────────────────────────────────────────────────────────────────────────


def subjects(options: argparse.Namespace, store: ModelStore) -> Iterator[Subject]:
    """The styles of a translator's file, what stands for pictures nobody trained on, and the styles
    of the store."""
    data, count = options.styles_data, options.count
    if options.translator:
        painter = TranslatorPainter(open_translator(options.translator), {})
        folders = {name: pictures_of([data / "styles" / name]) for name in styles_of(data)}
        if (data / PAINTED).is_dir():
            folders |= dict(zip(GENERAL, split(data, PAINTED, HELD_OUT_SHARE), strict=True))
        for name, paths in folders.items():
            if wanted(name, options):
                exemplars = read_exemplars(spread(paths, count), options.size_px)
                reals = read_exemplars(spread(paths, REALS), options.size_px)
                yield Subject(name, painter, tuple(exemplars), tuple(e.shown for e in reals))
    for name in options.style or ():
        painter, style = open_painter(store, name)
        chosen = [style.names[i] for i in spread_numbers(len(style.names), count)]
        folder = data / "styles" / style.name
        exemplars = named_exemplars(folder, chosen, options.size_px)
        paths = pictures_of([folder]) if folder.is_dir() else []
        if paths and isinstance(painter, TranslatorPainter) and exemplars[0].pixels is None:
            pictures = read_exemplars(paths, options.size_px)
            exemplars = find_by_codes(painter, chosen, pictures)
        reals: tuple[Pixels, ...] = ()
        if all(exemplar.pixels is not None for exemplar in exemplars):
            shown = read_exemplars(spread(paths, REALS), options.size_px)
            reals = tuple(exemplar.shown for exemplar in shown)
        yield Subject(name, painter, tuple(exemplars), reals, command=name)


def styles_of(data: Path) -> list[str]:
    """Folders of styles, those of the default model first."""
    folders = [path.name for path in sorted((data / "styles").iterdir()) if path.is_dir()]
    known = [name for name in STYLES if name in folders]
    return [*known, *(name for name in folders if name not in known)]


def wanted(name: str, options: argparse.Namespace) -> bool:
    return not options.only or name in options.only


def people_of(options: argparse.Namespace, store: ModelStore, find: Find) -> list[People]:
    """Those of --photos, and those held out."""
    paths = {"": spread(pictures_of(options.photos), options.people)}
    if not options.no_held_out and (options.styles_data / PHOTOS).is_dir():
        _, held_out = split(options.styles_data, PHOTOS, HELD_OUT_SHARE)
        paths["held out"] = spread(held_out, options.people)
    return [
        People(name, tuple(read_photographs(chosen, options.size_px, store, find)))
        for name, chosen in paths.items()
        if chosen
    ]


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures by column: `toon`, `toon, held out`."""
    store = ModelStore.open(options.pretrained)
    report: dict[str, dict[str, float]] = {}
    with open_detector(task_file=store.face_landmarker()) as detector:
        find = finder(detector)
        everyone = people_of(options, store, find)
        clips = {
            clip: quality_video.follow(quality_video.read_clip(clip), detector)
            for clip in (options.clips if options.video else ())
        }
        for subject in subjects(options, store):
            for people in everyone[:1] if subject.name in GENERAL else everyone:
                column = f"{subject.name}, {people.name}".rstrip(", ")
                drawn = draw(subject, people, find)
                report[column] = judge(subject, people, drawn)
                if not people.name:
                    report[column] |= shake(subject, clips, options.size_px, options.pretrained)
                if options.output:
                    write_image(
                        options.output / f"{re.sub('[^a-z0-9]+', '-', column.lower())}.jpg",
                        sheet_of(subject, people, drawn),
                        overwrite=True,
                    )
                    write_report(options, report)
    trained, unseen = (report.get(name, {}) for name in GENERAL)
    if trained and unseen:
        unseen[figures.UNSEEN] = unseen[figures.OWN] / trained[figures.OWN]
    return report


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--translator", type=Path, help="a translator, or a checkpoint of its training")
    add("--style", action="append", help="a style of the store; may be given several times")
    add("--pretrained", type=Path, help="folder of models")
    add("--photos", type=Path, nargs="+", default=[Path("../shared/media/photos")])
    add("--styles-data", type=Path, default=Path("../shared/data"), help="training data")
    add("--only", action="append", help="of the translator's columns: toon, painted, unseen ...")
    add("--count", type=int, default=8, help="exemplars of each style")
    add("--people", type=int, default=12, help="at most, of each of the two sets")
    add("--size-px", type=int, default=256, help="side of the crops, a multiple of 32")
    add("--no-held-out", action="store_true", help="the people of --photos alone")
    add("--video", action="store_true", help="measure flicker too")
    add("--clips", type=Path, nargs="+", default=[CLIPS / name for name in CLIP_NAMES])
    add("--output", type=Path, help="folder for quality.md, quality.json and sheets")
    options = parser.parse_args()
    if not options.translator and not options.style:
        parser.error("name a --translator, or a --style of the store")
    return options


def write_report(options: argparse.Namespace, report: dict[str, dict[str, float]]) -> str:
    """The table; into --output, too."""
    title = step_of(options.translator) if options.translator else ", ".join(options.style)
    text = f"{title}\n\n{figures.table(report)}\n"
    if options.output:
        (options.output / "quality.md").write_text(f"# Quality of {text}", "utf-8")
        known = {
            name: {key.strip(): value if math.isfinite(value) else None for key, value in f.items()}
            for name, f in report.items()
        }
        (options.output / "quality.json").write_text(json.dumps(known, indent=1), "utf-8")
    return text


def main() -> None:
    options, started = parse(), time.process_time()
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
    print(write_report(options, measure(options)))
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
