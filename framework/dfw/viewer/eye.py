"""From a look of somebody to cameras of dfw, and from what a scene renders to a picture of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfw.errors import ExportError
from dfw.export.pictures import to_bytes
from dfw.interfaces.data import CameraBatch
from dfw.interfaces.poses import angles_of
from dfw.runs.scene import Scene

Floats = Sequence[float] | NDArray[np.floating[Any]]

KINDS = ("colour", "normal", "depth", "opacity")
"""What can be looked at, of `dfw.interfaces.data.PICTURES`."""
SIDES = (128, 256, 512, 1024)
"""Pixels that the longer side of a picture may have at most."""
FAR = 1e4
"""World units: farther away nothing can be seen, and numbers of a page that are larger are a mistake."""
NARROWEST, WIDEST = 0.25, 4.0
"""Ratios of width to height that are rendered; a window beyond them gets a stretched picture."""


@dataclass(frozen=True)
class Sight:
    """What is to be seen of a scene, the same for everybody who looks."""

    kind: str
    """Of `KINDS`."""
    side: int
    """Pixels of the longer side at rest."""
    time: float = 0.0
    """The moment of a scene that moves, in [0, 1]."""


@dataclass(frozen=True)
class Look:
    """From where somebody looks, in viser's convention: x right, y down, z forward."""

    wxyz: tuple[float, ...]
    """Unit quaternion, camera to world."""
    position: tuple[float, ...]
    """World units."""
    fov: float
    """Vertical field of view, radians."""
    aspect: float
    """Width of the window, over its height."""
    longest: int
    """Pixels of the longer side of the window."""

    @classmethod
    def of(cls, wxyz: Floats, position: Floats, fov: float, width: float, height: float) -> Look | None:
        """A look from what a page sent; None where that is no camera."""
        numbers = [*wxyz, *position, fov, width, height]
        if len(wxyz) != 4 or len(position) != 3 or not all(math.isfinite(one) for one in numbers):
            return None
        norm = math.hypot(*wxyz)
        if not (norm > 0.5 and math.hypot(*position) < FAR and 0.02 < fov < 3.1 and width >= 1 and height >= 1):
            return None
        aspect = min(max(width / height, NARROWEST), WIDEST)
        return cls(
            tuple(float(one) / norm for one in wxyz), tuple(map(float, position)), float(fov), aspect, int(max(width, height))
        )

    def cameras(self, side: int, device: torch.device) -> CameraBatch:
        """One camera whose pictures have `side` pixels on their longer side, and no more than the window."""
        side = min(side, self.longest)
        width, height = (side, round(side / self.aspect)) if self.aspect >= 1 else (round(side * self.aspect), side)
        pose = torch.eye(4)
        pose[:3, :3] = _rotation(self.wxyz) * torch.tensor([1.0, -1.0, -1.0])  # OpenGL's y is up, and its z backward
        pose[:3, 3] = torch.tensor(self.position)
        azimuth, elevation, distance = angles_of(pose[None, :3, 3])
        fov = torch.tensor([math.degrees(self.fov)])
        return CameraBatch(pose[None], fov, azimuth, elevation, distance, max(height, 1), max(width, 1)).to(device)


def _rotation(wxyz: Sequence[float]) -> Tensor:
    w, x, y, z = wxyz
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """wxyz (4,), in viser's convention, of a camera-to-world pose (4, 4) in OpenGL axes."""
    from viser.transforms import SO3

    return np.asarray(SO3.from_matrix(pose[:3, :3] * np.array([1.0, -1.0, -1.0])).wxyz, np.float64)


def see(scene: Scene, look: Look, sight: Sight, milliseconds: float | None) -> tuple[NDArray[np.uint8], bool]:
    """What `look` sees: a picture (h, w, 3), and whether it has the full size.

    Raises ExportError where the renderer does not give that, and as `Scene.render`.
    """
    wanted, kind = look.cameras(sight.side, scene.device), sight.kind
    wanted = wanted.at_time(sight.time) if scene.moves else wanted
    picture = scene.render(wanted, milliseconds=milliseconds)
    if kind == "normal" and picture.render.normal is None:
        raise ExportError("this renderer computes no normals; renderer.shading.normals=always makes it, where it has that option")
    pixels = picture.colours if kind == "colour" else picture.render.picture(kind, picture.cameras)
    return _framed(to_bytes(pixels[:1])[0], look.aspect), scene.flat or picture.cameras.width == wanted.width


def _framed(pixels: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Adds grey bars to a picture of another shape than the window, which would stretch it: that of a plane."""
    height, width = pixels.shape[:2]
    across, down = max(width, round(height * aspect)), max(height, round(width / aspect))
    if across - width <= 1 and down - height <= 1:
        return pixels
    framed = np.full((down, across, 3), 64, np.uint8)
    top, left = (down - height) // 2, (across - width) // 2
    framed[top : top + height, left : left + width] = pixels
    return framed
