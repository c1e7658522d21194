"""Losses of a surface's shape on solids whose edges and angles are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import loss_inputs
import pytest
import torch
import trimesh
from small_runs import SCENE, config
from torch import Tensor, nn

from dfw import ComponentConfig, ConfigError, Geometry, Loss, LossInputs, Material, Progress, Surface, SurfacePoints, Triangles
from dfw.compose import compose
from dfw_geometry.material_field import MaterialField
from dfw_geometry.networks import NetworkConfig
from dfw_geometry.tets import Tets
from dfw_losses.laplacian import Laplacian
from dfw_losses.normal_consistency import NormalConsistency
from dfw_losses.sdf_sign import SdfSign

NOTHING = ComponentConfig()


class Solid(Surface):
    """Given triangles."""

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        super().__init__()
        self.config = NOTHING
        self.vertices = nn.Parameter(vertices)
        self.faces = faces

    def surface(self) -> Triangles:
        return Triangles(self.vertices, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        return Material(at.position)


class Grid(Geometry):
    """Given values at the ends of crossed edges."""

    def __init__(self, ends: Tensor) -> None:
        super().__init__()
        self.config = NOTHING
        self.ends = nn.Parameter(ends)

    def crossings(self) -> Tensor:
        return self.ends


def shown(geometry: Geometry) -> LossInputs:
    return replace(loss_inputs.of_opacity(torch.ones(1, 2, 2)), geometry=geometry)


def solid(made: Any, scale: float = 1.0) -> Solid:
    return Solid(torch.tensor(scale * made.vertices, dtype=torch.float64), torch.tensor(made.faces, dtype=torch.int64))


def octahedron(radius: float) -> Solid:
    axes = torch.eye(3, dtype=torch.float64)
    vertices = radius * torch.stack([sign * axes[k] for k in range(3) for sign in (1, -1)])
    faces = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    return Solid(vertices, torch.tensor(faces))


def tetrahedron() -> Solid:
    vertices = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    return Solid(vertices, torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]))


def flat() -> Solid:
    """Two by two squares in the plane z = 0, each of two triangles."""
    vertices = [[x, y, 0] for x in range(3) for y in range(3)]
    corners = [(3 * x + y, 3 * x + 3 + y, 3 * x + 4 + y, 3 * x + 1 + y) for x in range(2) for y in range(2)]
    faces = [face for a, b, c, d in corners for face in ((a, b, c), (a, c, d))]
    return Solid(torch.tensor(vertices, dtype=torch.float64), torch.tensor(faces))


def value(loss: Loss, geometry: Geometry) -> float:
    return float(loss(shown(geometry)).detach())


def test_the_laplacian_of_a_platonic_solid() -> None:
    """An octahedron's neighbours have their middle in the centre: the radius squared. A tetrahedron's: |v + v/3|^2 = 16/3."""
    assert value(Laplacian(NOTHING), octahedron(0.6)) == pytest.approx(0.36)
    assert value(Laplacian(NOTHING), tetrahedron()) == pytest.approx(16 / 3)


def test_the_laplacian_counts_each_neighbour_once_on_a_border_too() -> None:
    """A corner of the sheet without the diagonal has neighbours (1, 0) and (0, 1), which are 1/2 sqrt(2) away in the mean."""
    one = Solid(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]]), torch.tensor([[0, 1, 2]]))
    away = [0.5, 0.25 + 1, 0.25 + 1]  # squared, from the means (1/2, 1/2), (0, 1/2), (1/2, 0); the fourth is no corner
    assert value(Laplacian(NOTHING), one) == pytest.approx(sum(away) / 3)


def test_the_angles_between_the_faces_of_solids() -> None:
    """Cosines: octahedron 1/3, tetrahedron -1/3, and a cube's 12 edges 0 with 6 diagonals of 1."""
    loss = NormalConsistency(NOTHING)
    assert value(loss, octahedron(0.6)) == pytest.approx(2 / 3, rel=1e-5)
    assert value(loss, tetrahedron()) == pytest.approx(4 / 3, rel=1e-5)
    assert value(loss, solid(trimesh.creation.box((1, 2, 3)))) == pytest.approx(12 / 18, rel=1e-4)
    assert value(loss, flat()) == pytest.approx(0, abs=1e-5)


def test_a_folded_sheet() -> None:
    """Two triangles that meet at a right angle, and one of them turned over: 1 - cos 90 = 1 - cos 90; folded flat: 2."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert value(NormalConsistency(NOTHING), Solid(vertices, torch.tensor([[0, 1, 2], [1, 0, 3]]))) == pytest.approx(1, rel=1e-5)
    folded = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.1, 1, 0]])
    assert value(NormalConsistency(NOTHING), Solid(folded, torch.tensor([[0, 1, 2], [1, 0, 3]]))) == pytest.approx(2, rel=1e-5)


def test_changes_of_sign_cost_what_the_cross_entropy_says() -> None:
    """softplus(|s|) at both ends, the mean over edges."""
    ends = torch.tensor([[-0.3, 0.1], [-2.0, 0.0]])
    expected = [math.log1p(math.exp(s)) for s in (0.3, 0.1, 2.0, 0.0)]
    assert value(SdfSign(NOTHING), Grid(ends)) == pytest.approx(sum(expected) / 2)


def test_changes_of_sign_pull_each_end_to_the_others_side() -> None:
    """The derivative of H(sigmoid(s_i), sign(s_j)) is sigmoid(s_i) - sign(s_j)."""
    grid = Grid(torch.tensor([[-0.3, 0.1]]))
    SdfSign(NOTHING)(shown(grid)).backward()
    assert grid.ends.grad is not None
    sigmoid = [1 / (1 + math.exp(-s)) for s in (-0.3, 0.1)]
    assert torch.allclose(grid.ends.grad, torch.tensor([[sigmoid[0] - 1, sigmoid[1]]]))


def test_a_hole_that_nothing_holds_open_closes() -> None:
    """A ball with a small hollow inside: its surface has two parts, and after some steps one."""
    material = MaterialField.Config(network=NetworkConfig(width=4))
    made = Tets(Tets.Config(resolution=12, material=material))
    made.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        r = made.rest.norm(dim=-1)
        made.sdf.copy_(torch.maximum(r - 0.6, 0.12 - r))
    optimizer = torch.optim.SGD([made.sdf], lr=3)  # the mean over some 1500 edges makes gradients small

    def parts() -> int:
        found = made.surface()
        return (len(found.vertices) - len(found.faces) // 2) // 2  # the Euler characteristic of a ball is 2

    assert parts() == 2
    for step in range(11):
        made.begin_step(Progress(step, 100), torch.Generator())
        optimizer.zero_grad()
        SdfSign(NOTHING)(shown(made)).backward()
        optimizer.step()
    made.eval()
    assert parts() == 1
    assert float(made.surface().vertices.detach().norm(dim=-1).mean()) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("loss", [Laplacian(NOTHING), NormalConsistency(NOTHING)])
@pytest.mark.parametrize("shape", [octahedron(0.6), tetrahedron(), flat()], ids=["octahedron", "tetrahedron", "flat"])
def test_gradients_by_finite_differences(loss: Loss, shape: Solid) -> None:
    drawn = torch.randn(shape.vertices.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = (shape.vertices.detach() + 0.1 * drawn).requires_grad_()

    def of(vertices: Tensor) -> Tensor:
        moved = Solid(vertices.detach(), shape.faces)
        del moved.vertices
        moved.vertices = vertices  # type: ignore[assignment]
        return loss(shown(moved))

    assert torch.autograd.gradcheck(of, (start,), atol=1e-4 if isinstance(loss, NormalConsistency) else 1e-7)


@pytest.mark.parametrize("loss", [Laplacian(NOTHING), NormalConsistency(NOTHING), SdfSign(NOTHING)])
def test_without_triangles_there_is_nothing_to_pay(loss: Loss) -> None:
    class Empty(Solid):
        def crossings(self) -> Tensor:
            return self.vertices[:, :2]

    made = Empty(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert value(loss, made) == 0


def test_triangles_without_area_have_finite_gradients() -> None:
    """Three corners in one point, and three in a line."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 0, 0]])
    made = Solid(vertices, torch.tensor([[0, 1, 2], [1, 0, 3], [1, 3, 4], [0, 2, 3]]))
    loss = NormalConsistency(NOTHING)(shown(made))
    loss.backward()
    assert made.vertices.grad is not None
    assert torch.isfinite(made.vertices.grad).all()
    made = Solid(torch.zeros(4, 3), torch.tensor([[0, 1, 2], [1, 0, 3]]))
    NormalConsistency(NOTHING)(shown(made)).backward()
    assert made.vertices.grad is not None
    assert torch.isfinite(made.vertices.grad).all()


@pytest.mark.parametrize(
    ("name", "feature"), [("laplacian", "surface"), ("normal-consistency", "surface"), ("sdf-sign", "signed-grid")]
)
def test_a_scene_without_what_they_need_is_refused(name: str, feature: str, tmp_path: Path) -> None:
    made = config(SCENE, tmp_path, losses={"smooth": {"type": name}})
    with pytest.raises(
        ConfigError, match=rf"losses\.smooth: .*{name}.* needs {feature}; geometry dreamfw/nerf .* does not provide it"
    ):
        compose(made)


def test_a_scene_of_another_kind_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the loss 'laplacian' looks at triangles, and Grid is not a Surface"):
        value(Laplacian(NOTHING), Grid(torch.zeros(0, 2)))
    with pytest.raises(ConfigError, match=r"the loss 'sdf-sign' asks the geometry for crossings\(\), and Solid has none"):
        value(SdfSign(NOTHING), tetrahedron())
