"""A plane and a ball with depths in closed form, and what a noise is asked with."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dfw import CameraBatch, LossInputs, Progress, RenderOutput, Views, cameras_at


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at(*angles: tuple[float, float], distance: float = 3.0, fov: float = 40.0, height: int = 24, width: int = 24) -> CameraBatch:
    """Cameras at (azimuth, elevation), degrees, that look at the origin."""
    azimuth, elevation = torch.tensor(angles, dtype=torch.float64).unbind(1)
    ones = torch.ones_like(azimuth)
    return cameras_at(azimuth, elevation, distance * ones, fov * ones, height, width)


def downwards(*places: tuple[float, float], height: float, fov: float, side: int) -> CameraBatch:
    """Cameras above (x, y) that look along -z, x to their right."""
    pose = torch.eye(4, dtype=torch.float64).repeat(len(places), 1, 1)
    pose[:, :3, 3] = torch.tensor([(*place, height) for place in places], dtype=torch.float64)
    ones = torch.ones(len(places), dtype=torch.float64)
    return CameraBatch(pose, fov * ones, 0 * ones, 90 * ones, height * ones, side, side)


def render(cameras: CameraBatch, depth: Tensor, opacity: Tensor | None = None) -> RenderOutput:
    """A grey picture with this depth (B, H, W); opaque where it is above 0."""
    opacity = (depth > 0).to(depth) if opacity is None else opacity
    return RenderOutput(torch.full((*depth.shape, 3), 0.5, dtype=depth.dtype), opacity, depth)


def floor(cameras: CameraBatch, z: float) -> RenderOutput:
    """The plane at height z: (z - o_z) / d_z along each ray."""
    rays = cameras.rays()
    return render(cameras, (z - rays.origin[..., 2]) / rays.direction[..., 2])


def ball(cameras: CameraBatch, radius: float) -> RenderOutput:
    """A ball around the origin: the smaller root of |o + t d| = radius; 0 where there is none."""
    rays = cameras.rays()
    along = (rays.origin * rays.direction).sum(-1)
    root = along.square() - rays.origin.square().sum(-1) + radius**2
    return render(cameras, torch.where(root > 0, -along - root.clamp_min(0).sqrt(), 0))


def asked(seen: RenderOutput, cameras: CameraBatch, step: int = 0, seed: int = 7) -> LossInputs:
    """What a noise is asked with at a step."""
    return LossInputs(seen, Views(cameras), None, None, Progress(step, 100), generator(seed))


def wide(inputs: LossInputs, **size: int) -> CameraBatch:
    """The same cameras with another picture size."""
    return replace(inputs.cameras, **size)
