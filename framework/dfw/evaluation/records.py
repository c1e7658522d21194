"""What an evaluation leaves next to a run: `evaluation/PROTOCOL/results.json`, sealed as the run's own records. Imports no torch.

A record is plain JSON:

    {"format": 1, "protocol": "views16", "run": {"prompt", "seed", "name", "dfw version", "step", "identity"},
     "views": 16, "size": [H, W],
     "scores": {SCORER: {"value", "unit", "better", "per_view", "details", "options", "asked"}},
     "cost": {"network_calls", "seconds", "peak_memory_mb"}, "evaluated": {"date", "seconds", "device"}}

`value` and `per_view` are numbers or null. `better` is `higher` or `lower`. A number in `details` is a further figure, which is
summarised as SCORER.NAME; anything else there is a remark. `cost` is that of the run itself, null where it has no record.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dfw.atomic import sweep, write_whole, writing
from dfw.errors import ConfigError
from dfw.runs.directory import RunDirectory, stage_directories
from dfw.runs.life import STATUS
from dfw.runs.seal import finite, sealed_json, unsealed_json

log = logging.getLogger("dfw.evaluation")

FOLDER = "evaluation"
"""Folder of a run that holds one folder for each protocol."""
FILE = "results.json"
FORMAT = 1
"""Version of the record."""

Result = Mapping[str, Any]
"""A record, as this module's first lines say."""


def place_of(run: Path, protocol: str) -> Path:
    """Returns the folder for a protocol's record and pictures, of a run or of one of its stages."""
    return run / FOLDER / protocol


def read_result(run: Path, protocol: str) -> dict[str, Any] | None:
    """Returns a run's record of a protocol. None where there is none, and also, with a warning, where it is damaged."""
    path = place_of(run, protocol) / FILE
    try:
        found = unsealed_json(path.read_bytes())
        if found.get("format") != FORMAT:
            raise ValueError(f"its format is {found.get('format')}, and this dfw reads {FORMAT}")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s: cannot be read (%s); going on without it", path, error.strerror)
        return None
    except ValueError as error:
        log.warning("%s: damaged, or changed by a person (%s); going on without it", path, error)
        return None
    return found


def read_results(run: Path) -> dict[str, dict[str, Any]]:
    """Returns protocol -> record, of all that a run has, in the order of their names. Of a run with stages that of its last."""
    place = RunDirectory.find(run).path
    names = sorted(path.parent.name for path in place.glob(f"{FOLDER}/*/{FILE}"))
    found = {name: read_result(place, name) for name in names}
    return {name: one for name, one in found.items() if one is not None}


def write_result(run: Path, result: Result) -> Path:
    """Writes a record whole and returns its file. Raises ConfigError where that cannot be done."""
    folder = place_of(run, str(result["protocol"]))
    with writing(folder / FILE, ConfigError, otherwise="only who may write a run may evaluate it"):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        write_whole(folder / FILE, sealed_json(finite({"format": FORMAT} | dict(result))))
    return folder / FILE


def cost_of(run: Path) -> dict[str, float | None]:
    """Returns what a run took, all stages together: `network_calls`, `seconds`, `peak_memory_mb` (10^6 bytes).

    `network_calls` are the pictures that the guidances' networks were given in the steps that made the scene; steps that a kill
    undid are not among them. None stands for what the run did not write down.
    """
    seconds = RunDirectory(run).read_json(STATUS).get("seconds")
    rows = [row for place in stage_directories(run) or [run] for row in RunDirectory(place).read_metrics()]
    return {
        "network_calls": calls_of(rows),
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
        "peak_memory_mb": peak_of(rows),
    }


def calls_of(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Returns the network calls of all rows of metrics. None where a row does not say them, as those of earlier versions."""
    found = [row.get("network_calls") for row in rows]
    numbers = [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]
    return sum(numbers) if numbers and len(numbers) == len(found) else None


def peak_of(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Returns the largest memory in rows of metrics, in MB (10^6 bytes). None where none says it."""
    peaks = [float(row["peak_memory"]) for row in rows if isinstance(row.get("peak_memory"), int | float)]
    return max(filter(math.isfinite, peaks), default=None)  # what was not finite comes back as NaN
