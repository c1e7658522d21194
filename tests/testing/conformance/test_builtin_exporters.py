"""The kit over the built-in exporters."""

from __future__ import annotations

from dfw.testing import ExporterTests
from dfw_exporters.glb import Glb
from dfw_exporters.obj import Obj
from dfw_exporters.ply import Ply


class TestGlb(ExporterTests):
    component = Glb


class TestObj(ExporterTests):
    component = Obj


class TestPly(ExporterTests):
    component = Ply
