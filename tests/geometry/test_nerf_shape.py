"""Density and normals of the NeRF: closed forms of its blobs, its normals by three roads, the cube's faces."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from nerfs import by_encoding, cube, make, seeded

from dfw_geometry.nerf import NeRF


@pytest.mark.parametrize("activation", ["softplus", "exp"])
def test_gaussian_blob_is_added_after_the_activation(activation: str) -> None:
    """With networks of zeros: the activation's value at 0, plus 5 exp(-|x|^2/(2 0.2^2))."""
    nerf = NeRF(NeRF.Config.model_validate({"activation": activation, "blob": {"form": "gaussian"}, "density_scale": 3}))
    points = cube(50)
    base = 3 * (math.log(2) if activation == "softplus" else 1.0)
    expected = base + 5 * torch.exp(-points.square().sum(-1) / (2 * 0.04))
    assert torch.allclose(nerf.density(points), expected, rtol=1e-5)
    assert nerf.density(torch.zeros(3)).item() == pytest.approx(base + 5, rel=1e-5)


def test_linear_blob_is_added_before_the_activation() -> None:
    nerf = NeRF(NeRF.Config())
    points = cube(50)
    expected = 10 * F.softplus(10 * (1 - points.norm(dim=-1) / 0.5))
    assert torch.allclose(nerf.density(points), expected, rtol=1e-4, atol=1e-5)
    assert nerf.density(torch.zeros(3)).item() == pytest.approx(100, rel=1e-3)


def test_other_placements() -> None:
    points = cube(50)
    before = NeRF(NeRF.Config.model_validate({"activation": "exp", "blob": {"form": "gaussian", "placement": "before"}}))
    assert torch.allclose(before.density(points), torch.exp(5 * torch.exp(-points.square().sum(-1) / 0.08)), rtol=1e-4)
    after = NeRF(NeRF.Config.model_validate({"activation": "exp", "blob": {"form": "linear", "placement": "after"}}))
    assert torch.allclose(after.density(points), 1 + (10 * (1 - points.norm(dim=-1) / 0.5)).clamp(min=0), rtol=1e-4)
    none = NeRF(NeRF.Config.model_validate({"activation": "exp", "blob": None}))
    assert torch.allclose(none.density(points), torch.ones(50))


@by_encoding
def test_nothing_outside_the_cube(encoding: dict[str, object]) -> None:
    nerf = make(True, encoding=encoding, radius=0.7, blob={"form": "gaussian", "width": 5.0})
    inside = torch.tensor([[0.7, 0.7, -0.7], [0.0, 0.69, 0.0]])
    outside = torch.tensor([[0.71, 0.0, 0.0], [0.0, -0.8, 0.0], [3.0, 3.0, 3.0], [0.0, 0.0, 100.0]])
    assert (nerf.density(inside) > 1).all()
    sample = nerf.sample(outside, normals=True)
    assert (sample.density == 0).all()
    assert sample.normal is not None
    assert (sample.normal == 0).all()
    assert torch.equal(nerf.density(outside), sample.density)


@by_encoding
@pytest.mark.parametrize("activation", ["softplus", "exp"])
def test_analytic_normals_equal_finite_differences(encoding: dict[str, object], activation: str) -> None:
    blob = {"form": "linear", "scale": 3.0}
    options = {"encoding": encoding, "activation": activation, "blob": blob, "radius": 1.3}
    points = cube(60, dtype=torch.float64)
    analytic = make(True, **options).double().sample(points, normals=True)
    stepped = make(True, normals="finite-difference", normal_step=1e-6, **options).double().sample(points, normals=True)
    assert analytic.normal is not None
    assert stepped.normal is not None
    assert torch.equal(analytic.density, stepped.density)
    assert torch.allclose(analytic.normal.norm(dim=-1), torch.ones(60, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(analytic.normal, stepped.normal, atol=1e-4)


@pytest.mark.parametrize("normals", ["analytic", "finite-difference"])
@pytest.mark.parametrize("blob", [{"form": "gaussian"}, {"form": "gaussian", "placement": "before"}, {"form": "linear"}])
def test_a_blobs_normals_are_radial(normals: str, blob: dict[str, object]) -> None:
    nerf = NeRF(NeRF.Config.model_validate({"normals": normals, "blob": blob})).double()
    points = F.normalize(torch.randn(40, 3, dtype=torch.float64, generator=seeded()), dim=-1) * 0.3
    normal = nerf.sample(points, normals=True).normal
    assert normal is not None
    assert torch.allclose(normal, F.normalize(points, dim=-1), atol=1e-6 if normals == "analytic" else 1e-3)


def test_finite_differences_stay_radial_at_the_faces() -> None:
    nerf = NeRF(NeRF.Config.model_validate({"normals": "finite-difference", "blob": {"form": "gaussian", "width": 1.0}}))
    normal = nerf.double().sample(torch.tensor([[1.0, 0.5, 0.0], [0.2, -1.0, 0.4]], dtype=torch.float64), normals=True).normal
    expected = F.normalize(torch.tensor([[1.0, 0.5, 0.0], [0.2, -1.0, 0.4]], dtype=torch.float64), dim=-1)
    assert normal is not None
    assert torch.allclose(normal, expected, atol=0.01)
