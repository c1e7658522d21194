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
    """One package of shape, material and PNG textures: y is up, a world unit is a metre, a `UsdPreviewSurface` shades it."""

    class Config(ComponentConfig):
        """The material."""

        roughness: float = Field(default=0.8, ge=0, le=1)
        """Roughness of a surface that has none of its own; 0 is a mirror."""

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
            scene = Path(name) / "object.usdc"
            pictures = {"texture": mesh.texture, "metallic-roughness": mesh.metallic_roughness, "normal": mesh.normal_map}
            files: dict[str, Path] = {}
            for what, pixels in pictures.items():
                if pixels is not None:
                    files[what] = Path(name) / f"{what}.png"
                    Image.fromarray(pixels).save(files[what])
            _write_scene(mesh, title, self.config.roughness, scene, {what: file.name for what, file in files.items()})
            with sdf.ZipFileWriter.CreateNew(str(package)) as writer:  # aligns each file to 64 bytes and compresses none
                for path in (scene, *files.values()):
                    os.utime(path, (SAME_TIME, SAME_TIME))
                    writer.AddFile(str(path), path.name)
            return {".usdz": package.read_bytes()}


def _write_scene(mesh: TexturedMesh, title: str, roughness: float, path: Path, files: dict[str, str]) -> None:
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
    surface, reader = (shade.Shader.Define(stage, f"/Object/Material/{name}") for name in ("Surface", "St"))
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    place = reader.CreateOutput("result", types.Float2)
    surface.CreateIdAttr("UsdPreviewSurface")

    def read(name: str, what: str, inputs: dict[str, tuple[Any, str]]) -> Any:
        """Defines what reads the picture `what`; inputs: of the surface -> their type, and the output that they get."""
        sampler = shade.Shader.Define(stage, f"/Object/Material/{name}")
        sampler.CreateIdAttr("UsdUVTexture")
        sampler.CreateInput("file", types.Asset).Set(files[what])
        # without a wrap, a lookup on the picture's border mixes in black
        for setting, value in (
            ("sourceColorSpace", "sRGB" if what == "texture" else "raw"),
            ("wrapS", "clamp"),
            ("wrapT", "clamp"),
        ):
            sampler.CreateInput(setting, types.Token).Set(value)
        sampler.CreateInput("st", types.Float2).ConnectToSource(place)
        for one, (kind, output) in inputs.items():
            given = sampler.CreateOutput(output, types.Float3 if output == "rgb" else types.Float)
            surface.CreateInput(one, kind).ConnectToSource(given)
        return sampler

    read("Texture", "texture", {"diffuseColor": (types.Color3f, "rgb")})
    if "metallic-roughness" in files:
        read("Shine", "metallic-roughness", {"roughness": (types.Float, "g"), "metallic": (types.Float, "b")})
    else:
        surface.CreateInput("roughness", types.Float).Set(roughness)
        surface.CreateInput("metallic", types.Float).Set(0.0)
    if "normal" in files:
        bumps = read("Normal", "normal", {"normal": (types.Normal3f, "rgb")})
        bumps.CreateInput("scale", types.Float4).Set(gf.Vec4f(2, 2, 2, 1))  # bytes to [-1, 1]
        bumps.CreateInput("bias", types.Float4).Set(gf.Vec4f(-1, -1, -1, 0))
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    shade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()
