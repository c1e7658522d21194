"""Stops a run that has diverged, and says which quantity, since which step, and what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dfw.config.settings import TrainerSettings
from dfw.errors import DivergedError
from dfw.interfaces.component import Component, name_of

EMPTY = 0.002  # mean opacity; 8 pixels of 64x64, fewer than any object that a camera frames
FULL = 0.995  # mean opacity; an object leaves more background than 20 pixels of 64x64, fog does not
PATIENCE = 20  # steps in a row: a scene can pass through empty or full and come back


class Watchdog:
    """Checks each step's numbers in order."""

    def __init__(self, settings: TrainerSettings, scene: bool, sources: Mapping[str, str] | None = None) -> None:
        """`scene`: whether opacity has a meaning, which it has not on a plane of pixels. sources: as `sources` returns them."""
        self._sources = sources or {}
        self._first = int(settings.watch_from * settings.steps)
        self._scene = scene
        self._empty_since: int | None = None
        self._full_since: int | None = None

    def look(self, step: int, metrics: Mapping[str, float]) -> None:
        """Raises DivergedError if a number is not finite, or if opacity stays empty or full for 20 steps."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                source = f", {self._sources[name]}" if name in self._sources else ""
                raise DivergedError(
                    f"{name} is {value} since step {step}{source}; try a lower optimizer.lr, optimizer.max_grad_norm=1, "
                    "or precision=fp32; the last checkpoint is from an earlier step"
                )
        if self._scene and step >= self._first and "opacity" in metrics:
            self._opacity(step, metrics["opacity"])

    def _opacity(self, step: int, opacity: float) -> None:
        self._empty_since = (self._empty_since if self._empty_since is not None else step) if opacity < EMPTY else None
        self._full_since = (self._full_since if self._full_since is not None else step) if opacity > FULL else None
        if self._empty_since is not None and step - self._empty_since >= PATIENCE:
            raise DivergedError(
                f"the scene is empty: mean opacity below {EMPTY:g} since step {self._empty_since}; try a lower weight on "
                "opacity or entropy losses, a larger geometry.blob.scale, or another seed"
            )
        if self._full_since is not None and step - self._full_since >= PATIENCE:
            raise DivergedError(
                f"the scene fills every pixel: mean opacity above {FULL:g} since step {self._full_since}; try a higher weight "
                "on the opacity loss, random background colours, or cameras further away"
            )


def sources(
    geometry: Component, renderer: Component, guidances: Mapping[str, Component], losses: Mapping[str, Component]
) -> dict[str, str]:
    """Returns quantity -> the components that it comes from, e.g. `made by renderer (...) from geometry (...)`."""
    picture = f"made by {name_of(renderer)} from {name_of(geometry)}"
    priors = f" with {' and '.join(name_of(one) for one in guidances.values())}" if guidances else ""
    found = {"colour": picture, "opacity": picture, "grad_norm": "the gradients of all components together"}
    return found | {f"losses.{name}": f"given by {name_of(loss)}{priors}" for name, loss in losses.items()}
