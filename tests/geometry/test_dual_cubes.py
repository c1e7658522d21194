"""Dual marching cubes: every pattern of signs gives a closed surface, and shapes have their topology."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dfw import Mesh
from dfw_geometry.dual_cubes import CORNERS, EDGES, dual_surface, with_centres

Shape = Callable[[Tensor], Tensor]


def corners(cells: int) -> Tensor:
    axis = torch.linspace(-1, 1, cells + 1)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def extracted(values: Tensor) -> Mesh:
    """With all weights 1."""
    dual = dual_surface(values < 0)
    at, ends = corners(len(values) - 1).view(-1, 3)[dual.nodes], values.flatten()[dual.nodes]
    share = (-ends[:, 0] / (ends[:, 1] - ends[:, 0]))[:, None]
    found = at[:, 0] + share * (at[:, 1] - at[:, 0])
    count = torch.zeros(dual.vertices).index_add(0, dual.vertex, torch.ones(len(found)))
    vertices = torch.zeros(dual.vertices, 3).index_add(0, dual.vertex, found) / count[:, None]
    places, faces = with_centres(vertices, dual.quads, torch.ones(dual.vertices))
    return Mesh(places.double().numpy(), faces.numpy())


def outside_at_the_border(values: Tensor) -> Tensor:
    inner = values[1:-1, 1:-1, 1:-1]
    return torch.nn.functional.pad(inner, [1] * 6, value=1.0)


def sphere(points: Tensor) -> Tensor:
    return points.norm(dim=-1) - 0.6


def torus(points: Tensor) -> Tensor:
    return torch.hypot(torch.hypot(points[..., 0], points[..., 1]) - 0.55, points[..., 2]) - 0.25


def shell(points: Tensor) -> Tensor:
    return (points.norm(dim=-1) - 0.5).abs() - 0.2


@pytest.mark.parametrize(("shape", "number"), [(sphere, 2), (torus, 0), (shell, 4)], ids=["sphere", "torus", "shell"])
def test_surfaces_are_closed_and_have_their_topology(shape: Shape, number: int) -> None:
    mesh = extracted(shape(corners(20)))
    assert mesh.watertight
    assert mesh.volume > 0
    assert len(mesh.vertices) - len(mesh.faces) // 2 == number


@pytest.mark.parametrize(("shape", "volume"), [(sphere, 4 / 3 * math.pi * 0.6**3), (torus, 2 * math.pi**2 * 0.55 * 0.25**2)])
def test_volume_converges_with_the_square_of_the_cell(shape: Shape, volume: float) -> None:
    coarse, fine = (abs(extracted(shape(corners(cells))).volume - volume) for cells in (24, 48))
    assert fine < 0.02 * volume
    assert 3 < coarse / fine < 5


@pytest.mark.parametrize("seed", range(6))
def test_noise_gives_a_manifold(seed: int) -> None:
    """Every edge has two sides, and the triangles around every vertex are one ring: no two parts touch in a point."""
    values = torch.randn(9, 9, 9, generator=torch.Generator().manual_seed(seed))
    mesh = extracted(outside_at_the_border(values))
    assert mesh.watertight
    faces_of: dict[int, list[np.ndarray]] = {}
    for face in mesh.faces:
        for k in range(3):
            faces_of.setdefault(int(face[k]), []).append(np.roll(face, -k))
    for around in faces_of.values():
        after = {int(face[1]): int(face[2]) for face in around}
        place, steps = next(iter(after)), 0
        first = place
        while steps == 0 or place != first:
            place, steps = after[place], steps + 1
        assert steps == len(around)


def test_all_256_cubes() -> None:
    """One cube between fixed neighbours: as many quadrilaterals around it as it has crossed edges, each edge in one vertex."""
    for case in range(256):
        values = torch.ones(4, 4, 4)
        for k, (x, y, z) in enumerate(CORNERS):
            values[1 + x, 1 + y, 1 + z] = -1.0 if case >> k & 1 else 1.0
        dual = dual_surface(values < 0)
        middle = dual.cube == 9 + 3 + 1
        crossed = [k for k, (a, b) in enumerate(EDGES) if (case >> a & 1) != (case >> b & 1)]
        assert sorted(dual.edge[middle].tolist()) == crossed
        if case not in (0, 255):
            assert dual.vertices > 0
            assert extracted(values).watertight


def test_a_cubes_edges_belong_to_up_to_four_vertices() -> None:
    """As counted by Nielson 2004: a checkerboard has four, and one corner has one."""
    count = Counter()
    for case in range(1, 255):
        values = torch.ones(4, 4, 4)
        for k, (x, y, z) in enumerate(CORNERS):
            values[1 + x, 1 + y, 1 + z] = -1.0 if case >> k & 1 else 1.0
        dual = dual_surface(values < 0)
        count[len(set(dual.vertex[dual.cube == 13].tolist()))] += 1
    assert count[4] == 2
    assert count[3] == 8


def test_the_middle_of_a_quadrilateral_follows_the_weights() -> None:
    """Diagonals with middles (1, 1, 0) and (1, 1, 1); with products 2 x 3 and 1 x 1 the seventh part of the way to the second."""
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 1], [2, 2, 0], [0, 2, 1]])
    places, faces = with_centres(vertices, torch.tensor([[0, 1, 2, 3]]), torch.tensor([2.0, 1, 3, 1]))
    assert torch.allclose(places[4], torch.tensor([1, 1, 1 / 7]))
    assert faces.tolist() == [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]
