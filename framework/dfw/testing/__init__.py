"""The conformance kit: is this component what its interface promises?

Subclass the kit of your kind in a test file, and say how the component is made:

    from dfw.testing import GuidanceTests

    class TestMine(GuidanceTests):
        def make(self):
            return Mine(Mine.Config(model="tiny"))

pytest runs every check as a test of its own; `dfw plugins check NAME` runs the same ones from the command line. Needs no pytest.
"""

from __future__ import annotations

from dfw.testing.base import ComponentTests, checks_of
from dfw.testing.gaussian import GaussianScore
from dfw.testing.geometry import GeometryTests
from dfw.testing.guidance import GuidanceTests
from dfw.testing.loss import LossTests
from dfw.testing.outcomes import Outcome, Skip
from dfw.testing.renderer import RendererTests
from dfw.testing.run import run_checks

__all__ = [
    "ComponentTests",
    "GaussianScore",
    "GeometryTests",
    "GuidanceTests",
    "LossTests",
    "Outcome",
    "RendererTests",
    "Skip",
    "checks_of",
    "run_checks",
]
