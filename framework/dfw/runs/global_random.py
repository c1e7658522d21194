"""The global random states of Python, NumPy and torch: watched, and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def global_states() -> dict[str, Any]:
    """The state of each global random number generator, by the name of its module."""
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002
    if torch.cuda.is_available():
        states["torch.cuda"] = torch.cuda.get_rng_state_all()
    return states


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The generators whose state differs."""
    return [name for name in before if not _equal(before[name], after[name])]


def seed_globally(seed: int) -> None:
    """Seeds every global generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@contextmanager
def kept_states() -> Iterator[None]:
    """Puts the global states back at the end, whatever was drawn."""
    before = global_states()
    try:
        yield
    finally:
        random.setstate(before["random"])
        np.random.set_state(before["numpy.random"])  # noqa: NPY002
        torch.set_rng_state(before["torch"])
        if "torch.cuda" in before:
            torch.cuda.set_rng_state_all(before["torch.cuda"])


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
