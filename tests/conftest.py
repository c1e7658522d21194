"""Fixtures of more than one test file."""

from __future__ import annotations

from fresh import framework_wheel
from hostile_site import site

__all__ = ["framework_wheel", "site"]
