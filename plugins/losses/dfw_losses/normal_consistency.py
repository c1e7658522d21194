"""Smooth surfaces: a penalty on the angle between neighbouring triangles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs

from .mesh_edges import neighbours
from .surface import triangles_of

_SLIVER = 1e-3  # of the mean area: the normals of smaller triangles count less, since they turn with every rounding


class NormalConsistency(Loss):
    """mean over pairs of triangles that share an edge of 1 - cos(angle between their normals).

    As in nvdiffrec (Munkberg et al. 2022). A normal is n / sqrt(|n|^2 + e^2), with n the cross product of two sides and e a
    thousandth of the mean |n|, so that gradients of triangles without area stay finite.
    """

    class Config(ComponentConfig):
        """Nothing to choose; the weight belongs to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """The scene's triangles."""
        return frozenset({"surface"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar in [0, 2], 0 for a plane, and 0 where no triangles touch."""
        found = triangles_of(inputs, "normal-consistency")
        corners = found.vertices.index_select(0, found.faces.flatten()).view(-1, 3, 3)
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        square = normal.square().sum(-1, keepdim=True)
        least = (_SLIVER * square.detach().sqrt().mean()).square() if len(square) else 0.0
        unit = normal / (square + least).clamp_min(torch.finfo(square.dtype).tiny).sqrt()
        pairs = neighbours(found.faces)
        one, other = unit.index_select(0, pairs[:, 0]), unit.index_select(0, pairs[:, 1])
        total: Tensor = (1 - (one * other).sum(-1)).sum()
        return total / max(len(pairs), 1)
