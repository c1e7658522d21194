"""The processes of this process's runs. torch.distributed is imported where there are several."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from dfw.ranks.alone import ALONE, Alone
from dfw.ranks.environment import rank_and_count

if TYPE_CHECKING:
    from dfw.ranks.party import Party


def party() -> Alone:
    """Returns the processes of this process's runs."""
    return ALONE if rank_and_count()[1] == 1 else together()


@cache
def together() -> Party:
    """Returns the processes that torchrun started. There must be several."""
    from dfw.ranks.party import Party

    return Party(*rank_and_count())
