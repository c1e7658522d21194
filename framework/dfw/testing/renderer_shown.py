"""What the kit shows a renderer: scenes, which can be overridden, and cameras around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.config.schedules import Progress
from dfw.interfaces.data import CameraBatch, RenderOutput
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.renderer import Renderer
from dfw.runs.global_random import kept_states
from dfw.testing import fields
from dfw.testing.base import ComponentTests
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import Skip
from dfw.testing.state import StateChecks
from dfw.testing.trained import GradientChecks, GroupChecks

ANGLES = ((0.0, 0.0), (90.0, 30.0), (-135.0, -20.0))
"""Azimuth and elevation, degrees, of the cameras."""


class ShownToRenderer(
    ComponentTests[Renderer],
    GroupChecks[Renderer],
    GradientChecks[Renderer],
    StateChecks[Renderer],
    DtypeChecks[Renderer],
    DeviceChecks[Renderer],
):
    """Scenes and cameras, and how a picture is looked at."""

    interface: ClassVar[type[Any]] = Renderer

    def geometry(self) -> Geometry:
        """Any scene with parameters, about 1 unit large: by default two smooth blobs of density, or an octahedron."""
        return self._shown(fields.two_blobs(), fields.Octahedron(), "geometry")

    def empty(self, colour: Sequence[float]) -> Geometry:
        """A scene with nothing to see, whose invisible matter has `colour`."""
        return self._shown(fields.Ball(0.0, colour=colour), fields.no_triangles(colour), "empty")

    def opaque(self, colour: Sequence[float]) -> Geometry:
        """An opaque thing of one `colour` in the middle of the scene, at least 0.5 units in radius."""
        return self._shown(fields.Ball(1e4, colour=colour), fields.Octahedron(colour=colour), "opaque")

    def speck(self, centre: Sequence[float], opaque: bool) -> Geometry:
        """A small thing at `centre`, at most 0.2 units in radius; nearly transparent unless `opaque`, where things can be."""
        return self._shown(fields.speck(centre, 20.0 if opaque else 0.5), fields.Octahedron(0.08, centre), "speck")

    def size(self) -> tuple[int, int]:
        """Height and width of a picture; not square. A renderer of `image` geometries has those of the image."""
        geometry = self._scene()
        image = getattr(geometry, "image", None)
        if "image" in type(geometry).provides(geometry.config) and callable(image):
            shape = image().shape
            return int(shape[1]), int(shape[2])
        return 8, 12

    def prepare(self, made: Renderer, generator: torch.Generator) -> None:
        """Draws the initial parameters."""
        made.initialise(generator)

    def exercise(self, made: Renderer) -> None:
        """Renders and goes backwards at the first and the last step of a run, in training mode."""
        geometry, generator = self._scene(), self.generator(1)
        made.train()
        for step in (0, 99):
            made.begin_step(geometry, Progress(step, 100), generator)
            total = made(geometry, self._cameras(), generator).colour.square().sum()
            if total.requires_grad:
                total.backward()
        made.zero_grad(set_to_none=True)
        made.eval()

    def observe(self, made: Renderer, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The picture of `geometry` in evaluation mode."""
        return self._values(made(self._scene().to(dtype), self._cameras(dtype=dtype)))

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _requires(self) -> frozenset[str]:
        with kept_states():  # a constructor may draw: what counts is what is there after `initialise`
            made = self.make()
        return type(made).requires(made.config)

    def _only(self, feature: str) -> None:
        if feature not in self._requires():
            raise Skip(f"the renderer does not require {feature}")

    def _shown(self, field: Geometry, surface: Geometry, name: str) -> Geometry:
        """The one of two scenes that the renderer can show."""
        required = self._requires()
        if "density-field" in required:
            return field
        if "surface" not in required:
            raise Skip(f"the renderer requires neither density-field nor surface; write `{name}` to have this checked")
        return surface

    def _on_device(self, geometry: Geometry) -> Geometry:
        return geometry.to(self.device).eval()

    def _scene(self) -> Geometry:
        """The general scene with its initial parameters drawn, on the device."""
        with kept_states():  # its constructor may draw
            geometry = self.geometry().to(self.device)
        geometry.initialise(self.generator(11))
        geometry.begin_step(Progress(99, 100), self.generator())
        return geometry

    def _cameras(self, count: int = 3, dtype: torch.dtype = torch.float32) -> CameraBatch:
        """Views from some sides, each at a moment of its own for a scene that moves."""
        return fields.views(ANGLES[:count], *self.size(), dtype=dtype).at_time(torch.linspace(0, 1, count)).to(self.device)

    def _values(self, output: RenderOutput) -> dict[str, Tensor]:
        values = {"colour": output.colour, "opacity": output.opacity, "depth": output.depth}
        return values if output.normal is None else values | {"normal": output.normal}
