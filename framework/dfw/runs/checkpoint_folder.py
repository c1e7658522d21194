"""The checkpoints of a run as folders: which there are, which are damaged, and which comes into whose place. Imports no torch."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dfw.atomic import remove, sync_folder, temporary_name
from dfw.errors import CheckpointError
from dfw.runs.seal import digest_of, unsealed_json

log = logging.getLogger("dfw.runs")

FORMAT = 2  # raised whenever older checkpoints can no longer be read
STATE = "state.json"
"""The file of a checkpoint that holds its step, the digests of the others, and its own."""
_NAME = re.compile(r"step-(\d{1,18})")
_UNFINISHED = re.compile(r"\.(step-\d{1,18})\.\d+\.[0-9a-f]{8}\.tmp")
_SHAPE = {"format": int, "run": str, "step": int, "optimizers": dict, "files": dict}


def again(folder: Path) -> str:
    """Says how to go on with the run whose checkpoints are in `folder`."""
    run = folder.parent
    known = (run / "resolved.yaml").is_file() and list_checkpoints(folder)
    return f"go on with `dfw run --resume {run}`" if known else "start the run again"


def put_in_place(complete: Path, final: Path) -> None:
    """Gives a complete checkpoint its name. What had the name is renamed before, and removed after."""
    old = _renamed(final) if os.path.lexists(final) else None
    complete.rename(final)
    sync_folder(final.parent)
    if old is not None:
        remove(old)


def retire(path: Path) -> None:
    """Removes a checkpoint: renamed first, so that a kill leaves none without some of its files."""
    try:
        remove(_renamed(path))
    except OSError as error:
        log.warning("%s: cannot be removed: %s", path, error.strerror)


def _renamed(path: Path) -> Path:
    return path.rename(temporary_name(path.with_name(f"old-{path.name}")))


def adopt(folder: Path, run: str = "") -> None:
    """Gives a complete checkpoint its name that a killed process wrote and did not come to rename. Removes what has no state.

    Only for a process that alone writes in `folder`.
    """
    for path in folder.glob(".step-*.tmp"):
        found = _UNFINISHED.fullmatch(path.name)
        if found and not damage_of(path, run, found[1]) and damage_of(folder / found[1], run):
            put_in_place(path, folder / found[1])
    for path in list_checkpoints(folder):
        if not os.path.lexists(path / STATE):
            log.warning("%s: it has no %s, so it cannot be restored; it is removed", path, STATE)
            retire(path)


def number_of(name: str) -> int:
    """Returns the step in the name of a checkpoint; -1 for another name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else -1


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in `folder`, damaged ones included, oldest first. Other names do not count."""
    return sorted((path for path in folder.glob("step-*") if number_of(path.name) >= 0), key=lambda path: number_of(path.name))


def newest_checkpoint(folder: Path, run: str = "") -> Path:
    """Returns the newest checkpoint that is not damaged, and warns of newer ones that are.

    run: the identity that a checkpoint must have; empty: any. Raises CheckpointError if there is none, or if all are damaged.
    """
    wrong: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        damage = damage_of(path, run)
        if not damage:
            if wrong:
                log.warning("%s: %s; taking %s instead", folder, "; ".join(wrong), path.name)
            return path
        wrong.append(f"{path.name}: {damage}")
    if wrong:
        raise CheckpointError(
            f"{folder}: no checkpoint can be restored ({'; '.join(wrong)}); put back these files from a copy, or start the run "
            "again with `dfw run`"
        )
    raise CheckpointError(f"{folder}: there is no checkpoint here; start the run again with `dfw run`")


def damage_of(path: Path, run: str = "", name: str = "") -> str:
    """Says what is wrong with a checkpoint, or nothing. name: the name that it should have, by default its own."""
    try:
        state = state_of(path)
        if state["step"] != number_of(name or path.name):
            return f"{STATE} is that of step {state['step']}"
        if run and state["run"] != run:
            return f"{STATE} is that of another run"
        for file in state["files"]:
            compare(path, file, state, digest_of)
    except CheckpointError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def compare(path: Path, file: str, state: Mapping[str, Any], look: Callable[[Path], str]) -> None:
    """Raises CheckpointError if a file of a checkpoint is not as it was written; `look` returns the digest of what is there."""
    try:
        same = look(path / file) == state["files"].get(file)
    except OSError as error:
        raise CheckpointError(f"{path}: {file} cannot be read ({error.strerror})") from error
    if not same:
        raise CheckpointError(f"{path}: {file} is damaged (its checksum differs)")


def step_of(path: Path) -> int:
    """Returns the step at which a checkpoint was written. Raises CheckpointError if it cannot be read."""
    return int(state_of(path)["step"])


def run_of(path: Path) -> str:
    """Returns the identity of the run that wrote a checkpoint. Raises CheckpointError if it cannot be read."""
    return str(state_of(path)["run"])


def state_of(path: Path) -> dict[str, Any]:
    """Returns the content of state.json. Raises CheckpointError if it is damaged or of another format."""
    try:
        state = unsealed_json((path / STATE).read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {STATE} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {STATE} is damaged ({error})") from error
    if {key: type(value) for key, value in state.items()} != _SHAPE:
        raise CheckpointError(f"{path}: {STATE} is damaged (it has other keys or other kinds of values)")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: it has checkpoint format {state['format']}, and this version of dfw reads {FORMAT}; "
            "use the version that wrote it"
        )
    return state
