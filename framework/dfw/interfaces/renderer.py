"""How a scene looks from a camera. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from dfw.config.schedules import Progress
from dfw.interfaces.component import Component
from dfw.interfaces.data import CameraBatch, RenderOutput, Resized
from dfw.interfaces.geometry import Geometry


class Renderer(Component, nn.Module, ABC):
    """Turns a geometry and cameras into images, differentiably."""

    kind: ClassVar[str] = "renderer"
    hurried: bool = False
    """Whether a picture under a limit of time is made, between two steps. In evaluation mode a renderer may then use what
    training remembers of the scene (an occupancy grid) where it would otherwise look at all of it anew."""

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial parameters (a learned background, say) from `generator`, in a new run only."""

    def begin_step(self, geometry: Geometry, progress: Progress, generator: torch.Generator) -> None:
        """Called before each training step, for acceleration structures (an occupancy grid) and schedules of shading."""

    def end_step(self, geometry: Geometry, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Called after the optimiser's step, with the gradients still there; as `Geometry.end_step`."""
        return ()

    @abstractmethod
    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """Renders B views of H x W.

        In training mode (`self.training`) draws (stratified offsets, lights, background colours) come from `generator`; in
        evaluation mode nothing is drawn and the light is the camera's. Draw with `draw_views`, so that a run on several devices
        can share the views out: `cameras` are then some of the step's. A renderer that draws otherwise gets all of them on every
        device, which is as right and not as fast. What it keeps from one step to the next must not depend on the views; change
        that in `begin_step` and `end_step`.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Name -> parameters, as Geometry's."""
        parameters = list(self.parameters())
        return {"renderer": parameters} if parameters else {}
