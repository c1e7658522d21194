"""What the comparisons with authors' own code share: packages left out, random weights, and the table that is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADER = "| what | largest value | largest difference |\n|---|---|---|"
ROUNDING = 1e-4
"""Largest difference, as a share of the largest value, that float32 explains."""


@contextmanager
def stand_ins(names: Sequence[str], **attributes: Any) -> Iterator[None]:
    """Puts a module that only has `attributes` in the place of each absent package while authors' modules are imported."""
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        module: Any = ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module
    for name in names:
        parent, _, child = name.rpartition(".")
        if parent in names:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def shake(network: nn.Module) -> None:
    """Moves all weights at random: the last layers start at zero, which would hide every mistake before them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    network.requires_grad_(False).eval()


def attention(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
    """softmax(q k / sqrt(d)) v, which xformers computes."""
    return F.scaled_dot_product_attention(query, key, value)


def compare(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Prints how far each pair is apart, theirs and ours; returns the largest difference as a share of the largest value."""
    worst = 0.0
    for name, (theirs, ours) in pairs.items():
        apart, largest = float((theirs - ours).abs().max()), float(theirs.abs().max())
        worst = max(worst, apart / largest)
        print(f"| {name} | {largest:.3g} | {apart:.2g} |")
    return worst


def finish(worst: float) -> None:
    """Ends with exit code 1 if the largest difference is more than rounding."""
    if not worst < ROUNDING:
        print(f"they differ by {worst:.2g} of the largest value")
        sys.exit(1)
