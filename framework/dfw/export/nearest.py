"""Finds the point of a triangle mesh that is nearest to each of many points, with Warp's hierarchy of boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfw.interfaces.data import Triangles
from dfw.interfaces.warp_kernels import load_warp


@torch.no_grad()
def nearest_on(triangles: Triangles, points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the face (...) int64 and barycentric coordinates (..., 3) of the place nearest to each of `points` (..., 3).

    Distances are those of float32. No gradient flows. A device that Warp does not know gets its answer from the CPU. Raises
    ValueError if there are no triangles.
    """
    if not len(triangles.faces):
        raise ValueError("there is no triangle that a point could be nearest to")
    from dfw.export import nearest_kernel

    wp: Any = load_warp()
    device = points.device if points.device.type == "cuda" else torch.device("cpu")
    flat = points.reshape(-1, 3).to(device, torch.float32).contiguous()
    corners = triangles.vertices.detach().to(device, torch.float32).contiguous()
    order = triangles.faces.to(device, torch.int32).contiguous().view(-1)
    face = torch.zeros(len(flat), dtype=torch.int32, device=device)
    place = torch.zeros_like(flat)
    place[:, 0] = 1  # a point that is not finite is answered by the first corner
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    with wp.ScopedStream(stream):
        mesh = wp.Mesh(wp.from_torch(corners, dtype=wp.vec3), wp.from_torch(order, dtype=wp.int32))
        given = [mesh.id, wp.from_torch(flat, dtype=wp.vec3), torch.finfo(torch.float32).max ** 0.5]
        found = [wp.from_torch(face, dtype=wp.int32), wp.from_torch(place, dtype=wp.vec3)]
        wp.launch(nearest_kernel.nearest, len(flat), given, found, device=str(device), record_tape=False)
    shape = points.shape[:-1]
    return face.to(points.device, torch.int64).view(shape), place.to(points).view(points.shape)


def place_in(triangles: Triangles, face: Tensor, points: Tensor) -> Tensor:
    """Returns the barycentric coordinates (..., 3) of `points` (..., 3), dropped onto the planes of the triangles `face` (...).

    They have gradients to the points and to the triangles' vertices. A triangle without area gives its first corner.
    """
    a, b, c = triangles.vertices[triangles.faces[face]].unbind(-2)
    along, across, out = b - a, c - a, points - a
    normal = torch.linalg.cross(along, across, dim=-1)
    area = normal.square().sum(-1, keepdim=True)
    scaled = normal / area.clamp(min=torch.finfo(area.dtype).tiny)
    second = (torch.linalg.cross(out, across, dim=-1) * scaled).sum(-1)
    third = (torch.linalg.cross(along, out, dim=-1) * scaled).sum(-1)
    return torch.stack([1 - second - third, second, third], dim=-1)
