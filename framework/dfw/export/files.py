"""Writes a textured mesh as GLB, OBJ and PLY. Each file appears whole or not at all, and overwrites none.

GLB and OBJ are in glTF's axes (y up, front +z); PLY keeps the world's (z up, front +x). Lengths are world units.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dfw.atomic import claim, write_whole
from dfw.errors import ExportError
from dfw.export.axes import to_gltf
from dfw.export.texture import TexturedMesh

ROUGHNESS = 0.8  # nearly matt, so that a viewer adds few highlights to colours that the prior has painted
STEM = "object"
SUFFIXES = {"glb": (".glb",), "obj": (".obj", ".mtl", ".png"), "ply": (".ply",)}


def write_files(textured: TexturedMesh, directory: Path, formats: Sequence[str], title: str, stem: str = STEM) -> dict[str, Path]:
    """Writes `textured` in each of `formats` ("glb", "obj", "ply"). Returns format -> path.

    All files share the first free stem of object, object-2, ... `title` names the object inside them. Raises ExportError if the
    directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        suffixes = [suffix for name in formats for suffix in SUFFIXES[name]]
        free = claim(directory, stem, suffixes)
        for suffix, data in _contents(textured, formats, title, free).items():
            write_whole(directory / f"{free}{suffix}", data)
    except OSError as error:
        raise ExportError(
            f"cannot write the mesh in {directory}: {error.strerror or error}; choose another output folder"
        ) from error
    return {name: directory / f"{free}{SUFFIXES[name][0]}" for name in formats}


def _contents(textured: TexturedMesh, formats: Sequence[str], title: str, stem: str) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    if "glb" in formats:
        contents[".glb"] = glb_bytes(textured, title)
    if "obj" in formats:
        contents[".obj"] = obj_bytes(textured, stem)
        contents[".mtl"] = _mtl_bytes(stem)
        contents[".png"] = _png_bytes(textured)
    if "ply" in formats:
        contents[".ply"] = ply_bytes(textured)
    return contents


def glb_bytes(textured: TexturedMesh, title: str) -> bytes:
    """Encodes binary glTF 2.0: one mesh, smooth normals, and a metallic-roughness material with an embedded PNG base colour."""
    import dfw

    trimesh: Any = import_module("trimesh")

    material = trimesh.visual.material.PBRMaterial(
        name="albedo",
        baseColorTexture=Image.fromarray(textured.texture),
        baseColorFactor=[255, 255, 255, 255],
        metallicFactor=0.0,
        roughnessFactor=ROUGHNESS,
    )
    mesh = trimesh.Trimesh(
        vertices=to_gltf(textured.vertices),
        faces=textured.faces,
        vertex_normals=to_gltf(textured.normals),
        visual=trimesh.visual.TextureVisuals(uv=textured.uv, material=material),
        process=False,
    )

    def finish(tree: dict[str, Any]) -> None:
        tree["asset"] = {"version": "2.0", "generator": f"dfw {dfw.__version__}"}
        tree["meshes"][0]["name"] = title
        primitive = tree["meshes"][0]["primitives"][0]
        for accessor, target in [(primitive["indices"], 34963), *((index, 34962) for index in primitive["attributes"].values())]:
            tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = target

    scene = trimesh.Scene({"object": mesh})
    return bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=finish))


def obj_bytes(textured: TexturedMesh, stem: str) -> bytes:
    """Encodes Wavefront OBJ over the mesh's shared vertices, with texture coordinates and normals per corner. Uses `stem`.mtl."""
    corner = textured.source[textured.faces] + 1
    normals = textured.mesh.vertex_normals()
    lines = [f"mtllib {stem}.mtl", "o object", "usemtl albedo"]
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in to_gltf(textured.mesh.vertices).tolist()]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in textured.uv.tolist()]
    lines += [f"vn {x:.5g} {y:.5g} {z:.5g}" for x, y, z in to_gltf(normals).tolist()]
    for places, texels in zip(corner.tolist(), (textured.faces + 1).tolist(), strict=True):
        lines.append("f " + " ".join(f"{place}/{texel}/{place}" for place, texel in zip(places, texels, strict=True)))
    return ("\n".join(lines) + "\n").encode()


def _mtl_bytes(stem: str) -> bytes:
    return f"newmtl albedo\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nPr {ROUGHNESS:g}\nPm 0\nillum 1\nmap_Kd {stem}.png\n".encode()


def _png_bytes(textured: TexturedMesh) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(textured.texture).save(buffer, "PNG")
    return buffer.getvalue()


def ply_bytes(textured: TexturedMesh) -> bytes:
    """Encodes binary PLY over the mesh's shared vertices, with vertex colours (sRGB, 0..255), in world axes."""
    trimesh: Any = import_module("trimesh")
    mesh = trimesh.Trimesh(
        vertices=textured.mesh.vertices, faces=textured.mesh.faces, vertex_colors=textured.vertex_colour, process=False
    )
    return bytes(np.asarray(bytearray(trimesh.exchange.ply.export_ply(mesh, vertex_normal=False))).tobytes())
