"""Schedules: a number as a function of the step, constant or a ramp `{from, to, start, end, unit, ease}`. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from dfw.config.base import Checked


@dataclass(frozen=True)
class Progress:
    """Position in a run."""

    step: int
    """Step in [0, total), counted from 0."""
    total: int
    """Steps of the run."""

    @property
    def fraction(self) -> float:
        """step / total, in [0, 1)."""
        return self.step / self.total


class Ramp(Checked):
    """A value that moves from `from` to `to` between `start` and `end`. It is constant before and after."""

    model_config = ConfigDict(populate_by_name=True)

    from_: float = Field(alias="from")
    """Value up to `start`."""
    to: float
    """Value from `end` on."""
    start: float = Field(default=0.0, ge=0)
    """Where the ramp begins, in `unit`."""
    end: float = Field(default=1.0, ge=0)
    """Where the ramp ends, in `unit`."""
    unit: Literal["fraction", "step"] = "fraction"
    """`fraction` of the run's length, or `step`."""
    ease: Literal["linear", "cosine", "sqrt", "log"] = "linear"
    """Shape of the ramp. `log` interpolates exponents and needs positive values."""

    @model_validator(mode="after")
    def _check(self) -> Ramp:
        if self.end < self.start:
            raise ValueError(f"end ({self.end:g}) lies before start ({self.start:g}); write start <= end")
        if self.unit == "fraction" and self.end > 1:
            raise ValueError(f"end ({self.end:g}) is beyond 1, the whole run; for steps write unit: step")
        if self.ease == "log" and min(self.from_, self.to) <= 0:
            raise ValueError("ease: log needs values above 0; write ease: linear, or a small positive value")
        return self

    def at(self, progress: Progress) -> float:
        """Returns the value at `progress`."""
        now = progress.fraction if self.unit == "fraction" else float(progress.step)
        if now >= self.end:
            return self.to
        if now <= self.start:
            return self.from_
        x = (now - self.start) / (self.end - self.start)
        if self.ease == "log":
            return math.exp((1 - x) * math.log(self.from_) + x * math.log(self.to))
        eased = {"linear": x, "cosine": (1 - math.cos(math.pi * x)) / 2, "sqrt": math.sqrt(x)}[self.ease]
        return self.from_ + (self.to - self.from_) * eased


Schedule = float | Ramp
"""Type of a configuration field that may be a constant or a ramp."""


def value_at(schedule: Schedule, progress: Progress) -> float:
    """Returns the schedule's value at `progress`."""
    return schedule.at(progress) if isinstance(schedule, Ramp) else float(schedule)


def last_step(schedule: Schedule) -> float:
    """Returns the last step at which a step-based schedule still changes; 0 for constants and fractions."""
    return schedule.end if isinstance(schedule, Ramp) and schedule.unit == "step" else 0.0
