"""Binary glTF 2.0, the format that browsers, phones and game engines read. glTF 2.0 specification, Khronos 2021."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from PIL import Image
from pydantic import Field

from dfw import ComponentConfig, Exporter, TexturedMesh, __version__, to_gltf


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
        """One file with everything in it."""
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

        scene = trimesh.Scene({"object": shape})
        return {".glb": bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=finish))}
