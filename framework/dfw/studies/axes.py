"""The words of `dfw sweep`: an override with several values is an axis, and the runs are all combinations. Imports no torch.

`key=1,2,3` has three values, `seed=0..2` has the whole numbers 0, 1 and 2, and `prompt=@prompts.txt` has the lines of a file. A
comma separates values only where no space follows it and no quote or bracket is open: `prompt="a car, blue"` is one prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dfw.config.lists import lines_of
from dfw.errors import ConfigError
from dfw.text import separated, shortened

LONGEST_RANGE = 100_000
_RANGE = re.compile(r"(-?\d{1,99})\.\.(-?\d{1,99})")


@dataclass(frozen=True)
class Axis:
    """A key and the values that it takes."""

    key: str
    """As in an override."""
    values: tuple[str, ...]
    """Texts of at least one value, in the order in which they were written; none stands there twice."""

    @property
    def overrides(self) -> list[str]:
        """`key=value` for each value."""
        return [f"{self.key}={value}" for value in self.values]


def axis(text: str, presets: Path | None = None) -> Axis:
    """Reads one override. `presets`: a folder of NAME.txt, which `@NAME` stands for. Raises ConfigError that names it."""
    key, equals, written = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f'override {shortened(text)!r}: write key=value,value; for prompts, prompt="a duck,a car"')
    values: list[str] = []
    for part in separated(written):
        found = _RANGE.fullmatch(part.strip())
        if found:
            values += _numbers(int(found[1]), int(found[2]), text)
        elif part.strip().startswith("@"):
            values += _listed(part.strip()[1:], text, presets)
        else:
            values.append(part)
    if not all(value.strip() for value in values) and len(values) > 1:
        raise ConfigError(f"override {shortened(text)!r}: one of its values is empty; write it as '' if it is meant")
    return Axis(key.strip(), tuple(dict.fromkeys(values)))


def combinations(axes: Iterable[Axis]) -> list[tuple[str, ...]]:
    """Returns the overrides of every run. The last axis changes fastest."""
    return list(product(*(one.overrides for one in axes)))


def _numbers(first: int, last: int, text: str) -> list[str]:
    if not 0 <= last - first < LONGEST_RANGE:
        raise ConfigError(f"override {shortened(text)!r}: a range goes up, to at most {LONGEST_RANGE} numbers: 0..2 is 0, 1, 2")
    return [str(number) for number in range(first, last + 1)]


def _listed(name: str, text: str, presets: Path | None) -> list[str]:
    try:
        return lines_of(name, presets)
    except ValueError as error:
        raise ConfigError(f"override {shortened(text)!r}: {error}") from None
