"""Cleans the triangles of a file: corners at one place become one, and triangles without area go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfw.interfaces.mesh import Floats, Ints, Mesh

THIN = 1e-12  # of the square of the longest side of the bounding box: below it float32 knows no normal


def first_of_each(rows: NDArray[Any]) -> tuple[Ints, Ints]:
    """Returns the index of the first of each distinct row (U,), in their order, and for each row which of those it equals."""
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.ravel()]


def with_area(vertices: Floats, faces: Ints) -> NDArray[np.bool_]:
    """Returns which of `faces` (F, 3) have an area (F,)."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    extent = float((vertices.max(0) - vertices.min(0)).max())
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) > THIN * extent**2)


def torn_edges(mesh: Mesh) -> int:
    """Returns how many edges two triangles run along in the same direction: there one of them is inside out."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    _, count = np.unique(edges[:, 0] * len(mesh.vertices) + edges[:, 1], return_counts=True)
    return int((count > 1).sum())
