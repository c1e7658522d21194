"""Where cameras stand: the pose that looks at a point, cameras at given angles, and the turntable.

Legend: B views. World: right-handed, z up; azimuth 0 stands on +x, counter-clockwise from above; position =
distance (cos el cos az, cos el sin az, sin el). Angles in degrees, lengths in world units, poses camera-to-world in OpenGL axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.interfaces.data import CameraBatch

_POLE = 1e-6
"""Below this sine of the angle between viewing direction and up vector, the up vector is degenerate."""


def spherical_position(azimuth: Tensor, elevation: Tensor, distance: Tensor) -> Tensor:
    """Points (B, 3) at `azimuth` and `elevation` (B,), degrees, `distance` (B,) away from the origin."""
    az, el = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    return distance[:, None] * torch.stack([el.cos() * az.cos(), el.cos() * az.sin(), el.sin()], dim=-1)


def angles_of(position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Azimuth in [-180, 180], elevation in [-90, 90], degrees, and distance (B,) of points (B, 3); azimuth is 0 on the z axis."""
    x, y, z = position.unbind(-1)
    distance = position.norm(dim=-1)
    planar = torch.hypot(x, y)
    on_axis = planar <= _POLE * distance
    azimuth = torch.where(on_axis, torch.zeros_like(x), torch.rad2deg(torch.atan2(y, x)))
    return azimuth, torch.rad2deg(torch.atan2(z, planar)), distance


def look_at(position: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Poses (B, 4, 4) of cameras at `position` that see `target` in the middle and `up` upwards, all (B, 3).

    Looking straight along `up` leaves the roll open: it is then that of a camera at azimuth 0.
    """
    back = F.normalize(position - target, dim=-1)
    right = torch.linalg.cross(F.normalize(up, dim=-1), back)
    spare_up = torch.zeros_like(back)
    spare_up[:, 0] = torch.where(back[:, 2] < 0, 1.0, -1.0)
    right = torch.where(right.norm(dim=-1, keepdim=True) < _POLE, torch.linalg.cross(spare_up, back), right)
    right = F.normalize(right, dim=-1)
    pose = torch.zeros(len(position), 4, 4, device=position.device, dtype=position.dtype)
    pose[:, :3] = torch.stack([right, torch.linalg.cross(back, right), back, position], dim=-1)
    pose[:, 3, 3] = 1
    return pose


def cameras_at(azimuth: Tensor, elevation: Tensor, distance: Tensor, fov: Tensor, height: int, width: int) -> CameraBatch:
    """Cameras at `azimuth`, `elevation` (B,), degrees, and `distance` (B,) that look at the origin with `fov` (B,) degrees."""
    position = spherical_position(azimuth, elevation, distance)
    pose = look_at(position, torch.zeros_like(position), z_up(position))
    return CameraBatch(pose, fov, azimuth, elevation, distance, height, width)


def orbit(
    frames: int, elevation: float, distance: float, fov: float, height: int, width: int, device: torch.device | str = "cpu"
) -> CameraBatch:
    """A turntable: `frames` cameras at azimuths 0, 360/frames, ..., looking at the origin.

    All stand at `elevation` (degrees) and `distance`, see `fov` degrees vertically, and make images of height x width pixels.
    """
    azimuth = torch.arange(frames, device=device, dtype=torch.float32) * (360.0 / frames)
    full = torch.ones_like(azimuth)
    return cameras_at(azimuth, full * elevation, full * distance, full * fov, height, width)


def z_up(position: Tensor) -> Tensor:
    """The z axis, as many times as there are points (B, 3)."""
    up = torch.zeros_like(position)
    up[:, 2] = 1
    return up
