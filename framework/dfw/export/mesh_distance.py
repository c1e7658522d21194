"""The signed distance to a triangle mesh, and points on one. Warp finds the distance, and its sign by winding numbers.

Legend: P points, K samples.
"""

# mypy: ignore-errors
# (annotations of kernels are Warp types, which only Warp checks)

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfw.errors import ConfigError
from dfw.interfaces.mesh import Mesh
from dfw.interfaces.warp_kernels import load_warp

_FAR = 1e6  # world units; nothing is further away


@cache
def _kernel() -> Any:
    wp = load_warp()

    def mesh_distance(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), far: wp.float32, out: wp.array(dtype=wp.float32)):
        i = wp.tid()
        found = wp.mesh_query_point_sign_winding_number(mesh, points[i], far)
        out[i] = found.sign * wp.length(points[i] - wp.mesh_eval_position(mesh, found.face, found.u, found.v))

    return wp.kernel(enable_backward=False, module=wp.get_module(__name__))(mesh_distance)


def mesh_distance(mesh: Mesh, points: Tensor) -> Tensor:
    """The signed distance (P,) from `points` (P, 3) to `mesh`, world units, negative inside. Differentiable in nothing.

    Inside is where the mesh winds around a point more than half a time (Jacobson et al. 2013, generalised winding numbers). So
    small holes are closed over, and parts that overlap are one. A mesh that is turned inside out is turned back. Raises
    ConfigError if no point is inside.
    """
    for faces in (mesh.faces, mesh.faces[:, ::-1]):
        found = _distance(mesh.vertices, faces, points)
        if bool((found < 0).any()):
            return found
    low, high = (", ".join(f"{x:.3g}" for x in end) for end in (mesh.vertices.min(0), mesh.vertices.max(0)))
    raise ConfigError(
        f"the surface from ({low}) to ({high}) encloses none of {len(points)} points of the scene's cube; it must be closed, not "
        "too thin, and inside the cube of geometry.radius"
    )


def _distance(vertices: Any, faces: Any, points: Tensor) -> Tensor:
    wp = load_warp()
    device = str(points.device) if points.is_cuda else "cpu"
    corners = wp.array(np.ascontiguousarray(vertices, np.float32), dtype=wp.vec3, device=device)
    index = wp.array(np.ascontiguousarray(faces, np.int32).ravel(), dtype=wp.int32, device=device)
    mesh = wp.Mesh(corners, index, support_winding_number=True)
    asked = wp.array(points.detach().float().cpu().numpy(), dtype=wp.vec3, device=device)
    out = wp.zeros(len(points), dtype=wp.float32, device=device)
    wp.launch(_kernel(), dim=len(points), inputs=[mesh.id, asked, _FAR, out], device=device)
    return torch.from_numpy(out.numpy()).to(points)


def points_on(vertices: Tensor, faces: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws `count` points (K, 3) evenly over triangles `faces` (F, 3) of `vertices` (V, 3). Osada et al. 2002, eq. 1."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).double().cumsum(0)
    u, v, w = torch.rand(3, count, generator=generator, device=generator.device, dtype=torch.float64).to(vertices.device)
    face = torch.searchsorted(area, u * area[-1]).clamp_max(len(faces) - 1)
    v = v.sqrt()
    share = torch.stack([1 - v, v * (1 - w), v * w], dim=-1).to(vertices)
    return torch.einsum("ki,kix->kx", share, vertices[faces[face]])
