"""Encodings against closed forms, finite differences and Monte Carlo."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfw_geometry.base_encoding import Encoding
from dfw_geometry.encodings import DenseGrid, DenseGridConfig, IntegratedPositionalConfig, integrated_sines, make_encoding
from dfw_geometry.hash_grid import HashGridConfig
from dfw_geometry.networks import MLP, truncated_exp

CONFIGS = [
    HashGridConfig(levels=4, features=2, log2_size=8, base=3, finest=17),
    DenseGridConfig(resolutions=(4, 9), features=3),
    IntegratedPositionalConfig(levels=4, blocks=2, width=16),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spread(encoding: Encoding, seed: int = 0) -> Encoding:
    """Initialised, with the stored features large enough to matter."""
    encoding.initialise(seeded(seed))
    with torch.no_grad():
        for parameter in encoding.grid_parameters():
            parameter.mul_(1e4)
    return encoding


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.type)
def test_pullback_is_the_transposed_jacobian(config: HashGridConfig) -> None:
    encoding = spread(make_encoding(config)).double()
    points = torch.rand(20, 3, dtype=torch.float64, generator=seeded(1)) * 0.98 + 0.01
    upstream = torch.randn(20, encoding.width, dtype=torch.float64, generator=seeded(2))
    weights = torch.linspace(1, 0.25, encoding.levels, dtype=torch.float64)
    step = 1e-7
    for axis, offset in enumerate(step * torch.eye(3, dtype=torch.float64)):
        rise = (encoding(points + offset, weights) - encoding(points - offset, weights)) / (2 * step)
        expected = (rise * upstream).sum(-1)
        assert torch.allclose(encoding.pullback(points, upstream, weights)[:, axis], expected, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.type)
def test_gradients_reach_parameters_through_the_pullback(config: HashGridConfig) -> None:
    """d/ds of v . pullback(parameters + s direction), by central differences in float64."""
    encoding = spread(make_encoding(config)).double()
    points = torch.rand(15, 3, dtype=torch.float64, generator=seeded(1))
    upstream = torch.randn(15, encoding.width, dtype=torch.float64, generator=seeded(2))
    v = torch.randn(15, 3, dtype=torch.float64, generator=seeded(3))
    parameters = list(encoding.parameters())
    directions = [torch.randn(p.shape, dtype=torch.float64, generator=seeded(4)) for p in parameters]
    gradients = torch.autograd.grad((encoding.pullback(points, upstream) * v).sum(), parameters, allow_unused=True)
    analytic = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)

    def moved(s: float) -> Tensor:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=s)
            value = (encoding.pullback(points, upstream) * v).sum()
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=s)
        return value

    numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5
    assert torch.allclose(torch.as_tensor(analytic), numeric, rtol=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.type)
def test_interface(config: HashGridConfig) -> None:
    encoding = make_encoding(config)
    assert all(not p.any() for name, p in encoding.named_parameters() if "norm.weight" not in name)
    before = torch.get_rng_state()
    spread(encoding)
    again = spread(make_encoding(config))
    assert torch.equal(before, torch.get_rng_state())
    points = torch.rand(7, 3, generator=seeded(1))
    assert encoding(points).shape == (7, encoding.width)
    assert torch.equal(encoding(points), again(points))
    assert torch.equal(encoding(points), encoding(points, torch.ones(encoding.levels)))
    assert encoding(points[:0]).shape == (0, encoding.width)
    assert encoding.pullback(points[:0], torch.zeros(0, encoding.width)).shape == (0, 3)
    with torch.no_grad():
        assert not encoding.pullback(points, torch.ones(7, encoding.width)).requires_grad


def test_dense_grids_hold_linear_functions_of_x_y_z_in_that_order() -> None:
    grid = DenseGrid(DenseGridConfig(resolutions=(5,), features=3))
    z, y, x = torch.meshgrid(*[torch.linspace(0, 1, 5)] * 3, indexing="ij")
    with torch.no_grad():
        grid.grids[0].copy_(torch.stack([x, 2 * y, 1 - z])[None])
    points = torch.rand(50, 3, generator=seeded())
    expected = torch.stack([points[:, 0], 2 * points[:, 1], 1 - points[:, 2]], dim=-1)
    assert torch.allclose(grid(points), expected, atol=1e-5)


def test_integrated_sines_without_variance_are_positional_encoding() -> None:
    points = torch.rand(10, 3, generator=seeded()) * 2 - 1
    out = integrated_sines(points, 0.0, 5)
    for level in range(5):
        assert torch.allclose(out[:, level, :3], torch.sin(2**level * points), atol=1e-5)
        assert torch.allclose(out[:, level, 3:], torch.cos(2**level * points), atol=1e-5)


def test_integrated_sines_are_the_mean_over_a_gaussian() -> None:
    mean, deviation, draws = torch.tensor([[0.3, -0.7, 0.05]], dtype=torch.float64), 0.2, 200_000
    cloud = mean + deviation * torch.randn(draws, 3, dtype=torch.float64, generator=seeded())
    sampled = integrated_sines(cloud, 0.0, 5).mean(0)
    closed = integrated_sines(mean, deviation, 5)[0]
    assert (sampled - closed).abs().max() < 5 / draws**0.5  # five standard errors: a sine's deviation is at most 1
    assert closed[4].abs().max() < 0.01  # 16 rad/unit x 0.2: averaged away
    assert closed[0].abs().max() > 0.25


def test_level_weights_scale_levels() -> None:
    dense = spread(DenseGrid(DenseGridConfig(resolutions=(4, 9), features=3)))
    points = torch.rand(5, 3, generator=seeded())
    whole, part = dense(points), dense(points, torch.tensor([1.0, 0.5]))
    assert torch.equal(part[:, :3], whole[:, :3])
    assert torch.allclose(part[:, 3:], whole[:, 3:] / 2)


def test_truncated_exp() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.allclose(truncated_exp(x), x.exp())
    assert torch.autograd.gradcheck(truncated_exp, (x,))
    assert torch.autograd.gradgradcheck(truncated_exp, (x,))
    far = torch.tensor([20.0, 200.0], requires_grad=True)
    out = truncated_exp(far)
    assert torch.isfinite(out).all()
    (gradient,) = torch.autograd.grad(out.sum(), far)
    assert torch.allclose(gradient, torch.tensor(15.0).exp().expand(2))


def test_network_starts_near_zero_with_unit_hidden_scale() -> None:
    network = MLP(32, 1, 64, 2)
    network.initialise(seeded())
    x = torch.randn(4096, 32, generator=seeded(1))
    out = network(x)
    assert out.std() < 0.3
    hidden = torch.relu(network.hidden[0](x)).detach()
    assert hidden.square().mean().item() == pytest.approx(1.0, rel=0.2)  # He: E[relu^2] = Var(x)
