"""The shape that another geometry takes over of a scene: a ball's is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from export_fields import RED, Analytic, ball, front_red, homogeneous_sphere_opacity, plain, ring, sphere, union

from dfw import ComponentConfig, ConfigError, FieldSample, Geometry, Material, Surface, SurfacePoints, Triangles, shape_of
from dfw.export.grid import sample_density
from dfw.export.level import opacity_through


class Ball(Analytic):
    """A field that also says its normals, as fields must."""

    def sample(self, points: torch.Tensor, normals: bool = False) -> FieldSample:
        away = torch.nn.functional.normalize(points, dim=-1)
        return FieldSample(self.density(points), self.colour(points), away if normals else None)


class Corner(Surface):
    """One triangle whose colour is its points' positions."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()

    def surface(self) -> Triangles:
        return Triangles(torch.eye(3), torch.tensor([[0, 1, 2]]))

    def material(self, at: SurfacePoints) -> Material:
        return Material(at.position)


class Nothing(Geometry):
    """A geometry without any feature."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()


def test_opacity_through_a_ball_is_that_of_its_chords() -> None:
    """1 - exp(-density chord), except in the few pixels on the outline, where the grid's cells are too coarse."""
    cameras = ring(3, side=24)
    found = opacity_through(sample_density(ball(0.6, peak=3.0), 96), cameras)
    apart = (found - homogeneous_sphere_opacity(cameras, 0.6, 3.0)).abs()
    assert apart.mean() < 0.005
    assert apart.max() < 0.2
    assert found.max() > 1 - math.exp(-3.0 * 1.2) - 0.01


def test_a_density_field_gives_its_surface_and_the_colours_seen_from_outside() -> None:
    shape = shape_of(Ball(sphere(0.6), front_red, 100.0, 0.0), 32)
    assert shape.mesh.watertight
    assert shape.mesh.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.03)
    assert np.linalg.norm(shape.mesh.vertices, axis=1) == pytest.approx(0.6, abs=0.002)
    ends = torch.tensor([[0.6, 0.0, 0.0], [-0.6, 0.0, 0.0]])
    assert torch.allclose(shape.colour(ends), torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.2, 0.9]]), atol=1e-5)


def test_a_density_is_taken_as_smooth_as_it_says() -> None:
    """Bumps of a cell's size on a ball go, and the ball stays."""
    field = Ball(lambda p: p.norm(dim=-1) - 0.5 + 0.03 * torch.cos(60 * p).prod(-1), plain(RED), 100.0, 0.01)
    rough = np.linalg.norm(shape_of(field, 64).mesh.vertices, axis=1)
    field.smoothing = 0.04
    smooth = shape_of(field, 64).mesh
    assert np.linalg.norm(smooth.vertices, axis=1).std() < 0.2 * rough.std()
    assert np.linalg.norm(smooth.vertices, axis=1).mean() == pytest.approx(rough.mean(), abs=0.01)


def test_small_parts_of_a_field_stay_behind() -> None:
    """A floater of 0.3 % of the ball's volume."""
    field = Ball(union(sphere(0.5), sphere(0.07, (0.8, 0.8, 0.8))), plain(RED), 100.0, 0.0)
    assert np.abs(shape_of(field, 48).mesh.vertices).max() < 0.51


def test_what_only_a_crack_leads_to_is_solid_and_an_open_bowl_is_not() -> None:
    """A shell with a hole of 0.05 below, and half of a shell, open below."""

    def shell(p: torch.Tensor) -> torch.Tensor:
        return (p.norm(dim=-1) - 0.5).abs() - 0.1

    def cracked(p: torch.Tensor) -> torch.Tensor:
        hole = torch.maximum(p[..., :2].norm(dim=-1) - 0.05, p[..., 2])
        return torch.maximum(shell(p), -hole)

    solid = shape_of(Ball(cracked, plain(RED), 100.0, 0.0), 48).mesh.volume
    assert solid == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.03)
    bowl = shape_of(Ball(lambda p: torch.maximum(shell(p), -p[..., 2]), plain(RED), 100.0, 0.0), 48).mesh.volume
    assert bowl == pytest.approx(2 / 3 * math.pi * (0.6**3 - 0.4**3), rel=0.05)


def test_a_surface_gives_its_own_triangles() -> None:
    shape = shape_of(Corner())
    assert shape.mesh.vertices.tolist() == torch.eye(3).tolist()
    assert shape.mesh.faces.tolist() == [[0, 1, 2]]
    middle = torch.full((1, 3), 1 / 3)
    assert torch.equal(shape.colour(middle), middle)


def test_what_has_no_shape_is_said() -> None:
    with pytest.raises(ConfigError, match=r"Nothing is neither a density field nor a surface"):
        shape_of(Nothing())
    fog = Analytic(sphere(0.6), plain(RED), 0.01, 0.0)
    with pytest.raises(ConfigError, match=r"Analytic has no surface to start from: no view is more than half opaque"):
        shape_of(fog, 16)
