"""How the runs of a sweep stand, as their own directories say. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, takewhile
from pathlib import Path

from dfw.runs.directory import STAGES, RunDirectory
from dfw.runs.life import STATUS, status_of
from dfw.runs.lock import RunLock, is_locked
from dfw.studies.plan import CLAIMS, Planned

PENDING = "pending"
FAILED = ("failed", "diverged")
"""Ends that are tried again only on request: the same bits would fail again."""


def directory_of(folder: Path, run: Planned) -> Path | None:
    """Returns the run's newest directory; None where it has none. A second one is there where the first was of no use."""
    found = None
    for path in takewhile(Path.is_dir, _directories(folder, run)):
        found = path
    return found


def next_directory(folder: Path, run: Planned) -> Path:
    """Returns the run's next directory, which is not there yet."""
    return next(path for path in _directories(folder, run) if not path.is_dir())


def _directories(folder: Path, run: Planned) -> Iterator[Path]:
    return (folder / (run.name if number == 1 else f"{run.name}-{number}") for number in count(1))


def has_begun(folder: Path, run: Planned) -> bool:
    """Returns whether there is something that the run can be continued from."""
    path = directory_of(folder, run)
    return path is not None and any((path / name).is_file() for name in ("resolved.yaml", STAGES))


def refusal(folder: Path, run: Planned) -> Path:
    """Returns the file that says why a run could not begin, as when its model does not load. It has no directory then."""
    return folder / CLAIMS / run.name / "refused.txt"


def state(folder: Path, run: Planned) -> str:
    """Returns `pending`, `running`, or how the run ended (`status_of`)."""
    if is_locked(folder / CLAIMS / run.name):
        return "running"
    return state_of_files(folder, run)


def state_of_files(folder: Path, run: Planned) -> str:
    """Returns the `state` of a run that no sweep is making, or that this process has claimed."""
    path = directory_of(folder, run)
    if path is None or not has_begun(folder, run):
        return "failed" if refusal(folder, run).is_file() else PENDING
    return status_of(path) or "killed"


def diagnosis(folder: Path, run: Planned) -> str:
    """Returns what the run says of its end, on one line; empty where it says nothing."""
    path = directory_of(folder, run)
    if path is not None and has_begun(folder, run):
        said = str(RunDirectory(path).read_json(STATUS).get("diagnosis", ""))
    else:
        file = refusal(folder, run)
        said = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return " ".join(said.split())


def is_left(how: str, retry: bool) -> bool:
    """Returns whether a run in the state `how` is to be made or continued."""
    return how not in ("finished", "running") and (retry or how not in FAILED)


def counted(states: Sequence[str]) -> str:
    """Writes `5 finished, 1 failed`."""
    return ", ".join(f"{many} {how}" for how, many in Counter(states).most_common()) or "no runs"


def claim(folder: Path, run: Planned) -> RunLock:
    """Takes the run, before it has a directory. Raises CheckpointError where another process has it; OSError."""
    place = folder / CLAIMS / run.name
    place.mkdir(parents=True, exist_ok=True)
    lock = RunLock(place)
    lock.take()
    return lock
