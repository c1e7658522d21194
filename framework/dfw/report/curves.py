"""Draws curves as inline SVG: axes, ticks, a raw and a smoothed line, and numbers for the read-out. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfw.report.data import Series, series
from dfw.report.names import GROUPS, group_of, meaning_of

WIDTH, HEIGHT = 360.0, 194.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 10.0, 10.0, 38.0  # margins of the plot area: numbers and axis titles stand left and below
POINTS = 400  # a longer series is thinned to about this many points: the plot is 284 units wide
SMOOTH = 25  # the smoothed line averages over 1 / SMOOTH of the series to each side


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    """Position in the SVG's units."""
    label: str
    """Text of the mark."""


@dataclass(frozen=True)
class Curve:
    """A chart, ready for the template."""

    title: str
    """What is shown."""
    axis: str
    """Title of the vertical axis: the unit, or what is counted."""
    note: str
    """What the quantity means, in a sentence; may be empty."""
    summary: str
    """One sentence for screen readers."""
    raw: str
    """SVG path data of the values."""
    smooth: str
    """SVG path data of the smoothed values; empty for a short series."""
    x_ticks: list[Tick]
    """Marks of the steps."""
    y_ticks: list[Tick]
    """Marks of the values."""
    points: str
    """JSON [[x, y, step, value], ...], x and y in the SVG's units."""
    gap: str
    """Says where the first value is not finite; else empty."""


@dataclass(frozen=True)
class Group:
    """Charts that belong together."""

    title: str
    """Heading."""
    charts: list[Curve]
    """What changed during the run."""
    constants: list[tuple[str, str]]
    """Title and value of what had one value in every step."""


def chart_groups(rows: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Returns the charts of all numbers in `rows`, the losses first. Quantities without a finite value are left out."""
    groups: dict[str, Group] = {title: Group(title, [], []) for title in GROUPS}
    for one in series(rows):
        group = groups[group_of(one.name)]
        if len(one.values) > 1 and one.values.count(one.values[0]) == len(one.values):
            group.constants.append((meaning_of(one.name).title, number(one.values[0])))
        elif (chart := curve(one)) is not None:
            group.charts.append(chart)
    return [group for group in groups.values() if group.charts or group.constants]


def curve(data: Series) -> Curve | None:
    """Returns the chart of `data`, or None if no value is finite."""
    finite = [value for value in data.values if math.isfinite(value)]
    if not finite:
        return None
    meaning = meaning_of(data.name)
    low, high, ticks = _nice_range(min(finite), max(finite))
    first, last = data.steps[0], max(data.steps[-1], data.steps[0] + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        return round(x, 2), round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 2)

    thin = _thin(data)
    points = [
        (*place(step, value), step, value) for step, value in zip(thin.steps, thin.values, strict=True) if math.isfinite(value)
    ]
    bad = next((step for step, value in zip(data.steps, data.values, strict=True) if not math.isfinite(value)), None)
    return Curve(
        title=meaning.title,
        axis=meaning.axis,
        note=meaning.note,
        summary=f"{meaning.title}: first {number(finite[0])}, last {number(finite[-1])}, "
        f"smallest {number(min(finite))}, largest {number(max(finite))}",
        raw=_path(thin.steps, thin.values, place),
        smooth=_path(thin.steps, _smoothed(thin.values), place) if len(thin.values) >= 6 else "",
        x_ticks=[Tick(place(step, low)[0], number(step)) for step in _steps(first, last)],
        y_ticks=[Tick(place(first, value)[1], number(value)) for value in ticks],
        points=json.dumps([[x, y, step, float(f"{value:.5g}")] for x, y, step, value in points], separators=(",", ":")),
        gap="" if bad is None else f"not a number from step {bad:g} on",
    )


def number(value: float) -> str:
    """Formats a number with 4 significant digits, no exponent for everyday sizes, and a true minus sign."""
    if value == 0:
        return "0"
    text = f"{value:.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.2e}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text.replace("-", "\u2212")


def _nice_range(low: float, high: float) -> tuple[float, float, list[float]]:
    """Returns bounds around [low, high] that are multiples of a round step, and the three to seven multiples between."""
    if high == low:
        margin = abs(high) / 2 or 1.0
        low, high = low - margin, high + margin
    span = high - low
    rough = span / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return first * step, last * step, [index * step for index in range(first, last + 1)]


def _steps(first: float, last: float) -> list[float]:
    _, _, ticks = _nice_range(first, last)
    return [tick for tick in ticks if first <= tick <= last and tick == int(tick)]


def _thin(data: Series) -> Series:
    stride = max(1, len(data.values) // POINTS)
    keep = list(range(0, len(data.values), stride))
    if keep[-1] != len(data.values) - 1:
        keep.append(len(data.values) - 1)
    return Series(data.name, [data.steps[i] for i in keep], [data.values[i] for i in keep])


def _smoothed(values: list[float]) -> list[float]:
    """Returns the centred moving average over the finite values, over fewer at the ends. NaN stays NaN."""
    reach = max(1, len(values) // SMOOTH)
    result = []
    for index, value in enumerate(values):
        side = min(reach, index, len(values) - 1 - index)
        near = [one for one in values[index - side : index + side + 1] if math.isfinite(one)]
        result.append(sum(near) / len(near) if math.isfinite(value) else math.nan)
    return result


def _path(steps: list[float], values: list[float], place: Callable[[float, float], tuple[float, float]]) -> str:
    """Returns SVG path data through the finite points. A non-finite value leaves a gap."""
    words, pen_down = [], False
    for step, value in zip(steps, values, strict=True):
        if math.isfinite(value):
            x, y = place(step, value)
            words.append(f"{'L' if pen_down else 'M'}{x:g} {y:g}")
        pen_down = math.isfinite(value)
    return "".join(words)
