"""Smoothing before the surface is taken: what a Gaussian leaves of planes, waves and balls is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from export_fields import Analytic, ball, exporters, plain, ring, sphere_opacity
from torch import Tensor

from dfw.config.settings import ExportSettings
from dfw.errors import ExportError
from dfw.export.grid import sample_density, softened
from dfw.export.mesh import surface_of
from dfw.export.pipeline import export_mesh

GREY = plain((0.5, 0.5, 0.5))
LEVEL = 50.0


class Steep(Analytic):
    """A density that is LEVEL where a signed distance is 0 and grows by a factor of e every 0.004 units inwards, to e^9."""

    def __init__(self, distance: Callable[[Tensor], Tensor]) -> None:
        super().__init__(distance, GREY, LEVEL, 0.004)

    def density(self, points: Tensor) -> Tensor:
        return LEVEL * torch.exp((-self.distance(points) / self.softness).clamp(-9, 9))


def heights(wave_number: float, amplitude: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """x and z of the surface below z = amplitude cos(k x), away from the cube's faces."""
    grid = sample_density(Steep(lambda p: p[..., 2] - amplitude * torch.cos(wave_number * p[..., 0])), 128)
    vertices = surface_of(softened(grid, LEVEL, deviation), None, 0.5).vertices
    inner = np.abs(vertices).max(axis=1) < 0.7
    return vertices[inner, 0], vertices[inner, 2]


def test_a_plane_stays_where_it_is() -> None:
    _, z = heights(0.0, 0.0, 0.05)
    assert len(z) > 1000
    assert np.abs(z).max() < 1e-3


@pytest.mark.parametrize(("wave_number", "deviation"), [(30.0, 0.02), (30.0, 0.04), (15.0, 0.04)])
def test_of_a_wave_the_gaussian_leaves_its_share(wave_number: float, deviation: float) -> None:
    """exp(-k^2 s^2 / 2) of the amplitude, to first order in it."""
    x, z = heights(wave_number, 0.01, deviation)
    wave = np.cos(wave_number * x)
    amplitude = float((z * wave).sum() / (wave * wave).sum())
    assert amplitude == pytest.approx(0.01 * math.exp(-((wave_number * deviation) ** 2) / 2), rel=0.04, abs=2e-4)


def test_dense_cells_do_not_swell() -> None:
    """A ball of any density is the same ball: what counts is on which side of the level a place is."""
    thin, dense = (sample_density(Analytic(lambda p: p.norm(dim=-1) - 0.5, GREY, peak, 0.0), 64) for peak in (2 * LEVEL, 1e6))
    volumes = [surface_of(softened(grid, LEVEL, 0.05), None, 0.5).volume for grid in (thin, dense)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.03)


def pitted(points: Tensor) -> Tensor:
    """A ball of radius 0.5 with bumps and pits of a cell's size."""
    wave = torch.cos(60 * points[..., 0]) * torch.cos(60 * points[..., 1]) * torch.cos(60 * points[..., 2])
    return points.norm(dim=-1) - 0.5 + 0.03 * wave


@pytest.mark.parametrize("level", ["auto", LEVEL])
def test_an_export_smooths_and_keeps_the_outline(tmp_path: Path, level: str | float) -> None:
    cameras, opacity = ring(4, 96), sphere_opacity(ring(4, 96), 0.5)
    made = {}
    for smoothing in (0.0, 0.04):
        settings = ExportSettings(resolution=64, texture=64, smoothing=smoothing, level=level)
        folder = tmp_path / str(smoothing)
        made[smoothing] = export_mesh(Steep(pitted), opacity, cameras, settings, exporters("ply"), folder)
    exact = 4 / 3 * math.pi * 0.5**3
    assert made[0.04].watertight
    assert made[0.04].volume == pytest.approx(exact, rel=0.05)
    assert made[0.04].agreement.silhouette > made[0.0].agreement.silhouette
    assert made[0.04].agreement.silhouette > 0.97


def test_a_level_that_the_field_does_not_reach_is_told_in_its_own_numbers(tmp_path: Path) -> None:
    settings = ExportSettings(resolution=32, texture=64, smoothing=0.05, level=1000.0)
    with pytest.raises(ExportError, match=r"no surface at level 1000: density ranges 0\.\.100; try export\.level=50"):
        export_mesh(ball(0.6), sphere_opacity(ring(4, 64), 0.6), ring(4, 64), settings, exporters("ply"), tmp_path)


def test_a_shape_smaller_than_the_smoothing_is_told(tmp_path: Path) -> None:
    settings = ExportSettings(resolution=32, texture=64, smoothing=0.5, level=LEVEL)
    with pytest.raises(ExportError, match=r"export\.smoothing: 0\.5 units leave nothing of this shape; try less, or 0"):
        export_mesh(ball(0.2), sphere_opacity(ring(4, 64), 0.2), ring(4, 64), settings, exporters("ply"), tmp_path)


def test_no_smoothing_is_the_field_itself(tmp_path: Path) -> None:
    cameras = ring(4, 64)
    settings = ExportSettings(resolution=32, texture=64)
    assert settings.smoothing == 0
    found = export_mesh(ball(0.6), sphere_opacity(cameras, 0.6), cameras, settings, exporters("ply"), tmp_path)
    assert found.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.01)
