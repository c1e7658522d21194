"""Binary STL: the bare shape, for 3D printing. 3D Systems 1988."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from dfw import ComponentConfig, Exporter, TexturedMesh


class Stl(Exporter):
    """The mesh's triangles without colours, in world axes: z is up, as on the bed of a printer."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    suffixes: ClassVar[tuple[str, ...]] = (".stl",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes one file."""
        trimesh: Any = import_module("trimesh")
        shape = trimesh.Trimesh(vertices=mesh.mesh.vertices, faces=mesh.mesh.faces, process=False)
        return {".stl": bytes(trimesh.exchange.stl.export_stl(shape))}
