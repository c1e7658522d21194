"""USDZ: the package's layout, the scene as usd-core validates it, and shape and material as tinyusdz reads them."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tinyusdz
from painted_box import Found, assert_corners_lie_where_they_were_painted, assert_is_the_box, painted_box, write
from PIL import Image
from pxr import Usd, UsdGeom, UsdShade, UsdValidation

import dfw
from dfw.errors import ExportError


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(dfw.build("exporter", "usdz", roughness=0.25), tmp_path_factory.mktemp("usdz"), title='a "red" <box> äß')


def test_the_package_is_laid_out_as_the_format_says(package: Path) -> None:
    """Scene first, nothing compressed or encrypted, every file at a multiple of 64 bytes."""
    data = package.read_bytes()
    with zipfile.ZipFile(package) as archive:
        assert [one.filename for one in archive.infolist()] == ["object.usdc", "texture.png"]
        for one in archive.infolist():
            assert one.compress_type == zipfile.ZIP_STORED
            assert one.flag_bits & 1 == 0
            start = data.index(archive.read(one))
            assert start % 64 == 0
        assert archive.read("object.usdc").startswith(b"PXR-USDC")


def test_usd_core_finds_no_mistake(package: Path) -> None:
    stage = Usd.Stage.Open(str(package))
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert [error.GetErrorAsString() for error in context.Validate(stage)] == []


def test_units_axes_and_names(package: Path) -> None:
    stage = Usd.Stage.Open(str(package))
    root = stage.GetDefaultPrim()
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert root.GetDisplayName() == 'a "red" <box> äß'
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/Object/Mesh"))
    assert mesh.GetSubdivisionSchemeAttr().Get() == "none"  # else the box would be shown as a ball
    extent = np.array(mesh.GetExtentAttr().Get())
    assert np.abs(extent - UsdGeom.Mesh.ComputeExtent(mesh.GetPointsAttr().Get())).max() == 0
    assert len(mesh.GetPointsAttr().Get()) == 8
    material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
    shader = material.ComputeSurfaceSource()[0]
    assert shader.GetIdAttr().Get() == "UsdPreviewSurface"
    assert shader.GetInput("metallic").Get() == 0
    sampler = UsdShade.Shader(stage.GetPrimAtPath("/Object/Material/Texture"))
    assert [sampler.GetInput(side).Get() for side in ("wrapS", "wrapT")] == ["clamp", "clamp"]  # by default black is around it


def test_another_reader_sees_every_side_in_its_colour(package: Path) -> None:
    scene = tinyusdz.tydra.convert_to_render_scene(tinyusdz.load(str(package)))
    (mesh,), (material,), (image,), (texture,) = scene.meshes(), scene.materials(), scene.images(), scene.textures()
    surface = material.preview_surface
    assert surface["roughness"]["value"] == 0.25
    assert surface["diffuse_color"]["texture_id"] == mesh.material_id == 0
    assert (texture.varname_uv, texture.output_channel, image.color_space) == ("st", "rgb", "srgb")
    with zipfile.ZipFile(package) as archive:
        pixels = np.asarray(Image.open(io.BytesIO(archive.read(image.asset_identifier))))
    faces = np.asarray(mesh.face_vertex_indices).reshape(-1, 3)
    points, uv, normals = (np.asarray(one)[faces] for one in (mesh.points, mesh.texcoord(0), mesh.normals))
    found = Found(points, normals, uv)
    assert_is_the_box(found, pixels, (1, 2, 0))
    assert_corners_lie_where_they_were_painted(found, (1, 2, 0))
    assert np.einsum("fci,fi->fc", normals, found.outward).min() > 0.3


def test_the_same_mesh_gives_the_same_bytes() -> None:
    exporter = dfw.build("exporter", "usdz")
    assert exporter.files(painted_box(), "a", "t") == exporter.files(painted_box(), "b", "t")


def test_a_missing_library_is_said_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)  # what Python makes of a package that cannot be imported
    with pytest.raises(ExportError, match=r"usdz needs the library usd-core.*pip install usd-core"):
        dfw.build("exporter", "usdz")


def test_the_library_loads_only_to_write() -> None:
    code = "import sys, dfw; dfw.build('exporter', 'usdz'); assert 'pxr' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
