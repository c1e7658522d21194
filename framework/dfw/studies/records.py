"""What is known of runs without opening them: found below folders, filtered, tagged and removed. Imports no torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfw.atomic import remove, temporary_name, unused, write_text, writing
from dfw.errors import CheckpointError, ConfigError
from dfw.runs.directory import STAGES, RunDirectory, read_settings, stage_directories
from dfw.runs.life import STATUS, status_of
from dfw.runs.lock import RunLock, is_locked

log = logging.getLogger("dfw.studies")

TAGS = "tags.txt"
"""File of a run with a tag in each line."""


@dataclass(frozen=True)
class Record:
    """A run on disk, or several stages that are one run."""

    path: Path
    status: str
    """`running`, `finished`, `interrupted`, `diverged`, `failed`, `killed`, or empty where it has not begun."""
    name: str
    """Of its configuration."""
    subject: str
    """Its prompt; without one its picture, or nothing."""
    seed: int | None
    step: int | None
    """Steps that are done; of a run with stages those of the stage that it is at."""
    steps: int | None
    seconds: float
    """Wall time of all its processes."""
    began: str
    """UTC, ISO 8601: when the newest of its processes began. Empty if that is not known."""
    diagnosis: str
    tags: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Returns it as JSON holds it."""
        return {**vars(self), "path": str(self.path), "tags": list(self.tags)}


def find_runs(folders: Iterable[Path]) -> Iterator[Path]:
    """Gives every run in or below `folders`, in the order of their names. Does not look into a run for others."""
    for folder in folders:
        for where, below, files in os.walk(folder):
            if STAGES in files or "resolved.yaml" in files:
                below.clear()
                yield Path(where)
            below[:] = sorted(name for name in below if not name.startswith("."))  # such as what a kill left of a removal


def runs_below(folder: Path) -> list[Path]:
    """Returns the runs in and below a folder that a user names. Raises CheckpointError if it is a run without settings itself."""
    found = list(find_runs([folder]))
    if found == [folder]:
        RunDirectory.find(folder).require_settings()
    return found


def record_of(path: Path) -> Record:
    """Reads what a run says of itself. Damaged files leave gaps, each with a warning."""
    directory = RunDirectory(path)
    said = directory.read_json(STATUS)
    stage = said.get("stage") if isinstance(said.get("stage"), str) else None
    config = _config(path)
    latest = RunDirectory.find(path).read_json(STATUS) if stage is not None else said
    return Record(
        path,
        status_of(path),
        _text(config.get("name")),
        _text(config.get("prompt")) or _text(config.get("image")),
        _number(config.get("seed")),
        _number(latest.get("step")),
        _number(latest.get("steps")),
        float(said["seconds"]) if isinstance(said.get("seconds"), int | float) else 0.0,
        _text(said.get("started")),
        _text(said.get("diagnosis")),
        tags_of(path),
    )


def _config(path: Path) -> dict[str, Any]:
    """The configuration as it was given; of a run with stages that of the first."""
    name = STAGES if (path / STAGES).is_file() else "config.yaml" if (path / "config.yaml").is_file() else "resolved.yaml"
    try:
        tree = read_settings(path / name)
    except CheckpointError as error:
        log.warning("%s", error)
        return {}
    if name == STAGES:
        stages = tree.get("stages")
        tree = next(iter(stages.values()), {}) if isinstance(stages, dict) else {}
    return tree if isinstance(tree, dict) else {}


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def tags_of(path: Path) -> tuple[str, ...]:
    """Returns a run's tags, in the order in which they were given."""
    try:
        return tuple(line.strip() for line in (path / TAGS).read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, ValueError):
        return ()


def tag(path: Path, add: Sequence[str] = (), drop: Sequence[str] = ()) -> tuple[str, ...]:
    """Changes a run's tags and returns them. Raises ConfigError for a tag of other than one word, and where it cannot write."""
    for word in (*add, *drop):
        if not word or word != "".join(word.split()) or not word.isprintable():
            raise ConfigError(f"{word!r} is not a tag; a tag is one word")
    left = tuple(one for one in dict.fromkeys((*tags_of(path), *add)) if one not in drop)
    with writing(path / TAGS, ConfigError, otherwise="only who may write a run may tag it"):
        write_text(path / TAGS, "".join(f"{one}\n" for one in left))
    return left


def is_at_work(path: Path) -> bool:
    """Returns whether a process works on the run, or on one of its stages alone."""
    return any(is_locked(one) for one in _with_stages(path))


def _with_stages(path: Path) -> list[Path]:
    return [path, *stage_directories(path)]


def delete(path: Path) -> None:
    """Removes a run and all its files. Raises CheckpointError for one that a process works on, and where it cannot be removed.

    It is renamed first, so that no half of it can pass for a run.
    """
    if not ((path / STAGES).is_file() or (path / "resolved.yaml").is_file()):
        raise CheckpointError(f"{path}: is not a run, so it is not removed")
    if path.is_symlink():
        raise CheckpointError(f"{path}: is a link, so it is not removed; name the run itself, {path.resolve()}")
    path = path.resolve()
    if (path.parent / STAGES).is_file():
        raise CheckpointError(f"{path}: is a stage of {path.parent}; remove that, or nothing")
    locks = [RunLock(one) for one in _with_stages(path)]
    try:
        for lock in locks:
            lock.take()
        with writing(path, CheckpointError, otherwise="only who may write its folder may remove it"):
            gone = path.rename(unused(temporary_name(path)))
    finally:
        for lock in locks:
            lock.release()
    remove(gone)
    if gone.exists():
        raise CheckpointError(f"{gone}: not all of it could be removed; it was {path.name}")
