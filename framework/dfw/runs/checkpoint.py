"""Checkpoints: a directory of safetensors and JSON that is complete or absent.

Everything is written under a temporary name in the same folder, flushed to disk, and renamed. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dfw.errors import CheckpointError

FORMAT = 1  # raised whenever older checkpoints can no longer be read


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


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
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    streams: dict[str, Tensor],
    keep: int,
) -> Path:
    """Writes `folder/step-NNNNNN` and deletes all but the newest `keep` checkpoints. Returns the new directory."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:06d}"
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    for name, module in modules.items():
        tensors = module.state_dict()
        if tensors:
            _save_tensors(tensors, temporary / f"{name}.safetensors")
    plain: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        tensors, plain[name] = optimizer_tensors(optimizer)
        _save_tensors(tensors, temporary / f"{name}.safetensors")
    _save_tensors(streams, temporary / "streams.safetensors")
    state = {"format": FORMAT, "step": step, "modules": sorted(modules)} | plain
    with (temporary / "state.json").open("w") as file:
        json.dump(state, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the complete checkpoints in `folder`, oldest first."""
    return sorted(
        (p for p in folder.glob("step-*") if (p / "state.json").is_file()), key=lambda p: int(p.name.removeprefix("step-"))
    )


def newest_checkpoint(folder: Path) -> Path:
    """Returns the newest complete checkpoint. Raises CheckpointError if there is none."""
    found = list_checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder}: there is no checkpoint here; start the run again with `dfw run`")
    return found[-1]


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, as text."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def step_of(path: Path) -> int:
    """Returns the step at which a checkpoint was written. Raises CheckpointError if it cannot be read."""
    return int(_state(path)["step"])


def _state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
        if state["format"] != FORMAT:
            raise CheckpointError(
                f"{path}: it has checkpoint format {state['format']}, and this version of dfw reads {FORMAT}; "
                "use the version that wrote it"
            )
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be restored: {error}") from error
    return state


def load_modules(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Restores `modules`. Raises CheckpointError that names the one that does not fit."""
    for name, module in modules.items():
        try:
            file = path / f"{name}.safetensors"
            tensors = load_file(file) if file.is_file() else {}
            allocate = getattr(module, "allocate", None)
            if allocate is not None:
                allocate({key: tensor.shape for key, tensor in tensors.items()})
            module.load_state_dict(tensors)
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {name} cannot be restored: {error}") from error


def load_optimizers(path: Path, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Restores the state of `optimizers`. Raises CheckpointError that names the one that does not fit."""
    state = _state(path)
    for name, optimizer in optimizers.items():
        try:
            load_optimizer(optimizer, load_file(path / f"{name}.safetensors"), state[name])
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {name} cannot be restored: {error}") from error


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[int, dict[str, Tensor]]:
    """Restores `modules` and `optimizers`. Returns the step and the state of the random streams.

    Raises CheckpointError if a file is missing, broken or of another configuration.
    """
    step = step_of(path)
    load_modules(path, modules)
    load_optimizers(path, optimizers)
    try:
        return step, load_file(path / "streams.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the random streams cannot be restored: {error}") from error
