"""A regular tetrahedral subdivision of a cube: the body-centred cubic lattice.

Nodes are the corners and the centres of n^3 cells. Each pair of cells that share a face has four tetrahedra: both centres with
each edge of the face. All tetrahedra have one shape, with dihedral angles of 60 and 90 degrees, where five or six tetrahedra in a
cube have slivers and a preferred diagonal. Halving the cells halves every edge at its middle, so a finer grid is of the same kind
and holds every piecewise linear function of the coarser one. Labelle and Shewchuk 2007 use it as well.

Nodes on the border and the centres next to it are fixed: they lie outside of every shape. The tetrahedra around any other node
are then complete, so a surface between inside and outside has no border.

Legend: n cells along each axis; N = (n + 1)^3 + n^3 nodes, corners first, both indexed [x, y, z]; R = (n - 1)^3 + (n - 2)^3 free
nodes, in the same order; M tetrahedra.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_FACE = ((0, 0), (1, 0), (1, 1), (0, 1))  # a face's corners, counter-clockwise seen from beyond it


def free_count(cells: int) -> int:
    """R for n cells."""
    inner: int = (cells - 1) ** 3  # mypy takes a power of whole numbers for any number
    centres: int = (cells - 2) ** 3
    return inner + centres


def cells_of(rows: int) -> int:
    """n for R free nodes. Raises ValueError if no grid has that many."""
    cells = round(math.cbrt(rows / 2) + 1.5)
    if free_count(cells) != rows:
        raise ValueError(f"no grid has {rows} free nodes")
    return cells


def free_positions(cells: int, radius: float) -> Tensor:
    """Positions (R, 3) of the free nodes in the cube [-radius, radius]^3."""
    corner = torch.arange(1, cells) * (2.0 / cells) - 1
    centre = (torch.arange(1, cells - 1) + 0.5) * (2.0 / cells) - 1
    parts = [torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3) for axis in (corner, centre)]
    return radius * torch.cat(parts)


def node_positions(nodes: Tensor, cells: int, radius: float) -> Tensor:
    """Lattice positions (..., 3) of nodes (...), float32."""
    corner, index = _indices(nodes, cells)
    shift = torch.where(corner, 0.0, 0.5)[..., None]
    return radius * ((index + shift) * (2.0 / cells) - 1)


def rows_of(nodes: Tensor, cells: int) -> Tensor:
    """The row (...) of each node (...) among the free ones, or -1."""
    corner, index = _indices(nodes, cells)
    side = torch.where(corner, cells - 1, cells - 2)
    x, y, z = (index - 1).unbind(-1)
    free = ((index >= 1) & (index <= side[..., None])).all(-1)
    row = (x * side + y) * side + z + torch.where(corner, 0, (cells - 1) ** 3)
    return torch.where(free, row, -1)


def _indices(nodes: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Whether each node (...) is a corner, and its index (..., 3) among the corners or centres."""
    corners = (cells + 1) ** 3
    corner = nodes < corners
    side = torch.where(corner, cells + 1, cells)
    rest = torch.where(corner, nodes, nodes - corners)
    return corner, torch.stack([rest // side**2, rest // side % side, rest % side], dim=-1)


def on_all_nodes(free: Tensor, cells: int, fixed: float | bool) -> tuple[Tensor, Tensor]:
    """Values (R, ...) of the free nodes as corners (n+1, n+1, n+1, ...) and centres (n, n, n, ...); `fixed` everywhere else."""
    inner = (cells - 1) ** 3
    parts = free[:inner].view(*[cells - 1] * 3, *free.shape[1:]), free[inner:].view(*[cells - 2] * 3, *free.shape[1:])
    margin = [0, 0] * (free.dim() - 1) + [1, 1] * 3
    corners, centres = (F.pad(part, margin, value=fixed) for part in parts)
    return corners, centres


def crossed_tetrahedra(inside: Tensor, cells: int) -> Tensor:
    """The tetrahedra (M, 4) with nodes both inside and outside, as node numbers. `inside` (R,) says which free nodes are.

    Their corners a, b, c, d have det(b - a, c - a, d - a) > 0.
    """
    corners, centres = on_all_nodes(inside, cells, False)
    flat = torch.cat([corners.flatten(), centres.flatten()])
    found = []
    tables = torch.tensor(
        [[side**2, side, 1] for side in (cells + 1, cells)] + [[1, u, v] for u, v in _FACE], device=inside.device
    )
    for axis in range(3):
        turn = (axis, (axis + 1) % 3, (axis + 2) % 3)
        corner, centre = corners.permute(turn), centres.permute(turn)
        around = [corner[1:-1, u : u + cells, v : v + cells] for u, v in _FACE]
        nodes = torch.stack([centre[:-1], centre[1:], *around])
        step, number = torch.stack([tables[:2, one] for one in turn], dim=1)
        place = (nodes.any(0) & ~nodes.all(0)).nonzero()
        low = (place * number).sum(-1) + (cells + 1) ** 3
        face = [((place + one) * step).sum(-1) for one in tables[2:]]
        high = low + number[0]
        found += [torch.stack([low, high, face[k], face[(k + 1) % 4]], dim=-1) for k in range(4)]
    candidates = torch.cat(found)
    within = flat[candidates]
    return candidates[within.any(-1) & ~within.all(-1)]


def halved(corners: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """A function that is linear in each tetrahedron, on the grid of half the cells' side.

    corners (n+1, n+1, n+1, C) and centres (n, n, n, C) become (2n+1, 2n+1, 2n+1, C) and (2n, 2n, 2n, C): old nodes keep their
    values, and every other node is the middle of an edge. Middles of faces on the border are those of two corners.
    """
    cells = len(centres)
    fine = corners.new_zeros(*[2 * cells + 1] * 3, corners.shape[-1])
    fine[::2, ::2, ::2] = corners
    fine[1::2, 1::2, 1::2] = centres
    for axis in range(3):
        own, first, second = fine.movedim(axis, 0), corners.movedim(axis, 0), centres.movedim(axis, 0)
        own[1::2, ::2, ::2] = (first[:-1] + first[1:]) / 2
        own[::2, 1::2, 1::2] = F.pad((second[:-1] + second[1:]) / 2, [0, 0] * (corners.dim() - 1) + [1, 1])
    near = corners.new_zeros(*[2 * cells] * 3, corners.shape[-1])
    for x, y, z in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
        corner = corners[x : x + cells, y : y + cells, z : z + cells]
        near[x::2, y::2, z::2] = (centres + corner) / 2
    return fine, near
