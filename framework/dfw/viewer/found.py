"""The runs that a viewer shows. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from dfw.errors import CheckpointError
from dfw.runs.directory import stage_directories
from dfw.studies.plan import without_runs
from dfw.studies.records import find_runs


def runs_in(folder: Path) -> dict[str, Path]:
    """Label -> run, of the runs in and below `folder`; of those that have stages each stage, the last one first.

    Raises CheckpointError where there is none.
    """
    found = [stage for run in find_runs([folder]) for stage in (stage_directories(run)[::-1] or [run])]
    if not found:
        raise CheckpointError(without_runs(folder))
    return {str(path.relative_to(folder)) if path != folder else path.name: path for path in found}
