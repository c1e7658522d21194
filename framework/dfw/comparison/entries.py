"""What a comparison knows of each run: its record, settings, numbers, pictures and scores. Imports no torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path

from dfw.config.load import load_stages
from dfw.errors import ConfigError, DfwError
from dfw.evaluation.records import Result, calls_of, peak_of, read_results
from dfw.report.data import Series, series
from dfw.runs.directory import RunDirectory, stage_directories
from dfw.runs.life import STATUS
from dfw.studies.methods import methods_of, settings_of
from dfw.studies.plan import Planned, read_plan
from dfw.studies.records import Record, record_of, runs_below
from dfw.studies.states import diagnosis, directory_of, has_begun, state

log = logging.getLogger("dfw.comparison")


@dataclass(frozen=True)
class Entry:
    """One run, or one that a sweep plans."""

    record: Record
    settings: Mapping[str, str] = field(default_factory=dict)
    """Dotted name of each setting -> its value as text."""
    method: str = ""
    """The column that it stands in: its name, and what else differs between runs of one prompt and seed (`methods_of`)."""
    series: Sequence[Series] = ()
    """Its numbers over the steps."""
    peak_memory: float | None = None
    """MB (10^6 bytes)."""
    network_calls: float | None = None
    """Pictures that the guidances' networks were given."""
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

    Raises ConfigError where a folder is not there, or where none of them holds a run, and CheckpointError for a damaged
    plan, and for a run that is named and has no settings.
    """
    found: dict[Path, Entry] = {}
    given = list(folders)
    for folder in given:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder; name a run, a sweep, or a folder that holds runs")
        for path in runs_below(folder):
            if path.resolve() not in found:
                found[path.resolve()] = _entry(path)
        for run in read_plan(folder):
            if not has_begun(folder, run):
                path = directory_of(folder, run) or folder / run.name
                found[path.resolve()] = Entry(_planned(folder, path, run))
    if not found:
        raise ConfigError(f"{', '.join(map(str, given))}: holds no run; name a run, a sweep, or a folder that holds runs")
    entries = list(found.values())
    methods = methods_of([(one.record, one.settings) for one in entries])
    return [replace(one, method=method) for one, method in zip(entries, methods, strict=True)]


def _entry(path: Path) -> Entry:
    directory, record = RunDirectory.find(path), record_of(path)
    rows = directory.read_metrics()
    before = [row for stage in stage_directories(path)[:-1] for row in RunDirectory(stage).read_metrics()]
    files = directory.read_json(STATUS).get("artifacts")
    said = files.get("turntable") if isinstance(files, Mapping) else None
    turntable = directory.path / said if isinstance(said, str) else None
    previews = directory.previews()
    return Entry(
        record,
        settings_of(directory),
        series=series(rows),
        peak_memory=peak_of([*before, *rows]),
        network_calls=calls_of([*before, *rows]),
        turntable=turntable if turntable is not None and turntable.exists() else None,
        preview=previews[-1][1] if previews else None,
        report=directory.report if directory.report.is_file() else None,
        results=_results(record),
    )


def _results(record: Record) -> list[Result]:
    """The scores of a run, without those of an earlier step."""
    found: list[Result] = []
    for result in read_results(record.path).values():
        step = result["run"].get("step")
        if step == record.step:
            found.append(result)
        else:
            said = "%s: its %s scores are of step %s, and it went on to step %s; evaluate it again"
            log.warning(said, record.path, result["protocol"], step, record.step)
    return found


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
