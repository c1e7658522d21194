"""Events that listeners receive about a run: plain numbers, text and paths, never a tensor. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dfw.config.schedules import Progress
from dfw.config.settings import RunConfig

Status = Literal["finished", "interrupted", "diverged", "failed"]
"""How a run ended."""


@dataclass(frozen=True)
class PhaseBegan:
    """A run does something that takes a while and is not a step. `doing`: in words, `writing the turntable`."""

    doing: str

    def copy(self) -> PhaseBegan:
        """Itself: it holds nothing that could be changed."""
        return self


@dataclass(frozen=True)
class RunStarted:
    """A run is about to take its first step, or, resumed, its next one.

    `plugins`: distribution -> version, of all whose components take part. `first_step`: where a resumed run goes on, else 0.
    `sweep`: name of the sweep that the run belongs to, else empty.
    """

    directory: Path
    config: RunConfig
    total_steps: int
    plugins: Mapping[str, str] = field(default_factory=dict)
    first_step: int = 0
    sweep: str = ""

    def copy(self) -> RunStarted:
        """An equal event that shares nothing with this one that could be changed."""
        return replace(self, config=self.config.model_copy(deep=True), plugins=dict(self.plugins))


@dataclass(frozen=True)
class StepEnded:
    """One optimiser step is done; on a GPU several steps may arrive at once, in order.

    `loss`: the weighted sum of the losses, None where it was not read from the device. `metrics`: name -> number: `losses.<name>`
    (unweighted), `opacity`, `lr` ... `seconds`: part of the step (`render`, `guidance`, `backward`, `optimizer`) -> wall time.
    `images`: files written in this step. `seconds_left`: an estimate of the wall time until everything is made, files included.
    """

    progress: Progress
    loss: float | None
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]
    images: tuple[Path, ...] = ()
    seconds_left: float | None = None

    def copy(self) -> StepEnded:
        """An equal event that shares nothing with this one that could be changed."""
        return replace(self, metrics=dict(self.metrics), seconds=dict(self.seconds))


@dataclass(frozen=True)
class RunEnded:
    """A run is over, whatever its `status`.

    `seconds`: wall time, also of the processes that it was continued from. `artifacts`: name (`glb`, `turntable`, `report`) ->
    file. `times`: part of the run (`start`, `steps`, `previews`, `mesh` ...) -> wall time; they add up to `seconds`.
    """

    directory: Path
    status: Status
    seconds: float
    artifacts: Mapping[str, Path]
    times: Mapping[str, float] = field(default_factory=dict)

    def copy(self) -> RunEnded:
        """An equal event that shares nothing with this one that could be changed."""
        return replace(self, artifacts=dict(self.artifacts), times=dict(self.times))
