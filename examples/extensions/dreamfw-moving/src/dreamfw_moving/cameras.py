"""Clips: one camera, several moments."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import PositiveInt

from dfw import Cameras, ComponentConfig, Orbit, Progress, Views, cameras_at


class Clip(Cameras):
    """Clips of a scene that moves: each has one random camera that stands still, and evenly spread times."""

    class Config(ComponentConfig):
        """The clips, and the pictures of which they consist."""

        batch_size: PositiveInt = 2
        """Clips a step."""
        frames: PositiveInt = 4
        """Views of a clip, as many as the guidance sees at once."""
        width: PositiveInt = 32
        """Pixels of a view's side."""
        elevation: tuple[float, float] = (-10.0, 60.0)
        """Degrees; each clip's is drawn between them."""

    config: Clip.Config

    def __init__(self, config: Clip.Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def together(cls, config: Any) -> int:
        """The frames of a clip."""
        frames: int = config.frames
        return frames

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """Each clip from a side of its own; a random phase, so that no moment is left out."""
        config, device = self.config, generator.device
        azimuth, elevation, phase = torch.rand(3, config.batch_size, 1, generator=generator, device=device)
        azimuth = 360 * azimuth - 180
        elevation = config.elevation[0] + (config.elevation[1] - config.elevation[0]) * elevation
        frame = torch.arange(config.frames, device=device)
        time = (frame + phase) / config.frames
        spread = [value.expand(-1, config.frames).flatten() for value in (azimuth, elevation)]
        ones = torch.ones_like(spread[0])
        cameras = cameras_at(*spread, 3 * ones, 40 * ones, config.width, config.width)
        return Views(cameras.at_time(time.flatten()).in_groups(config.frames))

    def orbit(self) -> Orbit:
        """As the clips are seen."""
        return Orbit(distance=3.0, fov=40.0, lowest=self.config.elevation[0])
