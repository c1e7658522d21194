"""What an encoding of space is: a point becomes a vector of features.

Legend: N points, L levels, D width of the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Encoding(nn.Module, ABC):
    """Features of points. Subclasses set `levels` (what coarse-to-fine counts) and `width` (of the result)."""

    levels: int
    width: int

    @abstractmethod
    def forward(self, points: Tensor, level_weights: Tensor | None = None) -> Tensor:
        """Points (N, 3) in [0, 1] -> (N, D). `level_weights` (L,) in [0, 1] scales each level's features."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draws all parameters from `generator`."""

    def pullback(self, points: Tensor, upstream: Tensor, level_weights: Tensor | None = None) -> Tensor:
        """(d features/d points)^T `upstream`: (N, D) -> (N, 3). Differentiable in parameters and `upstream`."""
        track = torch.is_grad_enabled()
        with torch.enable_grad():
            leaf = points if points.requires_grad else points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.forward(leaf, level_weights), leaf, upstream, create_graph=track)
        return gradient

    def grid_parameters(self) -> list[nn.Parameter]:
        """Parameters that are stored over space, for a learning rate of their own."""
        return []
