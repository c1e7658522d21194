"""The fence around code of plugins: errors name their owner, and torch's global state stays as it was. Imports no torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dfw.errors import DfwError, PluginError, one_line

log = logging.getLogger("dfw.plugins")

Passing = tuple[type[BaseException], ...]
"""Exceptions that a fence lets through as they are."""
OWN: Passing = (DfwError,)
"""Those that components raise on purpose."""


@contextmanager
def plugin_code(who: str, doing: str, passing: Passing = OWN, report: Callable[[str], None] | None = None) -> Iterator[None]:
    """Turns what the code inside raises into a PluginError: `who doing: ValueError: ...`; Ctrl-C and `passing` pass.

    What it changes of torch's global state is put back, and a warning, or `report`, says so.
    """
    with (
        kept(report or (lambda changes: log.warning("%s changed %s; put back", who, changes))),
        renaming(lambda error: f"{who} {doing}: {one_line(error)}", passing),
    ):
        yield


@contextmanager
def renaming(sentence: Callable[[BaseException], str], passing: Passing = OWN) -> Iterator[None]:
    """Turns what the code inside raises into a PluginError with `sentence(error)`; where that is empty, it passes as it is."""
    try:
        yield
    except BaseException as error:  # SystemExit too: a plugin must not end the program
        text = "" if isinstance(error, (KeyboardInterrupt, GeneratorExit, *passing)) else sentence(error)
        if not text:
            raise
        raise PluginError(text) from error


_NEW = {"default dtype": "torch.float32", "grad mode": "True", "default device": "cpu"}
"""What torch has when it is first imported, as text, for code that imports it."""


@contextmanager
def kept(report: Callable[[str], None]) -> Iterator[None]:
    """Puts back what the code inside changes of torch's default dtype and device, grad mode and number of threads.

    `report` is called once, with what was changed: `torch's default dtype to torch.float64`.
    """
    before = _state()
    try:
        yield
    finally:
        changes = []
        for name, (value, put_back) in _state().items():
            old, new = (str(before[name][0]) if name in before else _NEW.get(name, str(value))), str(value)
            if old != new:
                put_back(before[name][0] if name in before else None)
                changes.append(f"torch's {name} to {new}")
        if changes:
            report(" and ".join(changes))


def _state() -> dict[str, tuple[Any, Callable[[Any], object]]]:
    """Returns name -> value now, and how to set it (None: to what torch begins with). Empty before torch is imported."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_device"):
        return {}
    return {
        "default dtype": (torch.get_default_dtype(), lambda value: torch.set_default_dtype(value or torch.float32)),
        "grad mode": (torch.is_grad_enabled(), lambda value: torch.set_grad_enabled(value is not False)),
        "default device": (
            torch.get_default_device(),
            lambda value: torch.set_default_device(None if value is None or value.type == "cpu" else value),
        ),
        "number of threads": (torch.get_num_threads(), torch.set_num_threads),
    }
