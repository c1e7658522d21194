"""Binary glTF 2.0, the format that browsers, phones and game engines read. glTF 2.0 specification, Khronos 2021."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from dfw import ComponentConfig, Exporter, TexturedMesh, __version__, to_gltf

MOST_SHORT = 65_535
"""Vertices of a mesh whose indices still fit two bytes."""
CLAMPED = 33071
"""glTF's number for a texture that does not repeat. A lookup on its border then does not mix in the opposite border."""


class Glb(Exporter):
    """One mesh with smooth normals, and a metallic-roughness material whose PNG textures are embedded; glTF's axes.

    With a normal map it has the tangents that the map was made for. Readers then need not make their own.
    """

    class Config(ComponentConfig):
        """The material."""

        roughness: float = Field(default=0.8, ge=0, le=1)
        """Roughness of a surface that has none of its own; 0 is a mirror."""

    suffixes: ClassVar[tuple[str, ...]] = (".glb",)
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes one file with everything in it."""
        trimesh: Any = import_module("trimesh")

        shiny = mesh.metallic_roughness is not None
        material = trimesh.visual.material.PBRMaterial(
            name="material",
            baseColorTexture=Image.fromarray(mesh.texture),
            baseColorFactor=[255, 255, 255, 255],
            metallicFactor=1.0 if shiny else 0.0,
            roughnessFactor=1.0 if shiny else self.config.roughness,
            metallicRoughnessTexture=_picture(mesh.metallic_roughness),
            normalTexture=_picture(mesh.normal_map),
        )
        shape = trimesh.Trimesh(
            vertices=to_gltf(mesh.vertices),
            faces=mesh.faces,
            vertex_normals=to_gltf(mesh.normals),
            visual=trimesh.visual.TextureVisuals(uv=mesh.uv, material=material),
            process=False,
        )
        if mesh.normal_map is not None:
            tangents = mesh.tangents
            shape.vertex_attributes["TANGENT"] = np.hstack([to_gltf(tangents[:, :3]), tangents[:, 3:]]).astype(np.float32)

        def finish(tree: dict[str, Any]) -> None:
            tree["asset"] = {"version": "2.0", "generator": f"dfw {__version__}"}
            tree["meshes"][0]["name"] = title
            tree["samplers"] = [{"wrapS": CLAMPED, "wrapT": CLAMPED}]
            for texture in tree["textures"]:
                texture["sampler"] = 0
            primitive = tree["meshes"][0]["primitives"][0]
            attributes = primitive["attributes"]
            if "_TANGENT" in attributes:  # trimesh gives its own name to every attribute that it does not know
                attributes["TANGENT"] = attributes.pop("_TANGENT")
            for accessor, target in [
                (primitive["indices"], 34963),
                *((index, 34962) for index in attributes.values()),
            ]:
                tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = target

        glb = trimesh.exchange.gltf.export_glb(
            trimesh.Scene({"object": shape}), include_normals=True, tree_postprocessor=finish, buffer_postprocessor=_short_indices
        )
        return {".glb": bytes(glb)}


def _picture(pixels: NDArray[np.uint8] | None) -> Image.Image | None:
    return None if pixels is None else Image.fromarray(pixels)


def _short_indices(buffers: dict[Any, bytes], tree: dict[str, Any]) -> None:
    """Makes indices two bytes long if they fit. 65,535 itself is not an index, it restarts a strip. glTF 2.0, 3.7.2.1."""
    primitive = tree["meshes"][0]["primitives"][0]
    accessors = list(tree["accessors"].values())
    if accessors[primitive["attributes"]["POSITION"]]["count"] > MOST_SHORT:
        return
    accessor = accessors[primitive["indices"]]
    place = list(buffers)[accessor["bufferView"]]
    data = np.frombuffer(buffers[place], "<u4")[: accessor["count"]].astype("<u2").tobytes()
    buffers[place] = data + bytes(-len(data) % 4)
    accessor["componentType"] = 5123
