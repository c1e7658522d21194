"""USDZ, which phones and tablets show in augmented reality. USDZ File Format Specification, Pixar 2018.

Writing needs the library usd-core.
"""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from dfw import ComponentConfig, Exporter, ExportError, TexturedMesh, to_gltf

SAME_TIME = 315_619_200
"""2 January 1980, a time that a zip file can hold in every time zone: the same mesh gives the same bytes."""


class Usdz(Exporter):
    """One package of shape, material and PNG texture: y is up, a world unit is a metre, a `UsdPreviewSurface` shades it."""

    class Config(ComponentConfig):
        """The material."""

        roughness: float = Field(default=0.8, ge=0, le=1)
        """Roughness of the surface; 0 is a mirror."""

    suffixes: ClassVar[tuple[str, ...]] = (".usdz",)
    config: Config

    def __init__(self, config: Config) -> None:
        """Raises ExportError if usd-core is missing, so that a run says it before its first step."""
        if find_spec("pxr") is None:
            raise ExportError("the exporter usdz needs the library usd-core; install it with: pip install usd-core")
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes one file."""
        sdf: Any = import_module("pxr.Sdf")
        with tempfile.TemporaryDirectory() as name:
            package = Path(name) / "package.usdz"
            scene, texture = Path(name) / "object.usdc", Path(name) / "texture.png"
            Image.fromarray(mesh.texture).save(texture)
            _write_scene(mesh, title, self.config.roughness, scene, texture.name)
            with sdf.ZipFileWriter.CreateNew(str(package)) as writer:  # aligns each file to 64 bytes and compresses none
                for path in (scene, texture):
                    os.utime(path, (SAME_TIME, SAME_TIME))
                    writer.AddFile(str(path), path.name)
            return {".usdz": package.read_bytes()}


def _write_scene(mesh: TexturedMesh, title: str, roughness: float, path: Path, texture: str) -> None:
    """Writes the shape over the mesh's shared vertices, with texture coordinates per corner, and its material."""
    usd, geom, shade, sdf, gf, vt = (import_module(f"pxr.{part}") for part in ("Usd", "UsdGeom", "UsdShade", "Sdf", "Gf", "Vt"))
    types: Any = sdf.ValueTypeNames
    stage: Any = usd.Stage.CreateNew(str(path))
    geom.SetStageUpAxis(stage, geom.Tokens.y)
    geom.SetStageMetersPerUnit(stage, 1.0)
    root = geom.Xform.Define(stage, "/Object")
    root.GetPrim().SetDisplayName(title)
    usd.ModelAPI(root.GetPrim()).SetKind("component")
    stage.SetDefaultPrim(root.GetPrim())

    points = to_gltf(mesh.mesh.vertices).astype(np.float32)
    shape = geom.Mesh.Define(stage, "/Object/Mesh")
    shape.CreateSubdivisionSchemeAttr(geom.Tokens.none)
    shape.CreatePointsAttr(vt.Vec3fArray.FromNumpy(points))
    shape.CreateExtentAttr([gf.Vec3f(*map(float, corner)) for corner in (points.min(0), points.max(0))])
    shape.CreateFaceVertexCountsAttr(vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    shape.CreateFaceVertexIndicesAttr(vt.IntArray.FromNumpy(mesh.source[mesh.faces].astype(np.int32).ravel()))
    shape.CreateNormalsAttr(vt.Vec3fArray.FromNumpy(to_gltf(mesh.mesh.vertex_normals()).astype(np.float32)))
    shape.SetNormalsInterpolation(geom.Tokens.vertex)
    uv = geom.PrimvarsAPI(shape).CreatePrimvar("st", types.TexCoord2fArray, geom.Tokens.faceVarying)
    uv.Set(vt.Vec2fArray.FromNumpy(mesh.uv.astype(np.float32)))
    uv.SetIndices(vt.IntArray.FromNumpy(mesh.faces.astype(np.int32).ravel()))

    material = shade.Material.Define(stage, "/Object/Material")
    surface, reader, sampler = (shade.Shader.Define(stage, f"/Object/Material/{name}") for name in ("Surface", "St", "Texture"))
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    sampler.CreateIdAttr("UsdUVTexture")
    sampler.CreateInput("file", types.Asset).Set(texture)
    sampler.CreateInput("sourceColorSpace", types.Token).Set("sRGB")
    sampler.CreateInput("st", types.Float2).ConnectToSource(reader.CreateOutput("result", types.Float2))
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("diffuseColor", types.Color3f).ConnectToSource(sampler.CreateOutput("rgb", types.Float3))
    surface.CreateInput("roughness", types.Float).Set(roughness)
    surface.CreateInput("metallic", types.Float).Set(0.0)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    shade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()
