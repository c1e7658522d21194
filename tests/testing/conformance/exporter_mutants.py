"""A right exporter, and wrong ones: each differs in one thing."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw import ComponentConfig, Exporter, TexturedMesh


class Twin(Exporter):
    """Object File Format (Princeton Shape Benchmark), and a list of the texture's colours beside it."""

    class Config(ComponentConfig):
        """How exact numbers are."""

        digits: int = 7
        """Significant digits of a coordinate."""

    suffixes: ClassVar[tuple[str, ...]] = (".off", ".txt")

    def __init__(self, config: Any) -> None:
        self.config = config

    def corners(self, mesh: TexturedMesh) -> Tensor:
        return torch.from_numpy(mesh.mesh.vertices.copy())

    def faces(self, mesh: TexturedMesh) -> Any:
        return mesh.mesh.faces

    def head(self, title: str) -> str:
        return f"# {' '.join(title.split())}"

    def side(self, mesh: TexturedMesh) -> bytes:
        return bytes(mesh.texture)

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        corners, faces = self.corners(mesh).tolist(), self.faces(mesh).tolist()
        lines = ["OFF", f"# colours: {stem}.txt", self.head(title), f"{len(corners)} {len(faces)} 0"]
        lines += [" ".join(f"{value:.{self.config.digits}g}" for value in corner) for corner in corners]
        lines += [f"3 {a} {b} {c}" for a, b, c in faces]
        return {".off": ("\n".join(lines) + "\n").encode(), ".txt": self.side(mesh)}


class EndingWithoutItsDot(Twin):
    suffixes = (".off", "txt")


class LeavesAFileOut(Twin):
    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        return {".off": super().files(mesh, stem, title)[".off"]}


class ArrayForBytes(Twin):
    def side(self, mesh: TexturedMesh) -> bytes:
        return bytearray(super().side(mesh))  # type: ignore[return-value]


class NamesAFileOfItsOwn(Twin):
    """object.txt, whatever the stem."""

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        return super().files(mesh, "object", title)


class WritesTheDate(Twin):
    def side(self, mesh: TexturedMesh) -> bytes:
        return super().side(mesh) + time.strftime("%Y-%m-%d", time.gmtime(time.time())).encode()


class TurnedInsideOut(Twin):
    def faces(self, mesh: TexturedMesh) -> Any:
        return mesh.mesh.faces[:, ::-1]


class InMillimetres(Twin):
    def corners(self, mesh: TexturedMesh) -> Tensor:
        return 1000 * super().corners(mesh)


class ShortIndices(Twin):
    """Indices of 16 bits, which run over."""

    def faces(self, mesh: TexturedMesh) -> Any:
        return mesh.mesh.faces.astype("uint16")


class NeedsFourTriangles(Twin):
    def faces(self, mesh: TexturedMesh) -> Any:
        return mesh.mesh.faces[[0, 1, 2, 3, *range(4, len(mesh.mesh.faces))]]


class TitleAsItIs(Twin):
    """A line break in the name begins a line of the file."""

    def head(self, title: str) -> str:
        return f"# {title}"


class MovesTheMesh(Twin):
    def corners(self, mesh: TexturedMesh) -> Tensor:
        found = super().corners(mesh)
        mesh.mesh.vertices[:] -= mesh.mesh.vertices.mean(0)
        return found


READ_BACK = {"test_reads_back", "test_few_triangles", "test_many_vertices", "test_title"}
"""Every check that reads a file."""
MUTANTS: dict[type[Twin], set[str]] = {
    EndingWithoutItsDot: {"test_suffixes", "test_files"},
    LeavesAFileOut: {"test_files_name_each_other"},
    ArrayForBytes: {"test_files"},
    NamesAFileOfItsOwn: {"test_files_name_each_other"},
    WritesTheDate: {"test_same_bytes_tomorrow"},
    TurnedInsideOut: READ_BACK,
    InMillimetres: READ_BACK,
    ShortIndices: {"test_many_vertices"},
    NeedsFourTriangles: {"test_few_triangles"},
    TitleAsItIs: {"test_title"},
    MovesTheMesh: {"test_leaves_its_inputs_alone"},
}
"""Wrong exporter -> the checks that catch it, and no other."""
