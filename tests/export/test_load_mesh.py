"""Mesh files of other programs and our own: triangles in world axes, display-referred colours, one sentence for the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from painted_box import CENTRE, HALF, SIDES, VOLUME, painted_box, write
from PIL import Image

import dfw
from dfw import MeshSource, load_mesh
from dfw.errors import ConfigError

PLACES = np.array([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [40, 80, 120]], np.uint8)


def saved(path: Path, colours: bool = True) -> Path:
    """A tetrahedron of known corners, written by trimesh as it stands: no axes are turned."""
    shape = trimesh.Trimesh(PLACES, FACES, vertex_colors=COLOURS if colours else None, process=False)
    shape.export(path)
    return path


@pytest.mark.parametrize("name", ["a.obj", "a.glb", "a.ply", "a.stl", "a.PLY"])
def test_triangles_and_colours_of_each_format(tmp_path: Path, name: str) -> None:
    """glTF's axes: the file's y is the world's z, its z the world's x, its x the world's y."""
    found = load_mesh(saved(tmp_path / name), up="y", front="z")
    world = PLACES[:, [2, 0, 1]]
    assert np.abs(found.mesh.corners - world[FACES]).max() < 1e-6
    assert found.mesh.volume == pytest.approx(1)  # 3 x 2 x 1 / 6, faces outward
    colour = found.vertex_colour[found.mesh.faces]
    assert np.array_equal(colour, np.full((4, 3, 3), 128) if name.endswith("stl") else COLOURS[FACES])


@pytest.mark.parametrize("name", ["a.obj", "a.glb", "a.ply", "a.stl"])
def test_without_colours_it_is_grey(tmp_path: Path, name: str) -> None:
    found = load_mesh(saved(tmp_path / name, colours=False))
    assert found.vertex_colour.shape == (len(found.mesh.vertices), 3)
    assert (found.vertex_colour == 128).all()


@pytest.mark.parametrize(("name", "coloured"), [("glb", "texture"), ("obj", "texture"), ("ply", "corners"), ("stl", "")])
def test_what_dfw_writes_comes_back(tmp_path: Path, name: str, coloured: str) -> None:
    """With the axes of its format: z up and front x for PLY and STL, y and z for the others."""
    box = painted_box()
    found = load_mesh(write(dfw.build("exporter", name), tmp_path))
    low, high = found.mesh.vertices.min(0), found.mesh.vertices.max(0)
    assert np.concatenate([low, high]) == pytest.approx(np.concatenate([CENTRE - HALF, CENTRE + HALF]), abs=1e-6)
    assert found.mesh.volume == pytest.approx(VOLUME)
    if coloured == "corners":
        assert np.array_equal(found.vertex_colour[found.mesh.faces], box.vertex_colour[box.mesh.faces])
    if coloured == "texture":
        a, b, c = np.moveaxis(found.mesh.corners, 1, 0)
        outward = np.cross(b - a, c - a)
        outward = (outward / np.linalg.norm(outward, axis=1, keepdims=True)).round().astype(int)
        for normal, colours in zip(outward, found.vertex_colour[found.mesh.faces], strict=True):
            assert {tuple(colour) for colour in colours} == {SIDES[tuple(normal)]}


def test_axes_may_be_any_two_at_right_angles(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ply")
    for up, front, order, signs in [
        ("z", "x", [0, 1, 2], [1, 1, 1]),
        ("-y", "z", [2, 0, 1], [1, -1, -1]),
        ("x", "-z", [2, 1, 0], [-1, 1, 1]),
    ]:
        found = load_mesh(path, up=up, front=front)
        assert np.allclose(found.mesh.vertices, PLACES[:, order] * signs), (up, front)
        assert found.mesh.volume == pytest.approx(1)  # a rotation, never a mirror


def test_all_objects_become_one_mesh_where_the_scene_puts_them(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    for index, colour in enumerate(([255, 0, 0, 255], [0, 0, 255, 255])):
        box = trimesh.creation.box((1, 1, 1))
        box.visual.vertex_colors = np.tile(np.array(colour, np.uint8), (8, 1))
        scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([0, 3 * index, 0]))
    scene.export(tmp_path / "two.glb")
    found = load_mesh(tmp_path / "two.glb")
    assert found.mesh.volume == pytest.approx(2)
    upper = found.mesh.vertices[:, 2] > 1.5
    assert (found.vertex_colour[upper] == [0, 0, 255]).all()
    assert (found.vertex_colour[~upper] == [255, 0, 0]).all()
    assert upper.sum() == (~upper).sum() == 8


def test_a_radius_centres_it_and_moves_the_farthest_corner_to_the_ball(tmp_path: Path) -> None:
    """The box is 3 x 2 x 1 in the file, and the corner (3, 0, 0) lies sqrt(14) / 2 from its middle."""
    vertices = load_mesh(saved(tmp_path / "a.obj"), radius=0.7).mesh.vertices
    half = 0.7 / 14**0.5 * np.array([1, 3, 2])
    assert vertices.max(0) == pytest.approx(half)
    assert vertices.min(0) == pytest.approx(-half)
    assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(0.7)


def test_objects_keep_their_own_materials(tmp_path: Path) -> None:
    """A red one by its material, and a textured one with roughness and metallic, half as bright by a linear factor."""
    box, other = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 1))
    made = trimesh.visual.material.PBRMaterial
    red = made(baseColorFactor=[255, 0, 0, 255], metallicFactor=0.0, roughnessFactor=0.25)
    box.visual = trimesh.visual.TextureVisuals(material=red)
    white = Image.new("RGB", (2, 2), (255, 255, 255))
    shine = Image.new("RGB", (2, 2), (0, 128, 64))
    painted = made(baseColorTexture=white, baseColorFactor=[128, 128, 128, 255], metallicRoughnessTexture=shine)
    other.visual = trimesh.visual.TextureVisuals(uv=np.full((8, 2), 0.5), material=painted)
    trimesh.Scene({"a": box, "b": other}).export(tmp_path / "two.glb")
    found = load_mesh(tmp_path / "two.glb")
    assert len(found.materials) == 2
    plain, shiny = sorted(found.materials, key=lambda one: one.texture is not None)
    index = 0 if found.materials[0] is plain else 1
    assert (plain.texture, plain.metallic_roughness, plain.roughness, plain.metallic) == (None, None, 0.25, 0)
    assert (found.vertex_colour[found.mesh.faces[found.material == index]] == [255, 0, 0]).all()
    assert np.abs(shiny.texture.astype(int) - 188).max() <= 1  # sRGB of half the light
    assert (shiny.metallic_roughness == [0, 128, 64]).all()
    assert (shiny.roughness, shiny.metallic) == (1, 1)  # what glTF has where a file says nothing
    assert (found.material == index).sum() == (found.material != index).sum() == 12


def test_files_that_are_named_and_missing_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of three materials one is whole, one lacks its texture, and another file lacks all of them."""
    Image.new("RGB", (2, 2), (0, 200, 0)).save(tmp_path / "leaf.png")
    (tmp_path / "a.mtl").write_text("newmtl leaf\nmap_Kd leaf.png\nnewmtl blue\nKd 0 0 1\nmap_Kd gone.png\n")
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\n"
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{corners}usemtl leaf\nf 1/1 2/2 3/3\nusemtl blue\nf 1/1 2/2 4/3\n")
    (tmp_path / "b.obj").write_text(f"mtllib b.mtl\n{corners}usemtl leaf\nf 1/1 2/2 3/3\n")
    found = load_mesh(tmp_path / "a.obj")
    (green,) = [one.texture for one in found.materials if one.texture is not None]
    assert (green == [0, 200, 0]).all()
    assert [0, 0, 255] in found.vertex_colour.tolist()
    assert found.lost == ("names gone.png, and there is no such file: the colours that it holds are left out",)
    MeshSource(tmp_path / "b.obj")
    assert "b.obj names b.mtl, and there is no such file" in caplog.text


def extended(path: Path, name: str) -> Path:
    """A tetrahedron whose file says that it needs an extension."""
    data = saved(path).read_bytes()
    size = int.from_bytes(data[12:16], "little")
    tree = json.dumps(json.loads(data[20 : 20 + size]) | {"extensionsUsed": [name]}).encode()
    tree += b" " * (-len(tree) % 4)
    rest = data[20 + size :]
    head = (2).to_bytes(4, "little") + (20 + len(tree) + len(rest)).to_bytes(4, "little") + len(tree).to_bytes(4, "little")
    path.write_bytes(b"glTF" + head + b"JSON" + tree + rest)
    return path


def test_what_the_reader_of_gltf_does_not_know_is_said(tmp_path: Path) -> None:
    """The reader itself would show such a file without a word, with corners or textures at wrong places."""
    for name in ("EXT_meshopt_compression", "KHR_mesh_quantization"):
        with pytest.raises(ConfigError, match=rf"a\.glb: is compressed \({name}\); save it without compression$"):
            load_mesh(extended(tmp_path / "a.glb", name))
    assert "KHR_texture_transform" in load_mesh(extended(tmp_path / "a.glb", "KHR_texture_transform")).lost[0]
    assert load_mesh(extended(tmp_path / "a.glb", "KHR_materials_unlit")).lost == ()


def test_a_compressed_file_needs_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfw.export.gltf.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"_draco_mesh_compression\); save it without compression, or .* pip install DracoPy"):
        load_mesh(extended(tmp_path / "a.glb", "KHR_draco_mesh_compression"))


POINTS = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"
BROKEN = (
    "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"
)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.obj", None, "there is no such file; give an OBJ, GLB, PLY or STL file"),
        ("empty.obj", "", "holds no triangles"),
        ("empty.glb", "", "cannot be read as a mesh"),
        ("empty.stl", "", "cannot be read as a mesh|holds no triangles"),
        ("points.ply", POINTS, "holds no triangles; give a mesh, not points or lines"),
        ("text.txt", "hello", "cannot be read as a mesh; give an OBJ, GLB, PLY or STL file"),
        ("text", "hello", "cannot be read as a mesh"),
        ("text.glb", "hello", "cannot be read as a mesh"),
        ("text.stl", "hello", "cannot be read as a mesh|holds no triangles"),
        ("text.ply", "hello", "cannot be read as a mesh"),
        ("nan.obj", "v 0 0 0\nv 1 0 0\nv 0 1 nan\nf 1 2 3\n", "is damaged"),
        ("outside.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "cannot be read as a mesh|is damaged"),
        ("outside.ply", BROKEN, "cannot be read as a mesh|is damaged"),
    ],
)
def test_what_is_no_mesh_is_one_sentence(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words) as raised:
        load_mesh(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_folder_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "folder.glb"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"folder\.glb: is a folder; give an OBJ"):
        load_mesh(folder)


@pytest.mark.parametrize(
    ("up", "front", "words"),
    [
        ("y", "y", "up='y' and front='y' are not at right angles"),
        ("y", "-y", "up='y' and front='-y' are not at right angles"),
        ("up", "x", "up='up' is not an axis; write one of x, y, z, -x, -y, -z"),
        ("z", "X", "front='X' is not an axis"),
    ],
)
def test_wrong_axes_are_said(tmp_path: Path, up: str, front: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_mesh(saved(tmp_path / "a.obj"), up=up, front=front)
