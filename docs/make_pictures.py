"""Draw the pictures of the pages with the default model:  python docs/make_pictures.py

The people are the two of benchmarks/real_people.py, in the public domain, and random ones of the
model's base. Each picture goes to docs/media, and its place in the pages, a comment until then (see
site_hooks.py), becomes a picture. What cannot be drawn is listed, and its place stays a comment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from dsgcli import DsgError, ModelStore, Stylizer, load_pipeline, sample
from dsgcli.faces.align import cut, face_transform
from dsgcli.faces.detect import open_detector
from dsgcli.generate.gallery import ShowOptions, plan_gallery
from dsgcli.media.images import read_image, write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.pipeline import TranslatorPipeline
from dsgcli.portraits import Look, pick_weights, to_pixels
from dsgcli.types import StyleRef

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PLACE = re.compile(r"^<!-- picture: (\S+) \| (.+?) -->$", re.MULTILINE)
DRAWN = re.compile(r"^!\[.+?\]\((\S*media/\w+\.webp)\)$", re.MULTILINE)
"""A place that has become a picture, which is drawn again."""
QUALITY = 84
CROP_PX = 256
PEOPLE = (26, 33, 32)
"""Seeds of the base's people on the sheets."""
TRUNCATION = 0.9
STYLES = ("toon", "comic", "noir", "neon")
EXEMPLARS = (0, 1, 2, 3, 4)
"""Which of a style's exemplars are on its sheet."""
DUAL = "neon-dual"
"""The style that is a DualStyleGAN."""


def installed() -> list[Path]:
    """Photographs of the real people, where they are installed."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from real_people import photographs

    return photographs()


class Painter:
    """Draws one picture after another; what several of them need is made once."""

    def __init__(self) -> None:
        self.store = ModelStore.open()
        self.translator = load_pipeline(self.store, "default")
        assert isinstance(self.translator, TranslatorPipeline), "the default model is a translator"

    # ── people ───────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def photos(self) -> list[Any]:
        """The real people's photographs, whole."""
        found = installed()
        if len(found) < 2:
            print("scikit-image is not installed, so one person is missing", file=sys.stderr)
        return [read_image(path).pixels for path in found]

    @cached_property
    def crops(self) -> list[Any]:
        """The same, aligned."""
        detector, found = open_detector(task_file=self.store.face_landmarker()), []
        for path in installed():
            frame = read_image(path)
            face = max(detector.detect(frame), key=lambda f: f.height_px)
            found.append(cut(frame.pixels, face_transform(face, CROP_PX)))
        return found

    @cached_property
    def invented(self) -> list[Any]:
        """People of the base."""
        seeds = ",".join(map(str, PEOPLE))
        return list(sample("default", seeds=seeds, plain=True, truncation=TRUNCATION))

    @property
    def everybody(self) -> list[Any]:
        return [*self.crops, *self.invented]

    # ── drawing ──────────────────────────────────────────────────────────────────────────────────

    def look(self, style: str, **choices: Any) -> Look:
        layout = self.translator.layout
        weights = pick_weights(layout, usual=self.translator.usual_weight, **choices)
        return Look(exstyle=self.store.resolve(StyleRef.parse(style)).exstyle, weights=weights)

    def draw(self, crops: Sequence[Any], look: Look) -> list[Any]:
        codes = self.translator.encode(crops)
        return list(self.translator.draw_crops(crops, codes, look, CROP_PX))

    def whole(self, photo: Any, style: str, **choices: Any) -> Any:
        """A photograph as `dsg stylize` draws it."""
        with Stylizer(style, faces="largest", **choices) as draw:
            return draw(photo)

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────

    def overview(self) -> Any:
        """The photographs, and the same in each style, as `dsg stylize` writes them."""
        rows = []
        for photo in self.photos:
            drawn = [self.whole(photo, style) for style in STYLES]
            rows += [framed(picture) for picture in (photo, *drawn)]
        labels = ["photograph", *STYLES] * len(self.photos)
        return make_sheet(rows, columns=1 + len(STYLES), labels=labels, cell_px=300)

    def words(self) -> Any:
        """The words of the command line: an exemplar, and what is taken of it."""
        name = "toon:3"
        gallery = plan_gallery(ShowOptions(name=name))
        exemplar = next(gallery.renderer.images([gallery.scenes[0][1]]))
        photo = self.photos[0]
        weights = {"its structure alone": (1, 0), "its color alone": (0, 1), "both": (1, 1)}
        drawn = [
            closer(self.whole(photo, name, structure=structure, color=color, grade=color > 0))
            for structure, color in weights.values()
        ]
        return make_sheet(
            [closer(photo), to_pixels(exemplar[None])[0], *drawn],
            columns=5,
            labels=["a photograph", f"the exemplar {name}", *weights],
            cell_px=300,
        )

    def sheet(self, style: str) -> Any:
        """A row a person: as they are, then in each of a few exemplars of a style."""
        names = [f"{style}:{number}" for number in EXEMPLARS]
        columns = [self.everybody, *(self.draw(self.everybody, self.look(name)) for name in names)]
        return by_row(columns, ["before", *names])

    def weights(self) -> Any:
        """Structure to the right, color downwards."""
        steps = (0.0, 0.25, 0.5, 0.75, 1.0)
        drawn = [
            self.draw(self.crops[-1:], self.look("toon:0", structure=s, color=c))[0]
            for c in steps
            for s in steps
        ]
        return make_sheet(
            drawn,
            columns=len(steps),
            labels=[f"structure {s:g}" for _ in steps for s in steps],
            row_labels=[f"color {c:g}" for c in steps],
            cell_px=200,
        )

    def colors(self) -> Any:
        kinds: dict[str, dict[str, Any]] = {
            "as the exemplar": {},
            "--color 0.5": {"color": 0.5},
            "--color 0": {"color": 0.0},
            "--match-color 1": {"match_color": 1.0},
        }
        drawn = [closer(self.whole(self.photos[0], "neon", **k)) for k in kinds.values()]
        return make_sheet(drawn, columns=len(kinds), labels=list(kinds), cell_px=320)

    def masks(self) -> Any:
        kinds = ("face", "head", "person", "feather")
        drawn = [self.whole(self.photos[0], "neon", mask=kind, grade=False) for kind in kinds]
        return make_sheet(list(map(closer, drawn)), columns=len(kinds), labels=kinds, cell_px=320)

    def grade(self) -> Any:
        """The rest of the frame in the light of the drawing, and as it was."""
        kinds = {"--no-grade": False, "--grade": True}
        drawn = [
            framed(self.whole(p, "noir", grade=g)) for p in self.photos for g in kinds.values()
        ]
        return make_sheet(drawn, columns=4, labels=list(kinds) * len(self.photos), cell_px=320)

    def truncation(self) -> Any:
        """Only a DualStyleGAN has it."""
        steps = (0.5, 0.75, 1.0)
        drawn = [self.whole(self.crops[-1], DUAL, truncation=s, aligned="yes") for s in steps]
        labels = [f"--truncation {step:g}" for step in steps]
        return make_sheet(drawn, columns=len(steps), labels=labels)

    def refine(self) -> Any:
        """Only a DualStyleGAN has it."""
        steps = (0, 100)
        drawn = [self.whole(self.crops[-1], DUAL, refine=n, aligned="yes") for n in steps]
        labels = ["photograph", *(f"--refine {n}" for n in steps)]
        return make_sheet([self.crops[-1], *drawn], columns=3, labels=labels)

    def samples(self) -> Any:
        """Random people, and below in random looks of each style."""
        count = 8
        rows = [list(sample("default", n=count, plain=True, truncation=TRUNCATION))]
        for style in STYLES:
            drawn = sample(style, n=count, style_random=True, truncation=TRUNCATION)
            rows.append(list(drawn))
        pictures = [picture for row in rows for picture in row]
        return make_sheet(pictures, columns=count, row_labels=["plain", *STYLES], cell_px=160)

    def dual(self) -> Any:
        """A row a person: as they are, drawn by the translator, and by the DualStyleGAN. Both take
        the same exemplar: the translator sees a portrait that the DualStyleGAN draws in it."""
        columns, labels = [self.everybody], ["before"]
        weights = pick_weights(self.translator.layout, usual=self.translator.usual_weight)
        for number in (0, 1):
            with Stylizer(f"{DUAL}:{number}", aligned="yes") as draw:
                theirs = [draw(crop) for crop in self.everybody]
            exemplar = theirs[len(self.crops)]  # the first of the base's people
            code = self.translator.encode_style([exemplar])[0].cpu()
            columns += [self.draw(self.everybody, Look(exstyle=code, weights=weights)), theirs]
            labels += [f"translator, {number}", f"{DUAL}:{number}"]
        return by_row(columns, labels)


def framed(picture: Any) -> Any:
    """Head and shoulders of a photograph: its upper part, five by six."""
    height, width = picture.shape[:2]
    if height > width:
        return picture
    side = round(0.62 * width)  # the face is small, and left of the middle
    left = round(0.44 * width - side / 2)
    return picture[: min(height, round(side * 1.17)), left : left + side]


def closer(picture: Any) -> Any:
    """The head and what is around it, of a portrait that is higher than wide."""
    side = round(0.62 * len(picture))
    left = max(0, (picture.shape[1] - side) // 2)
    return picture[:side, left : left + side]


def by_row(columns: Sequence[Sequence[Any]], labels: Sequence[str]) -> Any:
    """Columns of people as a sheet with a row a person; labels under the last row would be far from
    most, so every row has them."""
    rows = len(columns[0])
    pictures = [column[row] for row in range(rows) for column in columns]
    return make_sheet(pictures, columns=len(columns), labels=[*labels] * rows, cell_px=224)


# ── the pages ────────────────────────────────────────────────────────────────────────────────────


def places() -> Iterator[tuple[Path, str]]:
    """Pages with the files that they have a place for."""
    for page in PAGES:
        text = page.read_text("utf-8")
        yield from ((page, target) for target, _ in PLACE.findall(text))
        yield from ((page, target) for target in DRAWN.findall(text))


def show(page: Path) -> None:
    """Turn the places of pictures that are there into pictures."""

    def shown(place: re.Match[str]) -> str:
        target, words = place.groups()
        return f"![{words}]({target})" if (page.parent / target).is_file() else place[0]

    page.write_text(PLACE.sub(shown, page.read_text("utf-8")), "utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names such as weights; all, if not given")
    arguments = parser.parse_args()
    painter = Painter()
    for path in sorted({(page.parent / target).resolve() for page, target in places()}):
        if arguments.only and path.stem not in arguments.only:
            continue
        try:
            named = path.stem in STYLES
            picture = painter.sheet(path.stem) if named else getattr(painter, path.stem)()
            path.parent.mkdir(exist_ok=True)
            write_image(path, picture, quality=QUALITY, overwrite=True)
            with Image.open(path) as image:
                size = f"{image.width} x {image.height}"
            print(f"{path.relative_to(ROOT)}: {size}, {path.stat().st_size // 1000} kB", flush=True)
        except DsgError as error:
            print(f"{path.name} is not drawn: {error}", file=sys.stderr)
    for page in PAGES:
        show(page)


if __name__ == "__main__":
    main()
