"""Splatting: Gaussians projected, sorted by depth, composited front to back. 3DGS (Kerbl et al. 2023), section 4.

Legend: B views, H, W pixels, N Gaussians.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dfw import Background, CameraBatch, ComponentConfig, ConfigError, Geometry, Part, Renderer, RenderOutput

from .cloud import FEATURE, GaussianGeometry
from .projection import project
from .rasteriser import composite

_EMPTY = 1e-6
"""Opacities below have no depth."""


class Splatting(Renderer):
    """Renders any geometry with the feature `gaussians`."""

    class Config(ComponentConfig):
        """What is behind the scene."""

        background: Part[Background] = Part[Background](type="dreamfw/random")
        """What is seen where no Gaussian is."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.background = config.background.build()

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A cloud of Gaussians."""
        return frozenset({FEATURE})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Images. Gaussians have no surface, so there are no normals."""
        return frozenset({"colour", "opacity", "depth"})

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial parameters of the background, where it has any."""
        self.background.initialise(generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`renderer.background`, when it is learned."""
        parameters = list(self.background.parameters())
        return {"renderer.background": parameters} if parameters else {}

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """As `Renderer`. In evaluation mode nothing is drawn.

        depth: the mean of the Gaussians' depths by weight, along the ray. Training mode needs a `generator` for the background
        (ValueError without). Raises ConfigError for a geometry that is no cloud of Gaussians.
        """
        if not isinstance(geometry, GaussianGeometry):
            raise ConfigError(
                f"renderer: splatting renders Gaussians, and {type(geometry).__name__} has none; "
                "write geometry: {type: dreamfw-gaussians/gaussians}"
            )
        if self.training and generator is None:
            raise ValueError("backgrounds in training mode are drawn from a generator; pass one, or call eval() first")
        with torch.autocast(cameras.position.device.type, enabled=False):
            total, light = self._composite(geometry, cameras)
            direction = cameras.rays().direction
            behind = self.background(direction.to(light.dtype), generator if self.training else None)
            opacity = 1 - light
            colour = total[..., :3] + light[..., None] * behind
            depth = torch.where(opacity > _EMPTY, total[..., 3] / opacity.clamp_min(_EMPTY), 0.0) * stretch(direction, cameras)
        return RenderOutput(colour, opacity, depth)

    def _composite(self, geometry: GaussianGeometry, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        """Sums of colour and depth (B, H, W, 4), and the light that is left (B, H, W)."""
        cloud = geometry.cloud()
        cameras_like = _as(cameras, cloud.mean)
        seen = project(cloud, cameras_like)
        own = torch.cat([cloud.opacity[:, None], cloud.colour], dim=-1).expand(len(cameras), -1, -1)
        splat = torch.cat([seen.centre, seen.conic, own, seen.depth[..., None]], dim=-1)
        return composite(splat, seen.depth.detach(), seen.visible, cameras.height, cameras.width)


def stretch(direction: Tensor, cameras: CameraBatch) -> Tensor:
    """Length (B, H, W) along each pixel's ray, of unit `direction` (B, H, W, 3), per unit of depth along the viewing axis."""
    forward = -cameras.camera_to_world[:, :3, 2]
    return 1 / torch.einsum("bhwi,bi->bhw", direction, forward)


def _as(cameras: CameraBatch, like: Tensor) -> CameraBatch:
    """The cameras in the dtype of the Gaussians."""
    if cameras.camera_to_world.dtype == like.dtype:
        return cameras
    names = ("camera_to_world", "fov_y", "azimuth", "elevation", "distance")
    return replace(cameras, **{name: getattr(cameras, name).to(like.dtype) for name in names})
