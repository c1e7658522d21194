"""Measures how well an exported mesh agrees with the renders, in silhouettes and colours, view by view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dfw.export.grid import CHUNK
from dfw.export.raster import Fragments, nearest, rasterise
from dfw.interfaces.data import CameraBatch, RenderOutput
from dfw.interfaces.geometry import DensityField
from dfw.interfaces.mesh import Floats, Ints, TexturedMesh


@dataclass(frozen=True)
class Agreement:
    """Agreement of a mesh with renders."""

    silhouette: float
    """Mean over views of the IoU between the mesh's outline and opacity > 0.5."""
    colour: float | None
    """Mean absolute difference in [0, 1] between texture and rendered albedo in pixels of both; None without samples."""


def project(vertices: Floats, camera: CameraBatch) -> tuple[Floats, Floats]:
    """Projects `vertices` (V, 3) into `camera`, a batch of one: pixels (V, 2) as (column, row), depth (V,) along its axis."""
    pose = camera.camera_to_world[0].double().cpu().numpy()
    local = (vertices - pose[:3, 3]) @ pose[:3, :3]
    depth = np.maximum(-local[:, 2], 1e-6)
    focal = camera.height / 2 / np.tan(np.deg2rad(float(camera.fov_y[0])) / 2)
    column = camera.width / 2 + focal * local[:, 0] / depth
    return np.stack([column, camera.height / 2 - focal * local[:, 1] / depth], axis=1), depth


def visible(vertices: Floats, faces: Ints, camera: CameraBatch) -> Fragments:
    """Returns each pixel's nearest face as seen by `camera`, a batch of one. Barycentric coordinates are perspective-correct."""
    pixels, depth = project(vertices, camera)
    fragments = rasterise(pixels[faces], camera.height, camera.width)
    inverse = fragments.barycentric / depth[faces[fragments.face]]
    distance = 1 / inverse.sum(axis=1)
    correct = Fragments(fragments.face, fragments.pixel, inverse * distance[:, None])
    return nearest(correct, distance)


def lookup(textured: TexturedMesh, fragments: Fragments) -> Floats:
    """Returns the nearest texel's colour (P, 3) in [0, 1] at `fragments` of the textured faces."""
    uv = (textured.uv[textured.faces[fragments.face]] * fragments.barycentric[..., None]).sum(axis=1)
    side = textured.texture.shape[0]
    column = np.clip((uv[:, 0] * side).astype(np.int64), 0, side - 1)
    row = np.clip(((1 - uv[:, 1]) * side).astype(np.int64), 0, side - 1)
    return np.asarray(textured.texture[row, column] / 255.0)


@torch.no_grad()
def rendered_albedo(field: DensityField, cameras: CameraBatch, output: RenderOutput) -> Tensor | None:
    """Returns unlit albedo without background (B, H, W, 3): sum w_i c_i / sum w_i per ray. Returns None without samples."""
    samples = output.samples
    if samples is None:
        return None
    origin = cameras.rays().origin.reshape(-1, 3)[samples.ray]
    places = origin + samples.distance[:, None] * samples.direction
    albedo = torch.cat([field.sample(part).albedo for part in torch.split(places, CHUNK)])
    weight = samples.weight.to(albedo)
    total = albedo.new_zeros(output.opacity.numel()).index_add(0, samples.ray, weight)
    colour = albedo.new_zeros(output.opacity.numel(), 3).index_add(0, samples.ray, weight[:, None] * albedo)
    return (colour / total.clamp(min=1e-6)[:, None]).view(*output.opacity.shape, 3)


def compare(textured: TexturedMesh, cameras: CameraBatch, opacity: Tensor, albedo: Tensor | None = None) -> Agreement:
    """Compares `textured` with rendered views of `cameras`: opacity (K, H, W) and, if known, albedo (K, H, W, 3)."""
    overlaps, errors = [], []
    for index in range(len(cameras)):
        camera = cameras.select(slice(index, index + 1))
        seen = opacity[index].flatten().cpu().numpy() > 0.5
        fragments = visible(textured.vertices, textured.faces, camera)
        mask = np.zeros(camera.height * camera.width, bool)
        mask[fragments.pixel] = True
        overlaps.append((mask & seen).sum() / max((mask | seen).sum(), 1))
        if albedo is not None:
            both = seen[fragments.pixel]
            reference = albedo[index].reshape(-1, 3).double().cpu().numpy()[fragments.pixel[both]]
            errors.append(np.abs(lookup(textured, fragments)[both] - reference).ravel())
    colour = np.concatenate(errors) if errors else np.empty(0)
    return Agreement(float(np.mean(overlaps)), float(colour.mean()) if colour.size else None)
