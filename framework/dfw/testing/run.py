"""Runs a kit's checks one after the other, without pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dfw.testing.base import ComponentTests, checks_of
from dfw.testing.files import only_in_pytest, why_not
from dfw.testing.outcomes import Outcome, outcome_of, plain


def run_checks(tests: type[ComponentTests[Any]]) -> Iterator[Outcome]:
    """The outcome of each check of `tests`, as soon as it is known; what a component raises becomes a failure.

    A check that only pytest can run is skipped; a class none of whose checks can run fails once, with one sentence.
    """
    reason = only_in_pytest(tests)
    if reason:
        yield Outcome("all checks", "failed", reason)
        return
    for name in checks_of(tests):
        check = plain(getattr(tests, name))
        reason = why_not(check)
        if reason:
            yield Outcome(name, "skipped", reason)
        else:
            yield outcome_of(name, lambda check=check: check(tests()), tests.expected_failures.get(name))  # type: ignore[misc]
