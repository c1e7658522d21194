"""Binary glTF 2.0, the format that browsers, phones and game engines read. glTF 2.0 specification, Khronos 2021."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from dfw import ComponentConfig, Exporter, TexturedMesh, __version__, to_gltf

MOST_SHORT = 65_535
"""Vertices of a mesh whose indices still fit two bytes."""


class Glb(Exporter):
    """One mesh with smooth normals, and a metallic-roughness material whose PNG base colour is embedded; glTF's axes."""

    class Config(ComponentConfig):
        """The material."""

        roughness: float = Field(default=0.8, ge=0, le=1)
        """Roughness of the surface; 0 is a mirror."""

    suffixes: ClassVar[tuple[str, ...]] = (".glb",)
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh: TexturedMesh, stem: str, title: str) -> dict[str, bytes]:
        """Makes one file with everything in it."""
        trimesh: Any = import_module("trimesh")

        material = trimesh.visual.material.PBRMaterial(
            name="albedo",
            baseColorTexture=Image.fromarray(mesh.texture),
            baseColorFactor=[255, 255, 255, 255],
            metallicFactor=0.0,
            roughnessFactor=self.config.roughness,
        )
        shape = trimesh.Trimesh(
            vertices=to_gltf(mesh.vertices),
            faces=mesh.faces,
            vertex_normals=to_gltf(mesh.normals),
            visual=trimesh.visual.TextureVisuals(uv=mesh.uv, material=material),
            process=False,
        )

        def finish(tree: dict[str, Any]) -> None:
            tree["asset"] = {"version": "2.0", "generator": f"dfw {__version__}"}
            tree["meshes"][0]["name"] = title
            primitive = tree["meshes"][0]["primitives"][0]
            for accessor, target in [
                (primitive["indices"], 34963),
                *((index, 34962) for index in primitive["attributes"].values()),
            ]:
                tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = target

        glb = trimesh.exchange.gltf.export_glb(
            trimesh.Scene({"object": shape}), include_normals=True, tree_postprocessor=finish, buffer_postprocessor=_short_indices
        )
        return {".glb": bytes(glb)}


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
