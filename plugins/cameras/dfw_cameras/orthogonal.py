"""Rings of evenly spaced views, for priors that see several views of a scene at once. MVDream (Shi et al. 2024), section 3.1."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field, model_validator

from dfw import Cameras, ComponentConfig, Orbit, Progress, Views, cameras_at

from .ranges import Angles, Count, Distances, Elevations, Range, at, ends, largest_square, last, size, uniform_rows, whole, within


class Orthogonal(Cameras):
    """Each ring has `count` views, 360 / count degrees apart, at one elevation, distance and field of view."""

    class Config(ComponentConfig):
        """Where rings are."""

        count: int = Field(default=4, ge=2)
        """Views of one ring: what the guidance sees at once."""
        batch_size: Count = 4
        """Views a step, a multiple of `count`. Between the ends of a ramp it is rounded down to one."""
        width: Count = 64
        """Pixels of a rendered view; a ramp is rounded to multiples of 8."""
        height: Count | None = None
        """Pixels of its height; none: square."""
        distance: Distances = (2.95, 3.05)
        """From the centre, world units, uniform, one draw a ring."""
        relative: bool = False
        """Whether `distance` counts in 1/tan(fov/2) units: at 1 a view is 2 high at the centre, whatever its fov. MVDream."""
        fov: Angles = (39.0, 41.0)
        """Vertical field of view, degrees, uniform, one draw a ring."""
        azimuth: Range = (-180.0, 180.0)
        """Of the ring's first view, degrees, uniform."""
        elevation: Elevations = (0.0, 30.0)
        """Degrees above the horizon, uniform, one draw a ring. MVDream: 0 to 30."""

        @model_validator(mode="after")
        def _rings(self) -> Orthogonal.Config:
            for views in ends(self.batch_size):
                if views % self.count:
                    raise ValueError(f"batch_size: {views:g} is not a multiple of count, {self.count}")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def together(cls, config: Any) -> int:
        """The views of one ring."""
        return int(config.count)

    @classmethod
    def largest(cls, config: Any) -> int | None:
        """The larger end of a ramp."""
        return largest_square(config.width, config.height)

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """Rings one after another; four draws a ring."""
        config, count = self.config, self.config.count
        rings = whole(config.batch_size, progress) // count
        draw = uniform_rows(4, rings, generator)
        first, elevation, distance, fov = (
            within(row, at(bounds, progress)).repeat_interleave(count)
            for row, bounds in zip(draw, (config.azimuth, config.elevation, config.distance, config.fov), strict=True)
        )
        if config.relative:
            distance = distance / torch.tan(torch.deg2rad(fov) / 2)
        place = torch.arange(rings * count, device=generator.device) % count
        azimuth = torch.remainder(first + place * (360.0 / count) + 180, 360) - 180
        cameras = cameras_at(azimuth, elevation, distance, fov, *size(config.width, config.height, progress))
        return Views(cameras.in_groups(count))

    def orbit(self) -> Orbit:
        """The middle of the ranges, and the lowest elevation, as they are at the end of the run."""
        distance, fov = (sum(last(bounds)) / 2 for bounds in (self.config.distance, self.config.fov))
        scale = math.tan(math.radians(fov) / 2) if self.config.relative else 1.0
        return Orbit(distance / scale, fov, lowest=last(self.config.elevation)[0])
