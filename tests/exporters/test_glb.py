"""GLB as the specification has it, as Assimp reads it, and at the border between short and long indices."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from painted_box import assert_corners_lie_where_they_were_painted, assert_is_the_box, by_assimp, painted_box, write
from PIL import Image

import dfw
from dfw import Mesh, TexturedMesh
from dfw_exporters.glb import MOST_SHORT


def chunks(path: Path) -> tuple[dict, bytes]:
    """JSON and binary part (glTF 2.0, section 4.4)."""
    data = path.read_bytes()
    size = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def view(tree: dict, binary: bytes, index: int) -> bytes:
    found = tree["bufferViews"][index]
    return binary[found["byteOffset"] : found["byteOffset"] + found["byteLength"]]


def test_assimp_reads_every_side_in_its_colour(tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "glb"), tmp_path)
    tree, binary = chunks(path)
    texture = np.asarray(Image.open(io.BytesIO(view(tree, binary, tree["images"][0]["bufferView"]))).convert("RGB"))
    found, _ = by_assimp(path)
    assert_is_the_box(found, texture, (1, 2, 0))
    assert_corners_lie_where_they_were_painted(found, (1, 2, 0))
    outward = np.einsum("fci,fi->fc", found.normals, found.outward)
    assert outward.min() > 0.3  # a corner's normal leans to all three sides that meet there


def strip(count: int) -> TexturedMesh:
    """A zigzag of `count` vertices; its last triangle uses the last one."""
    index = np.arange(count)
    vertices = np.stack([index // 2 / 1000, index % 2 * 1.0, np.zeros(count)], 1)
    faces = np.stack([index[:-2], index[1:-1] + index[:-2] % 2, index[2:] - index[:-2] % 2], 1)
    grey = np.full((4, 4, 3), 128, np.uint8)
    return TexturedMesh(Mesh(vertices, faces), index, faces, np.zeros((count, 2)), grey, np.full((count, 3), 128, np.uint8))


@pytest.mark.parametrize(("count", "kind", "width"), [(MOST_SHORT, 5123, 2), (MOST_SHORT + 1, 5125, 4)])
def test_indices_are_short_where_they_fit(tmp_path: Path, count: int, kind: int, width: int) -> None:
    mesh = strip(count)
    path = write(dfw.build("exporter", "glb"), tmp_path, mesh)
    tree, binary = chunks(path)
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["indices"]]
    assert (accessor["componentType"], accessor["count"]) == (kind, 3 * len(mesh.faces))
    data = view(tree, binary, accessor["bufferView"])
    assert accessor["count"] * width <= len(data) < accessor["count"] * width + 4
    read = np.frombuffer(data, f"<u{width}")[: accessor["count"]].reshape(-1, 3)
    assert np.array_equal(read, mesh.faces)
    assert read.max() == count - 1
    assert read.max() < 2 ** (8 * width) - 1  # the largest number restarts a strip (glTF 2.0, 3.7.2.1)
    assert all(view["byteOffset"] % 4 == 0 for view in tree["bufferViews"])
    found, _ = by_assimp(path)
    assert np.abs(found.points - mesh.vertices[mesh.faces][..., [1, 2, 0]]).max() < 1e-5


def test_roughness_is_the_materials(tmp_path: Path) -> None:
    tree, _ = chunks(write(dfw.build("exporter", "glb", roughness=0.25), tmp_path, title='a "red" <box>'))
    assert tree["materials"][0]["pbrMetallicRoughness"]["roughnessFactor"] == 0.25
    assert tree["meshes"][0]["name"] == 'a "red" <box>'
    with pytest.raises(dfw.ConfigError, match=r"roughness.*less than or equal to 1"):
        dfw.build("exporter", "glb", roughness=1.5)


def test_textures_do_not_repeat(tmp_path: Path) -> None:
    """Charts may reach the picture's border, and a lookup there would mix in the opposite border."""
    tree, _ = chunks(write(dfw.build("exporter", "glb"), tmp_path))
    assert tree["textures"]
    for texture in tree["textures"]:
        sampler = tree["samplers"][texture["sampler"]]
        assert (sampler["wrapS"], sampler["wrapT"]) == (33071, 33071)  # CLAMP_TO_EDGE


def test_the_same_mesh_gives_the_same_bytes() -> None:
    exporter = dfw.build("exporter", "glb")
    assert exporter.files(painted_box(), "a", "t") == exporter.files(painted_box(), "b", "t")
