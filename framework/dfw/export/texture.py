"""Bakes textures: what a scene is made of, on its surface, as images.

Albedo is display-referred: values in [0, 1] are what a screen shows (sRGB encoded), the space that diffusion models see.
glTF's base colour texture is sRGB encoded too, so texels are written as they are, without a transfer curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from dfw.export.charts import corners_in, unwrap
from dfw.export.grid import CHUNK, home_of
from dfw.export.mesh import triangles_of
from dfw.export.raster import Fragments, barycentric_of, rasterise
from dfw.export.weld import first_of_each
from dfw.interfaces.data import Material, SurfacePoints
from dfw.interfaces.geometry import DensityField, Surface
from dfw.interfaces.mesh import Floats, Ints, Mesh, TexturedMesh

OUTSIDE, INSIDE, SAMPLES = 1.0, 4.0, 6  # of a ray through the surface: cells outside it, cells inside it, points
AROUND = [(x, y) for x in (-0.99, 0.0, 0.99) for y in (-0.99, 0.0, 0.99)]  # less than a texel: a lookup there reads the texel


@dataclass(frozen=True)
class Places:
    """P places on a mesh."""

    position: Floats
    """(P, 3), world units."""
    normal: Floats
    """(P, 3), outward, not of unit length."""
    face: Ints
    """(P,), triangles of the mesh."""
    barycentric: Floats
    """(P, 3), coordinates in them."""


def bake(albedo: Callable[[Floats, Floats], Floats], mesh: Mesh, size: int) -> TexturedMesh:
    """Returns `mesh` with UVs and a texture of `size` pixels.

    `albedo` returns colours (P, 3) in [0, 1] at points (P, 3) of the surface with outward normals (P, 3).
    """
    return _baked(mesh, *unwrap(mesh, size), size, lambda at: {"albedo": albedo(at.position, at.normal)})


def bake_surface(scene: Surface, size: int, mesh: Mesh | None = None) -> TexturedMesh:
    """Returns the triangles of `scene` with its material as textures of `size` pixels.

    Texture coordinates are the scene's own where it has some, and so is the size of a texture that it has. `mesh`: fewer
    triangles of the same shape; they get new coordinates, and the material of the scene's nearest point. Raises ExportError if
    there are no triangles.
    """
    own = scene.texture_coordinates() if mesh is None else None
    made = triangles_of(scene) if mesh is None else mesh
    if own is None:
        source, faces, uv = unwrap(made, size)
    else:
        size = own.size or size
        rows = own.faces.cpu().numpy().ravel()
        first, index = first_of_each(np.stack([made.faces.ravel(), rows], axis=1))
        source, faces = made.faces.ravel()[first], index.reshape(-1, 3)
        uv = own.uv.double().cpu().numpy()[rows[first]]

    def ask(at: Places) -> dict[str, Floats]:
        return _asked(scene, at, by_place=mesh is None)

    return _baked(made, source, faces, uv, size, ask, every=own is not None and own.size is not None)


def _baked(
    mesh: Mesh, source: Ints, faces: Ints, uv: Floats, size: int, ask: Callable[[Places], dict[str, Floats]], every: bool = False
) -> TexturedMesh:
    """Asks for the material at the texels whose centres lie in a chart; with `every`, at all that lookups in a chart read.

    The other texels repeat the nearest of those. `every` is for materials that are such a picture themselves: what it holds
    around a chart then stays as it is.
    """
    corners = corners_in(uv, faces, size)
    texels = _read(corners, size) if every else rasterise(corners, size, size)
    normals = mesh.vertex_normals()
    vertices, weights = source[faces][texels.face], texels.barycentric[..., None]
    normal = (normals[vertices] * weights).sum(axis=1)
    found = ask(Places((mesh.vertices[vertices] * weights).sum(axis=1), normal, texels.face, texels.barycentric))

    def picture(values: Floats) -> NDArray[np.uint8]:
        image = np.zeros((size * size, values.shape[1]), np.uint8)
        covered = np.zeros(size * size, bool)
        image[texels.pixel] = _bytes(values)
        covered[texels.pixel] = True
        return _dilate(image.reshape(size, size, -1), covered.reshape(size, size))

    made = TexturedMesh(mesh, source, faces, uv, picture(found["albedo"]), _bytes(ask(_at_vertices(mesh, normals))["albedo"]))
    shine = [found.get("roughness"), found.get("metallic")]
    if any(one is not None for one in shine):
        rough, metal = (np.full(len(normal), other) if one is None else one for one, other in zip(shine, (1, 0), strict=True))
        made = replace(made, metallic_roughness=picture(np.stack([np.ones_like(rough), rough, metal], axis=1)))
    if "bump" in found:
        made = replace(made, normal_map=picture(0.5 + 0.5 * _in_tangent_space(made, texels, normal, found["bump"])))
    return made


def _read(corners: Floats, size: int) -> Fragments:
    """Returns the texels that bilinear lookups in triangles (F, 3, 2) read, each as a place in a triangle's plane."""
    parts, seen = [], np.zeros(size * size, bool)
    for shift in sorted(AROUND, key=lambda one: abs(one[0]) + abs(one[1])):  # the texel's own place comes first
        found = rasterise(corners - shift, size, size)
        new = np.flatnonzero(~seen[found.pixel])
        face, pixel = found.face[new], found.pixel[new]
        seen[pixel] = True
        centre = np.stack([pixel % size + 0.5, pixel // size + 0.5], axis=1)
        parts.append(Fragments(face, pixel, barycentric_of(corners[face], centre)))
    return Fragments(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("face", "pixel", "barycentric")))


def _at_vertices(mesh: Mesh, normals: Floats) -> Places:
    """Returns the mesh's vertices as places, each in one of its triangles."""
    _, corner = np.unique(mesh.faces, return_index=True)
    return Places(mesh.vertices, normals, corner // 3, np.eye(3)[corner % 3])


def _in_tangent_space(made: TexturedMesh, texels: Fragments, normal: Floats, bump: Floats) -> Floats:
    """Returns unit normals (P, 3) with the `bump` (P, 3), along tangent, bitangent and `normal` (P, 3). glTF 2.0, 3.9."""
    along = made.tangents[made.faces[texels.face]]
    n = _unit(normal)
    t = (along[..., :3] * texels.barycentric[..., None]).sum(axis=1)
    t = _unit(t - n * (t * n).sum(axis=1, keepdims=True))
    b = np.cross(n, t) * along[:, 0, 3:]
    bumped = _unit(n + bump)
    return np.stack([(bumped * axis).sum(axis=1) for axis in (t, b, n)], axis=1)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


@torch.no_grad()
def surface_albedo(field: DensityField, points: Floats, normals: Floats, cell: float) -> Floats:
    """Returns the albedo (P, 3) of `field` as seen from outside at surface `points` (P, 3) with outward `normals` (P, 3).

    It composites a short ray along -normal as a renderer would: sum of T_i alpha_i c_i over sum of T_i alpha_i (NeRF, Mildenhall
    et al. 2020, eq. 3). So a soft surface keeps the colour that it shows. If the ray meets no density, its points count alike.
    """
    device, dtype = home_of(field)
    edges = torch.linspace(OUTSIDE, -INSIDE, SAMPLES + 1, device=device, dtype=dtype) * cell
    offsets, step = (edges[:-1] + edges[1:]) / 2, float(OUTSIDE + INSIDE) * cell / SAMPLES
    parts = []
    for start in range(0, len(points), CHUNK // SAMPLES):
        part = slice(start, start + CHUNK // SAMPLES)
        origin = torch.as_tensor(points[part], device=device, dtype=dtype)
        normal = torch.as_tensor(normals[part], device=device, dtype=dtype)
        normal = normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        places = origin[:, None] + offsets[:, None] * normal[:, None]
        sample = field.sample(places.reshape(-1, 3))
        optical = sample.density.view(-1, SAMPLES) * step
        before = torch.cumsum(optical, dim=1) - optical
        weight = torch.exp(-before) * -torch.expm1(-optical)
        total = weight.sum(dim=1, keepdim=True)
        weight = torch.where(total > 0, weight / total.clamp(min=1e-12), 1 / SAMPLES)
        parts.append((weight[..., None] * sample.albedo.view(-1, SAMPLES, 3)).sum(dim=1).double().cpu())
    return np.asarray(torch.cat(parts).numpy()) if parts else np.empty((0, 3))


@torch.no_grad()
def _asked(scene: Surface, at: Places, by_place: bool) -> dict[str, Floats]:
    """Returns what `scene` is made of at `at`, places in its own triangles (`by_place`) or points close to them."""
    device, dtype = home_of(scene)

    def tensor(values: NDArray[Any]) -> Tensor:
        made = torch.as_tensor(values, device=device)
        return made.to(dtype) if made.is_floating_point() else made

    parts: list[Material] = []
    for some in np.array_split(np.arange(len(at.face)), len(at.face) // CHUNK + 1):
        place = (tensor(at.face[some]), tensor(at.barycentric[some])) if by_place else ()
        parts.append(scene.material(SurfacePoints(tensor(at.position[some]), *place)))
    return {
        name: np.asarray(torch.cat([getattr(part, name) for part in parts]).double().cpu().numpy())
        for name, value in vars(parts[0]).items()
        if value is not None
    }


def _bytes(colour: Floats) -> NDArray[Any]:
    return np.asarray(np.rint(np.clip(colour, 0, 1) * 255), dtype=np.uint8)


def _dilate(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fills uncovered texels with the nearest covered one's colour, so that lookups at chart borders and mipmaps see no gap."""
    if covered.all() or not covered.any():
        return image
    index = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(index)])
