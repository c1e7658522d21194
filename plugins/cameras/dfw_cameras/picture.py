"""One posed picture: a reference that the scene should agree with from one side."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from dfw import CameraBatch, Cameras, LocalPath, Orbit, Progress, ReferenceConfig, Views, cameras_at, over, read_aligned, resized

from .maps import along_rays, in_world, read_depth, read_normals, shrunk


class Picture(Cameras):
    """The same view in every step, with the targets `colour` and `mask`, and `depth` and `normal` where there are maps."""

    class Config(ReferenceConfig):
        """The picture, and from where it was taken."""

        fov: float = Field(default=40.0, gt=0, lt=180)
        """Vertical field of view, degrees."""
        width: PositiveInt = 64
        """Pixels of the render's width; its height follows from the picture's shape."""
        depth: LocalPath | None = None
        """A map of the same view: a grey picture or a .npy array. It holds depths along the camera's axis."""
        depth_unit: float = Field(default=1.0, allow_inf_nan=False)
        """World units per number in the depth map. A negative one turns round a map in which what is near is bright, for the loss
        `depth` with compare: correlation."""
        normal: LocalPath | None = None
        """A map of the same view: a picture of (n + 1) / 2, or a .npy array of n, with x to the right, y up and z towards the
        camera."""

        def check_files(self) -> None:
            """Reads the picture and its maps."""
            _read(self)

    feature_hints: ClassVar[dict[str, str]] = {
        "target-depth": "depth is the path of a map",
        "target-normal": "normal is the path of a map",
    }

    config: Config
    colour: Tensor
    mask: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        picture, *maps = _read(config)
        height = max(1, round(config.width * picture.shape[0] / picture.shape[1]))
        mask = picture[..., 3:]
        shown = over(picture, mask[..., 0], config.background)  # before it shrinks: no colour from outside the mask gets in
        self._height = height
        self.register_buffer("colour", resized(shown, height, config.width)[None], persistent=False)
        self.register_buffer("mask", resized(mask, height, config.width)[None, ..., 0], persistent=False)
        small, camera = [shrunk(one, mask, height, config.width)[None] for one in maps], self._camera(torch.ones(1))
        if config.depth:
            self.register_buffer("depth", along_rays(small[0][..., 0] * config.depth_unit, camera), persistent=False)
        if config.normal:
            self.register_buffer("normal", in_world(small[-1], camera), persistent=False)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides colours and masks to compare renders with, and what there are maps of."""
        maps = {"target-depth": config.depth, "target-normal": config.normal}
        return frozenset({"target-colour", "target-mask", *(word for word, path in maps.items() if path)})

    def _camera(self, ones: Tensor) -> CameraBatch:
        config = self.config
        return cameras_at(
            ones * config.azimuth, ones * config.elevation, ones * config.distance, ones * config.fov, self._height, config.width
        )

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """The view; nothing is drawn."""
        return Views(self._camera(torch.ones(1, device=generator.device)), dict(self.named_buffers()))

    def orbit(self) -> Orbit:
        """As far away and as wide as the picture."""
        return Orbit(self.config.distance, self.config.fov)


def _read(config: Picture.Config) -> list[Tensor]:
    """Returns the picture, and the maps that there are, of one view."""
    maps = [read_depth(Path(config.depth), "depth")] if config.depth else []
    maps += [read_normals(Path(config.normal), "normal")] if config.normal else []
    return read_aligned(config, *maps)
