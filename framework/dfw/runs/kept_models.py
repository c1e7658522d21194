"""Loaded models that a process keeps from one run to the next, for processes that make several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dfw.compose import Composition, Parts, features, guidance_path
from dfw.interfaces.component import Component, take_numbers
from dfw.interfaces.guidance import Guidance
from dfw.plugins.parts import Chosen

Key = tuple[type[Component], str, str]
"""Class, device and options of a model."""
_current: ContextVar[KeptModels | None] = ContextVar("kept models", default=None)


class KeptModels:
    """The guidances of the last run, where the next one may use them: `Guidance.renew` says so, and no loss trained an adapter.

    A model is the same if its component, its options and the device are. Everything else is dropped before a run loads its own
    models, since memory may not hold both.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, Guidance] = {}
        self._used: dict[Key, Guidance] = {}

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Runs that are made inside use what is kept. Those that end well leave their models; an exception drops them."""
        token = _current.set(self)
        try:
            yield
            self._kept = {key: one for key, one in self._used.items() if one.renew()}
        finally:
            self._used = {}
            _current.reset(token)

    def build(self, composition: Composition) -> Parts:
        """Builds the parts of a run."""
        wanted = {name: composition.chosen[guidance_path(composition.config, name)] for name in composition.models}
        keys = {name: _key(part, composition.config.device) for name, part in wanted.items()}
        once = {key: name for name, key in keys.items()}  # two guidances of one configuration are two objects
        ready = {name: _renamed(self._kept[key], wanted[name]) for key, name in once.items() if key in self._kept}
        self._kept, self._used = {}, {}
        parts = composition.build(ready)
        if not any("adapter" in features(part, "requires") for part in composition.parts()):
            self._used = {key: parts.guidances[name] for key, name in once.items()}
        return parts


def build(composition: Composition) -> Parts:
    """Builds the parts of a run, with models that this process has kept, if it keeps any."""
    kept = _current.get()
    return composition.build() if kept is None else kept.build(composition)


def _key(part: Chosen, device: str) -> Key:
    return part.cls, device, json.dumps(part.written(), sort_keys=True)


def _renamed(guidance: Guidance, part: Chosen) -> Guidance:
    guidance.dfw_name, guidance.dfw_path = part.who, part.key
    take_numbers(guidance)
    return guidance
