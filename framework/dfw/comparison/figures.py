"""The table of a comparison: what each method scored and what it cost, with intervals. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfw.atomic import unused, write_text, writing
from dfw.comparison.entries import Entry
from dfw.errors import ConfigError
from dfw.evaluation.summary import Row, as_csv, remarks_of, summarise
from dfw.report.curves import number

ENDINGS = (".tex", ".csv")
"""Of the files that a table is written to."""


@dataclass(frozen=True)
class Figure:
    """One column: a score in one protocol, or a cost."""

    title: str
    unit: str
    better: str
    """`higher` or `lower`."""
    rows: dict[str, Row]
    """Method -> its score."""

    @property
    def best(self) -> set[str]:
        """The methods whose mean nobody beats; none where a single method has the score."""
        if len(self.rows) < 2:
            return set()
        wanted = (max if self.better == "higher" else min)(row.mean for row in self.rows.values())
        return {method for method, row in self.rows.items() if row.mean == wanted}


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """Returns the scores of finished runs by method, and then what they cost."""
    finished = [one for one in entries if one.record.status == "finished"]
    scores = [result | {"run": {**result["run"], "name": one.method}} for one in finished for result in map(dict, one.results)]
    costs = [
        {
            "protocol": "",
            "run": {"name": one.method, "prompt": one.record.subject},
            "scores": {},
            "cost": {"seconds": one.record.seconds, "peak_memory_mb": one.peak_memory, "network_calls": one.network_calls},
        }
        for one in finished
    ]
    return summarise(scores, costs=False) + summarise(costs)


TITLES = {"cost.seconds": "time", "cost.peak_memory_mb": "peak memory", "cost.network_calls": "network calls"}


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """Returns the columns of the table. Where one scorer was asked in several protocols, its title says which."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.protocol, row.scorer), []).append(row)
    scorers = [scorer for _, scorer in found]
    return [
        Figure(
            TITLES.get(scorer, f"{scorer} ({protocol})" if scorers.count(scorer) > 1 else scorer),
            group[0].unit,
            group[0].better,
            {row.method: row for row in group},
        )
        for (protocol, scorer), group in found.items()
    ]


def cell(row: Row | None) -> tuple[str, str]:
    """Returns the mean as text, and the interval or nothing."""
    if row is None:
        return "–", ""
    return number(row.mean), "" if row.low is None or row.high is None else f"[{number(row.low)}, {number(row.high)}]"


def write_table(path: Path, entries: Sequence[Entry]) -> Path:
    """Writes the table: LaTeX (.tex, with booktabs) or CSV (.csv). Returns `path`, or path-2 ... if that exists.

    Raises ConfigError for other endings, and where it cannot be written.
    """
    check_table(path)
    rows = rows_of(entries)
    text = (
        _latex(figures_of(rows), dict.fromkeys(one.method for one in entries), remarks_of(rows))
        if path.suffix.lower() == ".tex"
        else as_csv(rows)
    )
    with writing(path, ConfigError, otherwise="name another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path = unused(path)
        write_text(path, text)
    return path


def check_table(path: Path) -> None:
    """Raises ConfigError for a file whose ending names no kind of table."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--table {path}: a table ends in {' or '.join(ENDINGS)}")


_SPECIAL = {
    **{one: rf"\{one}" for one in "&%$#_{}"},
    **{
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    },
    **{"\u2212": "$-$", "–": "--", "²": "$^2$", '"': r"\textquotedbl{}"},
}


def escaped(text: str) -> str:
    """Returns text as LaTeX prints it, on one line."""
    return "".join(_SPECIAL.get(one, one) for one in " ".join(text.split()))


def _latex(figures: Sequence[Figure], methods: Iterable[str], remarks: Iterable[str]) -> str:
    """Rows are methods. The best mean of a column is bold; after each mean stands its interval, small."""
    heads = [rf"{escaped(one.title)} {_arrow(one)}{_in_units(one)}" for one in figures]
    lines = [
        "% Means over prompts, after those over seeds, with 95 % bootstrap intervals. Needs \\usepackage{booktabs}.",
        *(f"% {' '.join(one.split())}" for one in remarks),
        rf"\begin{{tabular}}{{l{'r' * len(figures)}}}",
        r"\toprule",
        f"{' & '.join(['method', *heads])} \\\\",
        r"\midrule",
    ]
    for method in methods:
        cells = [_latex_cell(one, method) for one in figures]
        lines.append(f"{' & '.join([escaped(method), *cells])} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _arrow(figure: Figure) -> str:
    return r"$\uparrow$" if figure.better == "higher" else r"$\downarrow$"


def _in_units(figure: Figure) -> str:
    return f" ({escaped(figure.unit)})" if figure.unit else ""


def _latex_cell(figure: Figure, method: str) -> str:
    mean, interval = map(escaped, cell(figure.rows.get(method)))
    shown = rf"\textbf{{{mean}}}" if method in figure.best else mean
    return rf"{shown} {{\scriptsize {interval}}}" if interval else shown
