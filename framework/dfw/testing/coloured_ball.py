"""A surface that the kit lets geometries start from."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import Material, SurfacePoints, Triangles
from dfw.interfaces.geometry import Surface
from dfw.testing import meshes


class ColouredBall(Surface):
    """A ball of 32 triangles within radius 0.9 of the origin, whose colour changes from place to place."""

    vertices: Tensor
    faces: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.dfw_name = "a coloured ball"
        mesh = meshes.ball().mesh
        self.register_buffer("vertices", torch.as_tensor(mesh.vertices, dtype=torch.float32) * 0.7)
        self.register_buffer("faces", torch.as_tensor(mesh.faces, dtype=torch.int64))

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        """A surface."""
        return frozenset({"surface"})

    def surface(self) -> Triangles:
        """The 32 triangles."""
        return Triangles(self.vertices, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        """Smooth colours, all within 0.2 and 0.8."""
        return Material(0.5 + 0.3 * torch.sin(3 * at.position))
