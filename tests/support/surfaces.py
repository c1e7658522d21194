"""Surfaces with a colour at each vertex, and a slow picture of them that shares no code with the renderer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from torch import Tensor, nn

from dfw import CameraBatch, ComponentConfig, Material, Surface, SurfacePoints, Triangles


class Painted(Surface):
    """Triangles whose colours are interpolated between their corners; roughness and metallic are the same everywhere."""

    def __init__(
        self,
        vertices: Tensor,
        faces: Tensor,
        colours: Tensor | Sequence[float] = (0.9, 0.5, 0.2),
        roughness: float | None = None,
        metallic: float | None = None,
    ) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.vertices = nn.Parameter(vertices.clone())
        self.colours = nn.Parameter(torch.as_tensor(colours).to(vertices).expand_as(vertices).clone())
        self.faces, self.roughness, self.metallic = faces, roughness, metallic
        self.asked: list[SurfacePoints] = []

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        return frozenset({"surface"})

    def surface(self) -> Triangles:
        return Triangles(self.vertices, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        self.asked.append(at)
        corner = self.faces[at.face]
        albedo = sum(at.barycentric[:, k, None] * self.colours.index_select(0, corner[:, k]) for k in range(3))
        one = torch.ones_like(albedo[:, 0])
        single = [None if value is None else value * one for value in (self.roughness, self.metallic)]
        return Material(albedo, *single)


def sphere(radius: float = 0.6, subdivisions: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Vertices and faces of an icosphere: 20 * 4^subdivisions triangles, turned so that it has no symmetry with the axes."""
    made = trimesh.creation.icosphere(subdivisions, radius)
    turn = torch.tensor(trimesh.transformations.euler_matrix(0.2, 0.7, 0.4)[:3, :3])
    return (torch.tensor(made.vertices) @ turn.T).to(dtype), torch.tensor(made.faces, dtype=torch.int64)


def soup(count: int, size: float, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """`count` triangles between random points of a cube of half-width `size`."""
    generator = torch.Generator().manual_seed(seed)
    vertices = (2 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1) * size
    return vertices.to(dtype), torch.rand(count, count, generator=generator).argsort(1)[:, :3].contiguous()


def traced(surface: Painted, cameras: CameraBatch, lit: bool = False) -> dict[str, Tensor]:
    """Pictures (B, H, W, C) of a surface in float64, by solving [p q r] b = t d for every ray and triangle.

    `lit`: by a light of 0.9 at each camera and 0.1 from everywhere, on smooth normals weighted by area. Without smooth edges.
    """
    vertices, faces, colours = surface.vertices.detach().double(), surface.faces, surface.colours.detach().double()
    p, q, r = (vertices[faces[:, k]] for k in range(3))
    across = torch.linalg.cross(q - p, r - p)
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals.index_add_(0, faces[:, k], across)
    pose, side = cameras.camera_to_world.double(), (cameras.height, cameras.width)
    pictures = []
    for view in range(len(cameras)):
        half = math.tan(math.radians(float(cameras.fov_y[view])) / 2)
        rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in side)
        x = ((2 * columns / side[1] - 1) * half * side[1] / side[0]).expand(side)
        y = ((1 - 2 * rows / side[0]) * half)[:, None].expand(side)
        ray = F.normalize(torch.stack([x, y, -torch.ones(side, dtype=torch.float64)], -1) @ pose[view, :3, :3].T, dim=-1)
        eye = pose[view, :3, 3]
        matrix = torch.stack([p - eye, q - eye, r - eye], dim=-1)
        place = torch.linalg.solve(matrix, ray[:, :, None, :, None])[..., 0]  # b / t
        inverse = place.sum(-1)
        hit = (place >= 0).all(-1) & (inverse > 0)
        distance = torch.where(hit, 1 / inverse, torch.inf)
        best = distance.argmin(-1)
        found = hit.any(-1)
        near = distance.gather(-1, best[..., None])[..., 0]
        share = (place / inverse[..., None]).gather(2, best[..., None, None].expand(*side, 1, 3))[:, :, 0]
        corner = faces[best]
        colour = (share[..., None] * colours[corner]).sum(-2)
        normal = F.normalize((share[..., None] * F.normalize(normals, dim=-1)[corner]).sum(-2), dim=-1)
        normal = torch.where(((across[best] * ray).sum(-1) > 0)[..., None], -normal, normal)
        if lit:
            colour = colour * (0.1 + 0.9 * (-(normal * ray).sum(-1)).clamp(min=0))[..., None]
        shown = found[..., None]
        parts = {"colour": torch.where(shown, colour, 1.0), "normal": torch.where(shown, normal, 0.0)}
        parts |= {"depth": torch.where(found, near, 0.0), "opacity": found.double(), "face": torch.where(found, best, -1)}
        pictures.append(parts)
    return {name: torch.stack([one[name] for one in pictures]) for name in pictures[0]}


def inside(face: Tensor) -> Tensor:
    """Pixels (B, H, W) that show a triangle, and whose eight neighbours do."""
    shown = F.pad((face >= 0).double(), (1, 1, 1, 1))
    return -F.max_pool2d(-shown[:, None], 3, 1)[:, 0] > 0.5


def alike(face: Tensor) -> Tensor:
    """Pixels (B, H, W) that show one triangle, as their neighbours do, or nothing, as these."""
    low, high = (sign * F.max_pool2d(sign * face.double()[:, None], 3, 1, 1)[:, 0] for sign in (-1, 1))
    return low == high


class BoxSurface(Surface):
    """A box, blue above and red below."""

    def __init__(self, extents: tuple[float, float, float]) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.dfw_name = "the box"
        made = trimesh.creation.box(extents)
        self.found = Triangles(torch.tensor(made.vertices, dtype=torch.float32), torch.tensor(np.array(made.faces)))

    def surface(self) -> Triangles:
        return self.found

    def material(self, at: SurfacePoints) -> Material:
        blue, red = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.9, 0.1, 0.1])
        return Material(torch.where(at.position[..., 2:] > 0, blue, red))
