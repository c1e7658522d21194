"""Wavefront OBJ with its material file and texture: what every 3D program reads."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from dfw import ComponentConfig, Exporter, TexturedMesh, to_gltf


class Obj(Exporter):
    """The mesh's shared vertices, with texture coordinates and a normal per corner; glTF's axes."""

    class Config(ComponentConfig):
        """The material."""

        roughness: float = Field(default=0.8, ge=0, le=1)
        """Roughness of a surface that has none of its own; 0 is a mirror."""

    suffixes: ClassVar[tuple[str, ...]] = (".obj", ".mtl", ".png", ".roughness.png", ".metallic.png", ".normal.png")
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes shape, material and texture, and a picture each for roughness, metallic and normals where the mesh has them.

        The material names them by the extension for physically based rendering (`map_Pr`, `map_Pm`, `norm`).
        """
        pictures = {".png": ("map_Kd", mesh.texture)}
        if mesh.metallic_roughness is not None:
            pictures |= {
                ".roughness.png": ("map_Pr", mesh.metallic_roughness[..., 1]),
                ".metallic.png": ("map_Pm", mesh.metallic_roughness[..., 2]),
            }
        if mesh.normal_map is not None:
            pictures[".normal.png"] = ("norm", mesh.normal_map)
        shine = f"Pr {self.config.roughness:g}\nPm 0\n" if mesh.metallic_roughness is None else ""
        named = "".join(f"{word} {stem}{ending}\n" for ending, (word, _) in pictures.items())
        material = f"newmtl material\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\n{shine}illum 1\n{named}"
        files = {".obj": _shape(mesh, stem), ".mtl": material.encode()}
        return files | {ending: _png(pixels) for ending, (_, pixels) in pictures.items()}


def _png(pixels: NDArray[np.uint8]) -> bytes:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def _shape(mesh: TexturedMesh, stem: str) -> bytes:
    corner = mesh.source[mesh.faces] + 1
    normals = mesh.mesh.vertex_normals()
    lines = [f"mtllib {stem}.mtl", "o object", "usemtl material"]
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in to_gltf(mesh.mesh.vertices).tolist()]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in mesh.uv.tolist()]
    lines += [f"vn {x:.5g} {y:.5g} {z:.5g}" for x, y, z in to_gltf(normals).tolist()]
    for places, texels in zip(corner.tolist(), (mesh.faces + 1).tolist(), strict=True):
        lines.append("f " + " ".join(f"{place}/{texel}/{place}" for place, texel in zip(places, texels, strict=True)))
    return ("\n".join(lines) + "\n").encode()
