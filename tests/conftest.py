"""Fixtures of more than one test file."""

from __future__ import annotations

from fresh import framework_wheel
from hostile_site import site
from prior_parts import small_world

__all__ = ["framework_wheel", "site", "small_world"]
