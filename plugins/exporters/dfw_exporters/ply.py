"""Binary PLY with vertex colours: for research code and point-cloud tools. Turk 1994."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from dfw import ComponentConfig, Exporter, TexturedMesh


class Ply(Exporter):
    """The mesh's shared vertices with vertex colours (display-referred, 0..255), in world axes."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    suffixes: ClassVar[tuple[str, ...]] = (".ply",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes one file."""
        trimesh: Any = import_module("trimesh")
        shape = trimesh.Trimesh(
            vertices=mesh.mesh.vertices, faces=mesh.mesh.faces, vertex_colors=mesh.vertex_colour, process=False
        )
        return {".ply": bytes(trimesh.exchange.ply.export_ply(shape, vertex_normal=False))}
