"""Tests whether points lie inside a triangle mesh, by warp's winding-number query."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import warp as wp


@wp.kernel
def _inside(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), sign: wp.array(dtype=float)):  # type: ignore[valid-type]
    i = wp.tid()
    query = wp.mesh_query_point_sign_winding_number(mesh, points[i], 10.0)
    sign[i] = query.sign


def inside(vertices: npt.NDArray[np.float32], faces: npt.NDArray[np.int32], points: torch.Tensor) -> torch.Tensor:
    """Returns whether each of `points` (N, 3) lies inside the closed mesh: (N,) bool."""
    mesh = wp.Mesh(
        wp.array(vertices, dtype=wp.vec3, device="cpu"),
        wp.array(faces.reshape(-1), dtype=wp.int32, device="cpu"),
        support_winding_number=True,
    )
    sign = wp.zeros(len(points), dtype=float, device="cpu")
    wp.launch(_inside, len(points), [mesh.id, wp.array(points.numpy(), dtype=wp.vec3, device="cpu"), sign], device="cpu")
    return torch.from_numpy(sign.numpy() < 0)
