"""The kit over the built-in cameras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from dfw import Cameras, cameras_at
from dfw.testing import CamerasTests
from dfw_cameras.dataset import Dataset
from dfw_cameras.orthogonal import Orthogonal
from dfw_cameras.picture import Picture
from dfw_cameras.random import Random


class TestRandom(CamerasTests):
    component = Random


class TestShaken(CamerasTests):
    """DreamFusion's own shaking of the camera."""

    component = Random
    options: ClassVar[dict[str, Any]] = {
        "position_jitter": 0.1,
        "look_at_jitter": 0.2,
        "up_jitter": 0.02,
        "batch_size": {"from": 2, "to": 5},
        "width": {"from": 16, "to": 64},
        "height": 24,
        "elevation": [{"from": 0, "to": -20}, 80],
        "horizontal_warmup": 0.5,
        "stratified_azimuth": False,
    }


class TestOrthogonal(CamerasTests):
    component = Orthogonal
    options: ClassVar[dict[str, Any]] = {"batch_size": 8}


class OfPictures(CamerasTests):
    """Cameras that read three random pictures, which are there for all checks of the class."""

    __test__ = False
    folder: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def pictures(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = tmp_path_factory.mktemp("pictures")
        rng = np.random.default_rng(0)
        for index in range(3):
            pixels = rng.integers(0, 256, (6, 9, 4), dtype=np.uint8)
            Image.fromarray(pixels, "RGBA").save(cls.folder / f"{index}.png")
        azimuth, elevation, distance = torch.tensor([[0.0, 120, 250], [10.0, -15, 40], [3.0, 2.5, 3.5]])
        poses = cameras_at(azimuth, elevation, distance, 40 * torch.ones(3), 6, 9).camera_to_world.tolist()
        frames = [{"file_path": f"{index}.png", "transform_matrix": pose} for index, pose in enumerate(poses)]
        (cls.folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.8, "frames": frames}))


class TestDataset(OfPictures):
    __test__ = True

    def make(self) -> Cameras:
        return Dataset(Dataset.Config(folder=str(self.folder), batch_size=2, width=9))


class TestPicture(OfPictures):
    __test__ = True

    def make(self) -> Cameras:
        return Picture(Picture.Config(image=str(self.folder / "1.png"), azimuth=120, elevation=-15, distance=2.5, width=18))
