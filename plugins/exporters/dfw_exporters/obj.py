"""Wavefront OBJ with its material file and texture: what every 3D program reads."""

from __future__ import annotations

import io
from typing import ClassVar

from PIL import Image
from pydantic import Field

from dfw import ComponentConfig, Exporter, TexturedMesh, to_gltf


class Obj(Exporter):
    """The mesh's shared vertices, with texture coordinates and a normal per corner; glTF's axes."""

    class Config(ComponentConfig):
        """The material."""

        roughness: float = Field(default=0.8, ge=0, le=1)
        """Roughness of the surface; 0 is a mirror."""

    suffixes: ClassVar[tuple[str, ...]] = (".obj", ".mtl", ".png")
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes shape, material and texture."""
        roughness = self.config.roughness
        material = f"newmtl albedo\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nPr {roughness:g}\nPm 0\nillum 1\nmap_Kd {stem}.png\n"
        texture = io.BytesIO()
        Image.fromarray(mesh.texture).save(texture, "PNG")
        return {".obj": _shape(mesh, stem), ".mtl": material.encode(), ".png": texture.getvalue()}


def _shape(mesh: TexturedMesh, stem: str) -> bytes:
    corner = mesh.source[mesh.faces] + 1
    normals = mesh.mesh.vertex_normals()
    lines = [f"mtllib {stem}.mtl", "o object", "usemtl albedo"]
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in to_gltf(mesh.mesh.vertices).tolist()]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in mesh.uv.tolist()]
    lines += [f"vn {x:.5g} {y:.5g} {z:.5g}" for x, y, z in to_gltf(normals).tolist()]
    for places, texels in zip(corner.tolist(), (mesh.faces + 1).tolist(), strict=True):
        lines.append("f " + " ".join(f"{place}/{texel}/{place}" for place, texel in zip(places, texels, strict=True)))
    return ("\n".join(lines) + "\n").encode()
