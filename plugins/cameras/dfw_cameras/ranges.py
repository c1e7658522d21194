"""Ranges whose ends may move during a run, and how values are drawn in them."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from dfw import Progress, Ramp, Schedule, value_at


def ends(schedule: Schedule) -> tuple[float, float]:
    """The schedule's first and last value."""
    return (schedule.from_, schedule.to) if isinstance(schedule, Ramp) else (float(schedule), float(schedule))


def _ordered(value: tuple[Schedule, Schedule]) -> tuple[Schedule, Schedule]:
    for low, high in zip(ends(value[0]), ends(value[1]), strict=True):
        if high < low:
            raise ValueError(f"[{low:g}, {high:g}] runs backwards; write [low, high]")
    return value


Range = Annotated[tuple[Schedule, Schedule], AfterValidator(_ordered)]
"""[low, high], each a number or a ramp."""


def bounded(low: float, high: float, what: str) -> AfterValidator:
    """A check that a range stays inside (low, high); `what` says it in words."""

    def check(value: tuple[Schedule, Schedule]) -> tuple[Schedule, Schedule]:
        smallest, largest = min(ends(value[0])), max(ends(value[1]))
        if smallest < low or largest > high:
            raise ValueError(f"[{smallest:g}, {largest:g}] {what}")
        return value

    return AfterValidator(check)


TINY = 1e-9
"""Stands for an open end: distances and angles above 0."""
Distances = Annotated[Range, bounded(TINY, float("inf"), "must lie above 0; the scene's centre is at 0")]
"""Distances from the scene's centre, world units."""
Angles = Annotated[Range, bounded(TINY, 180 - TINY, "must lie inside (0, 180) degrees")]
"""Fields of view, degrees."""
Elevations = Annotated[Range, bounded(-90, 90, "must lie inside [-90, 90] degrees")]
"""Degrees above the horizon."""


def at(value: tuple[Schedule, Schedule], progress: Progress) -> tuple[float, float]:
    """The range at `progress`."""
    return value_at(value[0], progress), value_at(value[1], progress)


def last(value: tuple[Schedule, Schedule]) -> tuple[float, float]:
    """The range at the end of a run."""
    return ends(value[0])[1], ends(value[1])[1]


def within(uniform: Tensor, bounds: tuple[float, float]) -> Tensor:
    """`uniform` in [0, 1) as values in `bounds`."""
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def whole(schedule: Schedule, progress: Progress) -> int:
    """A number of views at `progress`, at least 1."""
    return max(1, round(value_at(schedule, progress)))


def pixels(schedule: Schedule, progress: Progress) -> int:
    """Pixels of a side: a constant as it is, a ramp rounded to the nearest multiple of 8, at least 8."""
    value = value_at(schedule, progress)
    return max(8, round(value / 8) * 8) if isinstance(schedule, Ramp) else max(1, round(value))


def size(width: Schedule, height: Schedule | None, progress: Progress) -> tuple[int, int]:
    """Height and width in pixels; square unless a height is given."""
    across = pixels(width, progress)
    return (across if height is None else pixels(height, progress)), across


def largest_square(width: Schedule, height: Schedule | None) -> int:
    """Side in pixels of the largest square within the views, at either end of a ramp."""
    return max(min(size(width, height, Progress(step, 1))) for step in (0, 1))


def uniform_rows(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniform draws (rows, columns) on the generator's device."""
    return torch.rand(rows, columns, generator=generator, device=generator.device)


def _positive(value: Schedule) -> Schedule:
    if min(ends(value)) < 1:
        raise ValueError(f"{min(ends(value)):g} is too small; write 1 or more")
    return value


Count = Annotated[Schedule, AfterValidator(_positive)]
"""A number of 1 or more that may move during a run."""
