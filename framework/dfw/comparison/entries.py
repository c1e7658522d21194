"""What a comparison knows of each run: its record, settings, numbers, pictures and scores. Imports no torch."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dfw.config.load import load_stages
from dfw.config.yaml_text import YamlError, read_yaml
from dfw.errors import ConfigError, DfwError
from dfw.evaluation.records import Result, read_results
from dfw.report.data import Series, series
from dfw.runs.directory import RunDirectory
from dfw.runs.life import STATUS
from dfw.studies.plan import Planned, read_plan
from dfw.studies.records import Record, find_runs, record_of
from dfw.studies.states import diagnosis, directory_of, has_begun, state

log = logging.getLogger("dfw.comparison")

ROWS_AND_COLUMNS = ("prompt", "image", "seed", "name", "output")
"""Settings by which runs stand in the grid, so that no other difference need say them; and where a run lies."""


@dataclass(frozen=True)
class Entry:
    """One run, or one that a sweep plans."""

    record: Record
    settings: Mapping[str, str] = field(default_factory=dict)
    """Dotted name of each setting -> its value as text."""
    method: str = ""
    """The column that it stands in: its name, and what else differs between runs of one prompt and seed (`with_methods`)."""
    series: Sequence[Series] = ()
    """Its numbers over the steps."""
    peak_memory: float | None = None
    """MB (10^6 bytes)."""
    turntable: Path | None = None
    """File, or folder of frames."""
    preview: Path | None = None
    """The newest one."""
    report: Path | None = None
    """Its own page, which holds the viewer."""
    results: Sequence[Result] = ()
    """Its scores (`dfw.evaluation.records`)."""

    @property
    def made(self) -> bool:
        """Whether its directory is there."""
        return self.record.path.is_dir()


def entries_of(folders: Iterable[Path]) -> list[Entry]:
    """Reads the runs in and below `folders`, and those that a sweep plans. Damaged files leave gaps, each with a warning.

    Raises ConfigError where a folder is not there, or where none of them holds a run, and CheckpointError for a damaged plan.
    """
    found: dict[Path, Entry] = {}
    given = list(folders)
    for folder in given:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder; name a run, a sweep, or a folder that holds runs")
        for path in find_runs([folder]):
            if path.resolve() not in found:
                found[path.resolve()] = _entry(path)
        for run in read_plan(folder):
            if not has_begun(folder, run):
                path = directory_of(folder, run) or folder / run.name
                found[path.resolve()] = Entry(_planned(folder, path, run))
    if not found:
        raise ConfigError(f"{', '.join(map(str, given))}: holds no run; name a run, a sweep, or a folder that holds runs")
    return with_methods(list(found.values()))


def _entry(path: Path) -> Entry:
    directory = RunDirectory.find(path)
    rows = directory.read_metrics()
    files = directory.read_json(STATUS).get("artifacts")
    said = files.get("turntable") if isinstance(files, Mapping) else None
    turntable = directory.path / said if isinstance(said, str) else None
    previews = directory.previews()
    peaks = [row["peak_memory"] for row in rows if isinstance(row.get("peak_memory"), float)]
    return Entry(
        record_of(path),
        dict(_settings(directory)),
        series=series(rows),
        peak_memory=max(filter(math.isfinite, peaks), default=None),
        turntable=turntable if turntable is not None and turntable.exists() else None,
        preview=previews[-1][1] if previews else None,
        report=directory.report if directory.report.is_file() else None,
        results=list(read_results(path).values()),
    )


def _settings(directory: RunDirectory) -> Iterator[tuple[str, str]]:
    try:
        tree, _ = read_yaml(directory.read_resolved())
    except YamlError as error:
        log.warning("%s: cannot be read (%s); its settings are not compared", directory.resolved, error)
        return
    yield from _flat(tree if isinstance(tree, Mapping) else {})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Gives the dotted name and text of each setting. A ramp (`{from: 10, to: 3}`) is one setting."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and not {"from", "to"} <= value.keys():
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return f"{{{', '.join(f'{key}: {_text(one)}' for key, one in value.items())}}}"
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case _:
            return str(value)


def _planned(folder: Path, path: Path, run: Planned) -> Record:
    """What is known of a run that has not begun, or that could not."""
    try:
        with chdir(run.folder if os.path.isdir(run.folder) else folder):
            config = next(iter(load_stages(run.config, run.overrides).values())).config
        name, subject, seed = config.name, config.subject, str(config.seed)
    except (DfwError, OSError):  # its file has gone meanwhile; the plan still says what was asked for
        said = dict(one.partition("=")[::2] for one in run.overrides)
        name, subject = Path(run.config).stem, said.get("prompt", "")
        seed = said.get("seed", "")
    number = int(seed) if seed.isdecimal() else None
    return Record(path, state(folder, run), name, subject, number, None, None, 0.0, "", diagnosis(folder, run), ())


def with_methods(entries: Sequence[Entry]) -> list[Entry]:
    """Gives each entry its column: the run's name, and the settings by which runs of one name, prompt and seed differ."""
    alike: dict[tuple[object, ...], list[Entry]] = {}
    for one in entries:
        if one.settings:
            alike.setdefault((one.record.name, one.record.subject, one.record.seed), []).append(one)
    apart: dict[str, dict[str, None]] = {}
    for (name, *_), group in alike.items():
        apart.setdefault(str(name), {}).update(dict.fromkeys(different([one.settings for one in group])))
    labels: dict[tuple[str, ...], str] = {}
    found = []
    for one in entries:
        keys = list(apart.get(one.record.name, {})) if one.settings else []
        variant = (one.record.name, *(one.settings.get(key, "") for key in keys))
        if variant not in labels:
            labels[variant] = _label(one, keys, set(labels.values()))
        found.append(replace(one, method=labels[variant]))
    return found


SHOWN = 3
"""Settings in the name of a column; the table of differences has all."""


def _label(one: Entry, keys: Sequence[str], taken: set[str]) -> str:
    last = [key.rpartition(".")[2] for key in keys]
    words = [
        f"{key if last.count(end) > 1 else end}={one.settings.get(key, 'unset')}" for key, end in zip(keys, last, strict=True)
    ]
    text = " ".join([one.record.name or "?", ", ".join(words[:SHOWN])]).strip()
    number, label = 1, text
    while label in taken:
        number += 1
        label = f"{text} ({number})"
    return label


def different(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the settings that are not the same in all, without those that rows and columns say, in order of appearance."""
    keys = dict.fromkeys(key for one in settings for key in one if key not in ROWS_AND_COLUMNS)
    return [key for key in keys if len({one.get(key) for one in settings}) > 1]
