"""The kit over the built-in backgrounds."""

from __future__ import annotations

from typing import Any, ClassVar

from dfw.testing import BackgroundTests
from dfw_renderers.background import Checker, Learned, Random, Solid


class TestSolid(BackgroundTests):
    component = Solid
    options: ClassVar[dict[str, Any]] = {"colour": [0.2, 0.4, 0.6]}


class TestRandom(BackgroundTests):
    component = Random


class TestChecker(BackgroundTests):
    component = Checker


class TestLearned(BackgroundTests):
    component = Learned
    options: ClassVar[dict[str, Any]] = {"width": 8, "layers": 1, "random_probability": 0.5}
