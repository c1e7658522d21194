"""The page of a comparison: one HTML file, and a folder of pictures next to it. Imports no torch."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dfw.atomic import write_text, writing
from dfw.comparison.entries import Entry
from dfw.comparison.figures import cell, figures_of, rows_of
from dfw.comparison.pictures import FRAMES, Shown, shown
from dfw.errors import ConfigError
from dfw.evaluation.summary import remarks_of
from dfw.report.data import Series, duration_text
from dfw.report.names import LOSSES, STEP, group_of, meaning_of
from dfw.report.write import script_hash
from dfw.studies.methods import different

POINTS = 60  # of a curve: a run's steps in so many equal parts, each with its mean, so that 600 curves take about a megabyte
QUANTITIES = 8  # that can be drawn: those that most runs have
MARK = "dfw compare"
"""By which a page is known as one of ours, which may be replaced."""
VALUES = 6  # different values of a setting that a cell lists


@dataclass(frozen=True)
class Tile:
    """One run in the grid."""

    number: int
    entry: Entry
    shown: Shown | None
    report: str
    """Relative URL of its report, or nothing."""

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What is known of it, as labels and texts."""
        record = self.entry.record
        rows = [
            ("status", record.status or "not begun"),
            ("steps", "" if record.step is None else f"{record.step} of {record.steps}"),
            ("time", duration_text(record.seconds) if record.seconds else ""),
            ("began", record.began),
            ("tags", " ".join(record.tags)),
            ("folder", str(record.path)),
        ]
        return [row for row in rows if row[1]]


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all runs."""

    key: str
    values: list[str]
    """For each method, in the order of the columns."""


def write_page(path: Path, entries: Sequence[Entry], title: str) -> Path:
    """Writes the page at `path`, and its pictures to the folder NAME_files next to it. Returns the page's path.

    Replaces an older page and its pictures. Raises ConfigError as `check_page`, and for a page that cannot be written.
    """
    check_page(path)
    folder = path.with_name(f"{path.stem}_files")
    with writing(path, ConfigError, otherwise="name another file with --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = shown(entries, folder)
        write_text(path, render_page(path, entries, pictures, title))
    return path


def check_page(path: Path) -> None:
    """Raises ConfigError for a file that does not end in .html, and for one that is there and is not a comparison."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {path}: a page ends in .html")
    if path.is_file() and MARK.encode() not in path.read_bytes()[:2000]:
        raise ConfigError(f"--out {path}: is there, and is not a comparison, so it is not replaced; name another file")


def render_page(path: Path, entries: Sequence[Entry], pictures: Sequence[Shown | None], title: str) -> str:
    """Returns the page's HTML with all text escaped. Only its own script runs, and nothing comes from a network."""
    tiles = [
        Tile(number, entry, picture, _url(entry.report, path))
        for number, (entry, picture) in enumerate(zip(entries, pictures, strict=True))
    ]
    methods = list(dict.fromkeys(one.method for one in entries))
    prompts = list(dict.fromkeys(one.record.subject for one in entries))
    grid: dict[str, dict[str, list[Tile]]] = {prompt: {method: [] for method in methods} for prompt in prompts}
    for tile in sorted(tiles, key=lambda one: (one.entry.record.seed is None, one.entry.record.seed or 0, one.number)):
        grid[tile.entry.record.subject][tile.entry.method].append(tile)
    ratios = Counter(one.ratio for one in pictures if one is not None)
    script = _resource("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    rows = rows_of(entries)
    return environment.from_string(_resource("page.html.j2")).render(
        title=title,
        mark=MARK,
        tiles=tiles,
        grid=grid,
        methods=methods,
        seeds=sorted({one.record.seed for one in entries if one.record.seed is not None}),
        statuses=_in_order(one.record.status or "not begun" for one in entries),
        tags=sorted({tag for one in entries for tag in one.record.tags}),
        folder=quote(f"{path.stem}_files"),
        ratio=ratios.most_common(1)[0][0] if ratios else 1.0,
        last=FRAMES - 1,
        turning=any(one is not None and one.turns for one in pictures),
        figures=figures_of(rows),
        remarks=remarks_of(rows),
        cell=cell,
        differences=_differences(entries, methods),
        curves=_json(_curves(entries, methods)),
        style=Markup(files("dfw.report").joinpath("page.css").read_text(encoding="utf-8") + _resource("page.css")),
        script=Markup(script),
        script_hash=script_hash(script),
    )


def _resource(name: str) -> str:
    return files("dfw.comparison").joinpath(name).read_text(encoding="utf-8")


def _in_order(words: Iterable[str]) -> list[str]:
    return [word for word, _ in Counter(words).most_common()]


def _url(target: Path | None, page: Path) -> str:
    """Returns a URL from the page to a file, relative if both are on one drive; nothing for no file."""
    if target is None:
        return ""
    try:
        return quote(Path(os.path.relpath(target, page.parent)).as_posix())
    except ValueError:
        return target.resolve().as_uri()


def _differences(entries: Sequence[Entry], methods: Sequence[str]) -> list[Difference]:
    """Returns the settings that differ between runs, with the values of each method."""
    known = [one for one in entries if one.settings]
    of_method = {method: [one.settings for one in known if one.method == method] for method in methods}
    return [
        Difference(key, [_values([one.get(key) for one in of_method[method]]) for method in methods])
        for key in different([one.settings for one in known])
    ]


def _values(values: Sequence[str | None]) -> str:
    found = list(dict.fromkeys("–" if value is None else value for value in values))
    more = f" … and {len(found) - VALUES} more" if len(found) > VALUES else ""
    return " | ".join(found[:VALUES]) + more


def _curves(entries: Sequence[Entry], methods: Sequence[str]) -> dict[str, Any]:
    """Returns what the page draws: the quantities, and for each run method, label, and means over equal parts of its steps."""
    counted = Counter(
        one.name
        for entry in entries
        for one in entry.series
        if group_of(one.name) in (LOSSES, STEP) and one.name not in ("lr", "peak_memory", "network_calls")
    )
    names = [name for name, _ in counted.most_common(QUANTITIES)]
    runs = []
    for number, entry in enumerate(entries):
        lines = {names.index(one.name): _parts(one) for one in entry.series if one.name in names}
        if lines:
            label = f"{entry.record.subject}, {entry.method}, seed {entry.record.seed}"
            runs.append({"run": number, "method": methods.index(entry.method), "label": label, "lines": lines})
    return {"names": [meaning_of(name).title for name in names], "methods": list(methods), "runs": runs}


def _parts(data: Series) -> list[Any]:
    """Returns [first step, last step, means]: of at most POINTS equal parts; null where no value is finite."""
    count = min(POINTS, len(data.values))
    means: list[float | None] = []
    for place in range(count):
        part = data.values[place * len(data.values) // count : (place + 1) * len(data.values) // count]
        finite = [value for value in part if math.isfinite(value)]
        means.append(float(f"{sum(finite) / len(finite):.4g}") if finite else None)
    return [data.steps[0], data.steps[-1], means]


def _json(value: Mapping[str, Any]) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
