"""Dual marching cubes: which vertices each cube of a grid has, and which four of them surround each crossed edge.

Nielson 2004, "Dual Marching Cubes". The tables are derived here. On a face with four crossed edges each inside corner is cut off
by itself, and edges that are joined through faces share a vertex. Where two cubes share such a face, and both joined its edges
into one vertex, an edge of the surface would have four sides. Those two cubes cut off the outside corners instead (Wenger 2013,
"Isosurfaces").

Legend: n cells along each axis; K cubes that the surface meets; M pairs of such a cube and a crossed edge of it; V vertices; Q
crossed edges, each of which has a quadrilateral.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

CORNERS = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
_AROUND = {(0, 0): 0, (1, 0): 1, (1, 1): 2, (0, 1): 3}  # the cube's place around its edge (u, v), counter-clockwise


def _corner(axis: int, along: int, u: int, v: int) -> int:
    at = [0, 0, 0]
    at[axis], at[(axis + 1) % 3], at[(axis + 2) % 3] = along, u, v
    return at[0] + 2 * at[1] + 4 * at[2]


_PLACES = [(axis, u, v) for axis in range(3) for u in (0, 1) for v in (0, 1)]
EDGES = [(_corner(axis, 0, u, v), _corner(axis, 1, u, v)) for axis, u, v in _PLACES]


def _faces() -> list[tuple[list[int], list[int]]]:
    """The corners of each face, and its edges."""
    found = []
    for axis, side in product(range(3), (0, 1)):
        corners = [_corner(axis, side, u, v) for u, v in product((0, 1), repeat=2)]
        found.append((corners, [k for k, ends in enumerate(EDGES) if set(ends) <= set(corners)]))
    return found


_FACES = _faces()


def _groups(case: int, isolated: bool) -> list[int]:
    """The vertex of each of the twelve edges, from 0, or -1. Corner k is inside where bit k of `case` is set.

    On a face with four crossed edges the corners are cut off that are inside, or those that are not, as `isolated` says.
    """
    inside = [case >> k & 1 == 1 for k in range(8)]
    group = {k: k for k, (a, b) in enumerate(EDGES) if inside[a] != inside[b]}
    for corners, edges in _FACES:
        crossed = [k for k in edges if k in group]
        if len(crossed) == 4:
            joined = [[k for k in crossed if corner in EDGES[k]] for corner in corners if inside[corner] == isolated]
        else:
            joined = [crossed] if crossed else []
        for one, other in joined:
            group = {k: group[one] if value == group[other] else value for k, value in group.items()}
    names = sorted(set(group.values()))
    return [names.index(group[k]) if k in group else -1 for k in range(12)]


def _doubtful(case: int) -> int:
    """The face (2 axis + side) whose four crossed edges belong to one vertex, or -1."""
    group = _groups(case, True)
    for number, (_, edges) in enumerate(_FACES):
        vertices = [group[k] for k in edges]
        if -1 not in vertices and len(set(vertices)) == 1:
            return number
    return -1


_TABLE = [[_groups(case, isolated) for case in range(256)] for isolated in (True, False)]
_DOUBTFUL = [_doubtful(case) for case in range(256)]


@dataclass(frozen=True)
class DualSurface:
    """What a pattern of signs makes of a grid."""

    cube: Tensor
    """(M,) int64, numbers of cubes in the grid (n, n, n)."""
    vertex: Tensor
    """(M,) int64, below V."""
    nodes: Tensor
    """(M, 2) int64, numbers of the crossed edge's ends in the grid of corners (n+1, n+1, n+1), the inside one first."""
    corners: Tensor
    """(M, 2) int64, the same as corners of the cube."""
    edge: Tensor
    """(M,) int64, the edge's number among the twelve of a cube."""
    vertices: int
    """V."""
    quads: Tensor
    """(Q, 4) int64, vertices around each crossed edge, counter-clockwise seen from outside."""
    crossed: Tensor
    """(Q, 2) int64, the ends of these edges, as in `nodes`."""


def dual_surface(inside: Tensor) -> DualSurface:
    """The dual surface of `inside` (n+1, n+1, n+1), which must be false on the border."""
    device, n = inside.device, len(inside) - 1
    views = [inside[x : x + n, y : y + n, z : z + n] for x, y, z in CORNERS]
    cases = sum((view.long() << k for k, view in enumerate(views)), start=torch.zeros_like(views[0], dtype=torch.int64))
    place = ((cases > 0) & (cases < 255)).nonzero()
    case = cases[tuple(place.T)]
    doubtful = torch.tensor(_DOUBTFUL, device=device)
    face = doubtful[case]
    step = torch.zeros_like(place).scatter_(1, (face.clamp_min(0) // 2)[:, None], (2 * (face % 2) - 1)[:, None])
    beyond = (place + torch.where(face[:, None] >= 0, step, 0)).clamp(0, n - 1)
    turned = (face >= 0) & (doubtful[cases[tuple(beyond.T)]] >= 0)
    group = torch.tensor(_TABLE, device=device)[turned.long(), case]
    count = group.amax(-1) + 1
    cube, edge = (group >= 0).nonzero().unbind(-1)
    vertex = (count.cumsum(0) - count)[cube] + group[cube, edge]
    corners = torch.tensor(EDGES, device=device)[edge]
    at = place[cube][:, None] + torch.tensor(CORNERS, device=device)[corners]
    nodes = (at[..., 0] * (n + 1) + at[..., 1]) * (n + 1) + at[..., 2]
    rising = inside.flatten()[nodes[:, 0]]
    axis = edge // 4
    around = torch.tensor([_AROUND[u, v] for _, u, v in _PLACES], device=device)[edge]
    around = torch.where(rising, around, 3 - around)
    order = ((nodes[:, 0] * 3 + axis) * 4 + around).argsort()
    ends = torch.where(rising[:, None], nodes, nodes.flip(-1))
    return DualSurface(
        cube=((place[:, 0] * n + place[:, 1]) * n + place[:, 2])[cube],
        vertex=vertex,
        nodes=ends,
        corners=torch.where(rising[:, None], corners, corners.flip(-1)),
        edge=edge,
        vertices=int(count.sum()),
        quads=vertex[order].view(-1, 4),
        crossed=ends[order[::4]],
    )


def with_centres(vertices: Tensor, quads: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Quadrilaterals (Q, 4) as four triangles each, around a new vertex: vertices (V + Q, 3) and faces (4 Q, 3).

    The new vertex lies between the middles of the diagonals, each with the product of its ends' `weights` (V,).
    """
    corner = vertices.index_select(0, quads.flatten()).view(-1, 4, 3)
    weight = weights.index_select(0, quads.flatten()).view(-1, 4)
    one, other = (weight[:, [k]] * weight[:, [k + 2]] for k in (0, 1))
    centre = (one * (corner[:, 0] + corner[:, 2]) + other * (corner[:, 1] + corner[:, 3])) / (2 * (one + other))
    number = len(vertices) + torch.arange(len(quads), device=quads.device)
    faces = torch.stack([torch.stack([quads[:, k], quads[:, (k + 1) % 4], number], dim=-1) for k in range(4)], dim=1)
    return torch.cat([vertices, centre]), faces.view(-1, 3)
