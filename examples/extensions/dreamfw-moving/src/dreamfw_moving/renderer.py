"""Views of a moving scene, each at its own time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dfw import CameraBatch, ComponentConfig, Geometry, Part, Progress, Renderer, RenderOutput


def _at(geometry: Geometry, time: Tensor) -> Geometry:
    """The scene at one moment. `moving` is the feature of geometries that have `at`."""
    moment: Geometry = getattr(geometry, "at")(time)  # noqa: B009  # no class of dfw has it
    return moment


class Moments(Renderer):
    """Shows each view the scene as it is at the view's time, with another renderer."""

    class Config(ComponentConfig):
        """Who renders."""

        renderer: Part[Renderer] = Part[Renderer](type="dreamfw/volume")
        """How one moment is rendered."""

    config: Moments.Config

    def __init__(self, config: Moments.Config) -> None:
        super().__init__()
        self.config = config
        self.inner = config.renderer.build()

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A scene that moves."""
        return frozenset({"moving"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """What the other renderer provides."""
        provided: frozenset[str] = config.renderer.cls.provides(config.renderer.config)
        return provided

    def initialise(self, generator: torch.Generator) -> None:
        """As the other renderer."""
        self.inner.initialise(generator)

    def begin_step(self, geometry: Geometry, progress: Progress, generator: torch.Generator) -> None:
        """Shows the other renderer a random moment, so that what it remembers of the scene is of all moments."""
        time = torch.rand((), generator=generator, device=generator.device)
        self.inner.begin_step(_at(geometry, time), progress, generator)

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """Each view at its time; at the first moment where none is given."""
        time = cameras.time if cameras.time is not None else torch.zeros_like(cameras.azimuth)
        parts = [
            self.inner(_at(geometry, time[view]), cameras.select(slice(view, view + 1)), generator) for view in range(len(time))
        ]
        return RenderOutput.cat(parts)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the other renderer."""
        return self.inner.parameter_groups()
