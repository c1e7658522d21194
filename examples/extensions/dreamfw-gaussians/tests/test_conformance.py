"""dfw's conformance kit, for all classes."""

from clouds import Varied, single
from dreamfw_gaussians.adaptive import Adaptive
from dreamfw_gaussians.geometry import Gaussians
from dreamfw_gaussians.renderer import Splatting

from dfw.testing import GeometryTests, RendererTests


class TestGaussians(GeometryTests):
    """Seen as a renderer sees them. Checks of density fields skip themselves."""

    component = Gaussians
    options = {"capacity": 60, "initial": 40, "relocation": {"every": 10}}  # noqa: RUF012

    def observe(self, made, dtype=None):
        return vars(made.cloud())


class TestAdaptive(GeometryTests):
    """The same for Gaussians whose number changes; the kit's steps densify."""

    component = Adaptive
    options = {"capacity": 60, "initial": 40, "control": {"every": 1, "start": 0, "end": 1}}  # noqa: RUF012

    def observe(self, made, dtype=None):
        return vars(made.cloud())


class TestSplatting(RendererTests):
    """Scenes as Gaussians: three layers for an opaque thing, since none is more opaque than 0.99."""

    def make(self):
        return Splatting(Splatting.Config(background={"type": "random", "colour": [0.2, 0.5, 0.9]}))

    def geometry(self):
        return Varied(Gaussians.Config(capacity=60, initial=40))

    def empty(self, colour):
        return single(opacity=0.001, colour=_inside(colour)).float()

    def opaque(self, colour):
        return single(mean=[[0.0, 0.0, 0.01 * i] for i in range(4)], scale=0.5, opacity=0.98, colour=_inside(colour)).float()

    def speck(self, centre, opaque):
        return single(mean=tuple(centre), scale=0.06, opacity=0.98 if opaque else 0.05).float()


def _inside(colour):
    """A sigmoid reaches neither 0 nor 1."""
    return tuple(min(max(value, 1e-4), 1 - 1e-4) for value in colour)
