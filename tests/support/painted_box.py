"""A box with a colour of its own on each side, textured by hand, and what readers of other projects find in its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import assimp_py
import numpy as np

from dfw import Exporter, Mesh, TexturedMesh

HALF = np.array([0.6, 0.4, 0.25])
CENTRE = np.array([0.1, -0.2, 0.3])
SIDES = {
    (1, 0, 0): (230, 25, 25),
    (-1, 0, 0): (25, 25, 230),
    (0, 1, 0): (25, 200, 50),
    (0, -1, 0): (240, 220, 40),
    (0, 0, 1): (250, 250, 250),
    (0, 0, -1): (20, 20, 20),
}
"""Outward normal in world axes (front +x, left +y, up +z) -> colour."""
VOLUME = 8 * 0.6 * 0.4 * 0.25
SIZE, CELL = 64, 16


def painted_box() -> TexturedMesh:
    """Eight shared corners; each side has four texture corners in a cell of its own, the first at the image's lower left."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    texture = np.full((SIZE, SIZE, 3), 128, np.uint8)
    source, uv, faces = [], [], []
    for index, (normal, colour) in enumerate(SIDES.items()):
        axis, sign = int(np.flatnonzero(normal)[0]), int(np.sum(normal))
        _, right, up = np.roll(np.eye(3, dtype=int), -axis, 0)
        left, bottom = CELL * (index % 4), CELL * (index // 4)
        texture[SIZE - bottom - CELL : SIZE - bottom, left : left + CELL] = colour
        first = len(source)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            place = np.array(normal) + a * right + b * sign * up
            source.append(int(np.flatnonzero((corners == place).all(1))[0]))
            uv.append([(left + CELL / 2 + a * (CELL / 2 - 1)) / SIZE, (bottom + CELL / 2 + b * (CELL / 2 - 1)) / SIZE])
        faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
    vertices = corners * HALF + CENTRE
    mesh = Mesh(vertices, np.array(source)[np.array(faces)])
    colours = np.arange(24, dtype=np.uint8).reshape(8, 3) * 10
    return TexturedMesh(mesh, np.array(source), np.array(faces), np.array(uv), texture, colours)


def write(exporter: Exporter, folder: Path, mesh: TexturedMesh | None = None, title: str = "a box") -> Path:
    """Writes the box, or `mesh`, as `folder/thing.*`; the main file."""
    for ending, data in exporter.files(mesh or painted_box(), "thing", title).items():
        (folder / f"thing{ending}").write_bytes(data)
    return folder / f"thing{exporter.suffixes[0]}"


@dataclass(frozen=True)
class Found:
    """What a reader finds in a file: corners of F triangles as it stands there."""

    points: np.ndarray
    """(F, 3, 3)."""
    normals: np.ndarray | None = None
    """(F, 3, 3)."""
    uv: np.ndarray | None = None
    """(F, 3, 2), origin at the image's lower left."""
    colours: np.ndarray | None = None
    """(F, 3, 4) in [0, 1]."""

    @property
    def volume(self) -> float:
        a, b, c = np.moveaxis(self.points.astype(float), 1, 0)
        return float((a * np.cross(b, c)).sum() / 6)

    @property
    def outward(self) -> np.ndarray:
        """Unit normals (F, 3) that the winding says."""
        a, b, c = np.moveaxis(self.points.astype(float), 1, 0)
        normal = np.cross(b - a, c - a)
        return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)

    def seen(self, texture: np.ndarray) -> np.ndarray:
        """The texture's colour (F, 3) in the middle of each triangle."""
        middle = self.uv.mean(1)
        size = texture.shape[0]
        row, column = (np.clip(place * size, 0, size - 1).astype(int) for place in (1 - middle[:, 1], middle[:, 0]))
        return texture[row, column]


def by_assimp(path: Path) -> tuple[Found, list[dict]]:
    """Everything that Assimp, the reader of many 3D programs, finds in a file: its triangles, and its materials."""
    scene = assimp_py.import_file(str(path), assimp_py.Process_Triangulate)
    (mesh,) = scene.meshes

    def corners(values: object, width: int) -> np.ndarray | None:
        return None if values is None else np.array(values).reshape(mesh.num_vertices, width)[faces]

    faces = np.array(mesh.indices).reshape(-1, 3)
    uv = corners(mesh.texcoords[0] if mesh.texcoords else None, 2)
    colours = corners(mesh.colors[0] if mesh.colors else None, 4)
    return Found(corners(mesh.vertices, 3), corners(mesh.normals, 3), uv, colours), scene.materials


def assert_is_the_box(found: Found, texture: np.ndarray | None, axes: tuple[int, int, int]) -> None:
    """Sides, sizes, winding and colours; `axes`: which world axis each axis of the file is."""
    order = list(axes)
    low, high = found.points.reshape(-1, 3).min(0), found.points.reshape(-1, 3).max(0)
    assert np.abs(low - (CENTRE - HALF)[order]).max() < 1e-6
    assert np.abs(high - (CENTRE + HALF)[order]).max() < 1e-6
    assert abs(found.volume - VOLUME) < 1e-6
    sides = dict.fromkeys(SIDES, 0)
    for face, outward in enumerate(found.outward):
        world = np.zeros(3)
        world[order] = outward
        side = tuple(int(value) for value in world.round())
        sides[side] += 1
        assert np.abs(world - side).max() < 1e-6
        if texture is not None:
            assert tuple(found.seen(texture)[face]) == SIDES[side]
    assert set(sides.values()) == {2}


def assert_corners_lie_where_they_were_painted(found: Found, axes: tuple[int, int, int]) -> None:
    """Each corner of each side has the texture coordinates that `painted_box` gave it there."""
    box, sides = painted_box(), [np.array(normal) for normal in SIDES]
    for points, uvs, outward in zip(found.points, found.uv, found.outward, strict=True):
        world = np.zeros((4, 3))
        world[:, list(axes)] = np.concatenate([outward[None], points])
        side = next(index for index, normal in enumerate(sides) if np.abs(world[0] - normal).max() < 1e-6)
        own = slice(4 * side, 4 * side + 4)
        for place, uv in zip(world[1:], uvs, strict=True):
            corner = np.abs(box.vertices[own] - place).max(1).argmin()
            assert np.abs(box.uv[own][corner] - uv).max() < 1e-6
