"""Axes, files and the whole export against answers known beforehand."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from export_fields import (
    BLUE,
    GREEN,
    RED,
    Analytic,
    baked,
    ball,
    box,
    exporters,
    front_red,
    plain,
    ring,
    sphere,
    sphere_opacity,
    union,
)
from torch import Tensor

from dfw import RaySamples, RenderOutput
from dfw.atomic import put_new
from dfw.config.settings import ExportSettings
from dfw.errors import ExportError
from dfw.export.agreement import compare, project, rendered_albedo, visible
from dfw.export.axes import from_gltf, to_gltf
from dfw.export.grid import sample_density
from dfw.export.level import largest_density
from dfw.export.mesh import extract_mesh
from dfw.export.pipeline import export_mesh

SMALL = ExportSettings(resolution=32, faces=2000, texture=128)


def marked(points: Tensor) -> Tensor:
    """Front (+x) red, left (+y) side of the rest green, what remains blue."""
    front, left = (points[..., :1] > 0.2).to(points), (points[..., 1:2] > 0).to(points)
    red, green, blue = (torch.tensor(colour).to(points) for colour in (RED, GREEN, BLUE))
    return front * red + (1 - front) * (left * green + (1 - left) * blue)


# --- axes and projection --------------------------------------------------------------------------------------------------------


def test_axes_turn_front_to_z_left_to_x_and_up_to_y() -> None:
    front, left, up = np.eye(3)
    assert to_gltf(front).tolist() == [0, 0, 1]
    assert to_gltf(left).tolist() == [1, 0, 0]
    assert to_gltf(up).tolist() == [0, 1, 0]
    assert np.linalg.det(to_gltf(np.eye(3))) == pytest.approx(1)
    points = np.random.default_rng(0).normal(size=(5, 3))
    assert np.array_equal(from_gltf(to_gltf(points)), points)


def test_a_point_on_a_ray_projects_to_the_rays_pixel() -> None:
    camera = ring(5, side=10).select(slice(3, 4))
    rays = camera.rays()
    points = (rays.origin + 2.5 * rays.direction).reshape(-1, 3).double().numpy()
    pixels, depth = project(points, camera)
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2) + 0.5
    assert np.abs(pixels - grid).max() < 1e-4
    assert depth.max() < 2.5
    assert depth.min() > 2.5 * math.cos(math.radians(30))


def test_the_nearest_face_is_seen() -> None:
    """From the front one sees the front sphere, and its point nearest to the camera in the middle of the picture."""
    field = Analytic(union(sphere(0.2, (0.5, 0, 0)), sphere(0.2, (-0.5, 0, 0))), plain(RED), 100.0, 0.0)
    mesh = extract_mesh(field, 64, 50.0)
    camera = ring(1, elevation=0.0, side=33).select(slice(0, 1))
    fragments = visible(mesh.vertices, mesh.faces, camera)
    middle = fragments.pixel.tolist().index(16 * 33 + 16)
    point = (mesh.corners[fragments.face[middle]] * fragments.barycentric[middle][:, None]).sum(axis=0)
    assert point == pytest.approx([0.7, 0, 0], abs=0.003)


def test_rendered_albedo_is_the_weighted_mean() -> None:
    cameras = ring(1, elevation=0.0, side=2)
    rays = cameras.rays()
    toward = rays.direction.reshape(-1, 3)[0].expand(2, 3)
    samples = RaySamples(torch.tensor([0.2, 0.6]), torch.tensor([0, 0]), torch.tensor([2.0, 4.0]), toward)
    output = RenderOutput(torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), samples=samples)
    albedo = rendered_albedo(ball(), cameras, output)
    assert albedo is not None
    assert albedo[0, 0, 0].tolist() == pytest.approx([(0.2 * r + 0.6 * b) / 0.8 for r, b in zip(RED, BLUE, strict=True)])
    assert albedo[0, 1, 1].tolist() == [0, 0, 0]
    assert rendered_albedo(ball(), cameras, RenderOutput(output.colour, output.opacity, output.depth)) is None


def test_agreement_of_a_ball_with_itself_and_with_a_smaller_one() -> None:
    cameras = ring(4, side=96)
    field = Analytic(sphere(0.6), plain(GREEN), 100.0, 0.0)
    textured = baked(field, extract_mesh(field, 48, 50.0), 128, 2 / 48)
    green = torch.tensor(GREEN).expand(4, 96, 96, 3)
    same = compare(textured, cameras, sphere_opacity(cameras, 0.6), green)
    assert same.silhouette > 0.99
    assert same.colour == pytest.approx(0, abs=1 / 255)
    smaller = compare(textured, cameras, sphere_opacity(cameras, 0.45), green + torch.tensor([0.1, 0, 0]))
    # a ball at distance 3 covers a disc of radius R / sqrt(9 - R^2)
    expected = (0.45**2 / (9 - 0.45**2)) / (0.6**2 / (9 - 0.6**2))
    assert smaller.silhouette == pytest.approx(expected, abs=0.02)
    assert smaller.colour == pytest.approx(0.1 / 3, abs=1 / 255)


# --- files ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    field = Analytic(union(box((0.6, 0.4, 0.25)), sphere(0.3, (0.3, 0.0, 0.3))), marked, 100.0, 0.0)
    directory = tmp_path_factory.mktemp("export")
    cameras = ring(4)
    opacity = (largest_density(sample_density(field, 64), cameras) > 50).float()
    result = export_mesh(field, opacity, cameras, SMALL, exporters(), directory, title='a "red" <box>')
    return result, directory


def document(path: Path) -> tuple[dict, bytes]:
    """A GLB's JSON and binary chunks, read by the specification (glTF 2.0, section 4.4)."""
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON"
    assert size % 4 == 0
    binary_size, binary_kind = struct.unpack("<I4s", data[20 + size : 28 + size])
    assert binary_kind == b"BIN\0"
    assert 28 + size + binary_size == len(data)
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def test_the_result_says_what_was_written(exported) -> None:
    result, directory = exported
    assert {name: path.name for name, path in result.paths.items()} == {
        "glb": "object.glb",
        "obj": "object.obj",
        "ply": "object.ply",
    }
    assert sorted(path.name for path in directory.iterdir()) == [
        "object.glb",
        "object.mtl",
        "object.obj",
        "object.ply",
        "object.png",
    ]
    assert result.watertight
    assert result.faces <= 2000
    assert result.agreement.silhouette > 0.95
    assert result.agreement.colour is None
    assert f"{result.faces} faces, closed" in result.summary()
    assert result.facts()["Closed"] == "yes"


def test_glb_follows_the_specification(exported) -> None:
    tree, binary = document(exported[0].paths["glb"])
    primitive = tree["meshes"][0]["primitives"][0]
    assert tree["asset"]["version"] == "2.0"
    assert tree["meshes"][0]["name"] == 'a "red" <box>'
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    material = tree["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0
    assert material["roughnessFactor"] == pytest.approx(0.8)
    assert material["baseColorFactor"] == [1, 1, 1, 1]
    image = tree["images"][tree["textures"][material["baseColorTexture"]["index"]]["source"]]
    view = tree["bufferViews"][image["bufferView"]]
    assert image["mimeType"] == "image/png"
    assert binary[view["byteOffset"] :][:8] == b"\x89PNG\r\n\x1a\n"
    views = {index: tree["bufferViews"][tree["accessors"][index]["bufferView"]] for index in range(len(tree["accessors"]))}
    assert views[primitive["indices"]]["target"] == 34963  # ELEMENT_ARRAY_BUFFER
    assert {views[index]["target"] for index in primitive["attributes"].values()} == {34962}  # ARRAY_BUFFER
    assert not any("uri" in item for item in tree["buffers"] + tree["images"])


def test_glb_comes_back_closed_with_its_volume_and_axes(exported) -> None:
    mesh = trimesh.load(exported[0].paths["glb"], force="mesh")
    assert mesh.visual.uv.min() >= 0
    assert mesh.visual.uv.max() <= 1
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(exported[0].volume, rel=1e-4)
    # half extents: x .6 forward is now z, y .4 to the left is x, z from -.25 to .6 is y
    assert mesh.bounds[0] == pytest.approx([-0.4, -0.25, -0.6], abs=0.01)
    assert mesh.bounds[1] == pytest.approx([0.4, 0.6, 0.6], abs=0.01)


def test_box_and_ball_keep_their_volume_in_the_file(tmp_path: Path) -> None:
    cameras = ring(4)
    for name, field, volume in (
        ("box", Analytic(box((0.5, 0.4, 0.3)), front_red, 100.0, 0.0), 8 * 0.5 * 0.4 * 0.3),
        ("ball", ball(0.6), 4 / 3 * math.pi * 0.6**3),
    ):
        settings = ExportSettings(resolution=64, faces=20_000, texture=64, level=50.0)
        result = export_mesh(field, sphere_opacity(cameras, 0.6), cameras, settings, exporters("glb"), tmp_path / name)
        assert trimesh.load(result.paths["glb"], force="mesh").volume == pytest.approx(volume, rel=0.01)


def test_glb_shows_the_right_colour_on_each_side(exported) -> None:
    mesh = trimesh.load(exported[0].paths["glb"], force="mesh")
    image = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")) / 255
    centres, uv = mesh.triangles_center, mesh.visual.uv[mesh.faces].mean(axis=1)
    side = image.shape[0]
    seen = image[((1 - uv[:, 1]) * side).astype(int), (uv[:, 0] * side).astype(int)]
    front, left, right = (
        centres[:, 2] > 0.3,
        (centres[:, 2] < 0.1) & (centres[:, 0] > 0.1),
        (centres[:, 2] < 0.1) & (centres[:, 0] < -0.1),
    )
    for where, colour in ((front, RED), (left, GREEN), (right, BLUE)):
        assert where.sum() > 50
        assert np.abs(seen[where] - colour).max() < 0.01


def test_obj_is_closed_over_shared_vertices_and_finds_its_texture(exported) -> None:
    path = exported[0].paths["obj"]
    text = path.read_text()
    assert "mtllib object.mtl" in text
    assert "map_Kd object.png" in path.with_suffix(".mtl").read_text()
    rows = [line.split() for line in text.splitlines()]
    places = np.array([[float(word) for word in row[1:]] for row in rows if row[0] == "v"])
    faces = np.array([[int(word.split("/")[0]) - 1 for word in row[1:]] for row in rows if row[0] == "f"])
    assert trimesh.Trimesh(places, faces, process=False).is_watertight
    loaded = trimesh.load(path, force="mesh")
    assert loaded.visual.material.image.size == (128, 128)
    assert loaded.bounds == pytest.approx(trimesh.load(exported[0].paths["glb"], force="mesh").bounds, abs=1e-5)


def test_ply_keeps_world_axes_and_vertex_colours(exported) -> None:
    mesh = trimesh.load(exported[0].paths["ply"])
    assert mesh.is_watertight
    assert mesh.bounds[1] == pytest.approx([0.6, 0.4, 0.6], abs=0.01)
    front = mesh.vertices[:, 0] > 0.3
    assert np.abs(mesh.visual.vertex_colors[front, :3] / 255 - RED).max() < 0.01


def test_nothing_is_overwritten(exported, tmp_path: Path) -> None:
    (tmp_path / "object.png").write_bytes(b"mine")
    cameras = ring(2)
    names = []
    for _ in range(2):
        result = export_mesh(ball(), sphere_opacity(cameras, 0.6), cameras, SMALL, exporters(), tmp_path)
        names.append(result.paths["glb"].name)
    assert names == ["object-2.glb", "object-3.glb"]
    assert (tmp_path / "object.png").read_bytes() == b"mine"
    assert "mtllib object-3.mtl" in (tmp_path / "object-3.obj").read_text()
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob(".*"))


def test_a_claimed_name_is_taken_for_all_its_files(tmp_path: Path) -> None:
    def put(*endings: str) -> list[str]:
        return [path.name for path in put_new(tmp_path, "object", endings, lambda _: dict.fromkeys(endings, b"x")).values()]

    assert put(".glb", ".ply") == ["object.glb", "object.ply"]
    assert put(".ply") == ["object-2.ply"]
    assert put(".obj") == ["object.obj"]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_another_process_takes_meanwhile_is_left_to_it(tmp_path: Path, monkeypatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError("no hard links here")))
    asked: list[str] = []

    def contents(stem: str) -> dict[str, bytes]:
        asked.append(stem)
        if stem == "object":
            (tmp_path / "object.obj").write_bytes(b"theirs")
        return {".obj": b"ours " + stem.encode(), ".mtl": b"ours"}

    assert put_new(tmp_path, "object", [".obj", ".mtl"], contents)[".obj"].read_bytes() == b"ours object-2"
    assert asked == ["object", "object-2"]
    assert (tmp_path / "object.obj").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["object-2.mtl", "object-2.obj", "object.obj"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cameras = ring(2)
    with pytest.raises(ExportError, match=r"cannot write the mesh in .*file.*choose another output folder"):
        export_mesh(ball(), sphere_opacity(cameras, 0.6), cameras, SMALL, exporters(), tmp_path / "file" / "export")


def test_the_same_field_gives_the_same_bytes(tmp_path: Path) -> None:
    cameras = ring(2)
    first, second = (
        export_mesh(ball(), sphere_opacity(cameras, 0.6), cameras, SMALL, exporters(), tmp_path / name) for name in "ab"
    )
    for name, path in first.paths.items():
        assert path.read_bytes() == second.paths[name].read_bytes()


def test_a_level_by_hand_is_used(tmp_path: Path) -> None:
    cameras = ring(2)
    settings = SMALL.model_copy(update={"level": 25.0})
    result = export_mesh(ball(0.5, 0.1), sphere_opacity(cameras, 0.6), cameras, settings, exporters("ply"), tmp_path)
    assert result.level == 25
    assert list(result.paths) == ["ply"]
    assert result.volume == pytest.approx(4 / 3 * math.pi * (0.5 + 0.1 * math.log(3)) ** 3, rel=0.01)


@pytest.mark.parametrize("faces", [1, 3])
def test_too_few_faces_still_make_files(tmp_path: Path, faces: int) -> None:
    cameras = ring(2)
    settings = SMALL.model_copy(update={"faces": faces})
    result = export_mesh(ball(), sphere_opacity(cameras, 0.6), cameras, settings, exporters(), tmp_path)
    assert result.faces >= 4
    assert {path.suffix for path in tmp_path.iterdir()} >= {".glb", ".obj", ".ply"}
    assert all(path.stat().st_size for path in tmp_path.iterdir())
