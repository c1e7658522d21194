"""Decimation keeps the shape with fewer triangles."""

from __future__ import annotations

import numpy as np

from dfw.export.manifold import cut_apart
from dfw.interfaces.mesh import Mesh


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """Returns `mesh` with at most about `faces` triangles. Edges of least quadric error collapse first (Garland, Heckbert 1997).

    A closed mesh stays closed: sheets that have come to touch are cut apart.
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
