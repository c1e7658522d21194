"""Where cameras stand: random training views, the turntable, and the pose that looks at a point.

Legend: B views. World: right-handed, z up; azimuth 0 stands on +x, counter-clockwise from above; position =
distance (cos el cos az, cos el sin az, sin el). Angles in degrees, lengths in world units, poses camera-to-world in OpenGL axes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.config.camera_settings import CameraSettings
from dfw.config.schedules import Progress, Ramp, value_at
from dfw.interfaces.data import CameraBatch

_POLE = 1e-6
"""Below this sine of the angle between viewing direction and up vector, the up vector says nothing."""


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


def orbit(
    frames: int, elevation: float, distance: float, fov: float, height: int, width: int, device: torch.device | str = "cpu"
) -> CameraBatch:
    """A turntable: `frames` cameras at azimuths 0, 360/frames, ..., looking at the origin.

    All stand at `elevation` (degrees) and `distance`, see `fov` degrees vertically, and make images of height x width pixels.
    """
    azimuth = torch.arange(frames, device=device, dtype=torch.float32) * (360.0 / frames)
    full = torch.ones_like(azimuth)
    position = spherical_position(azimuth, full * elevation, full * distance)
    pose = look_at(position, torch.zeros_like(position), _z_up(position))
    return CameraBatch(pose, full * fov, azimuth, full * elevation, full * distance, height, width)


def width_at(settings: CameraSettings, progress: Progress) -> int:
    """Pixels of a view's side: a constant as it is, a ramp rounded to the nearest multiple of 8, at least 8."""
    value = value_at(settings.width, progress)
    return max(8, round(value / 8) * 8) if isinstance(settings.width, Ramp) else max(1, round(value))


def elevation_range(settings: CameraSettings, progress: Progress) -> tuple[float, float]:
    """The elevations in use: the range, shrunk towards its point nearest the horizon during `horizontal_warmup`."""
    low, high = settings.elevation
    anchor = min(max(0.0, low), high)
    opened = 1.0 if settings.horizontal_warmup == 0 else min(1.0, progress.fraction / settings.horizontal_warmup)
    return anchor + opened * (low - anchor), anchor + opened * (high - anchor)


def sample_cameras(
    settings: CameraSettings, progress: Progress, generator: torch.Generator, device: torch.device | str | None = None
) -> CameraBatch:
    """Draws `settings.batch_size` training cameras. DreamFusion (Poole et al. 2023), section 3.2 and appendix A.2.

    Each call draws the same number of variates whatever the settings, on the generator's device; the cameras come on `device`, by
    default the same. The angles reported are those of the position after its jitter, seen from the world's origin.
    """
    device = generator.device if device is None else device
    batch = settings.batch_size
    uniform = torch.rand(8, batch, generator=generator, device=generator.device).to(device)
    normal = torch.randn(2, batch, 3, generator=generator, device=generator.device).to(device)
    azimuth = _azimuth(uniform[0], settings)
    elevation = _elevation(uniform[1], uniform[2], elevation_range(settings, progress), settings.elevation_mix)
    distance, fov = _within(uniform[3], settings.distance), _within(uniform[4], settings.fov)
    position = spherical_position(azimuth, elevation, distance) + settings.position_jitter * (2 * uniform[5:8].T - 1)
    pose = look_at(position, settings.look_at_jitter * normal[0], _z_up(position) + settings.up_jitter * normal[1])
    side = width_at(settings, progress)
    return CameraBatch(pose, fov, *angles_of(position), height=side, width=side)


def _within(uniform: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def _azimuth(uniform: Tensor, settings: CameraSettings) -> Tensor:
    if settings.stratified_azimuth:
        uniform = (torch.arange(len(uniform), device=uniform.device) + uniform) / len(uniform)
    return _within(uniform, settings.azimuth)


def _elevation(choice: Tensor, uniform: Tensor, bounds: tuple[float, float], mix: float) -> Tensor:
    """A share `mix` uniform in angle, the rest uniform in area: sin(elevation) uniform."""
    low, high = (math.sin(math.radians(bound)) for bound in bounds)
    by_area = torch.rad2deg(torch.asin(_within(uniform, (low, high)).clamp(-1, 1)))
    return torch.where(choice < mix, _within(uniform, bounds), by_area)


def _z_up(position: Tensor) -> Tensor:
    up = torch.zeros_like(position)
    up[:, 2] = 1
    return up
