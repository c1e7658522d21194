"""Measures an exported asset as a reader of its GLB sees it, against the true object under the same light.

16 views of 256x256 look at both: 8 at an elevation of 15 degrees and 8 at 45. A light at the camera shades albedo a and unit
normal n as a (0.3 + 0.7 |n . v|), over white. The asset is traced triangle by triangle, with its smooth normals and its base
colour texture. The truth is traced by its signed distance (sphere tracing, Hart 1996).

PSNR and SSIM (Wang et al. 2004, Gaussian window) are those of the whole pictures. The angle between normals is the mean over the
pixels where both are seen. At an edge the normals turn by more than 40 degrees within four pixels. A true edge is found where the
asset has one at most three pixels away. An edge of the asset is false where the true object has none so near: rough surfaces have
many of them. Triangles of a good asset do not pass through each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
import warp as wp
from scipy.ndimage import binary_dilation
from skimage.metrics import structural_similarity
from torch import Tensor

from dfw import CameraBatch, from_gltf, orbit
from dfw_geometry.sdf_scene import SdfScene

SIDE = 256
AROUND = 8
ELEVATIONS = (15.0, 45.0)
DISTANCE, FOV = 3.0, 40.0
AMBIENT = 0.3
TURN = 40.0  # degrees: those of an edge; a ball of the objects' size turns by four within the span
SPAN = 4  # pixels
TOLERANCE = 3  # pixels between an edge and where it is found
STEPS, CLOSE = 96, 5e-4  # of sphere tracing: steps at most, and the distance in world units that counts as a hit


@dataclass(frozen=True)
class Figures:
    """How near an asset comes to the true object."""

    psnr: float
    """Of all pictures together, dB."""
    ssim: float
    """Mean over the views."""
    normals: float
    """Mean angle between the normals, degrees; NaN where no pixel shows both."""
    edges: float
    """Share of the true object's edges that are found; NaN for an object without any."""
    false_edges: float
    """Share of the asset's edges that are false; NaN for an asset without any."""
    watertight: bool
    """Whether the GLB's triangles, joined where they meet, close."""
    pieces: int
    """Connected parts of the GLB."""
    colour: float = float("nan")
    """Mean absolute difference of the base colours, of 1, where both are seen; NaN where no pixel shows both."""
    crossings: int | None = None
    """Pairs of its triangles that pass through each other; None where libigl, which finds them, is not installed."""


@dataclass(frozen=True)
class Seen:
    """What K views of a side of S pixels show."""

    hit: Tensor
    """(K, S, S) bool."""
    normal: Tensor
    """(K, S, S, 3), unit length, turned to the viewer; 0 where nothing is."""
    picture: Tensor
    """(K, S, S, 3) in [0, 1]."""
    albedo: Tensor
    """(K, S, S, 3) in [0, 1]: the base colour without light; 0 where nothing is."""


def cameras(side: int = SIDE) -> CameraBatch:
    """Returns the 16 views."""
    return CameraBatch.cat([orbit(AROUND, elevation, DISTANCE, FOV, side, side) for elevation in ELEVATIONS])


def shaded(hit: Tensor, normal: Tensor, albedo: Tensor, direction: Tensor) -> Seen:
    """Lights points (R, 3) that rays (R, 3) meet; (K, S, S) is the shape of `hit`."""
    cosine = (normal * direction).sum(-1, keepdim=True)
    normal = torch.where(cosine > 0, -normal, normal)
    lit = albedo * (AMBIENT + (1 - AMBIENT) * cosine.abs())
    shown = hit.reshape(-1, 1)
    picture = torch.where(shown, lit, torch.ones_like(lit))
    return Seen(
        hit, *(part.view(*hit.shape, 3) for part in (torch.where(shown, normal, 0), picture, torch.where(shown, albedo, 0)))
    )


@torch.no_grad()
def seen_truth(truth: SdfScene, views: CameraBatch) -> Seen:
    """Traces the true object."""
    rays = views.rays()
    origin, direction = rays.origin.reshape(-1, 3), rays.direction.reshape(-1, 3)
    distance = (DISTANCE - 3**0.5 * truth.radius) * torch.ones(len(origin))
    moving = torch.arange(len(origin))
    hit = torch.zeros(len(origin), dtype=torch.bool)
    for _ in range(STEPS):
        gap = truth.distance(origin[moving] + distance[moving, None] * direction[moving])
        distance[moving] += gap
        hit[moving] = gap < CLOSE
        moving = moving[(gap >= CLOSE) & (distance[moving] < DISTANCE + 3**0.5 * truth.radius)]
        if not len(moving):
            break
    normal, albedo = torch.zeros(len(origin), 3), torch.zeros(len(origin), 3)
    found = truth.sample(origin[hit] + distance[hit, None] * direction[hit], normals=True)
    assert found.normal is not None
    normal[hit], albedo[hit] = found.normal, found.albedo
    return shaded(hit.view(rays.origin.shape[:-1]), normal, albedo, direction)


@wp.kernel
def _trace(
    mesh: wp.uint64,
    origin: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    direction: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    face: wp.array(dtype=int),  # type: ignore[valid-type]
    place: wp.array(dtype=wp.vec2),  # type: ignore[valid-type]
):
    i = wp.tid()
    found = wp.mesh_query_ray(mesh, origin[i], direction[i], 100.0)
    face[i] = -1
    if found.result:
        face[i] = found.face
        place[i] = wp.vec2(found.u, found.v)


def seen_mesh(shape: Any, views: CameraBatch) -> Seen:
    """Traces the triangles of a mesh that trimesh has read from a GLB, with its normals and its base colour texture."""
    vertices, faces = from_gltf(np.asarray(shape.vertices, np.float32)), np.asarray(shape.faces, np.int32)
    mesh = wp.Mesh(wp.array(vertices, dtype=wp.vec3, device="cpu"), wp.array(faces.reshape(-1), dtype=wp.int32, device="cpu"))
    rays = views.rays()
    direction = rays.direction.reshape(-1, 3)
    face, place = (wp.zeros(len(direction), dtype=kind, device="cpu") for kind in (int, wp.vec2))
    lines = [wp.array(part.reshape(-1, 3).contiguous().numpy(), dtype=wp.vec3, device="cpu") for part in (rays.origin, direction)]
    wp.launch(_trace, len(direction), [mesh.id, *lines, face, place], device="cpu")
    number = torch.from_numpy(face.numpy().astype(np.int64))
    hit = number >= 0
    weight = torch.from_numpy(place.numpy())[hit]
    weight = torch.cat([weight, 1 - weight.sum(-1, keepdim=True)], dim=-1)
    corners = torch.from_numpy(faces.astype(np.int64))[number[hit]]
    normals = torch.from_numpy(from_gltf(np.array(shape.vertex_normals, np.float32)))
    normal, albedo = torch.zeros(len(direction), 3), torch.zeros(len(direction), 3)
    mixed = (normals[corners] * weight[..., None]).sum(1)
    normal[hit] = mixed / mixed.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    albedo[hit] = _texture(shape, (torch.from_numpy(np.array(shape.visual.uv, np.float32))[corners] * weight[..., None]).sum(1))
    return shaded(hit.view(rays.origin.shape[:-1]), normal, albedo, direction)


def _texture(shape: Any, uv: Tensor) -> Tensor:
    """Returns colours (P, 3) of the base colour texture at `uv` (P, 2), bilinear; row 0 of the image is v = 1."""
    image = torch.from_numpy(np.asarray(shape.visual.material.baseColorTexture.convert("RGB"), np.float32) / 255)
    grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], dim=-1)[None, None]
    found = torch.nn.functional.grid_sample(image.permute(2, 0, 1)[None], grid, align_corners=False, padding_mode="border")
    return found[0, :, 0].T


def edges(seen: Seen) -> Tensor:
    """Returns (K, S, S) bool: where the normals turn by more than TURN within SPAN pixels, in a row or a column."""
    found = torch.zeros_like(seen.hit)
    half, limit = SPAN // 2, float(np.cos(np.radians(TURN)))
    for axis in (1, 2):
        size = seen.hit.shape[axis]
        one, other = (slice_along(seen, axis, start, size - SPAN + start) for start in (0, SPAN))
        turned = one[0] & other[0] & ((one[1] * other[1]).sum(-1) < limit)
        middle = found.narrow(axis, half, size - SPAN)
        middle |= turned
    return found


def slice_along(seen: Seen, axis: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Returns the part of `seen` between two rows (axis 1) or columns (axis 2)."""
    return seen.hit.narrow(axis, start, stop - start), seen.normal.narrow(axis, start, stop - start)


def compare(made: Seen, true: Seen) -> tuple[float, float, float, float, float]:
    """Returns PSNR, SSIM, the mean angle of normals, the share of edges found and that of false ones."""
    error = float((made.picture - true.picture).square().mean())
    pairs = zip(made.picture.numpy(), true.picture.numpy(), strict=True)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": -1}
    ssim = float(np.mean([structural_similarity(one, other, **window) for one, other in pairs]))
    both = made.hit & true.hit
    cosine = (made.normal * true.normal).sum(-1)[both].clamp(-1, 1)
    angle = float(torch.rad2deg(torch.acos(cosine)).mean()) if len(cosine) else float("nan")
    real, own, near = edges(true).numpy(), edges(made).numpy(), np.ones((1, 2 * TOLERANCE + 1, 2 * TOLERANCE + 1), bool)
    found = float(binary_dilation(own, near)[real].mean()) if real.any() else float("nan")
    false = 1 - float(binary_dilation(real, near)[own].mean()) if own.any() else float("nan")
    return -10 * float(np.log10(max(error, 1e-12))), ssim, angle, found, false


def measure_asset(glb: Path, truth: SdfScene) -> Figures:
    """Returns the figures of the GLB at `glb`."""
    shape: Any = trimesh.load(glb, force="mesh", process=False)
    views = cameras()
    made, true = seen_mesh(shape, views), seen_truth(truth, views)
    joined = trimesh.Trimesh(np.asarray(shape.vertices), np.asarray(shape.faces), process=False)
    joined.merge_vertices(merge_tex=True, merge_norm=True)
    both = made.hit & true.hit
    colour = float((made.albedo - true.albedo).abs().mean(-1)[both].mean())
    return Figures(*compare(made, true), bool(joined.is_watertight), int(joined.body_count), colour, crossings(joined))


def crossings(shape: Any) -> int | None:
    """Returns how many pairs of triangles pass through each other, by libigl's exact predicates; None without libigl."""
    if find_spec("igl") is None:
        return None
    find = import_module("igl.predicates").find_self_intersections
    return len(find(np.array(shape.vertices, np.float64, order="C"), np.array(shape.faces, np.int64, order="C"))[1])
