"""Texture coordinates of a mesh: made by xatlas, or checked where a file brings its own."""

from __future__ import annotations

import numpy as np

from dfw.export.raster import rasterise
from dfw.interfaces.mesh import Floats, Ints, Mesh

PADDING = 2  # texels between charts, so that bilinear lookups stay in their chart
LOOK = 1024  # texels of a side on which charts are compared
FEW = 1e-3  # of an atlas: fewer texels or triangles are slips that nobody sees


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


def corners_in(uv: Floats, faces: Ints, size: int) -> Floats:
    """Returns the corners (F, 3, 2) of the textured `faces`, in pixels of an image of `size`, row 0 on top."""
    return np.asarray(np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)[faces] * size)


def why_not(uv: Floats, faces: Ints) -> str:
    """Returns why `uv` (W, 2) cannot hold a texture of its own for each of `faces` (F, 3), or "" if it can."""
    corners = uv[faces]
    u, v = (corners[:, k] - corners[:, 0] for k in (1, 2))
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2
    flat = area == 0
    if flat.all():
        return "it has no texture coordinates"
    if flat.mean() > FEW:
        return f"{flat.sum()} of its {len(faces)} triangles have no texture coordinates"
    if (np.abs(uv[faces] - 0.5) > 0.5 + FEW).any():
        return "its texture coordinates go beyond the picture"
    if area.sum() > 1 + FEW:  # before texels are counted: a picture for each of many triangles would fill the memory
        return f"its texture coordinates overlap, and cover the picture {area.sum():.3g} times"
    texels = rasterise(corners_in(uv, faces, LOOK), LOOK, LOOK, slack=-1e-6)
    covered = len(np.unique(texels.pixel))
    shared = len(texels.pixel) - covered
    if shared > FEW * max(covered, 1):
        return f"its texture coordinates overlap, on {100 * shared / covered:.0f} % of the picture that they use"
    return ""
