"""The conformance kit: is this component what its interface promises?

Subclass the kit of your kind in a test file, and say how the component is made:

    from dfw.testing import GuidanceTests

    class TestMine(GuidanceTests):
        def make(self):
            return Mine(Mine.Config(model="tiny"))

pytest runs every check as a test of its own; `dfw plugins check NAME` runs the same ones from the command line. Needs no pytest.
"""

from __future__ import annotations

from dfw.testing.background import BackgroundTests
from dfw.testing.base import ComponentTests, checks_of
from dfw.testing.cameras import CamerasTests
from dfw.testing.exporter import ExporterTests
from dfw.testing.gaussian import GaussianScore
from dfw.testing.geometry import GeometryTests
from dfw.testing.guidance import GuidanceTests
from dfw.testing.launcher import LauncherTests
from dfw.testing.loss import LossTests
from dfw.testing.noise import NoiseTests
from dfw.testing.outcomes import Outcome, Skip
from dfw.testing.prompter import PrompterTests
from dfw.testing.renderer import RendererTests
from dfw.testing.run import run_checks
from dfw.testing.scorer import ScorerTests

__all__ = [
    "BackgroundTests",
    "CamerasTests",
    "ComponentTests",
    "ExporterTests",
    "GaussianScore",
    "GeometryTests",
    "GuidanceTests",
    "LauncherTests",
    "LossTests",
    "NoiseTests",
    "Outcome",
    "PrompterTests",
    "RendererTests",
    "ScorerTests",
    "Skip",
    "checks_of",
    "run_checks",
]
