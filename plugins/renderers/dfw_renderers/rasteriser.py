"""Which triangle each pixel shows: the nearest that the ray through the pixel's centre meets, and where.

Points of a view are (x, y, z), z ahead of the camera. Each is seen x/z pixels right of the picture's middle, and y/z below it.
Only the search for triangles is not differentiable. The place in a triangle is computed from its corners, with gradients.

Legend: B views, H, W pixels, V vertices, F triangles, N covered pixels of all views, packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfw import CameraBatch

from .fast import raster

NEAR = 0.01
"""What is less far ahead of the camera is not drawn, world units."""

NOTHING = torch.iinfo(torch.int64).max
"""The key of a pixel that shows no triangle."""

_AT_ONCE = 2**22
"""Pairs of pixel and triangle that plain torch tests at once."""


@dataclass(frozen=True)
class Hits:
    """The N covered pixels of all views, in the order of pixels."""

    pixel: Tensor
    """(N,) int64, index into the B H W pixels."""
    view: Tensor
    """(N,) int64."""
    face: Tensor
    """(N,) int64."""
    barycentric: Tensor
    """(N, 3), with gradients to the vertices."""
    position: Tensor
    """(N, 3), world units, with gradients."""


def to_pixels(vertices: Tensor, cameras: CameraBatch) -> Tensor:
    """Returns vertices (V, 3), world units, as points (B, V, 3) of each view: pixels times depth to the right and down, depth."""
    pose = cameras.camera_to_world.to(vertices)
    away = vertices - pose[:, None, :3, 3]
    right, up, back = ((away * pose[:, None, :3, axis]).sum(-1) for axis in range(3))
    focal = cameras.height / (2 * torch.tan(torch.deg2rad(cameras.fov_y.to(vertices)) / 2))[:, None]
    return torch.stack([focal * right, -focal * up, -back], dim=-1)


def turned_away(points: Tensor, faces: Tensor) -> Tensor:
    """Returns whether each view sees each triangle from behind, (B, F) bool. points: (B, V, 3). faces: (F, 3)."""
    p, q, r = (points.index_select(1, faces[:, k]) for k in range(3))
    determinant: Tensor = (p * torch.linalg.cross(q - p, r - p)).sum(-1)
    return determinant > 0


def nearest(points: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns the triangle (B, H, W) int64 that each pixel shows, -1 for none, and its depth (B, H, W) float32, else infinity.

    points: (B, V, 3). faces: (F, 3). Of triangles at the same depth the first is shown. Both sides of a triangle are.
    """
    search = raster.nearest if raster.serves(points) else nearest_twin
    key = search(points, faces, height, width, NEAR)
    shown = key != NOTHING
    face = torch.where(shown, key & 0xFFFFFFFF, -1)
    depth = (key >> 32).to(torch.int32).view(torch.float32)
    return face, torch.where(shown, depth, torch.inf)


def nearest_twin(points: Tensor, faces: Tensor, height: int, width: int, near: float) -> Tensor:
    """As `raster.nearest`, in plain torch: it tests all triangles at all pixels. For other devices, and for tests."""
    device, dtype = points.device, points.dtype
    x = torch.arange(width, device=device, dtype=dtype) + 0.5 - 0.5 * width
    y = torch.arange(height, device=device, dtype=dtype) + 0.5 - 0.5 * height
    best = torch.full((len(points), height, width), NOTHING, device=device)
    size = max(1, _AT_ONCE // max(1, best.numel()))
    for first in range(0, len(faces), size):
        part = faces[first : first + size]
        p, q, r = (points[:, part[:, k]] for k in range(3))
        determinant = (p * torch.linalg.cross(q - p, r - p)).sum(-1)
        sides = ((q, r, 1, 2), (r, p, 2, 0), (p, q, 0, 1))
        edges = torch.stack([_edge(a, b, part[:, i], part[:, j]) for a, b, i, j in sides], dim=2)
        edges = edges * torch.where(determinant > 0, 1.0, -1.0).to(dtype)[..., None, None]
        across, down, rest = (edges[..., axis, None, None] for axis in range(3))
        s = across * x + down * y[:, None] + rest
        total, size_BF = s.sum(2), determinant.abs()[..., None, None]
        hit = (s >= 0).all(2) & (total > 0) & (size_BF > 0) & (size_BF >= near * total)
        depth = (size_BF / torch.where(hit, total, 1)).float().contiguous()
        index = torch.arange(first, first + len(part), device=device)[:, None, None]
        key = (depth.view(torch.int32).long() << 32) | index
        best = torch.minimum(best, torch.where(hit, key, NOTHING).amin(1))
    return best


def _edge(p: Tensor, q: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """p x q, computed from the vertex of lower index, so that two triangles have the same bits for the edge they share."""
    return torch.where((i < j)[:, None], torch.linalg.cross(p, q), -torch.linalg.cross(q, p))


def meet(vertices: Tensor, faces: Tensor, shown: Tensor, origin: Tensor, direction: Tensor) -> Hits:
    """Returns where rays meet the triangles that their pixels show. Moeller and Trumbore 1997.

    vertices: (V, 3). shown: (B, H, W), from `nearest`. origin: (B, 3) cameras. direction: (B, H, W, 3), unit length.
    Rounding does not leave the triangle: coordinates are clamped to [0, 1], their sum is 1.
    """
    pixel = (shown.flatten() >= 0).nonzero()[:, 0]
    view = pixel // shown[0].numel()
    face = shown.flatten().index_select(0, pixel)
    corner = faces.index_select(0, face)
    p, q, r = (vertices.index_select(0, corner[:, k]) for k in range(3))
    ray = direction.reshape(-1, 3).index_select(0, pixel).to(vertices)
    u, v = _coordinates(p, q - p, r - p, origin.to(vertices).index_select(0, view), ray)
    u, v = u.clamp(0, 1), v.clamp(0, 1)
    over = (u + v).clamp(min=1)
    u, v = u / over, v / over
    position = p + u[:, None] * (q - p) + v[:, None] * (r - p)
    return Hits(pixel, view, face, torch.stack([1 - u - v, u, v], dim=-1), position)


def _coordinates(p: Tensor, to_q: Tensor, to_r: Tensor, origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """The coordinates (N,) of q and r of the point where each ray meets the plane of its triangle."""
    across = torch.linalg.cross(ray, to_r)
    determinant = (to_q * across).sum(-1)
    least = torch.finfo(p.dtype).tiny ** 0.5  # a triangle that is edge-on within rounding still has a finite place
    scale = 1 / torch.where(determinant.abs() > least, determinant, least)
    away = origin - p
    return (away * across).sum(-1) * scale, (ray * torch.linalg.cross(away, to_q)).sum(-1) * scale
