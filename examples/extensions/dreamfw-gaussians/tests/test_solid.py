"""A cloud as a density: one Gaussian on paper, how it looks against the rasteriser, and the mesh and the run that come of it."""

import math

import pytest
import torch
from clouds import camera, gaussians, renderer, single
from dreamfw_gaussians.solid import Solid

from dfw import shape_of


def solid(geometry, radius=1.0):
    return Solid(geometry.cloud(), radius)


def test_one_round_gaussian_is_what_the_formula_says():
    s, opacity, colour = 0.2, 0.7, (0.9, 0.3, 0.1)
    found = solid(single(mean=(0.1, 0.0, 0.0), scale=s, opacity=opacity, colour=colour))
    points = torch.tensor([[0.1, 0.0, 0.0], [0.3, 0.0, 0.0], [0.1, 0.3, 0.0], [0.1, 0.0, 0.61], [0.1, 0.0, 0.59]])
    away = torch.tensor([0.0, 0.2, 0.3, 0.61, 0.59])
    peak = -math.log(1 - opacity) / (math.sqrt(2 * math.pi) * s)
    expected = peak * torch.exp(-away.square() / (2 * s * s)) * (away < 3 * s)
    torch.testing.assert_close(found.density(points), expected)
    sample = found.sample(points, normals=True)
    torch.testing.assert_close(sample.density, expected)
    torch.testing.assert_close(sample.albedo[:3], torch.tensor(colour).expand(3, 3))
    torch.testing.assert_close(sample.normal[1:3], torch.tensor([[1.0, 0, 0], [0, 1, 0]]))


def test_a_ray_through_the_middle_meets_the_opacity():
    along = torch.linspace(-0.99, 0.99, 4001)
    points = torch.stack([along, 0 * along, 0 * along], -1)
    for opacity in (0.1, 0.5, 0.9):
        thickness = solid(single(scale=0.15, opacity=opacity)).density(points).sum() * 1.98 / 4000
        assert 1 - math.exp(-thickness) == pytest.approx(opacity, abs=0.003)  # beyond three deviations lies 0.3 %


def test_many_turned_ones_are_the_sum_in_plain_torch():
    """Sigma^-1 by inversion of R S S R^T, in float64."""
    geometry = gaussians(60).double()
    cloud = geometry.cloud()
    points = 0.8 * (2 * torch.rand(200, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
    w, x, y, z = cloud.rotation.unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), 2 * (x * y + w * z), 1 - 2 * (x * x + z * z)]
    rows += [2 * (y * z - w * x), 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    turn = torch.stack(rows, -1).view(-1, 3, 3)
    inverse = torch.linalg.inv(turn @ torch.diag_embed(cloud.scale**2) @ turn.mT)
    away = points[:, None] - cloud.mean
    squared = torch.einsum("pni,nij,pnj->pn", away, inverse, away)
    peak = -torch.log(1 - cloud.opacity.clamp(max=0.99)) / (math.sqrt(2 * math.pi) * cloud.scale.prod(-1) ** (1 / 3))
    each = torch.where(squared < 9, peak * torch.exp(-squared / 2), 0)
    found = Solid(cloud, 2.0).sample(points.float())
    near = (squared.detach() - 9).abs().amin(1) > 1e-4  # what is cut is the same in both precisions
    torch.testing.assert_close(found.density[near], each.sum(1).float()[near].detach(), rtol=2e-3, atol=1e-4)
    colour = (each @ cloud.colour / each.sum(1, keepdim=True)).float().detach()
    there = near & (each.sum(1) > 1e-3)
    assert there.sum() > 50
    torch.testing.assert_close(found.albedo[there], colour[there], rtol=0, atol=2e-3)


def test_beyond_the_cube_there_is_nothing():
    found = solid(single(mean=(0.95, 0.0, 0.0), scale=0.2), radius=1.0)
    assert (found.density(torch.tensor([[0.99, 0.0, 0.0], [1.01, 0.0, 0.0]])) > 0).tolist() == [True, False]


def test_its_mesh_has_the_silhouette_of_the_picture():
    """A ball of many opaque Gaussians: the mesh's half-width is where the rendered opacity is a half."""
    inside = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(600, 3, generator=inside, dtype=torch.float64), dim=-1)
    mean = 0.4 * direction * torch.rand(600, 1, generator=inside, dtype=torch.float64) ** (1 / 3)
    geometry = single(mean=mean.tolist(), scale=0.06, opacity=0.5, colour=(0.2, 0.6, 0.4)).float()
    shape = shape_of(geometry, 48)
    radius = float(torch.as_tensor(shape.mesh.vertices).norm(dim=-1).mean())
    with torch.no_grad():
        seen = renderer()(geometry, camera(0.0, elevation=0.0, height=64, width=64, dtype=torch.float32))
    area = float((seen.opacity[0] > 0.5).sum()) * (2 * 3 * math.tan(math.radians(20)) / 64) ** 2
    assert shape.mesh.watertight
    assert radius == pytest.approx(math.sqrt(area / math.pi), rel=0.05)
    colour = shape.colour(torch.as_tensor(shape.mesh.vertices[:50], dtype=torch.float32))
    torch.testing.assert_close(colour, torch.tensor([0.2, 0.6, 0.4]).expand(50, 3), rtol=0, atol=1e-3)
