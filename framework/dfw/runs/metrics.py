"""metrics.jsonl: one row of numbers for each step, each with its own checksum."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfw.atomic import unused, write_text, write_whole, writing
from dfw.errors import CheckpointError
from dfw.runs.seal import OTHER, sealed_line, unsealed_line

log = logging.getLogger("dfw.runs")

_BEGIN = b'{"step": '


def read_metrics(path: Path, step: int = 0, run: str = "") -> list[dict[str, Any]]:
    """Returns all rows that are whole and of `run`, where that is given. Warns of others, and of missing ones before `step`.

    An unfinished last line is what a kill leaves, and not worth a warning.
    """
    rows, damaged = _read(path, run)
    if damaged:
        log.warning("%s: %s; the report and the curves go without", path, damaged)
    _warn_of_gaps(path, rows, step)
    return rows


def cut_metrics(path: Path, step: int, run: str = "") -> None:
    """Drops the rows from `step` on, because a resumed run writes them again. Warns of steps that are missing before.

    A damaged file is kept as metrics-damaged.jsonl. Raises CheckpointError if nothing can be written.
    """
    rows, damaged = _read(path, run)
    with writing(path, CheckpointError, otherwise="see that the folder is there and yours"):
        if damaged:
            kept = unused(path.with_name("metrics-damaged.jsonl"))
            if path.is_dir():
                path.rename(kept)
            else:
                write_whole(kept, path.read_bytes())
            log.warning("%s: %s; the file as it was is kept as %s", path, damaged, kept.name)
        rows = [row for row in rows if row["step"] < step]
        write_text(path, "".join(sealed_line(row, run) for row in rows))
    _warn_of_gaps(path, rows, step)


def _warn_of_gaps(path: Path, rows: Sequence[Mapping[str, Any]], step: int) -> None:
    missing = _ranges(sorted(set(range(step)) - {row["step"] for row in rows}))
    if missing:
        log.warning("%s lacks %s", path, missing)


class MetricsFile:
    """While open, rows are added to metrics.jsonl."""

    def __init__(self, path: Path, again: str, run: str = "") -> None:
        """`again`: what to do once there is room on a full device. `run`: the identity of the run."""
        self._path, self._run = path, run
        self._writing = (path, CheckpointError, again, "see that the folder is there and yours")

    def __enter__(self) -> MetricsFile:
        with writing(*self._writing):
            # Unbuffered, so that a row that does not fit is not tried again when the file is closed.
            self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row whole. Raises CheckpointError if it cannot be written."""
        data = memoryview(sealed_line(row, self._run).encode())
        with writing(*self._writing):
            while data:
                data = data[self._file.write(data) :]

    def sync(self) -> None:
        """Flushes all rows to the disk. Raises CheckpointError if that fails, or if the file was deleted meanwhile."""
        with writing(*self._writing):
            os.fsync(self._file.fileno())
        if not self._path.exists():
            raise CheckpointError(f"{self._path}: it was removed while the run wrote to it; start the run again")


def _read(path: Path, run: str) -> tuple[list[dict[str, Any]], str]:
    """Returns the rows, and what is wrong with the file, or nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], f"cannot be read ({error.strerror})"
    *lines, last = data.split(b"\n")
    rows: list[dict[str, Any]] = []
    others = 0
    for line in lines:
        try:
            rows.append(unsealed_line(line, run))
        except ValueError as error:
            others += str(error) == OTHER
    wrong = len(lines) - len(rows) + (last[: len(_BEGIN)] != _BEGIN[: len(last)])
    if others:
        return rows, f"{others} {'row belongs' if others == 1 else 'rows belong'} to another run than config.yaml"
    return rows, f"{wrong} {'row' if wrong == 1 else 'rows'} cannot be read" if wrong else ""


def _ranges(steps: Sequence[int]) -> str:
    """Formats step numbers in order: `step 3`, `steps 7 to 8`, `step 3 and steps 7 to 8`."""
    groups: list[list[int]] = []
    for step in steps:
        if groups and groups[-1][-1] == step - 1:
            groups[-1].append(step)
        else:
            groups.append([step])
    shown = [f"step {one[0]}" if len(one) == 1 else f"steps {one[0]} to {one[-1]}" for one in groups]
    if len(shown) > 4:
        shown = [*shown[:3], f"{sum(len(one) for one in groups[3:])} more steps"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
