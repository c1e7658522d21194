"""A mesh file as a scene that others can start from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dfw.export.load import load_mesh
from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import Material, SurfacePoints, Triangles
from dfw.interfaces.geometry import Surface


class MeshSource(Surface):
    """The triangles of a file, with the colour of the nearest vertex."""

    vertices: Tensor
    faces: Tensor
    colours: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.dfw_name = f"the mesh {path}"
        loaded = load_mesh(path)
        self.register_buffer("vertices", torch.as_tensor(loaded.mesh.vertices, dtype=torch.float32))
        self.register_buffer("faces", torch.as_tensor(loaded.mesh.faces, dtype=torch.int64))
        self.register_buffer("colours", torch.as_tensor(loaded.vertex_colour, dtype=torch.float32) / 255)

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        """A surface."""
        return frozenset({"surface"})

    def surface(self) -> Triangles:
        """The file's triangles."""
        return Triangles(self.vertices, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        """The colour of the nearest vertex."""
        flat = at.position.reshape(-1, 3)
        nearest = torch.cat([torch.cdist(part, self.vertices).argmin(1) for part in torch.split(flat, 4096)])
        return Material(self.colours[nearest].view(at.position.shape))
