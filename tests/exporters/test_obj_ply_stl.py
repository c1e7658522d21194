"""OBJ, PLY and STL as Assimp reads them: sides, sizes, winding, colours."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from painted_box import SIDES, assert_corners_lie_where_they_were_painted, assert_is_the_box, by_assimp, painted_box, write
from PIL import Image

import dfw

WORLD, GLTF = (0, 1, 2), (1, 2, 0)


def test_obj_is_textured_and_shares_its_corners(tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "obj", roughness=0.25), tmp_path)
    found, materials = by_assimp(path)
    (texture,) = {name for one in materials for names in one["TEXTURES"].values() for name in names}
    assert_is_the_box(found, np.asarray(Image.open(tmp_path / texture)), GLTF)
    assert_corners_lie_where_they_were_painted(found, GLTF)
    assert np.einsum("fci,fi->fc", found.normals, found.outward).min() > 0.3
    assert sum(line.startswith("v ") for line in path.read_text().splitlines()) == 8
    assert "Pr 0.25\n" in (tmp_path / "thing.mtl").read_text()


def test_ply_keeps_world_axes_and_the_corners_colours(tmp_path: Path) -> None:
    box = painted_box()
    found, _ = by_assimp(write(dfw.build("exporter", "ply"), tmp_path))
    assert_is_the_box(found, None, WORLD)
    expected = {
        tuple(np.round(place, 5)): tuple(colour) for place, colour in zip(box.mesh.vertices, box.vertex_colour, strict=True)
    }
    for place, colour in zip(found.points.reshape(-1, 3), found.colours.reshape(-1, 4), strict=True):
        assert tuple((colour[:3] * 255).round()) == expected[tuple(np.round(place.astype(float), 5))]


def test_stl_is_binary_and_keeps_world_axes(tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "stl"), tmp_path)
    found, _ = by_assimp(path)
    assert_is_the_box(found, None, WORLD)
    assert np.abs(found.normals - found.outward[:, None]).max() < 1e-6
    data = path.read_bytes()
    assert len(data) == 84 + 50 * 2 * len(SIDES)
    assert struct.unpack("<I", data[80:84]) == (2 * len(SIDES),)
    assert not data.startswith(b"solid")  # by which readers know a text file
