"""The optimiser: named parameter groups, each with a learning rate that may change with the step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dfw.config.schedules import Progress, Schedule, value_at
from dfw.config.settings import OptimizerSettings
from dfw.errors import ConfigError

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


def learning_rate_of(settings: OptimizerSettings, group: str) -> Schedule:
    """Returns the schedule of `group`: its own, else that of its longest dotted prefix, else the common one."""
    name = group
    while name:
        if name in settings.groups:
            return settings.groups[name].lr
        name = name.rpartition(".")[0]
    return settings.lr


def make_optimizer(settings: OptimizerSettings, groups: Groups) -> torch.optim.Optimizer:
    """Makes Adam or AdamW over `groups`, fused into one kernel call. Raises ConfigError if a setting names an unknown group."""
    if not groups:
        raise ConfigError(
            "nothing to train: no component of this run gives trainable parameters in parameter_groups(); "
            "choose a geometry with parameters"
        )
    for name in settings.groups:
        if not any(group == name or group.startswith(f"{name}.") for group in groups):
            raise ConfigError(f"optimizer.groups.{name}: no such parameter group; this run has {', '.join(sorted(groups))}")
    nodes: list[dict[str, Any]] = [{"params": parameters, "name": name} for name, parameters in groups.items()]
    kind = torch.optim.AdamW if settings.weight_decay > 0 else torch.optim.Adam
    return kind(nodes, lr=0.0, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay, fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, settings: OptimizerSettings, progress: Progress) -> None:
    """Sets every group's learning rate for this step."""
    for group in optimizer.param_groups:
        group["lr"] = value_at(learning_rate_of(settings, group["name"]), progress)
