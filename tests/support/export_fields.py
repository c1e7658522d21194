"""Analytic fields, cameras and exact silhouettes for the export tests, and short ways to call the code under test."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import dfw
from dfw import CameraBatch, DensityField, Exporter, FieldSample, Mesh, TexturedMesh
from dfw.export.texture import bake, surface_albedo

RED, GREEN, BLUE = (0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (0.1, 0.2, 0.9)


class Analytic(DensityField):
    """A signed distance (negative inside) as a density `peak * sigmoid(-distance / softness)`; softness 0 is a step."""

    def __init__(
        self, distance: Callable[[Tensor], Tensor], colour: Callable[[Tensor], Tensor], peak: float, softness: float
    ) -> None:
        super().__init__()
        self.distance, self.colour, self.peak, self.softness = distance, colour, peak, softness

    @property
    def radius(self) -> float:
        return 1.0

    def density(self, points: Tensor) -> Tensor:
        distance = self.distance(points)
        if self.softness == 0:
            return self.peak * (distance <= 0).to(points)
        return self.peak * torch.sigmoid(-distance / self.softness)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        return FieldSample(self.density(points), self.colour(points))


def plain(colour: tuple[float, float, float]) -> Callable[[Tensor], Tensor]:
    return lambda points: torch.tensor(colour).to(points).expand(*points.shape[:-1], 3)


def front_red(points: Tensor) -> Tensor:
    """Red in front (+x), blue behind; the left half (+y) of each half darker by nothing: two colours, one border at x = 0."""
    front = (points[..., :1] > 0).to(points)
    return front * torch.tensor(RED).to(points) + (1 - front) * torch.tensor(BLUE).to(points)


def sphere(radius: float = 0.6, centre: tuple[float, float, float] = (0, 0, 0)) -> Callable[[Tensor], Tensor]:
    return lambda points: (points - torch.tensor(centre).to(points)).norm(dim=-1) - radius


def box(half: tuple[float, float, float], centre: tuple[float, float, float] = (0, 0, 0)) -> Callable[[Tensor], Tensor]:
    def distance(points: Tensor) -> Tensor:
        q = (points - torch.tensor(centre).to(points)).abs() - torch.tensor(half).to(points)
        return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0)

    return distance


def union(*parts: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda points: torch.stack([part(points) for part in parts]).amin(dim=0)


def ball(radius: float = 0.6, softness: float = 0.0, peak: float = 100.0) -> Analytic:
    return Analytic(sphere(radius), front_red, peak, softness)


def ring(count: int, elevation: float = 15.0, side: int = 64, distance: float = 3.0, fov: float = 40.0) -> CameraBatch:
    """`count` cameras around the centre, the first at the front, poses written out from the conventions."""
    poses = []
    for index in range(count):
        azimuth, height = 2 * math.pi * index / count, math.radians(elevation)
        away = torch.tensor([math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height)])
        right = torch.tensor([-math.sin(azimuth), math.cos(azimuth), 0.0])
        pose = torch.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, torch.linalg.cross(away, right), away, distance * away
        poses.append(pose)
    azimuths = torch.arange(count) * (360 / count)
    full = torch.full((count,), 1.0)
    return CameraBatch(torch.stack(poses), fov * full, azimuths, elevation * full, distance * full, side, side)


def sphere_opacity(cameras: CameraBatch, radius: float) -> Tensor:
    """1 where the pixel's ray meets the ball, else 0 (B, H, W): the distance from the centre to the ray against the radius."""
    rays = cameras.rays()
    return (torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1) < radius).float()


def homogeneous_sphere_opacity(cameras: CameraBatch, radius: float, density: float) -> Tensor:
    """1 - exp(-density * chord) for a ball of constant density (B, H, W)."""
    rays = cameras.rays()
    offset = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
    chord = 2 * (radius**2 - offset**2).clamp(min=0).sqrt()
    return 1 - torch.exp(-density * chord)


def exporters(*names: str) -> list[Exporter]:
    """Built-in exporters with their default options."""
    return [dfw.build("exporter", name) for name in names or ("glb", "obj", "ply")]


def baked(field: Analytic, mesh: Mesh, size: int, cell: float) -> TexturedMesh:
    """A mesh of `field` with its texture; `cell`: the extraction grid's spacing."""
    return bake(partial(surface_albedo, field, cell=cell), mesh, size)
