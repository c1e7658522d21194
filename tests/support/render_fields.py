"""Density fields whose pictures are known in closed form, and cameras to look at them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw import CameraBatch, ComponentConfig, DensityField, FieldSample
from dfw.interfaces.poses import look_at, orbit


class Shape(DensityField):
    """Density `sigma` and a constant colour where `inside(points)`; nothing elsewhere. Its normals point along +z."""

    def __init__(self, sigma: float, inside, colour=(1.0, 0.5, 0.25), radius: float = 1.0) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.sigma = nn.Parameter(torch.tensor(float(sigma)))
        self.inside, self.colour, self._radius = inside, colour, radius

    @property
    def radius(self) -> float:
        return self._radius

    def density(self, points: Tensor) -> Tensor:
        cube = points.abs().amax(-1) <= self._radius
        return torch.where(self.inside(points) & cube, self.sigma.to(points), 0.0)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        up = points.new_tensor([0.0, 0.0, 1.0]).expand_as(points)
        return FieldSample(self.density(points), points.new_tensor(self.colour).expand_as(points), up if normals else None)


def ball(sigma: float, radius: float = 0.6, centre=(0.0, 0.0, 0.0), **more) -> Shape:
    return Shape(sigma, lambda x: (x - x.new_tensor(centre)).norm(dim=-1) <= radius, **more)


class Soft(Shape):
    """Density sigma / (1 + exp((r - 0.6) steepness)) at distance r from the origin: a ball without a sharp edge."""

    def __init__(self, steepness: float, sigma: float) -> None:
        super().__init__(sigma, lambda x: x.abs().amax(-1) <= 1)
        self.steepness = steepness

    def density(self, points: Tensor) -> Tensor:
        return super().density(points) * torch.sigmoid((0.6 - points.norm(dim=-1)) * self.steepness)


def box(sigma: float, half: float = 0.5, **more) -> Shape:
    return Shape(sigma, lambda x: x.abs().amax(-1) <= half, **more)


def slab(sigma: float, half: float = 0.3, **more) -> Shape:
    """|x| <= half, across the whole cube."""
    return Shape(sigma, lambda x: x[..., 0].abs() <= half, **more)


def nothing() -> Shape:
    return ball(0.0)


class Blobs(DensityField):
    """Smooth Gaussian blobs with trainable height, place, size and colour; analytic normals."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.height = nn.Parameter(torch.tensor([6.0, 9.0], dtype=dtype))
        self.centre = nn.Parameter(torch.tensor([[0.1, -0.2, 0.1], [-0.2, 0.3, -0.1]], dtype=dtype))
        self.size = nn.Parameter(torch.tensor([0.3, 0.25], dtype=dtype))
        self.colour = nn.Parameter(torch.tensor([[0.9, 0.3, 0.1], [0.2, 0.5, 0.7]], dtype=dtype))

    @property
    def radius(self) -> float:
        return 1.0

    def _parts(self, points: Tensor) -> Tensor:
        squared = (points[..., None, :] - self.centre).square().sum(-1)
        return self.height * torch.exp(-squared / (2 * self.size**2))

    def density(self, points: Tensor) -> Tensor:
        return self._parts(points).sum(-1)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        parts = self._parts(points)
        density = parts.sum(-1)
        albedo = (parts @ self.colour) / (density[..., None] + 1e-9)
        if not normals:
            return FieldSample(density, albedo)
        down = ((points[..., None, :] - self.centre) * (parts / self.size**2)[..., None]).sum(-2)
        return FieldSample(density, albedo, F.normalize(down, dim=-1, eps=1e-8))


def looking(*positions, target=(0.0, 0.0, 0.0), size: int = 1, fov: float = 40.0, dtype=torch.float32) -> CameraBatch:
    """Cameras at `positions` (x, y, z) that look at `target` with z up; `size` x `size` pixels."""
    position = torch.tensor(positions, dtype=dtype)
    count = len(position)
    pose = look_at(
        position, position.new_tensor(target).expand_as(position), position.new_tensor([0.0, 0.0, 1.0]).expand_as(position)
    )
    flat = position.new_zeros(count)
    return CameraBatch(pose, flat + fov, flat, flat, position.norm(dim=-1), size, size)


def along(axis: int, at=(0.0, 0.0), **more) -> CameraBatch:
    """One camera on the positive `axis` at distance 3, shifted by `at`, whose one ray runs exactly along the axis."""
    place = [0.0, 0.0, 0.0]
    others = [other for other in range(3) if other != axis]
    for other, value in zip(others, at, strict=True):
        place[other] = value
    target = tuple(place)
    place[axis] = 3.0
    return looking(tuple(place), target=target, **more)


def turn(frames: int = 4, size: int = 16, elevation: float = 15.0) -> CameraBatch:
    return orbit(frames, elevation, 3.0, 40.0, size, size)


def chord(camera: CameraBatch, radius: float) -> Tensor:
    """Length (B, H, W) of each ray inside the ball of `radius` around the origin: 2 sqrt(r^2 - d^2)."""
    rays = camera.rays()
    nearest = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
    return 2 * (radius**2 - nearest**2).clamp(min=0).sqrt()


DIAGONAL = 2 * math.sqrt(3)
