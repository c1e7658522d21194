"""Roughness, metallic and bumps in files: baked from a surface, and as readers of other projects find them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tinyusdz
from glb_chunks import accessor, chunks, image
from painted_box import SIDES, assert_is_the_box, by_assimp, painted_box, write
from PIL import Image
from pxr import Usd, UsdShade, UsdValidation
from shiny_box import BUMPS, METAL, ROUGH, ShinyBox, cell, validated

import dfw
from dfw import TexturedMesh
from dfw.export.texture import bake_surface
from dfw.runs.mesh_source import MeshSource


@pytest.fixture(scope="module")
def shiny() -> TexturedMesh:
    return bake_surface(ShinyBox(), 64)


def test_each_side_has_its_values(shiny: TexturedMesh) -> None:
    assert shiny.metallic_roughness is not None
    for side in SIDES:
        assert (shiny.metallic_roughness[cell(side)] == [255, ROUGH[side], METAL[side]]).all(), side
        assert (shiny.texture[cell(side)] == SIDES[side]).all(), side


def test_tangents_point_along_u_and_bitangents_along_v() -> None:
    """Of a square in space that is turned, stretched and mirrored in its picture."""
    corners = np.array([[0, 0, 0], [0, 2, 0], [0, 2, 1], [0, 0, 1]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    grey = np.zeros((4, 4, 3), np.uint8)
    flat = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]])
    for uv, along, sign in (
        (flat, [0, 1, 0], 1),
        (flat * [-1, 1] + [1, 0], [0, -1, 0], -1),
        (flat[:, ::-1], [0, 0, 1], -1),
    ):
        made = TexturedMesh(dfw.Mesh(corners, faces), np.arange(4), faces, uv, grey, grey[0])
        assert np.abs(made.tangents - [*along, sign]).max() < 1e-12
        across = sign * np.cross(made.normals, made.tangents[:, :3])
        step = np.linalg.lstsq(np.c_[uv, np.ones(4)], corners, rcond=None)[0][:2]  # of the place, along u and v
        assert np.abs(across - step[1] / np.linalg.norm(step[1])).max() < 1e-12


def test_the_normal_map_leans_as_the_bump_says(shiny: TexturedMesh) -> None:
    """A reader turns a texel by tangent, bitangent and normal into the world's normal plus bump."""
    assert shiny.normal_map is not None
    for index, side in enumerate(SIDES):
        rows, columns = cell(side)
        middle = shiny.normal_map[rows, columns][6:8, 6:8].mean((0, 1)) / 255 * 2 - 1
        ends = [4 * index, 4 * index + 2]  # of the diagonal that the two triangles share
        n = shiny.normals[ends].sum(0)
        n /= np.linalg.norm(n)
        t = shiny.tangents[ends, :3].sum(0)
        t -= n * (n @ t)
        t /= np.linalg.norm(t)
        world = middle @ np.stack([t, np.cross(n, t) * shiny.tangents[4 * index, 3], n])
        wanted = n + BUMPS[side]
        assert np.abs(world - wanted / np.linalg.norm(wanted)).max() < 0.02, side


def test_glb_holds_them_and_khronos_finds_no_mistake(shiny: TexturedMesh, tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "glb"), tmp_path, shiny)
    tree, binary = chunks(path)
    (material,) = tree["materials"]
    pbr = material["pbrMetallicRoughness"]
    assert (pbr["metallicFactor"], pbr["roughnessFactor"]) == (1, 1)
    for reference, wanted in (
        (pbr["baseColorTexture"], shiny.texture),
        (pbr["metallicRoughnessTexture"], shiny.metallic_roughness),
        (material["normalTexture"], shiny.normal_map),
    ):
        assert np.array_equal(image(tree, binary, reference["index"]), wanted)
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    assert set(attributes) == {"POSITION", "NORMAL", "TEXCOORD_0", "TANGENT"}
    found = accessor(tree, binary, attributes["TANGENT"])
    assert np.abs(found[:, :3] - shiny.tangents[:, [1, 2, 0]]).max() < 1e-6
    assert np.array_equal(found[:, 3], shiny.tangents[:, 3])
    read, _ = by_assimp(path)
    assert_is_the_box(read, shiny.texture, (1, 2, 0))
    issues = validated(path, tmp_path)["issues"]
    assert (issues["numErrors"], issues["numWarnings"], issues["numInfos"]) == (0, 0, 0), issues["messages"]


def test_a_plain_glb_has_none_of_it(tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "glb"), tmp_path)
    tree, _ = chunks(path)
    assert len(tree["images"]) == 1
    assert "TANGENT" not in tree["meshes"][0]["primitives"][0]["attributes"]
    issues = validated(path, tmp_path)["issues"]
    assert (issues["numErrors"], issues["numWarnings"], issues["numInfos"]) == (0, 0, 0), issues["messages"]


def test_a_mesh_that_starts_from_the_file_has_its_shine(shiny: TexturedMesh, tmp_path: Path) -> None:
    source = MeshSource(write(dfw.build("exporter", "glb"), tmp_path, shiny))
    made = dfw.build("geometry", "mesh", texture={"type": "image", "size": 64, "pbr": True})
    made.start_from(source)
    back = bake_surface(made, 64)
    assert back.metallic_roughness is not None
    for side in SIDES:
        rough = max(ROUGH[side], round(0.08 * 255))
        assert np.abs(back.metallic_roughness[cell(side)].astype(int) - [255, rough, METAL[side]]).max() <= 1, side


def test_obj_has_a_picture_of_each(shiny: TexturedMesh, tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "obj"), tmp_path, shiny)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "thing.metallic.png", "thing.mtl", "thing.normal.png", "thing.obj", "thing.png", "thing.roughness.png",
    ]  # fmt: skip
    assert shiny.metallic_roughness is not None
    for name, wanted in (
        ("roughness", shiny.metallic_roughness[..., 1]),
        ("metallic", shiny.metallic_roughness[..., 2]),
        ("normal", shiny.normal_map),
    ):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"thing.{name}.png")), wanted)
    lines = (tmp_path / "thing.mtl").read_text().splitlines()
    assert {"map_Pr thing.roughness.png", "map_Pm thing.metallic.png", "norm thing.normal.png"} <= set(lines)
    assert not any(line.startswith(("Pr ", "Pm ")) for line in lines)
    read, materials = by_assimp(path)
    assert_is_the_box(read, shiny.texture, (1, 2, 0))
    textures = {name for one in materials for names in one["TEXTURES"].values() for name in names}
    assert {"thing.png", "thing.normal.png", "thing.roughness.png", "thing.metallic.png"} <= textures


def test_usdz_shades_with_them(shiny: TexturedMesh, tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "usdz"), tmp_path, shiny)
    stage = Usd.Stage.Open(str(path))
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert [error.GetErrorAsString() for error in context.Validate(stage)] == []
    surface = UsdShade.Shader(stage.GetPrimAtPath("/Object/Material/Surface"))
    for name, output in (("roughness", "g"), ("metallic", "b"), ("normal", "rgb"), ("diffuseColor", "rgb")):
        (source,) = surface.GetInput(name).GetConnectedSources()[0]
        assert source.sourceName == output, name
    scene = tinyusdz.tydra.convert_to_render_scene(tinyusdz.load(str(path)))
    (material,) = scene.materials()
    images, textures = scene.images(), scene.textures()
    with zipfile.ZipFile(path) as archive:
        for name, wanted in (
            ("diffuse_color", shiny.texture),
            ("roughness", shiny.metallic_roughness),
            ("metallic", shiny.metallic_roughness),
            ("normal", shiny.normal_map),
        ):
            texture = textures[material.preview_surface[name]["texture_id"]]
            found = images[texture.texture_image_id].asset_identifier
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(archive.read(found)))), wanted), name


def test_the_same_shiny_mesh_gives_the_same_bytes(shiny: TexturedMesh) -> None:
    for name in ("glb", "obj", "usdz"):
        exporter = dfw.build("exporter", name)
        assert exporter.files(shiny, "a", "t") == exporter.files(replace(shiny), "a", "t")
    assert painted_box().metallic_roughness is None
