"""A plugin in a single file: a ball that goes from the left to the right, and a renderer that shows each view its moment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfw import CameraBatch, ComponentConfig, Geometry, Renderer, RenderOutput, register


class Rolling(Geometry):
    """A ball at y = 2 time - 1."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config
        self.shade = nn.Parameter(torch.ones(3))

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        return frozenset({"moving"})


class Shown(Renderer):
    """White where a ray passes the ball's centre by less than 0.4."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: object) -> frozenset[str]:
        return frozenset({"moving"})

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        return frozenset({"colour", "opacity", "depth"})

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        time: Tensor = cameras.time if cameras.time is not None else torch.zeros_like(cameras.azimuth)
        centre = torch.stack([0 * time, 2 * time - 1, 0 * time], -1)[:, None, None]
        rays = cameras.rays()
        along = ((centre - rays.origin) * rays.direction).sum(-1, keepdim=True)
        opacity = ((rays.origin + along * rays.direction - centre).norm(dim=-1) < 0.4).float()
        return RenderOutput(opacity[..., None] * geometry.shade, opacity, along[..., 0])


register("geometry", "rolling", Rolling)
register("renderer", "shown", Shown)
