"""How a mesh is written to a file. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from dfw.interfaces.component import Component
from dfw.interfaces.mesh import TexturedMesh


class Exporter(Component, ABC):
    """One file format for a textured mesh."""

    kind: ClassVar[str] = "exporter"
    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files it may write, the main one first, e.g. (".obj", ".mtl", ".png"). `--out` goes by the first."""

    @abstractmethod
    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Ending -> contents: the main one's, and those of `suffixes` that this mesh needs. Written whole, as `<stem><ending>`.

        title: the object's name inside the files. Raises ExportError where the format cannot hold the mesh, or where a library is
        missing.
        """
