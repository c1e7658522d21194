"""The density that is the surface: where silhouettes agree, against answers known beforehand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from export_fields import (
    RED,
    Analytic,
    ball,
    homogeneous_sphere_opacity,
    plain,
    ring,
    sphere_opacity,
)
from torch import Tensor

from dfw.errors import ExportError
from dfw.export.grid import DensityGrid, sample_density
from dfw.export.level import choose_level, largest_density
from dfw.export.mesh import extract_mesh


def test_the_largest_density_along_a_ray_is_that_of_its_nearest_point() -> None:
    """For a density that falls with the distance r from the centre, a ray's largest is at its least r, the impact parameter."""
    field = Analytic(lambda points: points.norm(dim=-1), plain(RED), 1.0, 0.0)
    field.density = lambda points: 3 - points.norm(dim=-1)  # type: ignore[method-assign]
    cameras = ring(3, side=24)
    rays = cameras.rays()
    impact = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
    found = largest_density(sample_density(field, 48), cameras)
    assert (found - (3 - impact)).abs()[impact < 0.9].max() < 0.02
    away = cameras.select(slice(0, 1))
    turned = torch.diag(torch.tensor([-1.0, 1, -1, 1]))  # the first camera, looking the other way
    assert (
        largest_density(sample_density(field, 8), replace(away, camera_to_world=away.camera_to_world @ turned)).abs().max() == 0
    )
    assert torch.equal(largest_density(sample_density(field, 48), cameras, stride=2), found[:, ::2, ::2])


def test_the_level_is_where_the_silhouettes_agree() -> None:
    """Density 100 sigmoid(-(r - .5)/.1); a ball of radius R as silhouette asks for the level 100 sigmoid(-(R - .5)/.1)."""
    cameras = ring(6)
    grid = sample_density(ball(0.5, 0.1), 64)
    for radius in (0.4, 0.5, 0.6, 0.7):
        choice = choose_level(grid, sphere_opacity(cameras, radius), cameras)
        mesh = extract_mesh(ball(0.5, 0.1), 32, choice.level)
        assert choice.iou > 0.97
        assert np.linalg.norm(mesh.vertices, axis=1).mean() == pytest.approx(radius, abs=0.012)


def test_a_thin_fog_is_not_a_surface() -> None:
    """A solid ball in a fog too thin to be half opaque: the level lies above the fog and below the ball."""
    cameras = ring(6)
    fog, solid = 0.3, 60.0

    def density(points: Tensor) -> Tensor:
        return torch.where(points.norm(dim=-1) < 0.5, solid, fog)

    field = ball(0.5)
    field.density = density  # type: ignore[method-assign]
    opacity = homogeneous_sphere_opacity(cameras, 0.5, solid).clamp(min=0.3)
    choice = choose_level(sample_density(field, 64), opacity, cameras)
    assert fog < choice.level < solid
    assert choice.iou > 0.97


def test_of_equally_good_levels_the_middle_is_taken() -> None:
    """Every pixel looks into density 100, so every level has the same silhouette: the geometric middle of all candidates wins."""
    cameras = ring(4, fov=8.0, side=16)
    values = torch.full((9, 9, 9), 100.0)
    values[0, 0, 0] = 0
    choice = choose_level(DensityGrid(values, 1.0), torch.ones(4, 16, 16), cameras)
    assert choice.iou == 1
    assert choice.level == pytest.approx(100 * math.sqrt(1e-4 * 63 / 64))  # candidates lie between 1e-4 and 63/64 of the peak


def test_an_unseen_scene_has_no_level() -> None:
    cameras = ring(2, side=16)
    with pytest.raises(ExportError, match=r"half opaque \(largest opacity 0\.2.*train longer"):
        choose_level(sample_density(ball(), 16), torch.full((2, 16, 16), 0.2), cameras)
