"""Draws several lines as a stand-alone SVG with a logarithmic vertical axis. Imports no torch."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dfw.report.curves import number

WIDTH, HEIGHT = 720.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 190.0, 44.0, 48.0  # margins of the plot area; the right one holds the legend
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""


@dataclass(frozen=True)
class Line:
    """One line of the chart."""

    name: str
    """Name in the legend."""
    values: Sequence[float]
    """One value for each x. Values that are not finite and above 0 are left out."""


def log_plot(title: str, x_label: str, y_label: str, x: Sequence[float], lines: Sequence[Line]) -> str:
    """Returns the chart as SVG text. `x` ascends. Raises ValueError if there is nothing to show, or more lines than colours."""
    shown = [value for line in lines for value in line.values if math.isfinite(value) and value > 0]
    if not shown or len(lines) > len(COLOURS):
        raise ValueError(f"nothing to plot, or more than {len(COLOURS)} lines")
    low, high = math.floor(math.log10(min(shown)) + 1e-9), math.ceil(math.log10(max(shown)) - 1e-9)
    high = max(high, low + 1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    span = (x[-1] - x[0]) or 1.0

    def across(value: float) -> float:
        return round(LEFT + (value - x[0]) / span * (right - LEFT), 1)

    def down(value: float) -> float:
        return round(bottom - (math.log10(value) - low) / (high - low) * (bottom - TOP), 1)

    parts = [
        _text(LEFT, 24, title, "start", 15),
        _text((LEFT + right) / 2, HEIGHT - 10, x_label),
        _sideways(y_label, (TOP + bottom) / 2),
    ]
    for power in range(low, high + 1):
        at = down(10.0**power)
        parts.append(f'<path d="M{LEFT:g} {at:g}H{right:g}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, at + 4, number(10.0**power), "end"))
    for step in range(6):
        value = x[0] + span * step / 5
        parts.append(_text(across(value), bottom + 18, number(round(value, 3))))
    for row, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        points = [(across(a), down(b)) for a, b in zip(x, line.values, strict=True) if math.isfinite(b) and b > 0]
        path = " ".join(f"{a:g},{b:g}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = TOP + 14 + 20 * row
        parts.append(f'<path d="M{right + 12:g} {at - 4:g}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(right + 36, at, line.name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{html.escape(title)}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="#222">{html.escape(words)}</text>'


def _sideways(words: str, y: float) -> str:
    return f'<text transform="translate(16 {y:g}) rotate(-90)" text-anchor="middle" fill="#222">{html.escape(words)}</text>'
