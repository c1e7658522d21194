"""Makes UVs and bakes a texture: the field's albedo on the surface, as an image.

Albedo is display-referred: values in [0, 1] are what a screen shows (sRGB encoded), the space that diffusion models see.
glTF's base colour texture is sRGB encoded too, so texels are written as they are, without a transfer curve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from dfw.export.grid import CHUNK, home_of
from dfw.export.raster import rasterise
from dfw.interfaces.data import SurfacePoints
from dfw.interfaces.geometry import DensityField, Surface
from dfw.interfaces.mesh import Floats, Ints, Mesh, TexturedMesh

PADDING = 2  # texels between charts, so that bilinear lookups stay in their chart
OUTSIDE, INSIDE, SAMPLES = 1.0, 4.0, 6  # of a ray through the surface: cells outside it, cells inside it, points


def unwrap(mesh: Mesh, size: int) -> tuple[Ints, Ints, Floats]:
    """Packs the charts of `mesh` into one image of `size` pixels with xatlas: source (W,), faces (F, 3), uv (W, 2)."""
    import xatlas

    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1  # of growing and seeding; more make better charts and take longer
    packing.resolution, packing.padding, packing.bilinear = size, PADDING, True
    atlas = xatlas.Atlas()
    atlas.add_mesh(
        np.ascontiguousarray(mesh.vertices, np.float32),
        np.ascontiguousarray(mesh.faces, np.uint32),
        np.ascontiguousarray(mesh.vertex_normals(), np.float32),
    )
    atlas.generate(charts, packing)
    source, faces, uv = atlas[0]
    return source.astype(np.int64), faces.astype(np.int64), np.clip(uv.astype(np.float64), 0, 1)


def bake(albedo: Callable[[Floats, Floats], Floats], mesh: Mesh, size: int) -> TexturedMesh:
    """Returns `mesh` with UVs and a texture of `size` pixels.

    `albedo` returns colours (P, 3) in [0, 1] at points (P, 3) of the surface with outward normals (P, 3).
    """
    source, faces, uv = unwrap(mesh, size)
    corners = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)[faces] * size
    texels = rasterise(corners, size, size)
    texels_face, weights = mesh_faces(source, faces)[texels.face], texels.barycentric[..., None]
    normals = mesh.vertex_normals()
    points = (mesh.vertices[texels_face] * weights).sum(axis=1)
    directions = (normals[texels_face] * weights).sum(axis=1)
    image = np.zeros((size * size, 3), np.uint8)
    covered = np.zeros(size * size, bool)
    image[texels.pixel] = _bytes(albedo(points, directions))
    covered[texels.pixel] = True
    texture = _dilate(image.reshape(size, size, 3), covered.reshape(size, size))
    colour = _bytes(albedo(mesh.vertices, normals))
    return TexturedMesh(mesh, source, faces, uv, texture, colour)


def mesh_faces(source: Ints, faces: Ints) -> Ints:
    """Returns the textured faces (F, 3) as indices of the mesh's shared vertices."""
    return np.asarray(source[faces])


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
def albedo_at(scene: Surface, points: Floats) -> Floats:
    """Returns the albedo (P, 3) of a surface at `points` (P, 3) on it."""
    device, dtype = home_of(scene)
    parts = [
        scene.material(SurfacePoints(torch.as_tensor(part, device=device, dtype=dtype))).albedo
        for part in np.array_split(points, len(points) // CHUNK + 1)
    ]
    return np.asarray(torch.cat(parts).double().cpu().numpy())


def _bytes(colour: Floats) -> NDArray[Any]:
    return np.asarray(np.rint(np.clip(colour, 0, 1) * 255), dtype=np.uint8)


def _dilate(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fills uncovered texels with the nearest covered one's colour, so that lookups at chart borders and mipmaps see no gap."""
    if covered.all() or not covered.any():
        return image
    index = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(index)])
