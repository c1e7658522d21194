"""What a geometry of Gaussians is to a renderer. Legend: N Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

FEATURE = "gaussians"
"""The feature that such a geometry provides and such a renderer requires."""


@dataclass(frozen=True)
class Cloud:
    """N Gaussians in world space.

    mean (N, 3), world units; scale (N, 3): standard deviations along the own axes, world units, > 0; rotation (N, 4): unit
    quaternions w x y z, from the own axes to the world's; opacity (N,) in [0, 1]; colour (N, 3) in [0, 1], from all sides.
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor
    opacity: Tensor
    colour: Tensor


@runtime_checkable
class GaussianGeometry(Protocol):
    """What a geometry with the feature `gaussians` offers."""

    def cloud(self) -> Cloud:
        """The Gaussians as they are now, with gradients to the parameters."""
