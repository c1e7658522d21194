"""What the triangles of a mesh share.

Legend: F triangles, E edges, P pairs of triangles.
"""

from __future__ import annotations

import torch
from torch import Tensor


def edges_of(faces: Tensor) -> Tensor:
    """The edges (E, 2) of triangles (F, 3), each once, the lower vertex first."""
    start, end = faces.flatten(), faces.roll(-1, 1).flatten()
    found: Tensor = torch.unique(torch.stack([torch.minimum(start, end), torch.maximum(start, end)], dim=1), dim=0)
    return found


def neighbours(faces: Tensor) -> Tensor:
    """Pairs (P, 2) of triangles (F, 3) that share an edge. Of three at one edge the first and the last are no pair."""
    start, end = faces.flatten(), faces.roll(-1, 1).flatten()
    count = faces.max() + 1 if len(faces) else faces.new_ones(())
    key, order = torch.sort(torch.minimum(start, end) * count + torch.maximum(start, end), stable=True)
    same = (key[1:] == key[:-1]).nonzero()[:, 0]
    return torch.stack([order[same], order[same + 1]], dim=1) // 3
