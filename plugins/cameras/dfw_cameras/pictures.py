"""Reads pictures from files as tensors, with one sentence for a file that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dfw import ConfigError


def read_picture(path: Path, where: str) -> Tensor:
    """A picture (H, W, 4) in [0, 1], opaque where the file has no alpha channel. Raises ConfigError that begins with `where`."""
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no file {path}; give the path of a picture") from None
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"{where}: {path} cannot be read as a picture ({error}); give a PNG, JPEG or WebP file") from None
    return torch.from_numpy(pixels)


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture (H, W, C) at another size, antialiased when it shrinks."""
    if picture.shape[:2] == (height, width):
        return picture
    planes = picture.permute(2, 0, 1)[None]
    shrink = height < picture.shape[0]
    found = F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False, antialias=shrink)
    return found[0].permute(1, 2, 0).clamp(0, 1)


def over(picture: Tensor, mask: Tensor, behind: tuple[float, float, float]) -> Tensor:
    """Colours (..., 3) of a picture (..., 3+) over one colour, where `mask` (...) says how much of it is seen."""
    return mask[..., None] * picture[..., :3] + (1 - mask[..., None]) * picture.new_tensor(behind)
