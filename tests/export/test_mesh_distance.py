"""The signed distance to meshes whose distance is known, and points on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from dfw import ConfigError, Mesh, mesh_distance, points_on


def box(faces: slice = slice(None)) -> Mesh:
    """The cube of half-width 0.5, of 12 triangles."""
    made = trimesh.creation.box((1, 1, 1))
    return Mesh(np.asarray(made.vertices), np.asarray(made.faces)[faces])


def points(count: int = 500) -> torch.Tensor:
    return 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 1


def expected(at: torch.Tensor) -> torch.Tensor:
    """That of a cube: outside the distance to the nearest point of it, inside to the nearest face."""
    beyond = at.abs() - 0.5
    return beyond.clamp(min=0).norm(dim=-1) + beyond.amax(-1).clamp(max=0)


def test_the_distance_to_a_cube() -> None:
    at = points()
    found = mesh_distance(box(), at)
    assert torch.allclose(found, expected(at), atol=1e-5)
    assert 50 < int((found < 0).sum()) < 100  # an eighth of the points


def test_an_inside_out_mesh_is_turned() -> None:
    turned = Mesh(box().vertices, box().faces[:, ::-1])
    assert torch.allclose(mesh_distance(turned, points()), expected(points()), atol=1e-5)


def test_a_hole_is_closed_over() -> None:
    """Without one of twelve triangles points deep inside are still inside: the mesh covers more than half of what they see."""
    at = points()
    deep = at.abs().amax(-1) < 0.2
    assert int(deep.sum()) > 2
    assert bool((mesh_distance(box(slice(1, None)), at)[deep] < 0).all())


def test_parts_that_overlap_are_one() -> None:
    one = box()
    both = Mesh(np.concatenate([one.vertices - 0.1, one.vertices + np.array([0.1])]), np.concatenate([one.faces, one.faces + 8]))
    assert float(mesh_distance(both, torch.zeros(1, 3))) < 0


def test_what_encloses_nothing_is_said() -> None:
    sheet = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    with pytest.raises(
        ConfigError, match=r"from \(0, 0, 0\) to \(1, 1, 0\) encloses none of \d+ points of the scene's cube; it must be closed"
    ):
        mesh_distance(sheet, points())


def test_points_lie_on_the_triangles_evenly() -> None:
    """On a right triangle and one of a quarter of its area; means are those of the triangles' centres."""
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [5, 0, 0], [6, 0, 0], [5, 1, 0]])
    found = points_on(vertices, torch.tensor([[0, 1, 2], [3, 4, 5]]), 40000, torch.Generator().manual_seed(0))
    second = found[:, 0] > 4
    assert float(second.float().mean()) == pytest.approx(0.2, abs=0.01)
    assert torch.allclose(found[~second].mean(0), torch.tensor([2 / 3, 2 / 3, 0]), atol=0.01)
    assert torch.allclose(found[second].mean(0), torch.tensor([5 + 1 / 3, 1 / 3, 0]), atol=0.01)
    assert float(found[:, :2].min()) >= 0
    assert float(found[~second].sum(-1).max()) <= 2 + 1e-5
    assert not found[:, 2].any()
