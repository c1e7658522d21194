"""The optimiser: named parameter groups, each with its own settings. Learning rates may change with the step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dfw.config.schedules import Progress, Schedule, value_at
from dfw.config.settings import GroupSettings, OptimizerSettings
from dfw.errors import ConfigError, ContractError
from dfw.interfaces.data import Resized

Groups = dict[str, list[nn.Parameter]]


def merge_groups(parts: Iterable[Groups]) -> Groups:
    """Joins the groups of all parts and drops empty ones. A parameter that occurs twice stays in its first group."""
    merged: Groups = {}
    seen: set[int] = set()
    for groups in parts:
        for name, parameters in groups.items():
            fresh = [p for p in parameters if p.requires_grad and id(p) not in seen]
            seen.update(id(p) for p in fresh)
            if fresh:
                merged.setdefault(name, []).extend(fresh)
    return merged


def _settings_of(settings: OptimizerSettings, group: str) -> list[GroupSettings]:
    """Returns the entries for `group`, the longest dotted prefix first."""
    found, name = [], group
    while name:
        if name in settings.groups:
            found.append(settings.groups[name])
        name = name.rpartition(".")[0]
    return found


def learning_rate_of(settings: OptimizerSettings, group: str) -> Schedule:
    """Returns the schedule of `group`: its own, else that of its longest dotted prefix, else the common one."""
    return next((one.lr for one in _settings_of(settings, group) if one.lr is not None), settings.lr)


def make_optimizer(settings: OptimizerSettings, groups: Groups) -> torch.optim.Optimizer:
    """Makes the optimiser over `groups`, fused into one kernel call. Raises ConfigError if a setting names an unknown group."""
    if not groups:
        raise ConfigError(
            "nothing to train: no component of this run gives trainable parameters in parameter_groups(); "
            "choose a geometry with parameters"
        )
    for name in settings.groups:
        if not any(group == name or group.startswith(f"{name}.") for group in groups):
            raise ConfigError(f"optimizer.groups.{name}: no such parameter group; this run has {', '.join(sorted(groups))}")
    nodes = [{"params": parameters, "name": name} | _options(settings, name) for name, parameters in groups.items()]
    if settings.type == "sgd":
        return torch.optim.SGD(nodes, lr=0.0, fused=True)
    kind = torch.optim.AdamW if settings.type == "adamw" else torch.optim.Adam
    return kind(nodes, lr=0.0, fused=True)


def _options(settings: OptimizerSettings, group: str) -> dict[str, Any]:
    """Returns the options of torch's optimiser for a group, except the rate."""
    found: dict[str, Any] = {}
    for name in ("betas", "eps", "weight_decay"):
        own = (getattr(one, name) for one in _settings_of(settings, group))
        found[name] = next((value for value in own if value is not None), getattr(settings, name))
    if settings.type == "sgd":
        return {"momentum": found["betas"][0], "weight_decay": found["weight_decay"]}
    return found


def set_learning_rates(optimizer: torch.optim.Optimizer, settings: OptimizerSettings, progress: Progress) -> None:
    """Sets every group's learning rate for this step."""
    for group in optimizer.param_groups:
        group["lr"] = value_at(learning_rate_of(settings, group["name"]), progress)


@torch.no_grad()
def carry_over(optimizer: torch.optim.Optimizer, resized: Resized) -> None:
    """Puts a parameter's new values in place. Each new row takes the optimiser's state of the row that it continues.

    Rows of index -1 start with a state of zeros. Raises ContractError if the index does not fit.
    """
    parameter, values, index = resized.parameter, resized.values, resized.index
    rows = len(parameter)
    if index.dim() != 1 or index.dtype != torch.int64 or len(index) != len(values) or values.shape[1:] != parameter.shape[1:]:
        shapes = f"values {tuple(values.shape)}, index {tuple(index.shape)} of {index.dtype}"
        raise ContractError(f"end_step() resizes a parameter of shape {tuple(parameter.shape)} with {shapes}, which do not fit")
    state = optimizer.state.get(parameter, {})
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() and len(value) == rows:
            continued = value[index.clamp_min(0)]
            state[name] = continued.where((index >= 0).view(-1, *[1] * (value.dim() - 1)), torch.zeros_like(continued))
    parameter.grad = None
    parameter.data = values.detach().to(parameter)
