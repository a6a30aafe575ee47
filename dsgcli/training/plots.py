"""Curves as inline SVG: small, sharp, and in a page that needs nothing else.

Flow: {name: [(step, value), ...]} -> one <svg> with a legend.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

Curve = Sequence[tuple[float, float]]
"""(step, value), steps rising."""

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 10, 24
COLORS = ("#2563eb", "#dc2626", "#16a34a", "#9333ea", "#d97706", "#0891b2", "#be185d", "#4d7c0f")
MOST_POINTS = 400
"""Points a curve is drawn with; each is the mean of those it stands for."""


def thinned(curve: Curve, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most so many points: means of equal runs of finite ones."""
    finite = [(x, y) for x, y in curve if math.isfinite(y)]
    size = max(1, math.ceil(len(finite) / most))
    runs = [finite[i : i + size] for i in range(0, len(finite), size)]
    return [(sum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]


def plot(title: str, curves: Mapping[str, Curve]) -> str:
    """One <figure>; empty if there is nothing to draw."""
    drawn = {name: thinned(curve) for name, curve in curves.items()}
    drawn = {name: curve for name, curve in drawn.items() if curve}
    if not drawn:
        return ""
    xs = [x for curve in drawn.values() for x, _ in curve]
    ys = [y for curve in drawn.values() for _, y in curve]
    frame = _Frame(min(xs), max(xs), *_robust_range(ys))
    parts = [frame.axes()]
    legend = []
    for color, (name, curve) in zip(_cycle(len(drawn)), drawn.items(), strict=True):
        parts.append(frame.line(curve, color))
        legend.append(f'<span style="color:{color}">{html.escape(name)}</span>')
    return (
        f"<figure class=plot><figcaption>{html.escape(title)}: {' '.join(legend)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _cycle(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _robust_range(values: Sequence[float]) -> tuple[float, float]:
    """From the 1st to the 99th percentile: one spike must not flatten the rest."""
    ordered = sorted(values)
    low = ordered[int(0.01 * (len(ordered) - 1))]
    high = ordered[math.ceil(0.99 * (len(ordered) - 1))]
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


class _Frame:
    """Data coordinates to picture coordinates."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self.x_low, self.x_high = x_low, max(x_high, x_low + 1e-9)
        self.y_low, self.y_high = y_low, y_high

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)

    def line(self, curve: Curve, color: str) -> str:
        if len(curve) == 1:
            x, y = curve[0]
            return f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="2" fill="{color}"/>'
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in curve)
        return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.3"/>'

    def axes(self) -> str:
        bottom = HEIGHT - BOTTOM
        lines = [f'<path d="M{LEFT},{TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#999"/>']
        for value in ticks(self.y_low, self.y_high):
            y = self.y(value)
            rule = f'<path d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}" stroke="#eee"/>'
            lines.append(rule + _text(LEFT - 4, y + 4, f"{value:g}", "end"))
        lines.extend(
            _text(self.x(value), HEIGHT - 6, f"{value:g}", "middle")
            for value in ticks(self.x_low, self.x_high)
        )
        return "".join(lines)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about so many."""
    raw = (high - low) / about
    if raw <= 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step)
    count = math.floor(high / step) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]
