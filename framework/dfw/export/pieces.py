"""Leaves out crumbs: separate pieces of a mesh that are far smaller than its largest one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dfw.interfaces.mesh import Mesh


def without_crumbs(mesh: Mesh, share: float) -> tuple[Mesh, int]:
    """Returns `mesh` without pieces whose area is less than `share` of the largest one's, and how many those were.

    A piece is all triangles that meet at corners, one after another. With a `share` of 0 the mesh comes back as it is, and so it
    does without crumbs.
    """
    if share == 0:
        return mesh, 0
    faces, corners = mesh.faces.astype(np.int64), mesh.corners.astype(np.float64)
    # flat-shaded triangles meet, and share no vertices
    place = np.unique(mesh.vertices, axis=0, return_inverse=True)[1].reshape(-1)
    met = place[faces]
    links: Any = coo_matrix(
        (np.ones(2 * len(met), np.int8), (np.tile(met[:, 0], 2), met[:, 1:].T.ravel())), (len(mesh.vertices),) * 2
    )
    count, of_place = connected_components(links, directed=False)
    piece = of_place[met[:, 0]]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area = np.bincount(piece, doubled, count)
    small = area < share * area.max()
    dropped = int(np.count_nonzero(small & (np.bincount(piece, minlength=count) > 0)))
    return (Mesh(mesh.vertices, faces[~small[piece]]).without_unused_vertices(), dropped) if dropped else (mesh, 0)
