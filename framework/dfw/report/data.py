"""The data of a report, and how it is put in order. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfw.config.schedules import Progress


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows."""

    prompt: str
    """The run's prompt."""
    seed: int
    """The run's seed."""
    status: str
    """`finished`, `interrupted`, `diverged`, `failed` or `running`."""
    seconds: float
    """Wall time of the run, in all its processes."""
    diagnosis: str = ""
    """One sentence that says why the run did not finish."""
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    """Name (`glb`, `obj`, `ply`, `turntable` ...) -> file, or folder of frames."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Label -> relative URL of the report of another stage."""
    metrics: Sequence[Mapping[str, Any]] = ()
    """Rows of metrics.jsonl: `step`, `loss`, `losses`, `schedules`, `seconds`, and what components logged under dotted names."""
    previews: Sequence[tuple[int, Path]] = ()
    """Pairs of step and picture."""
    resolved_config: str = ""
    """The configuration as YAML, with every default."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Versions, components and listeners, nested."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Label -> text about the export."""
    times: Mapping[str, float] = field(default_factory=dict)
    """Part of the run (`start`, `steps`, `previews`, `mesh` ...) -> wall time; together `seconds`."""
    going: Progress | None = None
    """Where the run is while it goes on; the page then renews itself."""


@dataclass(frozen=True)
class Series:
    """One quantity over the run. `steps` and `values` are equally long; values may be NaN or infinite."""

    name: str
    steps: list[float]
    values: list[float]


@dataclass(frozen=True)
class Part:
    """One part of the run's time: `seconds`, and its `share` in [0, 1]."""

    name: str
    seconds: float
    share: float


NOT_DRAWN = ("step", "wall")
"""Numbers of a row that have no curve."""


def series(rows: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Collects every number in `rows` except times and the step, in order of appearance. Nested ones get dotted names."""
    found: dict[str, Series] = {}
    for row in rows:
        for name, value in _flat(row):
            if name not in NOT_DRAWN and not name.startswith("seconds."):
                one = found.setdefault(name, Series(name, [], []))
                one.steps.append(float(row["step"]))
                one.values.append(value)
    return list(found.values())


def time_split(rows: Sequence[Mapping[str, Any]], times: Mapping[str, float]) -> list[Part]:
    """Splits the run's wall time: what is in `times`, with the `steps` split by the rows' own `seconds`.

    `other` is time of the steps that no row accounts for.
    """
    within: dict[str, float] = {}
    for row in rows:
        for name, value in _flat(row):
            if name.startswith("seconds.") and math.isfinite(value):
                within[name.removeprefix("seconds.")] = within.get(name.removeprefix("seconds."), 0.0) + value
    steps = times.get("steps", 0.0)
    found: dict[str, float] = {}
    for part, seconds in (times if "steps" in times else {"steps": 0.0, **times}).items():
        found |= within | {"other": max(steps - sum(within.values()), 0.0)} if part == "steps" else {part: seconds}
    total = sum(found.values()) or 1.0
    return [Part(name, value, value / total) for name, value in found.items() if value]


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Returns the dotted name and value of every number in a nested row."""
    pairs: list[tuple[str, float]] = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            pairs.append((f"{prefix}{key}", float(value)))
    return pairs


def thinned(items: Sequence[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """Returns at most `most` of `items`, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def duration_text(seconds: float) -> str:
    """Formats seconds: `8.3 s`, `42 s`, `4 min 05 s` or `1 h 02 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s") if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
