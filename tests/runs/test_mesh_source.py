"""Mesh files as scenes to start from: one vertex for each place, colours by place, one sentence for what is odd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from painted_box import CENTRE, HALF, SIDES, painted_box, write
from PIL import Image

import dfw
from dfw import ConfigError, SurfacePoints
from dfw.runs.mesh_source import MeshSource

MIDDLES = torch.tensor(CENTRE + HALF * np.array(list(SIDES)), dtype=torch.float32)
COLOURS = torch.tensor(list(SIDES.values())) / 255


@pytest.mark.parametrize("name", ["glb", "obj"])
def test_a_textured_file_has_its_corners_once_and_each_sides_colour(tmp_path: Path, name: str) -> None:
    made = MeshSource(write(dfw.build("exporter", name), tmp_path), radius=None)
    assert made.surface().vertices.shape == (8, 3)
    away = (made.surface().vertices - torch.tensor(CENTRE, dtype=torch.float32)).abs()
    torch.testing.assert_close(away, torch.tensor(HALF, dtype=torch.float32).expand(8, 3))
    torch.testing.assert_close(made.material(SurfacePoints(MIDDLES)).albedo, COLOURS)
    torch.testing.assert_close(made.material(SurfacePoints(MIDDLES.view(2, 3, 3) * 1.05)).albedo, COLOURS.view(2, 3, 3))


def test_its_own_texture_coordinates_are_kept(tmp_path: Path) -> None:
    box = painted_box()
    found = MeshSource(write(dfw.build("exporter", "glb"), tmp_path)).texture_coordinates()
    assert found is not None
    torch.testing.assert_close(found.uv[found.faces].double(), torch.from_numpy(box.uv[box.faces]), atol=1e-6, rtol=0)


def test_it_fits_the_usual_cameras_unless_told_otherwise(tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "ply"), tmp_path)
    fitted = MeshSource(path, radius=0.9).surface().vertices
    torch.testing.assert_close(fitted.norm(dim=1), torch.full((8,), 0.9))
    turned = MeshSource(path, up="x", front="z", radius=None).surface().vertices
    torch.testing.assert_close(turned.amax(0), torch.tensor((CENTRE + HALF)[[2, 1, 0]] * [1, -1, 1] + [0, 0.8, 0]).float())


def two(folder: Path, **shifts: float) -> Path:
    """Two boxes side by side, a red one and one with a green texture, of one layout."""
    box, other = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 1))
    made = trimesh.visual.material.PBRMaterial
    box.visual = trimesh.visual.TextureVisuals(material=made(baseColorFactor=[255, 0, 0, 255], metallicFactor=0.5))
    green = made(baseColorTexture=Image.new("RGB", (4, 4), (0, 255, 0)), roughnessFactor=0.25, metallicFactor=0.0)
    other.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2] + 0.5, material=green)
    other.apply_translation([3, 0, 0])
    trimesh.Scene({"a": box, "b": other}).export(folder / "two.glb")
    return folder / "two.glb"


def test_several_materials_answer_by_place_and_get_new_coordinates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file's x is the world's y."""
    made = MeshSource(two(tmp_path), radius=None)
    found = made.material(SurfacePoints(torch.tensor([[0.5, 0, 0], [0.5, 3, 0]])))
    torch.testing.assert_close(found.albedo, torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    assert found.roughness is not None
    assert found.metallic is not None
    assert found.roughness.tolist() == [1, 0.25]
    assert found.metallic.tolist() == [0.5, 0]
    assert made.texture_coordinates() is None
    assert "two.glb gets new texture coordinates: 20 of its 24 triangles have no texture coordinates" in caplog.text


def test_a_texture_repeats(tmp_path: Path) -> None:
    """At u = 0.25 + 3 the left half is seen, at u = 0.75 - 2 the right one."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[:, 0], pixels[:, 1] = (255, 0, 0), (0, 0, 255)
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [6, 0, 0], [5, 1, 0]], [[0, 1, 2], [3, 4, 5]])
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    places = np.repeat([[3.25, 0.5], [-1.25, 0.5]], 3, axis=0)
    square.visual = trimesh.visual.TextureVisuals(uv=places, material=material)
    square.export(tmp_path / "a.glb")
    made = MeshSource(tmp_path / "a.glb", radius=None)
    found = made.material(SurfacePoints(made.surface().vertices[made.surface().faces].mean(1))).albedo
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0, 0, 1]]))


def test_what_is_odd_is_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = trimesh.creation.box((1, 1, 1))
    inside_out = trimesh.Trimesh(box.vertices, box.faces[:, ::-1], process=False)
    inside_out.export(tmp_path / "out.ply")
    found = MeshSource(tmp_path / "out.ply").surface()
    assert "out.ply is inside out, and is turned" in caplog.text
    corners = found.vertices[found.faces].double()
    assert float(torch.linalg.det(corners).sum()) > 0
    faces = np.concatenate([box.faces, [[0, 0, 1]]])
    trimesh.Trimesh(box.vertices, faces, process=False).export(tmp_path / "thin.ply")
    assert len(MeshSource(tmp_path / "thin.ply").surface().faces) == 12
    assert "thin.ply leaves out 1 of 13 triangles, which have no area" in caplog.text
    torn = box.faces.copy()
    torn[0] = torn[0, ::-1]
    trimesh.Trimesh(box.vertices, torn, process=False).export(tmp_path / "torn.ply")
    MeshSource(tmp_path / "torn.ply")
    assert "torn.ply has triangles that face in opposite ways along 3 edges" in caplog.text
    trimesh.Trimesh(box.vertices, [[0, 1, 1]], process=False).export(tmp_path / "none.ply")
    with pytest.raises(ConfigError, match=r"none\.ply: its 1 triangles are all without area; give another mesh"):
        MeshSource(tmp_path / "none.ply")
