"""Smooth surfaces: a penalty on vertices that are away from the middle of their neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs

from .mesh_edges import edges_of
from .surface import triangles_of


class Laplacian(Loss):
    """mean over vertices of |mean of the neighbours - vertex|^2, the uniform Laplacian (Taubin 1995); units squared.

    It makes triangles even and pulls a surface inwards where it is curved: a sphere shrinks.
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
        """A scalar of at least 0, over all vertices that a triangle has; 0 without triangles."""
        found = triangles_of(inputs, "laplacian")
        vertices, edges = found.vertices, edges_of(found.faces)
        ends, others = edges.flatten(), edges.flip(1).flatten()
        total = torch.zeros_like(vertices).index_add(0, ends, vertices.index_select(0, others))
        count = vertices.new_zeros(len(vertices)).index_add(0, ends, vertices.new_ones(len(ends)))
        away = total / count.clamp_min(1)[:, None] - vertices
        return (away.square().sum(-1) * (count > 0)).sum() / (count > 0).sum().clamp_min(1)
