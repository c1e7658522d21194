"""Whether a component left alone what it was given: compares the versions of tensors, on the host alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from dfw.interfaces.checks import check_untouched, version_of
from dfw.interfaces.component import Component
from dfw.interfaces.data import Record


class Watch:
    """While the block runs, `component` may read `given` and not write into it. Raises ContractError when it did.

    torch counts the in-place changes of a tensor (`_version`); reading the count neither copies nor waits for the device.
    """

    def __init__(self, component: Component, *given: Record | None) -> None:
        self._component = component
        self._before = [(name, tensor, version_of(tensor)) for one in given for name, tensor in _tensors(one)]

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        for name, tensor, version in self._before:
            check_untouched(self._component, f"the {name}", tensor, version)


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Record):
        for one in fields(value):  # type: ignore[arg-type]
            yield from _tensors(getattr(value, one.name), one.name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name} {key!r}")
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item, name)
