"""A picture of the thing to make: how it is read, where the object is in it, and how image-to-3D models want it framed.

Legend: H x W pixels; RGBA is colour and how much of the object is seen, all in [0, 1].
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from pydantic import Field, PositiveFloat, field_validator
from torch import Tensor

from dfw.config.paths import LocalPath
from dfw.errors import ConfigError
from dfw.interfaces.component import ComponentConfig

Channel = Annotated[float, Field(ge=0, le=1)]

SMALLEST = 32
"""Pixels that the object's larger side must have: of fewer, no model makes a thing out."""


LARGEST = 2048
"""Pixels of a picture's larger side. Models see at most 1024, and all of a photograph would fill gigabytes."""


class PictureConfig(ComponentConfig):
    """A picture of an object. The background is removed before, by any tool."""

    image: LocalPath
    """A PNG, JPEG or WebP file. Its alpha channel says where the object is, unless `mask` does."""
    mask: LocalPath | None = None
    """A picture of the same shape that is white where the object is; none: the image's alpha channel."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of a square's side that the object's larger side takes: the picture is cropped or widened to that square, with the
    object in its middle. None: the picture as it is."""
    background: tuple[Channel, Channel, Channel] = (1.0, 1.0, 1.0)
    """Colour behind the object, display-referred RGB."""

    @field_validator("image", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if value is None:
            raise ValueError("no picture is named; write image=PICTURE, a file whose background is transparent")
        return value

    def check_files(self) -> None:
        """Reads the picture. Raises as `read_reference`."""
        read_reference(self)


class ReferenceConfig(PictureConfig):
    """A picture of the object, and from where it was taken."""

    azimuth: float = 0.0
    """Of the picture's camera, degrees; 0 sees the object's front."""
    elevation: float = Field(default=0.0, ge=-90, le=90)
    """Of the picture's camera, degrees above the horizon."""
    distance: PositiveFloat = 3.0
    """Of the picture's camera from the scene's centre, world units."""


def read_reference(config: PictureConfig) -> Tensor:
    """Returns the picture (H, W, 4), RGBA, framed as `share` says. Where no mask and no alpha is given, all of it is the object.

    Raises ConfigError if a file cannot be read, if `share` is given and no object is found, or one of less than SMALLEST pixels.
    """
    return read_aligned(config)[0]


def read_aligned(config: PictureConfig, *maps: Tensor) -> list[Tensor]:
    """Returns the picture as `read_reference` does, and `maps` (H, W, C) of the same view, cut and resized in the same way.

    A map is 0 where it lies outside the picture. Raises as `read_reference`.
    """
    picture = read_picture(Path(config.image), "image", LARGEST)
    shape = picture.shape[:2]
    if config.mask is not None:
        mask = read_picture(Path(config.mask), "mask", LARGEST)
        white = resized(over(mask, mask[..., 3], (0, 0, 0)), *shape).mean(-1, keepdim=True)
        picture = torch.cat([picture[..., :3], white], -1)
    together = [picture, *(stretched(one, *shape) for one in maps)]
    if config.share is None:
        return together
    where = f"image: {config.image}" if config.mask is None else f"mask: {config.mask}"
    around = frame(picture[..., 3], config.share, where)
    return [F.pad(one.permute(2, 0, 1), around).permute(1, 2, 0) for one in together]


def frame(mask: Tensor, share: float, where: str) -> tuple[int, int, int, int]:
    """Returns the square of a picture of which the object's larger side takes `share`: pixels to add left, right, above, below.

    A negative number crops. The object is where `mask` (H, W) is at least a half. Raises ConfigError that begins with `where`.
    """
    solid = mask >= 0.5
    if bool(solid.all()):
        raise ConfigError(
            f"{where} shows no background, so the object cannot be told from it; remove the background with any tool, so that it "
            "is transparent, or give a mask, a picture that is white where the object is and black elsewhere"
        )
    if not bool(solid.any()):
        raise ConfigError(f"{where} shows no object, it is transparent or black everywhere; give another picture")
    (top, bottom), (left, right) = (_ends(solid.any(1)), _ends(solid.any(0)))
    largest = max(bottom - top, right - left)
    if largest < SMALLEST:
        raise ConfigError(f"{where}: the object is only {largest} pixels large; give a picture in which it has {SMALLEST}")
    side = round(largest / share)
    first, start = round((top + bottom - side) / 2), round((left + right - side) / 2)
    height, width = solid.shape
    return -start, start + side - width, -first, first + side - height


def _ends(line: Tensor) -> tuple[int, int]:
    """Returns the first True of a line, and the place after the last one."""
    where = line.nonzero()
    return int(where[0]), int(where[-1]) + 1


def read_picture(path: Path, where: str, largest: int | None = None) -> Tensor:
    """Returns a picture (H, W, 4) in [0, 1], turned as its camera says, and opaque where the file has no alpha channel.

    It is made smaller if its larger side has more than `largest` pixels. Of an animation it is the first picture. Raises
    ConfigError that begins with `where`.
    """
    try:
        with Image.open(path) as picture:
            turned = _of_bytes(ImageOps.exif_transpose(picture), path, where).convert("RGBA")
            if largest is not None:
                turned.thumbnail((largest, largest))
            pixels = np.asarray(turned, dtype=np.float32) / 255
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no file {path}; give the path of a picture") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # all that pillow raises for damaged files
        raise ConfigError(f"{where}: {path} cannot be read as a picture ({error}); give a PNG, JPEG or WebP file") from None
    return torch.from_numpy(pixels)


def _of_bytes(picture: Image.Image, path: Path, where: str) -> Image.Image:
    """Returns a picture of bytes. Of 16 bits pillow itself would clip what is brighter than 255."""
    if picture.mode == "F":
        raise ConfigError(f"{where}: {path} holds floating-point numbers, whose white is not known; save it with 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray(((np.asarray(picture).astype(np.int64).clip(0, 65535) + 128) // 257).astype(np.uint8))


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """Returns a picture (H, W, C) in [0, 1] at another size, antialiased when it shrinks."""
    return stretched(picture, height, width).clamp(0, 1)


def stretched(picture: Tensor, height: int, width: int) -> Tensor:
    """Returns any numbers (H, W, C) at another size, antialiased when it shrinks."""
    if picture.shape[:2] == (height, width):
        return picture
    planes = picture.permute(2, 0, 1)[None]
    shrink = height < picture.shape[0]
    found = F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False, antialias=shrink)
    return found[0].permute(1, 2, 0)


def over(picture: Tensor, mask: Tensor, behind: tuple[float, float, float]) -> Tensor:
    """Returns the colours (..., 3) of a picture (..., 3+) over one colour, where `mask` (...) says how much of it is seen."""
    return mask[..., None] * picture[..., :3] + (1 - mask[..., None]) * picture.new_tensor(behind)
