"""Checkpoints: a directory of safetensors and JSON that is complete or absent, and in which damage is noticed.

Everything is written under a temporary name in the same folder, flushed to disk, and renamed. state.json holds the SHA-256 of
each file, and its own. Nothing is pickled.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dfw.atomic import remove, sync_folder, temporary_name, write_file, writing
from dfw.errors import CheckpointError, one_line
from dfw.runs.seal import digest, digest_of, sealed_json, unsealed_json

log = logging.getLogger("dfw.runs")

FORMAT = 2  # raised whenever older checkpoints can no longer be read
_NAME = re.compile(r"step-(\d{1,18})")
_UNFINISHED = re.compile(r"\.(step-\d{1,18})\.\d+\.[0-9a-f]{8}\.tmp")
_STATE = "state.json"
_SHAPE = {"format": int, "run": str, "step": int, "optimizers": dict, "files": dict}


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the optimiser's state as named tensors, and its groups as plain values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entry in state["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                scalars[f"{index}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "scalars": scalars}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Restores the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Any]] = {}
    for source in (tensors, plain["scalars"]):
        for name, value in source.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in plain["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_checkpoint(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    streams: Mapping[str, Tensor],
    keep: int,
    run: str = "",
) -> Path:
    """Writes `folder/step-NNNNNN` and removes all but the newest `keep` checkpoints. Returns the new directory.

    run: the identity of the run, so that a checkpoint of another one is noticed. What is there already and holds the same is not
    written again. Nothing is removed before the new checkpoint is in place. Raises CheckpointError if it cannot be written.
    """
    final = folder / f"step-{step:06d}"
    optimizer_state = {name: optimizer_tensors(optimizer) for name, optimizer in optimizers.items()}
    state = {
        "format": FORMAT,
        "run": run,
        "step": step,
        "optimizers": {name: plain for name, (_, plain) in optimizer_state.items()},
    }

    def files() -> Iterator[tuple[str, bytes]]:
        """One file at a time, because all together may be as large as the free memory."""
        groups = {name: module.state_dict() for name, module in modules.items()}
        groups |= {name: tensors for name, (tensors, _) in optimizer_state.items()} | {"streams": dict(streams)}
        yield from ((f"{name}.safetensors", _packed(tensors)) for name, tensors in groups.items())

    with writing(final, CheckpointError, _again(folder), "see that the folder is there and yours"):
        folder.mkdir(parents=True, exist_ok=True)
        if not damage_of(final, run):
            same = sealed_json(state | {"files": {name: digest(data) for name, data in files()}})
            if same == (final / _STATE).read_bytes():
                return final
        temporary = temporary_name(final)
        try:
            temporary.mkdir()
            digests: dict[str, str] = {}
            for name, data in files():
                write_file(temporary / name, data)
                digests[name] = digest(data)
            write_file(temporary / _STATE, sealed_json(state | {"files": digests}))
            sync_folder(temporary)
            _put(temporary, final)
        except BaseException:
            remove(temporary)
            raise
    earlier = [path for path in list_checkpoints(folder) if _number(path.name) <= step]
    for old in earlier[:-keep]:
        _retire(old)
    return final


def _again(folder: Path) -> str:
    run = folder.parent
    known = (run / "resolved.yaml").is_file() and list_checkpoints(folder)
    return f"go on with `dfw run --resume {run}`" if known else "start the run again"


def _put(complete: Path, final: Path) -> None:
    """Gives a complete checkpoint its name. What had the name is renamed before, and removed after."""
    old = _renamed(final) if os.path.lexists(final) else None
    complete.rename(final)
    sync_folder(final.parent)
    if old is not None:
        remove(old)


def _retire(path: Path) -> None:
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
            _put(path, folder / found[1])
    for path in list_checkpoints(folder):
        if not os.path.lexists(path / _STATE):
            _retire(path)


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else -1


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in `folder`, damaged ones included, oldest first. Other names do not count."""
    return sorted((path for path in folder.glob("step-*") if _number(path.name) >= 0), key=lambda path: _number(path.name))


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
        state = _state(path)
        if state["step"] != _number(name or path.name):
            return f"{_STATE} is that of step {state['step']}"
        if run and state["run"] != run:
            return f"{_STATE} is that of another run"
        for file in state["files"]:
            _compare(path, file, state, digest_of)
    except CheckpointError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def _compare(path: Path, file: str, state: Mapping[str, Any], look: Callable[[Path], str]) -> None:
    """Raises CheckpointError if a file of a checkpoint is not as it was written; `look` returns the digest of what is there."""
    try:
        same = look(path / file) == state["files"].get(file)
    except OSError as error:
        raise CheckpointError(f"{path}: {file} cannot be read ({error.strerror})") from error
    if not same:
        raise CheckpointError(f"{path}: {file} is damaged (its checksum differs)")


def step_of(path: Path) -> int:
    """Returns the step at which a checkpoint was written. Raises CheckpointError if it cannot be read."""
    return int(_state(path)["step"])


def run_of(path: Path) -> str:
    """Returns the identity of the run that wrote a checkpoint. Raises CheckpointError if it cannot be read."""
    return str(_state(path)["run"])


def _state(path: Path) -> dict[str, Any]:
    try:
        state = unsealed_json((path / _STATE).read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {_STATE} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {_STATE} is damaged ({error})") from error
    if {key: type(value) for key, value in state.items()} != _SHAPE:
        raise CheckpointError(f"{path}: {_STATE} is damaged (it has other keys or other kinds of values)")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: it has checkpoint format {state['format']}, and this version of dfw reads {FORMAT}; "
            "use the version that wrote it"
        )
    return state


def _tensors(path: Path, name: str) -> dict[str, Tensor]:
    """Reads one file of a checkpoint. Raises CheckpointError if it is not as it was written."""
    held: list[bytes] = []

    def look(file: Path) -> str:
        held.append(file.read_bytes())
        return digest(held[0])

    _compare(path, f"{name}.safetensors", _state(path), look)
    return load(held[0])


def load_modules(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Restores `modules`. Raises CheckpointError that names the one that does not fit."""
    for name, module in modules.items():
        tensors = _tensors(path, name)
        with _restoring(path, name):
            allocate = getattr(module, "allocate", None)
            if allocate is not None:
                allocate({key: tensor.shape for key, tensor in tensors.items()})
            module.load_state_dict(tensors)


def load_optimizers(path: Path, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Restores the state of `optimizers`. Raises CheckpointError that names the one that does not fit."""
    plain = _state(path)["optimizers"]
    for name, optimizer in optimizers.items():
        tensors = _tensors(path, name)
        with _restoring(path, name):
            load_optimizer(optimizer, tensors, plain[name])


@contextmanager
def _restoring(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {name} cannot be restored: {one_line(error)}") from error


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[int, dict[str, Tensor]]:
    """Restores `modules` and `optimizers`. Returns the step and the state of the random streams.

    Raises CheckpointError if a file is missing, broken or of another configuration.
    """
    step = step_of(path)
    load_modules(path, modules)
    load_optimizers(path, optimizers)
    return step, _tensors(path, "streams")
