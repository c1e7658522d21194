"""Unit normals of triangle meshes, smooth across edges.

Legend: V vertices, F triangles, N points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Returns the sum of the normals of each vertex's triangles, weighted by area, as unit vectors (V, 3); 0 where it has none.

    vertices: (V, 3). faces: (F, 3), counter-clockwise seen from outside.
    """
    p, q, r = (vertices.index_select(0, faces[:, k]) for k in range(3))
    twice_area = torch.linalg.cross(q - p, r - p)
    total = torch.zeros_like(vertices).index_add(0, faces.flatten(), twice_area.repeat_interleave(3, dim=0))
    return unit(total)


def unit(vectors: Tensor) -> Tensor:
    """Returns vectors (..., 3) at length 1, however short they are; 0 for those of length 0."""
    return F.normalize(vectors, dim=-1, eps=torch.finfo(vectors.dtype).tiny ** 0.5)


def interpolated(values: Tensor, corner: Tensor, barycentric: Tensor) -> Tensor:
    """Returns the mean (N, C) of `values` (V, C) at three vertices (N, 3), by their shares (N, 3)."""
    return sum((barycentric[:, k, None] * values.index_select(0, corner[:, k]) for k in range(3)), torch.zeros(()))
