"""How a check ends: by passing, by an AssertionError that says what is promised, seen and to be done, or by a Skip. No torch."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped", "expected failure"]


class Skip(unittest.SkipTest):
    """Raised by a check that does not apply; the text says why. pytest shows it as a skip."""


@dataclass(frozen=True)
class Outcome:
    """What became of one check: its name, its `status`, and the reason of everything but a pass."""

    check: str
    status: Status
    reason: str = ""


def require(holds: object, promise: str, seen: str, remedy: str) -> None:
    """Raises AssertionError with one sentence from `promise`, what was `seen` and the `remedy`, unless `holds`."""
    if not bool(holds):
        raise AssertionError(f"{promise}; {seen}. {remedy}.")


def expecting_failure(check: Callable[[Any], None], reason: str) -> Callable[[Any], None]:
    """`check` as pytest should see it when it is expected to fail: a strict xfail. Without pytest it is the check itself."""

    @wraps(check)
    def expected(self: Any) -> None:
        check(self)

    vars(expected)["plain"] = check
    pytest = sys.modules.get("pytest")
    marked: Callable[[Any], None] = expected if pytest is None else pytest.mark.xfail(reason=reason, strict=True)(expected)
    return marked


def plain(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """`check` without what `expecting_failure` put around it."""
    found: Callable[[Any], None] = vars(check).get("plain", check)
    return found


def outcome_of(name: str, action: Callable[[], object], expected: str | None = None) -> Outcome:
    """Runs one check and says how it ended. `expected`: the reason why it should fail; then a pass is a failure."""
    try:
        action()
    except KeyboardInterrupt:
        raise
    except unittest.SkipTest as skip:
        return Outcome(name, "skipped", str(skip))
    except BaseException as error:  # a component under test may raise anything, SystemExit too
        reason = str(error) if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: {error}"
        return Outcome(name, "failed", reason) if expected is None else Outcome(name, "expected failure", expected)
    if expected is not None:
        return Outcome(name, "failed", f"it passes, and was expected to fail ({expected}); take it out of expected_failures")
    return Outcome(name, "passed")
