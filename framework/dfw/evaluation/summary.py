"""Means over the prompts of a method, with bootstrap intervals. Imports no torch.

The seeds of a prompt are averaged first, because they are not independent samples of what a method can do with any prompt. The
interval is that of the percentile bootstrap (Efron 1979) over prompts, by `scipy.stats.bootstrap` with a seeded generator.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dfw.evaluation.records import Result

RESAMPLES = 9999
"""Draws of the bootstrap: the ends of the interval are then exact to about 0.2 % of the prompts' order."""

FIELDS = ("protocol", "method", "scorer", "unit", "better", "prompts", "runs", "mean", "low", "high")
"""Columns of a table, in order."""

COSTS = {"seconds": "s", "peak_memory_mb": "MB", "network_calls": "pictures"}
"""Figure of a run's cost -> its unit. All are better when lower."""


@dataclass(frozen=True)
class Row:
    """One score of one method."""

    protocol: str
    """The views."""
    method: str
    """What `run.name` of the records says."""
    scorer: str
    """`clip-score`, `judge.kind` for a further figure of a scorer, `cost.seconds` for what the runs took."""
    unit: str
    """Empty for a number without one."""
    better: str
    """`higher` or `lower`."""
    values: Mapping[str, float]
    """Prompt -> mean over its seeds."""
    runs: int
    """Runs that have this score."""
    mean: float
    """Over the prompts."""
    low: float | None
    """Lower end of the 95 % interval; None for a single prompt, which says nothing of others."""
    high: float | None
    """Its upper end."""

    @property
    def prompts(self) -> int:
        """How many the mean is over."""
        return len(self.values)

    def cells(self) -> tuple[Any, ...]:
        """Returns what stands under FIELDS."""
        return tuple(getattr(self, name) for name in FIELDS)


def summarise(results: Iterable[Result], costs: bool = True, confidence: float = 0.95, seed: int = 0) -> list[Row]:
    """Returns a row for each protocol, method and score; figures of a scorer stand together, and costs come last.

    results: records (`dfw.evaluation.records`), at most one of each run and protocol. costs: whether rows `cost.*` follow, the
    same in every protocol. confidence: share of the interval. seed: of the bootstrap's draws, anew for each row. Scores of one
    scorer that was asked in several ways, as with two models or at two sizes, have rows of their own, whose names say the way.
    """
    results = list(results)
    variants = _variants(results)
    found: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for result in results:
        run = result["run"]
        for scorer, unit, better, value in _figures(result, costs, variants):
            found.setdefault((result["protocol"], run["name"], scorer), []).append((run["prompt"], value))
            kinds[scorer] = (unit, better)
    rows = [
        _row((protocol, method, scorer, *kinds[scorer]), values, confidence, seed)
        for (protocol, method, scorer), values in found.items()
    ]
    scorers = list(dict.fromkeys(_family(row) for row in rows if not row.scorer.startswith("cost.")))
    order = {name: place for place, name in enumerate([*scorers, "cost"])}
    return sorted(rows, key=lambda row: (row.scorer.startswith("cost."), row.method, order[_family(row)]))


def _family(row: Row) -> str:
    """Returns the scorer that a row's figure is of."""
    return row.scorer.partition(" ")[0].partition(".")[0]


def remarks_of(rows: Iterable[Row]) -> list[str]:
    """Says which means of several methods rest on different prompts, so that they cannot be compared as they are."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.protocol, row.scorer), []).append(row)
    found: dict[str, list[str]] = {}
    for (_, scorer), group in groups.items():
        prompts = [set(row.values) for row in group]
        if any(one != prompts[0] for one in prompts):
            told = ", ".join(f"{row.prompts} of {row.method}" for row in group)
            common = len(set.intersection(*prompts))
            found.setdefault(f"over different prompts: {told}; {common} are common to all", []).append(scorer)
    return [f"the means of {', '.join(dict.fromkeys(scorers))} are {what}" for what, scorers in found.items()]


def _variants(results: Sequence[Result]) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Returns the different ways in which each scorer of each protocol was asked, in order of appearance."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for result in results:
        for scorer in result["scores"]:
            known = found.setdefault((result["protocol"], scorer), [])
            how = _asked(result, scorer)
            if how not in known:
                known.append(how)
    return found


def _asked(result: Result, scorer: str) -> dict[str, str]:
    """Returns what a score depends on next to the run: the options of its scorer, and the size of the views."""
    options = result["scores"][scorer].get("options")
    width = {"width": str(result["size"][-1])} if result.get("size") else {}
    return {"options": "unknown"} | width if options is None else {key: str(value) for key, value in options.items()} | width


def _label(how: Mapping[str, str], variants: Sequence[Mapping[str, str]]) -> str:
    """Returns what tells one way from the others, in brackets; nothing where there is one way alone."""
    keys = dict.fromkeys(key for one in variants for key in one)
    told = [f"{key}={how[key]}" for key in keys if key in how and len({one.get(key) for one in variants}) > 1]
    return f" ({', '.join(told)})" if told else ""


def _figures(
    result: Result, costs: bool, variants: Mapping[tuple[str, str], Sequence[Mapping[str, str]]]
) -> Iterator[tuple[str, str, str, float]]:
    """Gives the finite figures of a record: name, unit, direction, value."""
    for scorer, score in result["scores"].items():
        known = {scorer: score["value"]} | {f"{scorer}.{key}": value for key, value in score.get("details", {}).items()}
        label = _label(_asked(result, scorer), variants[result["protocol"], scorer])
        for name, value in known.items():
            if _is_number(value):
                yield f"{name}{label}", score["unit"], score["better"], float(value)
    for name, unit in COSTS.items() if costs else ():
        if _is_number(result["cost"].get(name)):
            yield f"cost.{name}", unit, "lower", float(result["cost"][name])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _row(head: tuple[str, str, str, str, str], values: Sequence[tuple[str, float]], confidence: float, seed: int) -> Row:
    each: dict[str, list[float]] = {}
    for prompt, value in values:
        each.setdefault(prompt, []).append(value)
    means = {prompt: fmean(seeds) for prompt, seeds in each.items()}
    low, high = interval(list(means.values()), confidence, seed)
    return Row(*head, means, len(values), fmean(means.values()), low, high)


def interval(values: Sequence[float], confidence: float = 0.95, seed: int = 0) -> tuple[float | None, float | None]:
    """Returns the ends of the bootstrap interval of the mean of `values`; None for fewer than two of them."""
    if len(values) < 2:
        return None, None
    from scipy.stats import bootstrap  # takes half a second to import, which a listing need not wait for

    random = np.random.default_rng(seed)
    found = bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 10**6 // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=random,
    ).confidence_interval
    return float(found.low), float(found.high)


def as_csv(rows: Iterable[Row]) -> str:
    """Writes rows as CSV with a head. Text that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(FIELDS)
    table.writerows([_no_formula(cell) for cell in row.cells()] for row in rows)
    return text.getvalue()


def _no_formula(cell: object) -> object:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return "" if cell is None else cell


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Returns rows as JSON holds them, each with its value for each prompt."""
    return [{**asdict(row), "values": dict(row.values), "prompts": row.prompts} for row in rows]
