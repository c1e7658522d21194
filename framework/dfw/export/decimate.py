"""Fewer triangles for the same shape."""

from __future__ import annotations

import numpy as np

from dfw.export.manifold import cut_apart
from dfw.interfaces.mesh import Mesh


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """`mesh` with at most about `faces` triangles: edges of least quadric error collapse first. Garland and Heckbert 1997.

    A closed mesh stays closed: where sheets have come to touch, they are cut apart.
    """
    if len(mesh.faces) <= faces:
        return mesh
    import fast_simplification

    vertices, triangles = fast_simplification.simplify(
        mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64), target_count=faces
    )[:2]
    a, b, c = triangles.T
    whole = (a != b) & (b != c) & (c != a)
    fewer = Mesh(np.asarray(vertices, dtype=np.float64), triangles[whole].astype(np.int64))
    return cut_apart(fewer.without_unused_vertices())
