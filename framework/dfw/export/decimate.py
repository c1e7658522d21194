"""Decimation keeps the shape with fewer triangles."""

from __future__ import annotations

import logging

import numpy as np

from dfw.export.manifold import cut_apart
from dfw.interfaces.mesh import Mesh

log = logging.getLogger("dfw.export")


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """Returns `mesh` with at most about `faces` triangles. Edges of least quadric error collapse first (Garland, Heckbert 1997).

    A closed mesh stays closed: sheets that have come to touch are cut apart. If so few triangles would leave nothing of it, the
    result has more, and a warning says so.
    """
    wanted = faces
    while len(mesh.faces) > faces:
        fewer = _collapsed(mesh, faces)
        if len(fewer.faces):
            break
        faces *= 2
    else:
        fewer = mesh
    if faces != wanted:
        log.warning("export.faces=%d: so few triangles leave nothing of this shape; it keeps %d", wanted, len(fewer.faces))
    return fewer


def _collapsed(mesh: Mesh, faces: int) -> Mesh:
    import fast_simplification

    vertices, triangles = fast_simplification.simplify(
        mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64), target_count=faces
    )[:2]
    a, b, c = triangles.T
    whole = (a != b) & (b != c) & (c != a)
    fewer = Mesh(np.asarray(vertices, dtype=np.float64), triangles[whole].astype(np.int64))
    return cut_apart(fewer.without_unused_vertices())
