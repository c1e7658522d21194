"""Reads target views: a folder of pictures, and a JSON file that says where each was taken from.

`cameras.json`: {"views": [{"file": "view-000.png", "azimuth": 0, "elevation": 15}, ...]}, angles in degrees as dfw's cameras have
them: azimuth 0 looks at the front, counter-clockwise from above. Or `transforms.json` as of NeRF's synthetic scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from dfw import GuidanceError

Row = tuple[float, float, float, float]


@dataclass(frozen=True)
class Targets:
    """N views: `images` (N, 3, side, side) in [0, 1], and unit `directions` (N, 3) from the scene's centre to their cameras."""

    images: Tensor
    directions: Tensor


class View(BaseModel):
    """One picture and the angles of its camera, degrees."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    file: str
    azimuth: float
    elevation: float = Field(ge=-90, le=90)

    def direction(self) -> list[float]:
        """The camera's place, up to its distance."""
        azimuth, elevation = np.deg2rad(self.azimuth), np.deg2rad(self.elevation)
        flat = np.cos(elevation)
        return [float(flat * np.cos(azimuth)), float(flat * np.sin(azimuth)), float(np.sin(elevation))]


class Cameras(BaseModel):
    """`cameras.json`."""

    model_config = ConfigDict(extra="forbid")

    views: list[View] = Field(min_length=1)


class Frame(BaseModel):
    """One picture of `transforms.json`: a path without its ending, and the camera's pose, camera to world."""

    model_config = ConfigDict(allow_inf_nan=False)

    file_path: str
    transform_matrix: tuple[Row, Row, Row, Row]

    @property
    def file(self) -> str:
        """The path with its ending: NeRF's files leave out `.png`."""
        return self.file_path if Path(self.file_path).suffix else f"{self.file_path}.png"

    def direction(self) -> list[float]:
        """The camera's place, up to its distance."""
        return [row[3] for row in self.transform_matrix[:3]]


class Transforms(BaseModel):
    """`transforms.json` of NeRF (Mildenhall et al. 2020): z up, the scene around the origin. Other keys are left alone."""

    views: list[Frame] = Field(min_length=1, alias="frames")


def read_targets(folder: str, side: int, background: tuple[float, float, float]) -> Targets:
    """The views in `folder`, resized to `side` pixels, over `background` where they are transparent.

    Raises GuidanceError for a folder, a camera file or a picture that cannot be used; it names the file.
    """
    place = Path(folder)
    views = _cameras(place)
    directions = torch.tensor([view.direction() for view in views])
    if bool((directions.norm(dim=1) == 0).any()):
        raise GuidanceError(f"guidance.folder: {place}: a camera stands at the scene's centre, so it has no direction")
    images = torch.stack([_picture(place / view.file, side, background) for view in views])
    return Targets(images, F.normalize(directions, dim=1))


def _cameras(place: Path) -> list[View] | list[Frame]:
    kinds: dict[str, type[Cameras] | type[Transforms]] = {"cameras.json": Cameras, "transforms.json": Transforms}
    found = [name for name in kinds if (place / name).is_file()]
    if not place.is_dir():
        raise GuidanceError(
            f"guidance.folder: there is no folder {place}; name one with pictures and cameras.json, or make one: "
            f'python -m dreamfw_views.render_targets "a blue car" --out {place}'
        )
    if not found:
        raise GuidanceError(
            f"guidance.folder: {place} has no cameras.json; write one beside the pictures: "
            '{"views": [{"file": "view-000.png", "azimuth": 0, "elevation": 15}]}'
        )
    path = place / found[0]
    try:
        return kinds[path.name].model_validate_json(path.read_bytes()).views
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise GuidanceError(f"guidance.folder: {path}: {f'{where}: ' if where else ''}{first['msg']}") from None


def _picture(path: Path, side: int, background: tuple[float, float, float]) -> Tensor:
    """(3, side, side) in [0, 1]."""
    try:
        with Image.open(path) as picture:
            rgba = picture.convert("RGBA")
    except OSError as error:
        raise GuidanceError(f"guidance.folder: cannot read the picture {str(path)!r}: {error}") from None
    if rgba.width != rgba.height:
        raise GuidanceError(
            f"guidance.folder: {path} is {rgba.width}x{rgba.height}; crop it to a square around the scene's centre"
        )
    behind = Image.new("RGBA", rgba.size, tuple(round(255 * part) for part in background))
    flat = Image.alpha_composite(behind, rgba).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(flat, dtype=np.float32)).permute(2, 0, 1) / 255
