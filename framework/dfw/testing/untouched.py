"""Whether a call leaves alone what it is given: all tensors of its inputs, compared before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dfw.testing.outcomes import require


def tensors_in(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor and array in `value`, with the way to it from `name`: of dataclasses, mappings, sequences and modules."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, np.ndarray):
        yield name, torch.from_numpy(value)
    elif isinstance(value, nn.Module):
        for part, tensor in (*value.named_parameters(), *value.named_buffers()):
            yield f"{name}.{part}", tensor
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_in(part, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from tensors_in(part, f"{name}[{index}]")


@contextmanager
def left_alone(promise: str, inputs: Mapping[str, object]) -> Iterator[None]:
    """Requires that no tensor of `inputs` (name -> whatever holds tensors) is changed in the `with` block."""
    held = [pair for name, value in inputs.items() for pair in tensors_in(value, name)]
    before = [tensor.detach().clone() for _, tensor in held]
    yield
    touched = [name for (name, now), then in zip(held, before, strict=True) if not torch.equal(now.detach(), then)]
    require(not touched, promise, f"it changed {', '.join(touched[:3])}", "Use no operations in place (those that end in _)")
