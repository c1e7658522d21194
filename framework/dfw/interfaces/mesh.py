"""Triangle meshes as exporters get them: numpy arrays, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Mesh:
    """Triangles with shared vertices, as numpy arrays."""

    vertices: Floats
    """(V, 3), world units."""
    faces: Ints
    """(F, 3), indices of vertices, counter-clockwise seen from outside."""

    @property
    def corners(self) -> Floats:
        """Corners of the triangles (F, 3, 3): face, corner, coordinate."""
        return self.vertices[self.faces]

    @property
    def volume(self) -> float:
        """Signed volume, units^3, positive if faces point outward: the sum of a . (b x c) / 6 (divergence theorem)."""
        a, b, c = np.moveaxis(self.corners.astype(np.float64), 1, 0)
        return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)

    @property
    def watertight(self) -> bool:
        """Whether every edge is shared by exactly two faces that run along it in opposite directions."""
        edges = self.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
        count = len(self.vertices)
        forward = np.sort(edges[:, 0] * count + edges[:, 1])
        backward = np.sort(edges[:, 1] * count + edges[:, 0])
        return len(edges) > 0 and bool((np.diff(forward) > 0).all()) and bool((forward == backward).all())

    def vertex_normals(self) -> Floats:
        """Returns unit normals (V, 3): the faces' normals averaged by area."""
        a, b, c = np.moveaxis(self.corners.astype(np.float64), 1, 0)
        area = np.cross(b - a, c - a)
        total = np.stack(
            [np.bincount(self.faces.ravel(), np.repeat(area[:, axis], 3), len(self.vertices)) for axis in range(3)], axis=1
        )
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return np.where(length > 0, total / np.where(length > 0, length, 1), np.array([0.0, 0.0, 1.0]))

    def without_unused_vertices(self) -> Mesh:
        """Returns the same faces over only the vertices that they use, in their order."""
        used, faces = np.unique(self.faces, return_inverse=True)
        return Mesh(self.vertices[used], faces.reshape(-1, 3))


@dataclass(frozen=True)
class TexturedMesh:
    """A mesh with texture coordinates; vertices on chart borders appear once for each chart."""

    mesh: Mesh
    """The triangles with shared vertices."""
    source: Ints
    """(W,), for each textured vertex its vertex in `mesh`."""
    faces: Ints
    """(F, 3), indices of textured vertices."""
    uv: Floats
    """(W, 2) in [0, 1], origin at the image's lower left."""
    texture: NDArray[np.uint8]
    """(S, S, 3), display-referred, row 0 on top."""
    vertex_colour: NDArray[np.uint8]
    """(V, 3), display-referred, for `mesh`."""
    metallic_roughness: NDArray[np.uint8] | None = None
    """(S, S, 3), as glTF has it: G is roughness, B metallic, R 255; None for a surface of one roughness that is not metal."""
    normal_map: NDArray[np.uint8] | None = None
    """(S, S, 3), unit normals n as 255 (n + 1) / 2 along tangent, bitangent and normal (glTF 2.0, 3.9.3); None: the normals."""

    @property
    def vertices(self) -> Floats:
        """Positions (W, 3) of the textured vertices, world units."""
        return self.mesh.vertices[self.source]

    @property
    def normals(self) -> Floats:
        """Unit normals (W, 3) of the textured vertices, smooth across chart borders."""
        return self.mesh.vertex_normals()[self.source]

    @property
    def tangents(self) -> Floats:
        """Unit tangents (W, 4) of the textured vertices: along u, at right angles to the normal, and the bitangent's sign.

        The bitangent, sign * normal x tangent, points along v. glTF 2.0, 3.7.2.1.
        """
        corners, uv, normals = self.vertices.astype(np.float64)[self.faces], self.uv.astype(np.float64)[self.faces], self.normals
        e, f = (corners[:, k] - corners[:, 0] for k in (1, 2))
        (du, dv), (dp, dq) = ((uv[:, k] - uv[:, 0]).T[..., None] for k in (1, 2))
        sign = np.sign(du * dq - dp * dv)
        along, across = (self._gathered(sign * one) for one in (e * dq - f * dv, f * du - e * dp))
        along -= normals * (along * normals).sum(axis=1, keepdims=True)
        length = np.linalg.norm(along, axis=1, keepdims=True)
        other = np.cross(normals, np.eye(3)[np.abs(normals).argmin(axis=1)])  # where the picture has no direction
        along = np.where(length > 0, along, other) / np.where(length > 0, length, np.linalg.norm(other, axis=1, keepdims=True))
        turn = np.where((np.cross(normals, along) * across).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
        return np.concatenate([along, turn], axis=1)

    def _gathered(self, values: Floats) -> Floats:
        """Returns the sum (W, 3) of the `values` (F, 3) of the faces around each textured vertex."""
        flat = np.repeat(values, 3, axis=0)
        return np.stack([np.bincount(self.faces.ravel(), flat[:, k], len(self.source)) for k in range(3)], axis=1)
