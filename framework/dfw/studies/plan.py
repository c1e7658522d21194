"""The plan of a sweep: which runs it has, each under a name of its own. The file `sweep.json` of its folder. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dfw.atomic import new_folder, write_whole, writing
from dfw.config.load import find_config
from dfw.errors import CheckpointError, ConfigError
from dfw.runs.lock import RunLock, waiting
from dfw.runs.seal import sealed_json, unsealed_json
from dfw.studies.axes import Axis, combinations

PLAN = "sweep.json"
CLAIMS = "claims"
"""Folder with a lock for each run, so that several processes, also on several machines, can work on one sweep."""
PLAN_CLAIM = f"{CLAIMS}/.plan"
"""Folder with the lock that a process holds while it changes the plan."""


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: an ordinary `dfw run CONFIG OVERRIDES`."""

    name: str
    """Of its directory in the sweep's folder."""
    config: str
    """The file, or the name of a shipped configuration."""
    overrides: tuple[str, ...]
    folder: str
    """Where the plan was made: relative paths in the overrides are relative to it."""

    @property
    def command(self) -> str:
        """The same run alone, as a shell takes it."""
        return shlex.join(["dfw", "run", self.config, *self.overrides])


def planned(configs: Sequence[str], axes: Sequence[Axis]) -> list[Planned]:
    """Plans every configuration with every combination. Raises ConfigError for a configuration that is not there."""
    keys = [one.key for one in axes]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"override {twice[0]}: stands there twice; write all its values in one: {twice[0]}=1,2")
    changing = [place for place, one in enumerate(axes) if len(one.values) > 1]
    runs = []
    for config in dict.fromkeys(configs):
        path = find_config(config)
        source = str(path.resolve()) if Path(config).expanduser().is_file() else config
        for overrides in combinations(axes):
            told = [overrides[place].partition("=")[2] for place in changing]
            runs.append(Planned(_name(path.stem, told, source, overrides), source, overrides, os.getcwd()))
    return runs


def _name(stem: str, values: Iterable[str], config: str, overrides: Sequence[str]) -> str:
    """Says what differs between the runs, and ends with a digest of all of it, so that no two runs share a directory."""
    words = [stem, *values]
    readable = "-".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-.")[:40] for word in words)
    whole = "\0".join([config, *sorted(overrides)])
    return f"{readable[:150]}-{hashlib.sha256(whole.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def read_plan(folder: Path) -> list[Planned]:
    """Reads the plan in a folder; empty where it has none. Raises CheckpointError for one that is damaged."""
    path = folder / PLAN
    try:
        return plan_from(path.read_bytes(), str(path), f" with --out {folder}")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def without_runs(folder: Path) -> str:
    """Says why a folder in which no run was found has none, and what to do."""
    count = len(read_plan(folder))
    if count:
        return f"{folder}: none of the {count} runs of this sweep has begun; `dfw sweep --resume {folder}` makes them"
    return f"{folder}: holds no run; give the folder that `dfw run` or `dfw sweep` printed"


def plan_from(data: bytes, where: str, again: str = "") -> list[Planned]:
    """Reads a plan. `again`: how the same sweep is given again. Raises CheckpointError for one that is damaged."""
    try:
        tree = unsealed_json(data)
        return [Planned(one["name"], one["config"], tuple(one["overrides"]), one["folder"]) for one in tree["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{where}: damaged, or changed by a person ({error}); its runs are whole: move it away, and give the same sweep "
            f"again{again}"
        ) from None


def sealed_plan(runs: Sequence[Planned]) -> bytes:
    """Writes a plan, as `plan_from` reads it."""
    return sealed_json({"runs": [asdict(one) for one in runs]})


def write_plan(folder: Path, runs: Sequence[Planned]) -> None:
    """Writes the plan whole. Raises ConfigError where it cannot be written."""
    with writing(folder / PLAN, ConfigError, otherwise="name a folder with --out that you may write to"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PLAN, sealed_plan(runs))


def add_to_plan(folder: Path, runs: Sequence[Planned]) -> list[Planned]:
    """Adds runs to the plan in a folder, and returns all. Several processes may do so at once. Raises as `write_plan`."""
    with writing(folder / PLAN, ConfigError, otherwise="name a folder with --out that you may write to"):
        (folder / PLAN_CLAIM).mkdir(parents=True, exist_ok=True)
    with waiting(RunLock(folder / PLAN_CLAIM)):
        both = extended(read_plan(folder), runs)
        write_plan(folder, both)
        return both


def begin_plan(folder: Path, runs: Sequence[Planned]) -> Path:
    """Writes the plan in a new folder and returns that: `folder`, or `folder`-2, -3 ... Raises ConfigError."""
    with writing(folder, ConfigError, otherwise="name a folder with --out that you may write to"):
        made = new_folder(folder)
    write_plan(made, runs)
    return made


def extended(before: Sequence[Planned], more: Sequence[Planned]) -> list[Planned]:
    """Returns the runs of both plans, each once; those of the first keep their order, and their names.

    A name says only what differs, so the same run can have another name in a larger plan.
    """
    found: dict[tuple[str, ...], Planned] = {}
    for one in (*before, *more):
        found.setdefault(same(one), one)
    return list(found.values())


def same(run: Planned) -> tuple[str, ...]:
    """Returns what two plans have alike of the same run."""
    return (run.config, *sorted(run.overrides))
