"""Makes a mesh manifold: splits edges shared by more than two faces and vertices shared by several sheets.

Decimation may let two sheets of a surface meet in an edge or a vertex. No face is missing then; faces only share too much. The
cut follows Gueziec et al. 1998 ("Converting sets of polygons to manifold surfaces by cutting and stitching"). At an edge of more
than two faces, two faces are partners if they have the solid between them.

Legend: V vertices, F faces, H = 3 F half-edges (half-edge h leaves corner h of face h // 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dfw.interfaces.mesh import Mesh

Ints = NDArray[np.int64]
APART = 0.01  # large enough that float32 files keep the sheets apart, too small to see
"""How far a cut vertex moves into its own faces, as a share of their size."""
ROUNDS = 8  # a division may create another shared edge, so it repeats, but not for ever
"""How often edges are divided that a cut cannot part."""


def cut_apart(mesh: Mesh) -> Mesh:
    """Returns `mesh` with shared edges and vertices cut, or `mesh` itself if it has none. An open mesh keeps its holes."""
    mesh = _without_flaps(mesh)
    for _ in range(ROUNDS):
        pairs, crowded = _partners(mesh)
        cut = _cut(mesh, pairs)
        double = _doubled(cut.faces.astype(np.int64), pairs[crowded])
        if len(double) == 0:
            return cut
        mesh = _divide(cut, double)
    return cut


def _next(half: Ints) -> Ints:
    """Returns the half-edge after each one in its face."""
    return half - half % 3 + (half + 1) % 3


def _without_flaps(mesh: Mesh) -> Mesh:
    """Drops faces that lie back to back on the same three vertices, because they enclose nothing."""
    faces = mesh.faces.astype(np.int64)
    order = np.argsort(faces, axis=1)
    odd = np.array([[0, 2, 1], [1, 0, 2], [2, 1, 0]])
    sign = np.where((order[:, None] == odd).all(2).any(1), -1, 1)
    _, group = np.unique(np.take_along_axis(faces, order, 1), axis=0, return_inverse=True)
    net = np.bincount(group.ravel(), sign)[group.ravel()] if len(faces) else sign
    like = np.lexsort((sign, group.ravel()))
    kind = 2 * group.ravel()[like] + (sign[like] > 0)
    rank = np.empty(len(faces), np.int64)
    rank[like] = np.arange(len(faces)) - np.searchsorted(kind, kind)
    stays = rank < sign * net
    return mesh if stays.all() else Mesh(mesh.vertices, faces[stays]).without_unused_vertices()


def _partners(mesh: Mesh) -> tuple[Ints, NDArray[np.bool_]]:
    """Returns pairs of opposite half-edges (P, 2), the one from the lower vertex first, and which pairs share their edge."""
    start = mesh.faces.astype(np.int64).ravel()
    end = start[_next(np.arange(len(start)))]
    edge = np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end)
    order = np.lexsort((start > end, edge))
    _, first, count = np.unique(edge[order], return_index=True, return_counts=True)
    two = first[count == 2]
    simple = np.stack([order[two], order[two + 1]], axis=1)
    simple = simple[(start < end)[simple[:, 0]] & (start > end)[simple[:, 1]]]
    many = [_around(mesh, order[a : a + n]) for a, n in zip(first[count > 2], count[count > 2], strict=True)]
    rest = np.concatenate([np.zeros((0, 2), np.int64), *many])
    return np.concatenate([simple, rest]), np.arange(len(simple) + len(rest)) >= len(simple)


def _around(mesh: Mesh, half: Ints) -> Ints:
    """Returns partners (P, 2) among the half-edges of one edge. Sorted by angle, they close like brackets around the solid."""
    corner = mesh.faces.astype(np.int64).ravel()
    ends = np.sort([corner[half[0]], corner[_next(half[:1])[0]]])
    low, high = mesh.vertices[ends[0]], mesh.vertices[ends[1]]
    axis = (high - low) / max(float(np.linalg.norm(high - low)), 1e-30)
    away = mesh.vertices[corner[_next(_next(half))]] - low
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    angle = np.arctan2(away @ np.cross(axis, side), away @ side)
    ring = half[np.argsort(angle, kind="stable")]
    forward = corner[ring] == ends[0]
    depth = np.cumsum(np.where(forward, -1, 1))
    begin = int(depth.argmin()) + 1  # from here on no forward face comes before its partner
    pairs: list[tuple[int, int]] = []
    open_ones: list[int] = []
    for h, closes in zip(np.roll(ring, -begin), np.roll(forward, -begin), strict=True):
        if not closes:
            open_ones.append(int(h))
        elif open_ones:
            pairs.append((int(h), open_ones.pop()))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _cut(mesh: Mesh, pairs: Ints) -> Mesh:
    """Gives each fan of faces that partners connect its own vertex, and moves vertices that were one a little apart."""
    corners = mesh.faces.size
    forward, backward = pairs.T
    a = np.concatenate([forward, _next(forward)])
    b = np.concatenate([_next(backward), backward])
    links: Any = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(corners, corners))
    count, fan = connected_components(links, directed=False)
    old = np.zeros(count, np.int64)
    old[fan] = mesh.faces.ravel()
    place = mesh.vertices[old].astype(np.float64)
    split = np.bincount(old, minlength=len(mesh.vertices))[old] > 1
    if split.any():
        middle = np.repeat(mesh.corners.mean(1), 3, axis=0)
        mean = np.stack([np.bincount(fan, middle[:, axis], count) for axis in range(3)], 1) / np.bincount(fan)[:, None]
        place[split] += APART * (mean - place)[split]
    if not split.any() and count == len(mesh.vertices):
        return mesh
    return Mesh(place, fan.reshape(-1, 3).astype(np.int64))


def _doubled(faces: Ints, pairs: Ints) -> Ints:
    """Returns those of `pairs` (P, 2) that still share both vertices with an earlier pair, at most one in each face."""
    start = faces.ravel()
    ends = np.sort(np.stack([start[pairs[:, 0]], start[_next(pairs[:, 0])]], axis=1), axis=1)
    _, first = np.unique(ends, axis=0, return_index=True)
    later = pairs[np.setdiff1d(np.arange(len(pairs)), first)]
    chosen, used = [], set[int]()
    for pair in later:
        if not used & set((pair // 3).tolist()):
            chosen.append(pair)
            used |= set((pair // 3).tolist())
    return np.array(chosen, np.int64).reshape(-1, 2)


def _divide(mesh: Mesh, pairs: Ints) -> Mesh:
    """Gives each edge of `pairs` its own vertex in the middle, moved a little into the two faces."""
    faces = mesh.faces.astype(np.int64).copy()
    start = mesh.faces.ravel()
    middle = len(mesh.vertices) + np.arange(len(pairs))
    new = []
    for half in pairs.T:
        face, at = half // 3, half % 3
        far = faces[face].copy()
        far[np.arange(len(half)), at] = middle
        faces[face, (at + 1) % 3] = middle
        new.append(far)
    tip = mesh.vertices[start[_next(_next(pairs))]].mean(1)
    edge = mesh.vertices[np.stack([start[pairs[:, 0]], start[_next(pairs[:, 0])]], axis=1)].mean(1)
    return Mesh(np.concatenate([mesh.vertices, edge + APART * (tip - edge)]), np.concatenate([faces, *new]))
