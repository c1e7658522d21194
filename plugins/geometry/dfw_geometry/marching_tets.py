"""Marching tetrahedra: triangles where a function on nodes changes its sign, differentiable in values and positions.

Doi and Koide 1991; as a layer of an optimisation DMTet (Shen et al. 2021).

Legend: M tetrahedra, V crossed edges (each is a vertex), F triangles.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


def _even(order: tuple[int, ...]) -> bool:
    return sum(a > b for k, a in enumerate(order) for b in order[k + 1 :]) % 2 == 0


def _edge(a: int, b: int) -> int:
    return _EDGES.index((min(a, b), max(a, b)))


def _triangles(case: int) -> list[list[int]]:
    """The triangles of a tetrahedron whose corner k is inside where bit k of `case` is set: three edges each, seen from outside.

    For corners i, j, k, l of positive volume the edges ij, ik, il run counter-clockwise seen from the face jkl, and so do ik, il,
    jl, jk seen from the edge kl.
    """
    inside = [k for k in range(4) if case >> k & 1]
    outside = [k for k in range(4) if k not in inside]
    few, many = (inside, outside) if len(inside) <= len(outside) else (outside, inside)
    if not few:
        return []
    i, j, k, q = next((*few, *rest) for rest in permutations(many) if _even((*few, *rest)))
    if len(few) == 2:
        return [[_edge(i, k), _edge(i, q), _edge(j, q)], [_edge(i, k), _edge(j, q), _edge(j, k)]]
    around = [_edge(i, j), _edge(i, k), _edge(i, q)]
    return [around if few is inside else around[::-1]]


_CASES = [_triangles(case) for case in range(16)]
_TABLE = [[*(edges[0] if edges else [0] * 3), *(edges[1] if len(edges) > 1 else [0] * 3)] for edges in _CASES]
_COUNT = [len(edges) for edges in _CASES]


def marching_tetrahedra(tetrahedra: Tensor, inside: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Triangles between inside and outside: crossed edges (V, 2) int64 and faces (F, 3) int64 that index them.

    tetrahedra (M, 4): nodes of positive volume, below `nodes`. inside (M, 4): which are. An edge is its inside node and its
    outside node; edges are sorted by these. Faces run counter-clockwise seen from outside.
    """
    device = tetrahedra.device
    case = (inside * torch.tensor([1, 2, 4, 8], device=device)).sum(-1)
    table, count = torch.tensor(_TABLE, device=device)[case], torch.tensor(_COUNT, device=device)[case]
    one, two = table[count > 0, :3], table[count > 1, 3:]
    owner = torch.cat([tetrahedra[count > 0], tetrahedra[count > 1]])
    within = torch.cat([inside[count > 0], inside[count > 1]])
    ends = torch.tensor(_EDGES, device=device)[torch.cat([one, two])]  # (F, 3, 2), corners of the tetrahedron
    node = owner[:, None].expand(-1, 3, -1).gather(-1, ends)
    first = within[:, None].expand(-1, 3, -1).gather(-1, ends)[..., :1]
    node = torch.where(first, node, node.flip(-1))
    keys, faces = torch.unique(node[..., 0] * nodes + node[..., 1], return_inverse=True)
    return torch.stack([keys // nodes, keys % nodes], dim=-1), faces


def crossings(values: Tensor, positions: Tensor, smallest: float) -> Tensor:
    """Where edges are crossed, (V, 3): the linear function between `values` (V, 2) at `positions` (V, 2, 3) is 0 there.

    Values are below 0 at the first end and not below 0 at the second. Where they differ by less than `smallest`
    that is taken for their difference, so that gradients stay finite; the crossing then lies nearer to the first end.
    """
    first, second = values.unbind(-1)
    share = -first / (second - first).clamp_min(smallest)
    return positions[:, 0] + share[:, None] * (positions[:, 1] - positions[:, 0])
