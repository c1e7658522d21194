"""A mesh file as a scene that others can start from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfw.config.settings import Axis
from dfw.export.charts import why_not
from dfw.export.load import LoadedMaterial, load_mesh
from dfw.export.lookup import bilinear
from dfw.export.nearest import nearest_on
from dfw.export.weld import first_of_each, torn_edges, with_area
from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import Material, SurfacePoints, TextureCoordinates, Triangles
from dfw.interfaces.geometry import Surface
from dfw.interfaces.mesh import Mesh

log = logging.getLogger("dfw.runs")


class MeshSource(Surface):
    """The triangles of a file, with the colours of its textures, its materials or its vertices.

    Corners at one place are one vertex. Triangles without area are left out, and a closed mesh that is inside out is turned.
    """

    vertices: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor
    colours: Tensor
    piece: Tensor

    def __init__(self, path: Path, up: Axis | None = None, front: Axis | None = None, radius: float | None = None) -> None:
        """Reads the file as `load_mesh` does, and raises what it raises."""
        super().__init__()
        self.config = ComponentConfig()
        self.dfw_name = f"the mesh {path}"
        loaded = load_mesh(path, up, front, radius)
        whole = with_area(loaded.mesh.vertices, loaded.mesh.faces)
        used, corners = np.unique(loaded.mesh.faces[whole], return_inverse=True)
        places, uv, colours = loaded.mesh.vertices[used].astype(np.float32), loaded.uv[used], loaded.vertex_colour[used]
        first, vertex = first_of_each(places)
        one, textured = first_of_each(np.concatenate([places, uv, colours], axis=1))
        mesh = Mesh(places[first], vertex[corners].reshape(-1, 3))
        inside_out = mesh.watertight and mesh.volume < 0
        order = [0, 2, 1] if inside_out else [0, 1, 2]
        for wrong, what in (
            *((True, what) for what in loaded.lost),
            (not whole.all(), f"leaves out {(~whole).sum()} of {len(whole)} triangles, which have no area"),
            (inside_out, "is inside out, and is turned"),
            (torn := torn_edges(mesh), f"has triangles that face in opposite ways along {torn} edges; some may look dark"),
        ):
            if wrong:
                log.warning("%s %s", self.dfw_name, what)
        self.register_buffer("vertices", torch.from_numpy(mesh.vertices))
        self.register_buffer("faces", torch.from_numpy(mesh.faces[:, order].copy()))
        self.register_buffer("uv", torch.from_numpy(uv[one].astype(np.float32)))
        self.register_buffer("uv_faces", torch.from_numpy(textured[corners].reshape(-1, 3)[:, order].copy()))
        self.register_buffer("colours", torch.from_numpy(colours[one].astype(np.float32) / 255))
        self.register_buffer("piece", torch.from_numpy(loaded.material[whole]))
        self._pieces = [_Piece(material) for material in loaded.materials]

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        """A surface."""
        return frozenset({"surface"})

    def surface(self) -> Triangles:
        """The file's triangles."""
        return Triangles(self.vertices, self.faces)

    def texture_coordinates(self) -> TextureCoordinates | None:
        """The file's, if they give each triangle a place of its own; a warning says why not."""
        reason = why_not(self.uv.cpu().numpy(), self.uv_faces.cpu().numpy())
        if reason:
            log.warning("%s gets new texture coordinates: %s", self.dfw_name, reason)
            return None
        return TextureCoordinates(self.uv.clamp(0, 1), self.uv_faces)

    def material(self, at: SurfacePoints) -> Material:
        """What the file says at the points, or at the nearest place of a triangle."""
        face, place = (at.face, at.barycentric) if at.face is not None else nearest_on(self.surface(), at.position)
        assert place is not None  # it comes with the face
        place, corners, piece = place.to(self.uv), self.uv_faces[face], self.piece[face]
        uv = torch.einsum("...k,...kc->...c", place, self.uv[corners])
        albedo = torch.einsum("...k,...kc->...c", place, self.colours[corners])
        shine = [albedo.new_full(piece.shape, DULL), albedo.new_zeros(piece.shape)]
        for index, one in enumerate(self._pieces):
            mine = piece == index
            if one.texture is not None:
                albedo[mine] = one.looked_up(one.texture, uv[mine])
            for value, factor, channel in zip(shine, one.factors, (1, 2), strict=True):
                if factor is not None:
                    value[mine] = factor
                    if one.shine is not None:
                        value[mine] *= one.looked_up(one.shine, uv[mine])[..., channel]
        albedo, rough, metal = (value.to(at.position.dtype) for value in (albedo, *shine))
        return Material(albedo, rough, metal) if any(one.says_shine for one in self._pieces) else Material(albedo)


DULL = 0.8
"""Roughness where a file says nothing, as in files that dfw writes."""


class _Piece:
    """The pictures and numbers of one material."""

    def __init__(self, given: LoadedMaterial) -> None:
        self.texture = None if given.texture is None else torch.from_numpy(given.texture.copy())
        self.shine = None if given.metallic_roughness is None else torch.from_numpy(given.metallic_roughness.copy())
        self.factors = (given.roughness, given.metallic)
        self.says_shine = any(one is not None for one in self.factors)

    def looked_up(self, picture: Tensor, uv: Tensor) -> Tensor:
        """A picture (H, W, 3) of bytes at `uv` (P, 2), bilinear; it repeats beyond [0, 1]."""
        inside = uv - torch.where((uv < 0) | (uv > 1), uv.floor(), torch.zeros_like(uv))
        return bilinear(picture.to(uv) / 255, inside)
