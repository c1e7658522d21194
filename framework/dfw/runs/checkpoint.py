"""Checkpoints: a directory of safetensors and JSON that is complete or absent, and in which damage is noticed.

Everything is written under a temporary name in the same folder, flushed to disk, and renamed. state.json holds the SHA-256 of
each file, and its own. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dfw.atomic import remove, sync_folder, temporary_name, write_file, writing
from dfw.errors import CheckpointError, one_line
from dfw.runs.checkpoint_folder import (
    FORMAT,
    STATE,
    again,
    compare,
    damage_of,
    list_checkpoints,
    number_of,
    put_in_place,
    retire,
    state_of,
    step_of,
)
from dfw.runs.seal import digest, sealed_json


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

    with writing(final, CheckpointError, again(folder), "see that the folder is there and yours"):
        folder.mkdir(parents=True, exist_ok=True)
        if not damage_of(final, run):
            same = sealed_json(state | {"files": {name: digest(data) for name, data in files()}})
            if same == (final / STATE).read_bytes():
                return final
        temporary = temporary_name(final)
        try:
            temporary.mkdir()
            digests: dict[str, str] = {}
            for name, data in files():
                write_file(temporary / name, data)
                digests[name] = digest(data)
            write_file(temporary / STATE, sealed_json(state | {"files": digests}))
            sync_folder(temporary)
            put_in_place(temporary, final)
        except BaseException:
            remove(temporary)
            raise
    earlier = [path for path in list_checkpoints(folder) if number_of(path.name) <= step]
    for old in earlier[:-keep]:
        retire(old)
    return final


def _tensors(path: Path, name: str) -> dict[str, Tensor]:
    """Reads one file of a checkpoint. Raises CheckpointError if it is not as it was written."""
    held: list[bytes] = []

    def look(file: Path) -> str:
        held.append(file.read_bytes())
        return digest(held[0])

    compare(path, f"{name}.safetensors", state_of(path), look)
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
    plain = state_of(path)["optimizers"]
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
