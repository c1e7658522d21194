"""An exact procedural scene as a density field. It is the ground truth of tests and scores, and has nothing to train."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, field_validator
from torch import Tensor, nn

from dfw import ComponentConfig, DensityField, FieldSample

from .shapes import parse_prompt


class SdfScene(DensityField):
    """density = density_scale * sigmoid(-sharpness d(x)), where d is the signed distance of the shape; 0 outside the cube."""

    class Config(ComponentConfig):
        """Which shape, and how hard its surface is."""

        shape: str
        """What to build: `a COLOUR KIND`, or `a COLOUR SOLID on a COLOUR SOLID`."""
        radius: PositiveFloat = 1.0
        """Half-width of the scene, world units; shapes fit in the ball of radius 0.9."""
        density_scale: PositiveFloat = 100.0
        """Density deep inside, 1/unit."""
        sharpness: PositiveFloat = 100.0
        """Steepness of the surface, 1/unit: the density falls from 73 % to 27 % over 2/sharpness."""

        @field_validator("shape")
        @classmethod
        def _known(cls, text: str) -> str:
            parse_prompt(text)
            return text

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.scene = parse_prompt(config.shape)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides density and albedo over space."""
        return frozenset({"density-field"})

    @property
    def radius(self) -> float:
        """Half-width of the scene's cube, world units."""
        return self.config.radius

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns no group: the scene has no parameters."""
        return {}

    def distance(self, points: Tensor) -> Tensor:
        """Returns the signed distance (...) at `points` (..., 3), world units, negative inside."""
        return self.scene.distance(points)

    def density(self, points: Tensor) -> Tensor:
        """As `DensityField`."""
        return self._density(self.distance(points), points)

    def _density(self, distance: Tensor, points: Tensor) -> Tensor:
        density = self.config.density_scale * torch.sigmoid(-self.config.sharpness * distance)
        inside = points.detach().abs().amax(-1) <= self.config.radius
        return torch.where(inside, density, torch.zeros_like(density))

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """As `DensityField`. The normal is the distance's normalised gradient. It is exact except at creases."""
        albedo = self.scene.colour(points)
        if not normals:
            return FieldSample(self.density(points), albedo)
        track = torch.is_grad_enabled() and points.requires_grad
        with torch.enable_grad():
            where = points if track else points.detach().requires_grad_()
            distance = self.distance(where)
            (gradient,) = torch.autograd.grad(distance.sum(), where, create_graph=track)
        normal = gradient / (gradient.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        return FieldSample(self._density(distance if track else distance.detach(), points), albedo, normal)
