"""What losses ask of the run's scene."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from dfw import ConfigError, LossInputs, Surface, Triangles


@runtime_checkable
class SignedGrid(Protocol):
    """A geometry with the feature `signed-grid`: its surface lies where values on a grid change their sign."""

    def crossings(self) -> Tensor:
        """The values (K, 2) at both ends of each edge of the grid whose ends differ in sign, with gradients."""
        ...


def triangles_of(inputs: LossInputs, loss: str) -> Triangles:
    """The triangles of the scene. Raises ConfigError, which names the loss, for a scene that is not a surface."""
    if not isinstance(inputs.geometry, Surface):
        raise ConfigError(f"the loss '{loss}' looks at triangles, and {type(inputs.geometry).__name__} is not a Surface")
    return inputs.geometry.surface()
