"""The material field: what it gives, its gradients, and how it takes over another scene's colours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfw_geometry.encodings import DenseGridConfig, IntegratedPositionalConfig
from dfw_geometry.hash_grid import HashGridConfig
from dfw_geometry.material_field import MaterialField
from dfw_geometry.networks import NetworkConfig

SMALL = HashGridConfig(levels=4, features=2, log2_size=10, base=4, finest=32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def field(pbr: bool = False, radius: float = 2.0) -> MaterialField:
    made = MaterialField(MaterialField.Config(encoding=SMALL, network=NetworkConfig(width=16), pbr=pbr), radius)
    made.initialise(seeded())
    return made


def points(count: int = 50, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return 4 * torch.rand(count, 3, generator=seeded(seed), dtype=dtype) - 2


def test_a_new_field_is_grey_and_plain() -> None:
    """A last layer that starts near 0 gives 1/2, and without `pbr` nothing else."""
    found = field()(points().view(10, 5, 3))
    assert found.albedo.shape == (10, 5, 3)
    assert found.roughness is found.metallic is found.bump is None
    assert torch.allclose(found.albedo, torch.full((10, 5, 3), 0.5), atol=0.01)


def test_no_points_have_no_material() -> None:
    """As where a view shows nothing of a surface."""
    found = field(pbr=True)(torch.zeros(0, 3))
    assert found.albedo.shape == (0, 3)
    assert found.roughness is not None
    assert found.roughness.shape == (0,)


def test_pbr_starts_rough_without_metal_and_flat() -> None:
    found = field(pbr=True)(points())
    assert found.roughness is not None
    assert found.metallic is not None
    assert found.bump is not None
    assert torch.allclose(found.roughness, torch.full((50,), 0.54), atol=0.01)
    assert torch.allclose(found.metallic, torch.full((50,), 0.0474), atol=0.01)
    assert torch.allclose(found.bump, torch.zeros(50, 3), atol=0.01)


def test_extreme_networks_stay_in_range() -> None:
    """The biases alone push every output to its end."""
    for sign in (-1.0, 1.0):
        made = field(pbr=True)
        with torch.no_grad():
            made.network.last.bias.fill_(sign * 100)
        found = made(points())
        assert found.roughness is not None
        assert found.metallic is not None
        assert found.bump is not None
        assert torch.allclose(found.albedo, torch.full((50, 3), (sign + 1) / 2))
        assert torch.allclose(found.metallic, torch.full((50,), (sign + 1) / 2))
        assert torch.allclose(found.roughness, torch.full((50,), 0.08 if sign < 0 else 1.0))
        assert torch.allclose(found.bump, torch.full((50, 3), sign * 0.5))
        assert bool((found.bump.norm(dim=-1) < 1).all())  # shorter than a normal: it cannot turn one around


def test_gradients_reach_positions() -> None:
    """d albedo/d position against central differences in float64."""
    made = field().double()
    with torch.no_grad():
        made.encoding.grid_parameters()[0].mul_(1e4)
    at = points(20, dtype=torch.float64).requires_grad_()
    v = torch.randn(20, 3, generator=seeded(2), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((made(at).albedo * v).sum(), at)
    step = 1e-6
    for axis, offset in enumerate(step * torch.eye(3, dtype=torch.float64)):
        with torch.no_grad():
            rise = ((made(at + offset).albedo - made(at - offset).albedo) * v).sum(-1) / (2 * step)
        assert torch.allclose(gradient[:, axis], rise, atol=1e-6)
    assert float(gradient.abs().max()) > 1e-3


def test_outside_the_cube_counts_the_nearest_point() -> None:
    made = field()
    with torch.no_grad():
        made.encoding.grid_parameters()[0].mul_(1e4)
    far = torch.tensor([[5.0, 0.3, -9.0]])
    assert torch.equal(made(far).albedo, made(torch.tensor([[2.0, 0.3, -2.0]])).albedo)


def halves(at: Tensor) -> Tensor:
    """Red where x > 0, else blue, with green that grows along z."""
    red = (at[..., 0] > 0).to(at)
    return torch.stack([0.9 * red, 0.25 + 0.1 * at[..., 2], 0.9 * (1 - red)], dim=-1)


def test_fit_takes_over_colours_between_the_points_too() -> None:
    """On the unit sphere, where a jump of colour lies in one cell of the finest grid."""
    made = MaterialField(MaterialField.Config(), 1.25)
    made.initialise(seeded())
    sphere = torch.nn.functional.normalize(torch.randn(110000, 3, generator=seeded(1)), dim=-1)
    with torch.no_grad():  # as in start_from
        made.fit(halves, sphere[:100000], seeded(2))
        other = sphere[100000:]
        error = (made(other).albedo - halves(other)).abs()
    away = other[:, 0].abs() > 0.05
    assert float(error[away].mean()) < 0.01
    assert float(error.mean()) < 0.02
    assert all(p.grad is None for p in made.parameters())


def test_fit_repeats_itself() -> None:
    """The same generator gives the same bits."""
    made = [field(), field()]
    for one in made:
        one.fit(halves, points(300), seeded(3))
    first, second = (dict(one.named_parameters()) for one in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["network.last.bias"], field().network.last.bias)


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        (SMALL, {"geometry.encoding", "geometry.network"}),
        (DenseGridConfig(resolutions=(4,)), {"geometry.encoding", "geometry.network"}),
        (IntegratedPositionalConfig(levels=2, blocks=1, width=8), {"geometry.network"}),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_groups_hold_every_parameter_once(
    encoding: HashGridConfig | DenseGridConfig | IntegratedPositionalConfig, names: set[str]
) -> None:
    made = MaterialField(MaterialField.Config(encoding=encoding), 1.0)
    groups = made.parameter_groups("geometry")
    assert groups.keys() == names
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in made.parameters())
