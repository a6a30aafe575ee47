"""Line charts as small PNG files, with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

Line = Sequence[tuple[float, float]]
COLORS = ("#1f6f8b", "#c0532f", "#5b8c3a", "#7a5195")
WIDTH, HEIGHT, MARGIN, TOP = 420, 260, 48, 44


def draw_chart(path: Path, panels: Mapping[str, Mapping[str, Line]]) -> None:
    """Panels side by side; both axes begin at 0, and x stands at the values there are."""
    image = Image.new("RGB", (WIDTH * len(panels), HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for number, (title, lines) in enumerate(panels.items()):
        _panel(draw, number * WIDTH, title, lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(32).save(path, optimize=True)


def _panel(draw: ImageDraw.ImageDraw, left: int, title: str, lines: Mapping[str, Line]) -> None:
    points = [point for line in lines.values() for point in line]
    widest, highest = max(x for x, _ in points), 1.1 * max(y for _, y in points)

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = x / widest, y / highest
        return (
            left + MARGIN + across * (WIDTH - MARGIN - 20),
            HEIGHT - 28 - up * (HEIGHT - TOP - 28),
        )

    draw.text((left + MARGIN, 6), title, fill="black")
    draw.line([at(0, highest), at(0, 0), at(widest, 0)], fill="#888888")
    for x in sorted({x for x, _ in points}):
        draw.text(at(x, 0), f"{x:g}", fill="black", anchor="ma")
    for tick in range(1, 5):
        x, y = at(0, highest * tick / 5)
        draw.text((x - 4, y), f"{highest * tick / 5:.2g}", fill="black", anchor="rm")
        draw.line([(x, y), (at(widest, 0)[0], y)], fill="#e6e6e6")
    for index, ((name, line), color) in enumerate(zip(lines.items(), COLORS, strict=False)):
        places = [at(x, y) for x, y in line]
        draw.line(places, fill=color, width=2)
        for x, y in places:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)
        draw.text((left + MARGIN + 130 * index, 24), name, fill=color)
