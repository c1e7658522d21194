"""Settings that somebody wrote as options, `--prompt "a car"`: how they are written here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from dfw.config.settings import RunConfig
from dfw.text import shortened


def as_setting(option: str, arguments: Sequence[str]) -> str:
    """Returns a sentence that writes `option`, with the value it has in `arguments`, as a setting. Empty for what is none."""
    wanted = option.lstrip("-").replace("-", "_").split(".")
    known = list(_paths(RunConfig))
    path = next((".".join(one) for one in known if list(one[-len(wanted) :]) == wanted), None)
    if path is None and tuple(wanted[:1]) not in known:
        return ""
    value = next((_value(arguments, at) for at, text in enumerate(arguments) if text.partition("=")[0] == option), "...")
    return f" Settings are written without dashes: {path or '.'.join(wanted)}={shlex.quote(shortened(value))}"


def _value(arguments: Sequence[str], at: int) -> str:
    _, equals, value = arguments[at].partition("=")
    return value if equals else arguments[at + 1] if at + 1 < len(arguments) else "..."


def _paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Gives the path of every setting of a run, those without a section first."""
    inside = []
    for name, info in model.model_fields.items():
        yield (*above, name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            inside.append((info.annotation, (*above, name)))
    for below, path in inside:
        yield from _paths(below, path)
