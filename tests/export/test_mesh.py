"""Isosurfaces against closed forms: volumes, distances, orientation, topology."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh
from export_fields import Analytic, ball, box, plain, sphere, union
from torch import Tensor

from dfw.errors import ExportError
from dfw.export.decimate import decimate
from dfw.export.grid import DensityGrid, density_at, sample_density
from dfw.export.mesh import extract_mesh, surface_of
from dfw.interfaces.mesh import Mesh

GREY = plain((0.5, 0.5, 0.5))


def solid(distance, softness: float = 0.0) -> Analytic:
    return Analytic(distance, GREY, 100.0, softness)


@pytest.mark.parametrize("softness", [0.0, 0.02])
def test_sphere_vertices_lie_on_the_sphere(softness: float) -> None:
    mesh = extract_mesh(ball(0.6, softness), 48, 50.0)
    distance = np.linalg.norm(mesh.vertices, axis=1) - 0.6
    cell = 2 / 48
    # vertices sit on grid edges at the crossing, up to the bisection and the margin that keeps triangles from collapsing
    assert np.abs(distance).max() < cell * 0.011
    assert np.median(np.abs(distance)) < cell / 500


def test_volumes_converge_to_closed_forms() -> None:
    exact = 4 / 3 * math.pi * 0.6**3
    errors = [abs(extract_mesh(ball(), resolution, 50.0).volume / exact - 1) for resolution in (16, 32, 64)]
    assert errors[2] < 0.002
    assert errors[0] / errors[1] > 3  # second order: halving the cell quarters the error
    assert errors[1] / errors[2] > 3
    # a box loses only a sliver along its edges
    assert extract_mesh(solid(box((0.6, 0.4, 0.3))), 64, 50.0).volume == pytest.approx(8 * 0.6 * 0.4 * 0.3, rel=0.006)


def test_without_refinement_a_soft_sphere_is_still_met() -> None:
    mesh = extract_mesh(ball(softness=0.05), 48, 50.0, refine=False)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.6).max() < 0.003


def test_a_level_is_the_level() -> None:
    # density 100 sigmoid(-d / .1) = 25 at d = .1 ln 3
    mesh = extract_mesh(ball(0.5, 0.1), 48, 25.0)
    assert np.linalg.norm(mesh.vertices, axis=1).mean() == pytest.approx(0.5 + 0.1 * math.log(3), abs=1e-4)


def test_faces_point_outward_and_the_surface_is_closed() -> None:
    mesh = extract_mesh(solid(union(box((0.3, 0.5, 0.2), (0.2, 0, -0.3)), sphere(0.3, (0, 0, 0.4)))), 40, 50.0)
    reference = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert mesh.watertight
    assert reference.is_watertight
    assert reference.is_winding_consistent
    assert mesh.volume == pytest.approx(reference.volume)
    assert mesh.volume > 0
    assert (mesh.vertex_normals() * reference.vertex_normals).sum(axis=1).min() > 0.8


def test_a_half_space_closes_at_the_cube() -> None:
    mesh = extract_mesh(solid(lambda points: points[..., 0]), 16, 50.0)
    assert mesh.watertight
    assert mesh.volume == pytest.approx(4, rel=0.03)
    assert np.abs(mesh.vertices).max() <= 1 + 2 / 16 * 0.011


def test_density_outside_the_cube_is_zero() -> None:
    everywhere = solid(lambda points: points.sum(dim=-1) * 0 - 1)
    assert density_at(everywhere, torch.tensor([[0.0, 0, 0], [1, 1, 1], [1.01, 0, 0]])).tolist() == [100, 100, 0]


def test_the_grid_knows_its_axes() -> None:
    ramp = solid(lambda points: points[..., 0] * 0)
    ramp.density = lambda points: 4 * points[..., 0] + 2 * points[..., 1] + points[..., 2] + 7  # type: ignore[method-assign]
    grid = sample_density(ramp, 16)
    assert grid.cells == 16
    assert grid.spacing == pytest.approx(2 / 16)
    i, j, k = 3, 8, 13
    assert float(grid.values[i, j, k]) == pytest.approx(4 * (-1 + i / 8) + 2 * (-1 + j / 8) + (-1 + k / 8) + 7, abs=1e-5)


def test_floaters_go_and_large_parts_stay() -> None:
    parts = union(sphere(0.4), sphere(0.06, (0.8, 0.8, 0.8)), sphere(0.25, (-0.7, 0, 0.6)))
    mesh = extract_mesh(solid(parts), 64, 50.0)
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * (0.4**3 + 0.25**3), rel=0.01)
    assert len(trimesh.Trimesh(mesh.vertices, mesh.faces).split()) == 2
    assert len(trimesh.Trimesh(*_arrays(extract_mesh(solid(parts), 64, 50.0, min_share=0))).split()) == 3


def test_hidden_voids_are_filled_and_open_ones_are_not() -> None:
    def shell(points: Tensor) -> Tensor:
        return torch.maximum(sphere(0.7)(points), -sphere(0.5)(points))

    def pot(points: Tensor) -> Tensor:
        return torch.maximum(shell(points), points[..., 2] - 0.4)

    full, hollow = 4 / 3 * math.pi * 0.7**3, 4 / 3 * math.pi * (0.7**3 - 0.5**3)
    assert extract_mesh(solid(shell), 64, 50.0).volume == pytest.approx(full, rel=0.005)
    assert extract_mesh(solid(shell), 64, 50.0, fill_cavities=False).volume == pytest.approx(hollow, rel=0.01)
    assert extract_mesh(solid(pot), 64, 50.0).volume < hollow


def test_noise_gives_a_closed_surface() -> None:
    values = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(3))
    mesh = surface_of(DensityGrid(values, 1.0), None, 0.6, min_share=0, fill_cavities=False)
    assert mesh.watertight
    assert mesh.volume > 0


@pytest.mark.parametrize(("level", "words"), [(500.0, "export.level=50"), (100.0, "density ranges 0..100")])
def test_no_surface_says_the_range_and_what_to_try(level: float, words: str) -> None:
    with pytest.raises(ExportError, match=f"no surface at level {level:g}") as error:
        extract_mesh(solid(sphere(0.5)), 16, level)
    assert words in str(error.value)


def test_an_empty_field_says_so() -> None:
    for constant in (1, -1):
        same = solid(lambda points, value=constant: points.sum(dim=-1) * 0 + value)
        with pytest.raises(ExportError, match=r"the same everywhere.*train longer"):
            extract_mesh(same, 16, 1.0)


def test_skimage_gives_the_same_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage", reason="scikit-image is the fallback for Pythons without PyMCubes")
    field = solid(box((0.5, 0.3, 0.4)), 0.01)
    ours = extract_mesh(field, 32, 50.0)
    monkeypatch.setitem(__import__("sys").modules, "mcubes", None)
    other = extract_mesh(field, 32, 50.0)
    assert other.watertight
    assert other.volume == pytest.approx(ours.volume, rel=0.002)


def test_decimation_keeps_the_shape() -> None:
    mesh = extract_mesh(ball(), 64, 50.0)
    small = decimate(mesh, 1500)
    assert len(small.faces) <= 1500
    assert small.watertight
    assert small.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.006)
    assert small.faces.max() == len(small.vertices) - 1
    assert decimate(mesh, len(mesh.faces)) is mesh


def test_watertight_sees_a_hole_and_a_flipped_face() -> None:
    mesh = extract_mesh(ball(), 16, 50.0)
    assert not Mesh(mesh.vertices, mesh.faces[1:]).watertight
    flipped = mesh.faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert not Mesh(mesh.vertices, flipped).watertight
    assert not Mesh(mesh.vertices, mesh.faces[:0]).watertight


def test_volume_of_a_tetrahedron() -> None:
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]) + 5
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert Mesh(corners, faces).volume == pytest.approx(1.0)  # 1 * 2 * 3 / 6
    assert Mesh(corners, faces[:, ::-1]).volume == pytest.approx(-1.0)


def _arrays(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    return mesh.vertices, mesh.faces


def opened_shell(points: torch.Tensor) -> torch.Tensor:
    """Distance-like values of a shell of radii 0.5 and 0.6 with a round hole of radius 0.2 underneath."""
    radius = torch.linalg.vector_norm(points, dim=-1)
    hole = torch.maximum(torch.linalg.vector_norm(points[..., :2], dim=-1) - 0.2, points[..., 2])
    return torch.maximum(torch.maximum(radius - 0.6, 0.5 - radius), -hole)


def test_what_no_view_looks_into_becomes_solid() -> None:
    full, field = 4 / 3 * math.pi * 0.6**3, solid(opened_shell)
    assert extract_mesh(field, 64, 50.0).volume < 0.5 * full  # the hole keeps the void from being enclosed
    assert extract_mesh(field, 64, 50.0, lowest_view=-10).volume == pytest.approx(full, rel=0.04)
    assert extract_mesh(field, 64, 50.0, lowest_view=-90).volume < 0.6 * full  # from below one looks in


def test_a_pot_stays_hollow_and_a_bridge_open() -> None:
    cup = solid(lambda p: torch.maximum(torch.maximum(sphere(0.6)(p), 0.5 - torch.linalg.vector_norm(p, dim=-1)), p[..., 2]))
    kept, filled = extract_mesh(cup, 64, 50.0).volume, extract_mesh(cup, 64, 50.0, lowest_view=-10).volume
    assert filled == pytest.approx(kept, rel=0.02)
    bridge = solid(
        union(box((0.6, 0.2, 0.1), (0, 0, 0.4)), box((0.1, 0.2, 0.5), (-0.5, 0, 0)), box((0.1, 0.2, 0.5), (0.5, 0, 0)))
    )
    kept, filled = extract_mesh(bridge, 64, 50.0).volume, extract_mesh(bridge, 64, 50.0, lowest_view=-10).volume
    assert filled == pytest.approx(kept, rel=0.02)


def test_light_goes_straight() -> None:
    """A plate above a node hides it exactly from the directions whose lines meet the plate."""
    from dfw.export.unseen import _shine

    occupied = np.zeros((9, 21, 21), dtype=bool)
    occupied[0, 10, 10:12] = True
    count = np.zeros(occupied.shape, dtype=np.uint8)
    _shine(occupied, count, np.array([0.5, -1.0]))
    dark = {tuple(int(i) for i in node) for node in np.argwhere(count == 0)}
    assert dark == {(k, 10 - round(0.5 * k), 10 + k + extra) for k in range(9) for extra in (0, 1) if 10 + k + extra < 21}
