"""The kit over the built-in prompters."""

from __future__ import annotations

from typing import Any, ClassVar

from dfw.testing import PrompterTests
from dfw_prompters.directional import Directional
from dfw_prompters.plain import Plain


class TestPlain(PrompterTests):
    component = Plain


class TestDirectional(PrompterTests):
    component = Directional


class TestDirectionalByHeight(PrompterTests):
    component = Directional
    options: ClassVar[dict[str, Any]] = {"sectors": 8, "angles": 4, "template": "a {view} view of {prompt}"}


class TestInterpolated(PrompterTests):
    component = Directional
    options: ClassVar[dict[str, Any]] = {"sectors": 8, "mode": "interpolated"}


class TestPerpNeg(PrompterTests):
    component = Directional
    options: ClassVar[dict[str, Any]] = {"mode": "interpolated", "perp_neg": 1.0}
