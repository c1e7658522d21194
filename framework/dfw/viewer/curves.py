"""The numbers of a run as curves that stay small. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1000
"""Points of a curve; of more, every other one is left out, and then one of four."""


class Curves:
    """Numbers by name, one a step."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, Mapping[str, float]]] = []
        self._every = 1

    @property
    def names(self) -> list[str]:
        """What there is, the loss first."""
        found = dict.fromkeys(name for _, row in self._rows[:1] + self._rows[-1:] for name in row)
        return sorted(found, key=lambda name: (name != "loss", not name.startswith("losses."), name))

    def add(self, step: int, loss: float | None, numbers: Mapping[str, float]) -> None:
        """Adds a step's numbers."""
        if step % self._every == 0:
            self._rows.append((step, numbers if loss is None else {"loss": loss, **numbers}))
        if len(self._rows) > MOST:
            self._every *= 2
            self._rows = [row for row in self._rows if row[0] % self._every == 0]

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Adds a row of metrics.jsonl."""
        numbers = {name: row[name] for name in row if name not in ("step", "loss", "wall") and _is_number(row[name])}
        for group in ("losses", "schedules"):
            inside = row.get(group)
            numbers |= (
                {f"{group}.{key}": value for key, value in inside.items() if _is_number(value)}
                if isinstance(inside, dict)
                else {}
            )
        loss = row.get("loss")
        self.add(int(row["step"]), loss if _is_number(loss) else None, numbers)

    def points(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps and values, equally long, of finite values; one point at 0 where there is none."""
        found = [(step, row[name]) for step, row in self._rows if math.isfinite(row.get(name, math.nan))] or [(0, 0.0)]
        steps, values = zip(*found, strict=True)
        return np.array(steps, np.float64), np.array(values, np.float64)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
