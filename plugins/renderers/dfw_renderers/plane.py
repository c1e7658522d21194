"""Shows an image geometry as it is: for trying guidance and losses in 2D."""

from __future__ import annotations

from typing import Any

import torch

from dfw import CameraBatch, ComponentConfig, ConfigError, Geometry, ImagePlanes, Renderer, RenderOutput


class Plane(Renderer):
    """The same planes for whatever cameras: colour as the geometry gives it, at its own size; opacity 1, depth 0."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A plane of values."""
        return frozenset({"image"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """What a picture has."""
        return frozenset({"colour", "opacity", "depth"})

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """The geometry's planes for B views. Raises ConfigError for a geometry that is not an image."""
        if not isinstance(geometry, ImagePlanes):
            raise ConfigError(
                "renderer: plane shows an image; write geometry: {type: dreamfw/image}, or renderer: {type: dreamfw/volume}"
            )
        values = geometry.image(len(cameras))
        opacity = values.detach().new_ones(values.shape[:3])
        return RenderOutput(values, opacity, torch.zeros_like(opacity), latent=geometry.latent)
