"""A kind of object: named parts with colours, placed in the unit ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .primitives import vector

RGB = tuple[float, float, float]
Part = tuple[Tensor, RGB | None]
"""Distance ``[...]`` of a part, and its own colour. ``None`` stands for the colour that the caption names."""

RADIUS = 0.85
"""Every kind is scaled so that its farthest surface point lies about this far from the origin."""


@dataclass(frozen=True)
class Shape:
    """One kind of object. ``parts`` models it in any frame; ``centre`` and ``extent``, its bounding ball, place it."""

    name: str
    parts: Callable[[Tensor], list[Part]]
    centre: RGB
    extent: float
    turned: bool = False
    """True if it looks the same, or nearly so, from every azimuth."""

    def place(self, points: Tensor) -> Tensor:
        """Moves world points ``[..., 3]`` into the frame of the model."""
        return points * (self.extent / RADIUS) + vector(self.centre, points)

    def layers(self, points: Tensor) -> list[Part]:
        """Returns the parts with distances in world units."""
        return [(d * (RADIUS / self.extent), c) for d, c in self.parts(self.place(points))]

    def distance(self, points: Tensor) -> Tensor:
        """Returns the signed distance (or a 1-Lipschitz bound) ``[...]`` of world points ``[..., 3]``."""
        return torch.stack([d for d, _ in self.layers(points)]).amin(0)

    def paint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which points belong to the main part ``[...]`` (0 or 1), and the fixed colour of the others ``[..., 3]``."""
        layers = self.layers(points)
        nearest = torch.stack([d for d, _ in layers]).argmin(0)
        palette = torch.stack([vector(c or (0.0, 0.0, 0.0), points) for _, c in layers])
        is_main = vector([float(c is None) for _, c in layers], points)
        return is_main[nearest], palette[nearest]

    def colour(self, points: Tensor, colour_rgb: Tensor) -> Tensor:
        """Returns the albedo ``[..., 3]`` in [0, 1]. The main part takes ``colour_rgb`` ``[3]``."""
        main, fixed = self.paint(points)
        return main[..., None] * colour_rgb.to(points) + fixed
