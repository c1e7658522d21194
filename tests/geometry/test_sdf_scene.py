"""Exact scenes: density, normals and colours in closed form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from dfw_geometry.sdf_scene import SdfScene
from dfw_geometry.shapes import COLOURS, parse_prompt


def ball(**options: float) -> tuple[SdfScene, float]:
    scene = SdfScene(SdfScene.Config.model_validate({"shape": "a red ball", **options}))
    return scene, -scene.distance(torch.zeros(1, 3)).item()


def cube(count: int, half: float = 0.99) -> torch.Tensor:
    return (torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1) * half


def test_a_balls_distance_density_and_normals() -> None:
    scene, radius = ball(sharpness=50, density_scale=80)
    points = cube(200)
    distance = points.norm(dim=-1) - radius
    sample = scene.sample(points, normals=True)
    assert torch.allclose(scene.distance(points), distance, atol=1e-6)
    assert torch.allclose(sample.density, 80 * torch.sigmoid(-50 * distance), atol=1e-4)
    assert torch.equal(sample.density, scene.density(points))
    assert sample.normal is not None
    assert torch.allclose(sample.normal, F.normalize(points, dim=-1), atol=1e-6)
    assert not sample.normal.requires_grad


def test_the_colour_is_the_prompts() -> None:
    scene, radius = ball()
    points = F.normalize(cube(50), dim=-1) * radius
    red = torch.as_tensor(COLOURS["red"], dtype=torch.float64)
    assert torch.allclose(scene.sample(points).albedo, red.expand(50, 3), atol=1e-6)


@pytest.mark.parametrize("text", ["a red mushroom", "a blue car", "a green chair", "a red cube on a blue cylinder"])
def test_normals_are_unit_gradients_of_the_distance(text: str) -> None:
    scene = SdfScene(SdfScene.Config(shape=text))
    points = cube(400)
    normal = scene.sample(points, normals=True).normal
    assert normal is not None
    step, rise = 1e-6, []
    for offset in step * torch.eye(3, dtype=torch.float64):
        rise.append((scene.distance(points + offset) - scene.distance(points - offset)) / (2 * step))
    expected = F.normalize(torch.stack(rise, dim=-1), dim=-1)
    smooth = (normal - expected).norm(dim=-1) < 1e-3
    assert smooth.double().mean() > 0.98  # the rest lie within a step of a crease


def test_nothing_outside_the_cube_and_any_shape() -> None:
    scene = SdfScene(SdfScene.Config(shape="a red cube", radius=0.3))
    assert scene.density(torch.zeros(3)) == pytest.approx(100, rel=1e-3)
    assert (scene.density(torch.tensor([[0.31, 0.0, 0.0], [0.0, -5.0, 0.0]])) == 0).all()
    for shape in ((), (0,), (2, 0), (2, 4)):
        sample = scene.sample(torch.zeros(*shape, 3), normals=True)
        assert sample.density.shape == shape
        assert sample.normal is not None
        assert sample.albedo.shape == sample.normal.shape == (*shape, 3)


def test_gradients_to_points() -> None:
    scene, _ = ball(sharpness=5)
    points = cube(5, 0.6).requires_grad_()
    assert torch.autograd.gradcheck(scene.density, (points,))
    assert torch.autograd.gradcheck(lambda p: scene.sample(p, normals=True).normal, (points,))
    assert torch.autograd.gradcheck(lambda p: scene.sample(p, normals=True).density, (points,))


def test_configuration() -> None:
    with pytest.raises(ValidationError, match="zebra"):
        SdfScene.Config(shape="a red zebra")
    scene, _ = ball()
    assert scene.radius == 1.0
    assert list(scene.parameters()) == []
    assert scene.parameter_groups() == {}
    assert SdfScene.provides(scene.config) == {"density-field"}
    points = cube(10)
    assert torch.equal(scene.distance(points), parse_prompt("a red ball").distance(points))
