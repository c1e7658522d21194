"""Shading against its formula on known normals, and the statistics of its draws."""

import math

import pytest
import torch
from pydantic import ValidationError
from render_fields import Blobs, ball, looking, turn

from dfw import Progress
from dfw_renderers.shading import (
    Lighting,
    ShadingConfig,
    camera_lighting,
    draw_light,
    draw_lighting,
    lambertian,
    normal_colours,
    shade,
)
from dfw_renderers.volume import Volume


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_lambertian_by_hand():
    albedo = torch.tensor([[1.0, 0.5, 0.2]] * 4)
    normal = torch.tensor([[0.0, 0.0, 1.0]] * 4)
    angles = torch.tensor([0.0, 60.0, 90.0, 150.0]).deg2rad()
    to_light = torch.stack([angles.sin(), 0 * angles, angles.cos()], dim=-1)
    colour = lambertian(albedo, normal, to_light, torch.full((4,), 0.1), torch.full((4,), 0.9))
    factor = torch.tensor([1.0, 0.55, 0.1, 0.1])  # 0.9 max(0, cos) + 0.1
    assert torch.allclose(colour, factor[:, None] * albedo, atol=1e-6)


def test_each_view_has_its_own_light():
    points = torch.zeros(3, 3)
    normal = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    albedo = torch.tensor([[0.4, 0.6, 0.8]]).expand(3, 3)
    lighting = Lighting(
        torch.tensor([[0.0, 0.0, 2.0], [2.0, 0.0, 0.0], [0.0, 0.0, 5.0]]),
        ambient=torch.tensor([1.0, 0.1, 0.1]),
        diffuse=torch.tensor([0.0, 0.9, 0.9]),
        textureless=torch.tensor([0.0, 0.0, 1.0]),
        lit=torch.tensor([0.0, 1.0, 1.0]),
    )
    colour = shade(albedo, normal, points, torch.tensor([0, 1, 2]), lighting)
    assert torch.allclose(colour, torch.tensor([[0.4, 0.6, 0.8], [0.04, 0.06, 0.08], [1.0, 1.0, 1.0]]))


def test_direction_to_the_light_is_from_the_point():
    lighting = Lighting(torch.tensor([[1.0, 1.0, 2.0]]), torch.zeros(1), torch.ones(1), torch.zeros(1), torch.ones(1))
    normal = torch.tensor([[0.0, 0.0, 1.0]])
    view = torch.zeros(1, dtype=torch.long)
    colour = shade(torch.ones(1, 3), normal, torch.tensor([[1.0, 0.0, 1.0]]), view, lighting)
    assert colour[0, 0].item() == pytest.approx(math.sqrt(0.5))


def test_a_point_in_the_light_gives_no_nan():
    lighting = Lighting(torch.zeros(1, 3), torch.ones(1), torch.ones(1), torch.zeros(1), torch.ones(1))
    assert (
        shade(torch.ones(1, 3), torch.ones(1, 3), torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), lighting).isfinite().all()
    )


def test_gradients_by_finite_differences():
    g = generator()
    lighting = Lighting(*(torch.rand(s, generator=g, dtype=torch.float64) for s in ((2, 3), 2, 2, 2, 2)))
    albedo, points = (torch.rand(5, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    normal = torch.nn.functional.normalize(torch.randn(5, 3, generator=g, dtype=torch.float64), dim=-1).requires_grad_()
    view = torch.tensor([0, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(lambda a, n, p: shade(a, n, p, view, lighting), (albedo, normal, points))


def test_normals_as_colours():
    assert normal_colours(torch.tensor([[1.0, 0.0, -1.0]])).tolist() == [[1.0, 0.5, 0.0]]


def test_distance_and_direction_of_lights():
    config = ShadingConfig(light_distance=(2.0, 4.0), light_deviation=1.0)
    camera = torch.tensor([[3.0, 0.0, 0.0]]).expand(20_000, 3)
    light = draw_light(camera, config, generator())
    distance = light.norm(dim=-1)
    assert distance.min() >= 2
    assert distance.max() <= 4 + 1e-5
    assert distance.mean().item() == pytest.approx(3, abs=4 * 2 / math.sqrt(12 * 20_000))
    # normalize(camera + N(0, I)): an offset N(0, 1) on each side, 3 + N(0, 1) ahead; half of all below tan = 1.1774/3 or so
    side = (light / distance[:, None])[:, 1:]
    assert side.mean(0).tolist() == pytest.approx([0, 0], abs=0.01)
    offset = 3 * light[:, 1:] / light[:, :1]
    g = generator(1)
    noise = torch.randn(20_000, 3, generator=g)
    reference = 3 * noise[:, 1:] / (3 + noise[:, :1])
    assert offset.abs().median().item() == pytest.approx(reference.abs().median().item(), rel=0.03)


def test_without_deviation_the_light_is_in_line_with_the_camera():
    config = ShadingConfig(light_distance=(5.0, 5.0), light_deviation=0.0)
    light = draw_light(torch.tensor([[0.0, 3.0, 4.0]]), config, generator())
    assert light[0].tolist() == pytest.approx([0, 3, 4])


def test_shares_of_lit_and_textureless_views():
    n = 20_000
    lighting = draw_lighting(torch.ones(n, 3), ShadingConfig(), Progress(5, 10), generator())
    lit = lighting.diffuse > 0
    assert lit.float().mean().item() == pytest.approx(0.75, abs=0.015)
    assert lighting.textureless[lit].mean().item() == pytest.approx(0.5, abs=0.02)
    assert (lighting.textureless[~lit] == 0).all()
    assert (lighting.ambient[~lit] == 1).all()
    assert lighting.ambient[lit].tolist() == pytest.approx([0.1] * int(lit.sum()))
    assert lighting.diffuse[lit].tolist() == pytest.approx([0.9] * int(lit.sum()))


def test_probabilities_may_be_ramps():
    config = ShadingConfig.model_validate({"probability": {"from": 0, "to": 1}, "ambient": (0.0, 0.2)})
    camera = torch.ones(1000, 3)
    assert (draw_lighting(camera, config, Progress(0, 10), generator()).diffuse == 0).all()
    half = draw_lighting(camera, config, Progress(5, 10), generator())
    assert (half.diffuse > 0).float().mean().item() == pytest.approx(0.5, abs=0.06)
    ambient = half.ambient[half.diffuse > 0]
    assert ambient.max() <= 0.2
    assert ambient.mean().item() == pytest.approx(0.1, abs=0.02)


def test_light_of_evaluation():
    camera = torch.tensor([[1.0, 2.0, 3.0]])
    lighting = camera_lighting(camera, ShadingConfig(ambient=(0.1, 0.3), diffuse=(0.6, 0.8)))
    assert torch.equal(lighting.position, camera)
    assert lighting.ambient.item() == pytest.approx(0.2)
    assert lighting.diffuse.item() == pytest.approx(0.7)
    assert lighting.textureless.item() == 0


def volume(**shading) -> Volume:
    return Volume(Volume.Config.model_validate({"shading": shading, "background": "solid", "occupancy": {"enabled": False}}))


def test_evaluation_is_lit_from_the_camera():
    field = ball(1000.0, 0.6)  # its normals point up, everywhere
    renderer = volume(eval_shading="lambertian").eval()
    from_above = renderer(field, looking((0.0, 0.0, 3.0)))
    from_the_front = renderer(field, looking((3.0, 0.0, 0.0)))
    colour = torch.tensor(field.colour)
    assert torch.allclose(from_above.colour[0, 0, 0], colour, atol=2e-3)
    # the light is 3 away from the middle, 2.4 from the surface and at its height: no diffuse light
    assert torch.allclose(from_the_front.colour[0, 0, 0], 0.1 * colour, atol=2e-3)


def test_views_of_a_batch_are_lit_as_if_alone():
    field, places = ball(1000.0, 0.6), ((3.0, 0.0, 0.0), (0.0, 1.0, 2.8), (0.0, -2.0, 2.0))
    renderer = volume(eval_shading="lambertian").eval()
    together = renderer(field, looking(*places, size=6)).colour
    for view, place in zip(together, places, strict=True):
        assert torch.allclose(view, renderer(field, looking(place, size=6)).colour[0], atol=1e-5)


def test_normals_as_the_picture():
    output = volume(eval_shading="normal").eval()(ball(1000.0, 0.6), looking((3.0, 0.0, 0.0)))
    assert output.colour[0, 0, 0].tolist() == pytest.approx([0.5, 0.5, 1.0], abs=1e-3)
    assert output.normal[0, 0, 0].tolist() == pytest.approx([0, 0, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("shading", "fraction", "expected"),
    [
        ({}, 0.9, False),
        ({"normals": "always"}, 0.0, True),
        ({"mode": "lambertian", "start": 0.2}, 0.1, False),
        ({"mode": "lambertian", "start": 0.2}, 0.2, True),
        ({"mode": "normal"}, 0.0, True),
    ],
)
def test_when_normals_are_computed_in_training(shading, fraction, expected):
    renderer = volume(**shading).train()
    field, g = Blobs(), generator()
    renderer.begin_step(field, Progress(int(fraction * 100), 100), g)
    output = renderer(field, turn(2, 8), g)
    assert (output.normal is not None) == expected
    assert (output.samples.normal is not None) == expected
    if expected:
        length = output.samples.normal.norm(dim=-1)
        assert torch.allclose(length, torch.ones_like(length), atol=1e-4)


def test_before_the_start_views_show_their_albedo():
    field, cameras = Blobs(), turn(2, 8)
    plain, late = volume().train(), volume(mode="lambertian", start=0.5, normals="always").train()
    assert torch.equal(plain(field, cameras, generator()).colour, late(field, cameras, generator()).colour)


def test_lit_views_are_darker_and_pass_gradients_to_the_normals():
    field, cameras = ball(200.0), turn(6, 8)
    lit = volume(mode="lambertian", start=0.0, probability=1.0, textureless=0.0).train()
    lit.begin_step(field, Progress(5, 10), generator())
    assert (lit(field, cameras, generator()).colour <= volume().train()(field, cameras, generator()).colour + 1e-6).all()
    blobs = Blobs()
    lit(blobs, cameras, generator()).colour.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in blobs.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"ambient": (0.5, 0.1)},
        {"light_distance": (3.0, 2.0)},
        {"light_distance": (0.0, 2.0)},
        {"probability": 1.5},
        {"textureless": {"from": 0, "to": -1}},
        {"mode": "lambertian", "normals": "never"},
        {"eval_shading": "normal", "normals": "never"},
        {"start": 2},
    ],
)
def test_config_refuses(wrong):
    with pytest.raises(ValidationError):
        ShadingConfig.model_validate(wrong)
