"""The kit over the built-in exporters."""

from __future__ import annotations

import pytest

from dfw.testing import ExporterTests
from dfw_exporters.glb import Glb
from dfw_exporters.obj import Obj
from dfw_exporters.ply import Ply
from dfw_exporters.stl import Stl
from dfw_exporters.usdz import Usdz


class TestGlb(ExporterTests):
    component = Glb


class TestObj(ExporterTests):
    component = Obj


class TestPly(ExporterTests):
    component = Ply


class TestStl(ExporterTests):
    component = Stl


class TestUsdz(ExporterTests):
    component = Usdz

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def library(cls) -> None:
        pytest.importorskip("pxr", reason="usd-core is not installed")
