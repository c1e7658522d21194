"""The world's cameras look at the origin. z is up; azimuth 0 is on +x and grows counter-clockwise as seen from above."""

from __future__ import annotations

import torch
from torch import Tensor


def eye_frame(azimuth: Tensor, elevation: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Returns positions ``[V, 3]`` and rotations ``[V, 3, 3]`` (columns right, up, backward) for angles in degrees ``[V]``."""
    az, el = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    back = torch.stack((el.cos() * az.cos(), el.cos() * az.sin(), el.sin()), -1)
    right = torch.stack((-az.sin(), az.cos(), torch.zeros_like(az)), -1)
    up = torch.linalg.cross(back, right)
    return back * distance[:, None], torch.stack((right, up, back), -1)


def pixel_rays(rotation: Tensor, fovy: Tensor, size: int) -> Tensor:
    """Returns unit directions ``[V, size, size, 3]`` through pixel centres, row 0 on top. ``fovy`` ``[V]`` is in degrees."""
    grid = (torch.arange(size, dtype=rotation.dtype) + 0.5) * (2.0 / size) - 1.0
    half = torch.tan(torch.deg2rad(fovy) / 2)[:, None, None]
    x = (grid[None, None, :] * half).expand(-1, size, -1)
    y = (-grid[None, :, None] * half).expand(-1, -1, size)
    local = torch.stack((x, y, -torch.ones_like(x)), -1)
    world = local @ rotation[:, None].transpose(-1, -2)
    return world * (world * world).sum(-1, keepdim=True).rsqrt()


def random_cameras(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws cameras of the training distribution: azimuth, elevation and fovy in degrees, and distance, each ``[count]``.

    The framing hardly varies, so that an object's size in its picture tells its true size.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    azimuth = (torch.arange(count) + torch.rand(count, generator=generator)) * (360.0 / count)
    pick = torch.rand(count, generator=generator)
    usual, over = uniform(-12.0, 60.0), uniform(60.0, 90.0)
    elevation = torch.where(pick < 0.12, over, usual)
    return {"azimuth": azimuth, "elevation": elevation, "fovy": uniform(39.0, 41.0), "distance": uniform(2.95, 3.05)}


BELOW = 0.2
"""Share of the rings that look up from below. A hollow that opens downwards shows in no other view."""


def random_rings(count: int, generator: torch.Generator, below: float = BELOW) -> dict[str, Tensor]:
    """Draws rings of four orthogonal views, one ring after another: as `random_cameras`, ``count`` views in all.

    The views of a ring share elevation, fovy and distance. A share ``below`` of the rings lies 12 to 50 degrees under the
    horizon. MVDream (Shi et al. 2024), section 3.1.
    """
    first = random_cameras(count // 4, generator)
    pick, under = torch.rand(2, count // 4, generator=generator)
    first["elevation"] = torch.where(pick < below, -12.0 - 38.0 * under, first["elevation"])
    turn = torch.arange(count) % 4 * 90.0
    ring = {name: values.repeat_interleave(4) for name, values in first.items()}
    return {**ring, "azimuth": (ring["azimuth"] + turn) % 360.0}
