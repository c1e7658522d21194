"""Posed pictures of a folder with a `transforms.json`, as NeRF's synthetic scenes and nerfstudio write it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from dfw import (
    CameraBatch,
    Cameras,
    ComponentConfig,
    ConfigError,
    LocalPath,
    Orbit,
    Progress,
    Views,
    angles_of,
    over,
    read_picture,
    resized,
    stretched,
)

from .maps import along_rays, in_world, read_depth, read_normals, shrunk

Channel = Annotated[float, Field(ge=0, le=1)]
ENDINGS = ("", ".png", ".jpg", ".jpeg", ".webp")
"""What may be missing at the end of a `file_path`: NeRF's synthetic scenes leave `.png` out."""


class Dataset(Cameras):
    """A few of the folder's views in each step, with the targets `colour`, `mask` and `index`.

    Where every frame names a `depth_file_path` or a `normal_file_path`, next to its `file_path`, the views have these, too.
    """

    class Config(ComponentConfig):
        """The folder, and how its cameras stand in the scene."""

        folder: LocalPath
        """Holds the transforms file and the pictures it names."""
        file: str = "transforms.json"
        """Name of the transforms file, e.g. transforms_train.json."""
        batch_size: PositiveInt = 4
        """Views a step, drawn without repetition."""
        width: PositiveInt = 64
        """Pixels of a rendered view; its height follows from the pictures' shape."""
        scale: PositiveFloat = 1.0
        """World units of this scene per unit of the file."""
        background: tuple[Channel, Channel, Channel] = (1.0, 1.0, 1.0)
        """Colour behind transparent pixels in the targets, display-referred RGB."""
        depth_unit: PositiveFloat = 0.001
        """Units of the file per number in a depth map: nerfstudio's are in thousandths."""

        def check_files(self) -> None:
            """Reads the pictures."""
            _pictures(Path(self.folder), _read(Path(self.folder) / self.file)["frames"])

    config: Config
    pose: Tensor
    fov: Tensor
    colour: Tensor
    mask: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        folder = Path(config.folder)
        tree = _read(folder / config.file)
        frames = tree["frames"]
        pictures = _pictures(folder, frames)
        rows, columns = pictures[0].shape[:2]
        height = max(1, round(config.width * rows / columns))
        pose = torch.tensor([_matrix(frame, folder / config.file) for frame in frames], dtype=torch.float32)
        pose[:, :3, 3] *= config.scale
        fov = torch.tensor([_fov(frame, tree, rows, columns, folder / config.file) for frame in frames])
        colour = [resized(over(one, one[..., 3], config.background), height, config.width) for one in pictures]
        mask = [resized(one[..., 3:], height, config.width)[..., 0] for one in pictures]
        stacked = {"pose": pose, "fov": fov, "colour": torch.stack(colour), "mask": torch.stack(mask)}
        cameras = CameraBatch(pose, fov, *angles_of(pose[:, :3, 3]), height=height, width=config.width)
        for name, (key, read) in MAPS.items():
            if _all_have(frames, key, folder / config.file):
                maps = [read(folder / str(frame[key]), f"folder: {key}") for frame in frames]
                fitted = [stretched(one, rows, columns) for one in maps]
                small = [shrunk(one, whole[..., 3:], height, config.width) for one, whole in zip(fitted, pictures, strict=True)]
                stacked[name] = _in_the_scene(name, torch.stack(small), cameras, config.scale * config.depth_unit)
        for name, value in stacked.items():
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides colours and masks to compare renders with, and what there are maps of."""
        path = Path(config.folder) / config.file
        frames = _read(path)["frames"]
        maps = {f"target-{name}" for name, (key, _) in MAPS.items() if _all_have(frames, key, path)}
        return frozenset({"target-colour", "target-mask", "target-index"} | maps)

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """`batch_size` views, or all of them where there are fewer."""
        index = torch.randperm(len(self.pose), generator=generator, device=generator.device)[: self.config.batch_size]
        pose, (height, width) = self.pose[index], self.mask.shape[1:]
        cameras = CameraBatch(pose, self.fov[index], *angles_of(pose[:, :3, 3]), height=height, width=width)
        targets = {name: value[index] for name, value in self.named_buffers() if name not in ("pose", "fov")}
        return Views(cameras, targets | {"index": index})

    def orbit(self) -> Orbit:
        """The cameras' mean distance and field of view, and their lowest elevation."""
        _, elevation, distance = angles_of(self.pose[:, :3, 3])
        return Orbit(float(distance.mean()), float(self.fov.mean()), lowest=float(elevation.min()))


MAPS = {"depth": ("depth_file_path", read_depth), "normal": ("normal_file_path", read_normals)}
"""Target -> the key of a frame that names its map, and how it is read."""


def _all_have(frames: list[Any], key: str, path: Path) -> bool:
    """Returns whether every frame has a key. Raises ConfigError where only some have."""
    having = sum(isinstance(frame, dict) and bool(frame.get(key)) for frame in frames)
    if 0 < having < len(frames):
        raise ConfigError(f"folder: {path}: {having} of {len(frames)} frames have a {key}; give it to all of them, or to none")
    return having > 0


def _in_the_scene(name: str, maps: Tensor, cameras: CameraBatch, unit: float) -> Tensor:
    return along_rays(maps[..., 0] * unit, cameras) if name == "depth" else in_world(maps, cameras)


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"folder: cannot read {path}: {error.strerror}; give a folder with a transforms.json") from None
    except ValueError as error:
        raise ConfigError(f"folder: {path} is not JSON: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("frames"), list) or not tree["frames"]:
        raise ConfigError(f"folder: {path} holds no `frames`, a list with a file_path and a transform_matrix each")
    return tree


def _pictures(folder: Path, frames: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Returns the frames' pictures (H, W, 4), which have one size. Raises ConfigError."""
    pictures = [read_picture(_picture(folder, str(frame.get("file_path", ""))), "folder") for frame in frames]
    shapes = {tuple(picture.shape[:2]) for picture in pictures}
    if len(shapes) > 1:
        raise ConfigError(f"folder: the pictures of {folder} differ in size ({', '.join(map(str, sorted(shapes)))})")
    return pictures


def _picture(folder: Path, name: str) -> Path:
    for ending in ENDINGS:
        if (folder / f"{name}{ending}").is_file():
            return folder / f"{name}{ending}"
    return folder / name


def _matrix(frame: Any, path: Path) -> list[list[float]]:
    matrix = frame.get("transform_matrix")
    rows = matrix if isinstance(matrix, list) else []
    if len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise ConfigError(f"folder: {path}: a frame has no transform_matrix of 4 rows of 4 numbers")
    return [[float(value) for value in row] for row in rows]


def _fov(frame: dict[str, Any], tree: dict[str, Any], rows: int, columns: int, path: Path) -> float:
    """Vertical field of view, degrees, from the focal length in pixels (`fl_y`, `fl_x`) or the horizontal angle in radians."""
    keys = ("fl_y", "fl_x", "h", "camera_angle_x", "camera_angle_y")
    found = {key: float(frame.get(key) or tree.get(key) or 0) for key in keys}
    focal = found["fl_y"] or found["fl_x"]
    if focal:
        return math.degrees(2 * math.atan((found["h"] or rows) / (2 * focal)))
    if found["camera_angle_y"]:
        return math.degrees(found["camera_angle_y"])
    if found["camera_angle_x"]:
        return math.degrees(2 * math.atan(math.tan(found["camera_angle_x"] / 2) * rows / columns))
    raise ConfigError(f"folder: {path} gives no field of view; write camera_angle_x in radians, or fl_y and h in pixels")
