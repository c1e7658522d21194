"""One posed picture: a reference that the scene should agree with from one side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from dfw import Cameras, ComponentConfig, LocalPath, Orbit, Progress, Views, cameras_at

from .pictures import over, read_picture, resized

Channel = Annotated[float, Field(ge=0, le=1)]


class Picture(Cameras):
    """The same view in every step, with the targets `colour` and `mask`."""

    class Config(ComponentConfig):
        """The picture, and from where it was taken."""

        image: LocalPath
        """A PNG, JPEG or WebP file."""
        mask: LocalPath | None = None
        """A picture that is white where the object is; none: the image's alpha channel, or all of it where it has none."""
        azimuth: float = 0.0
        """Degrees; 0 sees the object's front."""
        elevation: float = Field(default=0.0, ge=-90, le=90)
        """Degrees above the horizon."""
        distance: PositiveFloat = 3.0
        """From the scene's centre, world units."""
        fov: float = Field(default=40.0, gt=0, lt=180)
        """Vertical field of view, degrees."""
        width: PositiveInt = 64
        """Pixels of the render's width; its height follows from the picture's shape."""
        background: tuple[Channel, Channel, Channel] = (1.0, 1.0, 1.0)
        """Colour behind the object in the target, display-referred RGB."""

    config: Config
    colour: Tensor
    mask: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        picture = read_picture(Path(config.image), "image")
        height = max(1, round(config.width * picture.shape[0] / picture.shape[1]))
        mask = picture[..., 3]
        if config.mask is not None:
            found = read_picture(Path(config.mask), "mask")
            mask = resized(found, *picture.shape[:2])[..., :3].mean(-1)
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
