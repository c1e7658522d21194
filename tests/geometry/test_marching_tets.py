"""Marching tetrahedra on shapes whose area, volume and number of holes are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dfw import Mesh
from dfw_geometry.marching_tets import crossings, marching_tetrahedra
from dfw_geometry.tet_grid import crossed_tetrahedra, free_positions, node_positions, rows_of

Shape = Callable[[Tensor], Tensor]


def sphere(points: Tensor) -> Tensor:
    return points.norm(dim=-1) - 0.6


def torus(points: Tensor) -> Tensor:
    return torch.hypot(torch.hypot(points[..., 0], points[..., 1]) - 0.55, points[..., 2]) - 0.25


def pair(points: Tensor) -> Tensor:
    one, two = (points - torch.tensor([x, 0.0, 0.0]) for x in (-0.45, 0.45))
    return torch.minimum(one.norm(dim=-1) - 0.3, two.norm(dim=-1) - 0.3)


def shell(points: Tensor) -> Tensor:
    return (points.norm(dim=-1) - 0.5).abs() - 0.2


def extracted(shape: Shape, cells: int) -> Mesh:
    """The surface of `shape`; outside of it at the border."""
    values = shape(free_positions(cells, 1.0))
    tetrahedra = crossed_tetrahedra(values < 0, cells)
    rows = rows_of(tetrahedra, cells)
    within = (rows >= 0) & (values[rows.clamp_min(0)] < 0)
    edges, faces = marching_tetrahedra(tetrahedra, within, (cells + 1) ** 3 + cells**3)
    at = node_positions(edges, cells, 1.0)
    return Mesh(crossings(shape(at), at, 1e-9).double().numpy(), faces.numpy())


def euler(mesh: Mesh) -> int:
    """Corners minus edges plus faces: 2 for each closed part, minus 2 for each hole through it."""
    return len(mesh.vertices) - len(mesh.faces) * 3 // 2 + len(mesh.faces)


def area(mesh: Mesh) -> float:
    a, b, c = torch.from_numpy(mesh.corners).unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=-1).sum() / 2)


@pytest.mark.parametrize(
    ("shape", "number"), [(sphere, 2), (torus, 0), (pair, 4), (shell, 4)], ids=lambda x: getattr(x, "__name__", "")
)
def test_surfaces_are_closed_and_have_their_topology(shape: Shape, number: int) -> None:
    for cells in (9, 20):
        mesh = extracted(shape, cells)
        assert mesh.watertight
        assert mesh.volume > 0
        if cells == 20:
            assert euler(mesh) == number


@pytest.mark.parametrize(
    ("shape", "volume", "surface"),
    [
        (sphere, 4 / 3 * math.pi * 0.6**3, 4 * math.pi * 0.6**2),
        (torus, 2 * math.pi**2 * 0.55 * 0.25**2, 4 * math.pi**2 * 0.55 * 0.25),
    ],
)
def test_volume_and_area_converge_with_the_square_of_the_cell(shape: Shape, volume: float, surface: float) -> None:
    """Errors of linear interpolation: halving a cell quarters them."""
    meshes = [extracted(shape, cells) for cells in (16, 32)]
    for measured, exact in (([m.volume for m in meshes], volume), ([area(m) for m in meshes], surface)):
        coarse, fine = (abs(value - exact) / exact for value in measured)
        assert fine < 0.01
        assert 3 < coarse / fine < 5


def test_a_plane_is_exact() -> None:
    """A linear function is its own interpolation: away from the border all corners lie on the plane, and faces look along it."""
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)
    mesh = extracted(lambda points: points @ normal - 0.1, 10)
    assert mesh.watertight  # the border closes it
    corners = torch.from_numpy(mesh.corners).float()
    inner = (corners.abs() < 0.6).flatten(1).all(1)
    assert int(inner.sum()) > 100
    assert torch.allclose(corners[inner] @ normal, torch.tensor(0.1), atol=1e-5)
    a, b, c = corners[inner].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    big = across.norm(dim=-1) > 1e-4
    assert torch.allclose(torch.nn.functional.normalize(across[big], dim=-1), normal.expand(int(big.sum()), 3), atol=1e-2)


@pytest.mark.parametrize("case", range(16))
def test_one_tetrahedron(case: int) -> None:
    """Triangles look from the inside corners to the outside ones, and meet the edges where the function is 0."""
    at = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    inside = torch.tensor([case >> k & 1 == 1 for k in range(4)])
    edges, faces = marching_tetrahedra(torch.arange(4)[None], inside[None], 4)
    assert len(faces) == [0, 1, 2, 1, 0][int(inside.sum())]
    if not len(faces):
        return
    assert bool(inside[edges[:, 0]].all())
    assert not bool(inside[edges[:, 1]].any())
    values = torch.where(inside, -1.0, 3.0).double()  # every crossing lies a quarter of the way from the inside corner
    corners = crossings(values[edges], at[edges], 1e-9)
    assert torch.allclose(corners, 0.75 * at[edges[:, 0]] + 0.25 * at[edges[:, 1]])
    away = at[~inside].mean(0) - at[inside].mean(0)
    a, b, c = corners[faces].unbind(1)
    assert bool((torch.linalg.cross(b - a, c - a) @ away > 0).all())


def test_crossings_have_the_right_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(20, 2, generator=generator, dtype=torch.float64)
    values = (torch.tensor([-1.0, 1.0], dtype=torch.float64) * (0.1 + drawn)).requires_grad_()
    at = torch.randn(20, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, x: crossings(v, x, 1e-6), (values, at))


def test_gradients_stay_finite_where_both_ends_are_almost_zero() -> None:
    values = torch.tensor([[-1e-45, 0.0], [-1e-30, 1e-30], [-1e-3, 0.0]], requires_grad=True)
    at = torch.eye(3)[None, :2].repeat(3, 1, 1).requires_grad_()
    corners = crossings(values, at, 1e-6)
    corners.sum().backward()
    assert torch.isfinite(corners).all()
    assert values.grad is not None
    assert at.grad is not None
    assert torch.isfinite(values.grad).all()
    assert torch.isfinite(at.grad).all()
    assert torch.allclose(corners[2], at[2, 1])
