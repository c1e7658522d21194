"""A posed picture as a view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dfw import Progress
from dfw_cameras.picture import Picture


def test_a_wide_picture_is_a_wide_view_with_its_mask(tmp_path: Path) -> None:
    """40 x 20 pixels, red on the left half and transparent on the right, seen at a width of 20."""
    pixels = np.zeros((20, 40, 4), np.uint8)
    pixels[:, :20] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cameras = Picture(Picture.Config.model_validate({"image": str(tmp_path / "a.png"), "width": 20, "azimuth": 30}))
    views = cameras.sample(Progress(0, 1), torch.Generator())
    assert (views.cameras.height, views.cameras.width, float(views.cameras.azimuth)) == (10, 20, 30)
    colour, mask = views.targets["colour"][0], views.targets["mask"][0]
    assert colour.shape == (10, 20, 3)
    torch.testing.assert_close(mask[:, :8], torch.ones(10, 8))
    torch.testing.assert_close(mask[:, 12:], torch.zeros(10, 8))
    torch.testing.assert_close(colour[:, :8], torch.tensor([1.0, 0.0, 0.0]).expand(10, 8, 3))
    torch.testing.assert_close(colour[:, 12:], torch.ones(10, 8, 3))  # over white
