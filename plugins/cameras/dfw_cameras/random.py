"""Random training cameras around the scene's centre. DreamFusion (Poole et al. 2023), section 3.2 and appendix A.2."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from dfw import CameraBatch, Cameras, ComponentConfig, Orbit, Progress, Views, angles_of, look_at, spherical_position

from .ranges import Angles, Count, Distances, Elevations, Range, at, largest_square, last, size, uniform_rows, whole, within


class Random(Cameras):
    """Views drawn anew in each step. Each step draws as many numbers as it has views, whatever the other settings."""

    class Config(ComponentConfig):
        """Where cameras stand. Defaults suit the embedded prior; the paper's are in configs/dreamfusion-sd.yaml."""

        width: Count = 64
        """Pixels of a rendered view; a ramp is rounded to multiples of 8."""
        height: Count | None = None
        """Pixels of its height; none: square."""
        batch_size: Count = 4
        """Views a step."""
        distance: Distances = (2.95, 3.05)
        """From the centre, world units, uniform."""
        fov: Angles = (39.0, 41.0)
        """Vertical field of view, degrees, uniform."""
        azimuth: Range = (-180.0, 180.0)
        """Degrees, uniform; 0 is the front."""
        elevation: Elevations = (-10.0, 60.0)
        """Degrees above the horizon."""
        elevation_mix: float = Field(default=0.5, ge=0, le=1)
        """Share of draws uniform in angle; the rest uniform in area on the sphere. Paper: 0.5."""
        stratified_azimuth: bool = True
        """One view in each of `batch_size` equal parts of the azimuth range, instead of independent draws."""
        position_jitter: NonNegativeFloat = 0.0
        """Half-width of a uniform offset of the camera, world units. Paper: 0.1."""
        look_at_jitter: NonNegativeFloat = 0.0
        """Standard deviation of the point looked at, world units. Paper: 0.2."""
        up_jitter: NonNegativeFloat = 0.0
        """Standard deviation of the up vector. Paper: 0.02."""
        horizontal_warmup: float = Field(default=0.0, ge=0, le=1)
        """Fraction of the run over which elevation opens from the horizon to its full range."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def largest(cls, config: Any) -> int | None:
        """The larger end of a ramp."""
        return largest_square(config.width, config.height)

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """The angles reported are those of the position after its jitter, seen from the world's origin."""
        config, batch = self.config, whole(self.config.batch_size, progress)
        uniform = uniform_rows(8, batch, generator)
        normal = torch.randn(2, batch, 3, generator=generator, device=generator.device)
        azimuth = self._azimuth(uniform[0], progress)
        elevation = mixed_elevation(uniform[1], uniform[2], self.elevation_range(progress), config.elevation_mix)
        distance, fov = within(uniform[3], at(config.distance, progress)), within(uniform[4], at(config.fov, progress))
        position = spherical_position(azimuth, elevation, distance) + config.position_jitter * (2 * uniform[5:8].T - 1)
        up = torch.zeros_like(position)
        up[:, 2] = 1
        pose = look_at(position, config.look_at_jitter * normal[0], up + config.up_jitter * normal[1])
        height, width = size(config.width, config.height, progress)
        return Views(CameraBatch(pose, fov, *angles_of(position), height=height, width=width))

    def orbit(self) -> Orbit:
        """The middle of the ranges, and the lowest elevation, as they are at the end of the run."""
        distance, fov = last(self.config.distance), last(self.config.fov)
        return Orbit(sum(distance) / 2, sum(fov) / 2, lowest=last(self.config.elevation)[0])

    def elevation_range(self, progress: Progress) -> tuple[float, float]:
        """The elevations in use: the range, shrunk towards its point nearest the horizon during `horizontal_warmup`."""
        low, high = at(self.config.elevation, progress)
        anchor = min(max(0.0, low), high)
        warmup = self.config.horizontal_warmup
        opened = 1.0 if warmup == 0 else min(1.0, progress.fraction / warmup)
        return anchor + opened * (low - anchor), anchor + opened * (high - anchor)

    def _azimuth(self, uniform: Tensor, progress: Progress) -> Tensor:
        if self.config.stratified_azimuth:
            uniform = (torch.arange(len(uniform), device=uniform.device) + uniform) / len(uniform)
        return within(uniform, at(self.config.azimuth, progress))


def mixed_elevation(choice: Tensor, uniform: Tensor, bounds: tuple[float, float], mix: float) -> Tensor:
    """A share `mix` uniform in angle, the rest uniform in area: sin(elevation) uniform. Degrees (B,)."""
    low, high = (math.sin(math.radians(bound)) for bound in bounds)
    by_area = torch.rad2deg(torch.asin(within(uniform, (low, high)).clamp(-1, 1)))
    return torch.where(choice < mix, within(uniform, bounds), by_area)
