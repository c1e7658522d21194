"""Counts what a run asks of its guidances' networks, on the host alone: the cost that is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from dfw.interfaces.guidance import Guidance
from dfw.ranks.sharing import own_class

_COUNTED, _CALLS = "_dfw_counted", "_dfw_calls"


def count_calls(guidances: Iterable[Guidance]) -> None:
    """Lets guidances count the pictures that `predict` is given. An adapter that asks its model's `predict` is counted there."""
    for guidance in guidances:
        if not getattr(type(guidance), _COUNTED, False):  # a process may keep a guidance from one run to the next
            cls = own_class(guidance)
            cls.predict = _counting(cls)
            setattr(cls, _COUNTED, True)


def take_calls(guidances: Iterable[Guidance]) -> int:
    """Returns how many pictures the networks have been given since the last time it was asked."""
    return sum(vars(one).pop(_CALLS, 0) for one in guidances)


def _counting(cls: type) -> Any:
    def predict(self: Any, noisy: Tensor, *given: Any, **named: Any) -> Tensor:
        vars(self)[_CALLS] = vars(self).get(_CALLS, 0) + len(noisy)
        model: Any = super(cls, self)
        found: Tensor = model.predict(noisy, *given, **named)
        return found

    return predict
