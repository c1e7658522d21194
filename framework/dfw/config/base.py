"""The base of everything that a configuration is checked into. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Checked(BaseModel):
    """Frozen: the docstring under a field is its help.

    It refuses unknown keys, numbers that are not finite, and truth values for numbers.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any) -> Any:
        """pydantic reads True as the number 1, and nobody who writes `seed: true` means that."""
        for name, info in cls.model_fields.items() if isinstance(value, Mapping) else ():
            key = info.alias if info.alias in value else name
            if key not in value or not _holds_truth_value(value[key]):
                continue
            accepted = {*_leaves(info.annotation)}
            if not accepted & {bool, Any, object}:
                what = "text; put it in quotes" if str in accepted else "a number, not a truth value"
                raise ValueError(f"{key}: must be {what} (is {value[key]})")
        return value


def _holds_truth_value(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth_value, value)))


def _leaves(annotation: Any) -> Iterator[Any]:
    """Gives the types that an annotation is made of: `float` and `Ramp` of `float | Ramp`."""
    inside = [part for part in get_args(annotation) if isinstance(part, type) or get_args(part) or part is Any]
    yield from (leaf for part in inside for leaf in _leaves(part)) if inside else (annotation,)
