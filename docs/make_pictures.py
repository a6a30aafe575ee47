"""Draw the pictures of the pages with the default model:  python docs/make_pictures.py

The person is one that the model draws itself (`dsg sample --plain`), so nobody has to be asked.
Each picture goes to docs/media, and its place in the pages, a comment until then (see
site_hooks.py), becomes a picture. What cannot be drawn is said, and its place stays a comment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from dsgcli import DsgError, ModelStore, Stylizer, sample
from dsgcli.media.images import write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.portraits import pick_weights

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PLACE = re.compile(r"^<!-- picture: (\S+) \| (.+?) -->$", re.MULTILINE)
DRAWN = re.compile(r"^!\[.+?\]\((\S*media/\w+\.webp)\)$", re.MULTILINE)
"""A place that has become a picture, which is drawn again."""
MARGIN = 0.35
"""Ground around a face, in its sides, to make a photograph of a crop."""
QUALITY = 85
PEOPLE = (29, 26, 12, 34, 9)
"""Seeds of the people on the sheets of the model's styles."""
STYLES = ("doll", "grit", "neon", "noir")
"""Pictures that are a style's sheet."""
EXEMPLARS = (0, 28, 56, 84, 112)
"""Which of a style's exemplars are on its sheet."""


class Painter:
    """Draws one picture after another of one person, mostly in one style."""

    def __init__(self, style: str, seed: int) -> None:
        self.style = style
        self.face = sample(style, seeds=str(seed), plain=True, truncation=0.9)[0]
        with Stylizer(style) as stylizer:
            self.portraits, self.look = stylizer.portraits, stylizer.look
        self.code = self.portraits.encode([self.face])

    def overview(self) -> Any:
        """The person, and the same in each style of the same set."""
        store = ModelStore.open()
        home = store.info(self.style).set_name
        names = [style.name for style in store.styles() if style.set_name == home]
        drawn = [self._in_photograph(name, crop=True) for name in names]
        return make_sheet([self.face, *drawn], columns=1 + len(names), labels=["", *names])

    def weights(self) -> Any:
        """Structure to the right, color downwards."""
        steps = (0.0, 0.25, 0.5, 0.75, 1.0)
        layout = self.portraits.layout
        weights = [pick_weights(layout, structure=s, color=c) for c in steps for s in steps]
        return make_sheet(
            [self._with(weights=w) for w in weights],
            columns=len(steps),
            labels=[f"structure {s:g}" for _ in steps for s in steps],
            row_labels=[f"color {c:g}" for c in steps],
        )

    def truncation(self) -> Any:
        steps = (0.25, 0.5, 0.75, 1.0)
        drawn = [self._with(truncation=step) for step in steps]
        return make_sheet(drawn, columns=len(steps), labels=[f"{step:g}" for step in steps])

    def colors(self) -> Any:
        kinds: dict[str, dict[str, Any]] = {
            "as the exemplar": {},
            "--preserve-color": {"preserve_color": True},
            "--color 0": {"color": 0.0},
            "--match-color 1": {"match_color": 1.0},
        }
        drawn = [self._in_photograph(**choices) for choices in kinds.values()]
        return make_sheet(drawn, columns=len(kinds), labels=list(kinds))

    def masks(self) -> Any:
        kinds = ("face", "head", "person", "feather")
        drawn = [self._in_photograph(mask=kind) for kind in kinds]
        return make_sheet(drawn, columns=len(kinds), labels=kinds)

    def refine(self) -> Any:
        drawn = [self._in_photograph(crop=True, refine=steps) for steps in (0, 100)]
        labels = ("photograph", "--refine 0", "--refine 100")
        return make_sheet([self.face, *drawn], columns=3, labels=labels)

    def samples(self) -> Any:
        """Random people, and random people in random styles of the model's first style."""
        people = sample(self.style, seeds="0-11", plain=True, truncation=0.9)
        styled = sample(self.style, seeds="0-11", style_random=True, truncation=0.9)
        return make_sheet([*people, *styled], columns=6)

    def sheet(self, style: str) -> Any:
        """A row a person: plain, then in each of a few exemplars of a style."""
        seeds = ",".join(str(seed) for seed in PEOPLE)
        faces = sample(self.style, seeds=seeds, plain=True, truncation=0.9)
        codes = self.portraits.encode(list(faces))
        columns = [self.portraits.draw_plain(codes)]
        for number in EXEMPLARS:
            with Stylizer(f"{style}:{number}") as stylizer:
                columns.append(stylizer.portraits.draw(codes, stylizer.look))
        pictures = [column[row] for row in range(len(PEOPLE)) for column in columns]
        labels = ["plain", *(f"{style}:{number}" for number in EXEMPLARS)]
        return make_sheet(pictures, columns=len(columns), labels=labels * len(PEOPLE))

    def _with(self, **changes: Any) -> Any:
        """The face in another look."""
        return self.portraits.draw(self.code, replace(self.look, **changes))[0]

    def _in_photograph(self, style: str = "", **choices: Any) -> Any:
        """The face as `dsg stylize` finds it in a larger picture, draws it, and puts it back."""
        around = round(MARGIN * len(self.face))
        photograph = np.pad(self.face, ((around, around), (around, around), (0, 0)), mode="edge")
        wall = Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(around / 3))
        photograph[:] = np.asarray(wall)
        photograph[around:-around, around:-around] = self.face
        with Stylizer(style or self.style, aligned="no", faces="largest", **choices) as draw:
            return draw(photograph)


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
    parser.add_argument("--style", default="default")
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--only", nargs="*", help="names such as weights; all, if not given")
    arguments = parser.parse_args()
    painter = Painter(arguments.style, arguments.seed)
    for path in sorted({(page.parent / target).resolve() for page, target in places()}):
        if arguments.only and path.stem not in arguments.only:
            continue
        named = path.stem in STYLES
        draw: Callable[[], Any] = (
            partial(painter.sheet, path.stem) if named else getattr(painter, path.stem)
        )
        try:
            path.parent.mkdir(exist_ok=True)
            write_image(path, draw(), quality=QUALITY, overwrite=True)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")
        except DsgError as error:
            print(f"{path.name} is not drawn: {error}", file=sys.stderr)
    for page in PAGES:
        show(page)


if __name__ == "__main__":
    main()
