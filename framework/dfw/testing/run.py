"""Runs a kit's checks one after the other, without pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dfw.testing.base import ComponentTests, checks_of
from dfw.testing.outcomes import Outcome, outcome_of, plain


def run_checks(tests: type[ComponentTests[Any]]) -> Iterator[Outcome]:
    """Gives the outcome of each check of `tests`, as soon as it is known. What a component raises becomes a failure."""
    for name in checks_of(tests):
        check = plain(getattr(tests, name))
        yield outcome_of(name, lambda check=check: check(tests()), tests.expected_failures.get(name))  # type: ignore[misc]
