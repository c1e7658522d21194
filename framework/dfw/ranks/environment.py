"""What torchrun tells a process. Imports no torch."""

from __future__ import annotations

import os

RANK, COUNT, LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
"""Variables that torchrun sets for each process."""


def rank_and_count() -> tuple[int, int]:
    """Returns which process of a run this is, and how many there are: 0 and 1 unless torchrun says otherwise."""
    given = [os.environ.get(name, "") for name in (RANK, COUNT)]
    if not all(text.isdecimal() for text in given) or int(given[1]) < 2:
        return 0, 1
    return int(given[0]), int(given[1])


def follows() -> bool:
    """Returns whether another process leads this one."""
    return rank_and_count()[0] > 0
