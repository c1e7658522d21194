"""One posed picture: a reference that the scene should agree with from one side."""

from __future__ import annotations

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from dfw import Cameras, Orbit, Progress, ReferenceConfig, Views, cameras_at, over, read_reference, resized


class Picture(Cameras):
    """The same view in every step, with the targets `colour` and `mask`."""

    class Config(ReferenceConfig):
        """The picture, and from where it was taken."""

        fov: float = Field(default=40.0, gt=0, lt=180)
        """Vertical field of view, degrees."""
        width: PositiveInt = 64
        """Pixels of the render's width; its height follows from the picture's shape."""

    config: Config
    colour: Tensor
    mask: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        picture = read_reference(config)
        height = max(1, round(config.width * picture.shape[0] / picture.shape[1]))
        mask = picture[..., 3]
        shown = over(picture, mask, config.background)  # before it shrinks, so that no colour from outside the mask gets in
        self.register_buffer("colour", resized(shown, height, config.width)[None], persistent=False)
        self.register_buffer("mask", resized(mask[..., None], height, config.width)[None, ..., 0], persistent=False)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides colours and masks to compare renders with."""
        return frozenset({"target-colour", "target-mask"})

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """The view; nothing is drawn."""
        config, ones = self.config, torch.ones(1, device=generator.device)
        height, width = self.mask.shape[1:]
        cameras = cameras_at(
            ones * config.azimuth, ones * config.elevation, ones * config.distance, ones * config.fov, height, width
        )
        return Views(cameras, {"colour": self.colour, "mask": self.mask})

    def orbit(self) -> Orbit:
        """As far away and as wide as the picture."""
        return Orbit(self.config.distance, self.config.fov)
