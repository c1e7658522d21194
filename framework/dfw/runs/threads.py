"""How many threads of the processor torch's operations share.

Threads wait for each other without spinning (see `dfw.cli.main`), so each shared operation costs the time to wake them. For a
small network that is more than they save.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from dfw.interfaces.guidance import Guidance

SMALL = 20_000_000
"""Parameters of all models together, up to which one thread is quicker. The shipped models have 7 million each, a tiny Stable
Diffusion 320 million."""


def settle(wanted: int | Literal["auto"], models: Iterable[Guidance]) -> None:
    """Sets torch's number of threads in this process as `trainer.threads` says. Models without parameters say nothing."""
    size = sum(weight.numel() for model in models for weight in model.parameters())
    if wanted != "auto":
        torch.set_num_threads(wanted)
    elif 0 < size <= SMALL:
        torch.set_num_threads(1)


@contextmanager
def as_before() -> Iterator[None]:
    """After the block torch has the number of threads that it had before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
