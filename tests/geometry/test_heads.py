"""The closed form of two networks and a gradient, against autograd and finite differences; the NeRF with and without it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfw_geometry import heads as module
from dfw_geometry.heads import has_closed_form, heads
from dfw_geometry.nerf import NeRF
from dfw_geometry.networks import MLP


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def networks(width: int = 6, units: tuple[int, int] = (8, 5), outputs: int = 3, dtype: torch.dtype = torch.float64) -> list[MLP]:
    """Two networks with all parameters random, biases too; their hidden layers differ in width."""
    pair = [MLP(width, 1, units[0], 1), MLP(width, outputs, units[1], 1)]
    generator = seeded(1)
    for network in pair:
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return pair


def plainly(features: Tensor, first: MLP, second: MLP) -> tuple[Tensor, Tensor, Tensor]:
    """The slow twin: autograd's own gradient, differentiable again."""
    features = features if features.requires_grad else features.detach().requires_grad_()
    out = first(features)[:, 0]
    (slope,) = torch.autograd.grad(out.sum(), features, create_graph=True)
    return out, second(features), slope


@pytest.mark.parametrize("used", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 0)])
@pytest.mark.parametrize("count", [1, 7, 50])
def test_values_and_gradients_equal_autograds(monkeypatch: pytest.MonkeyPatch, used: tuple[int, ...], count: int) -> None:
    """All outputs and all gradients, whichever outputs a loss uses, over several tiles, the last one not full."""
    monkeypatch.setattr(module, "_TILE", 16)
    first, second = networks()
    generator = seeded(2)
    features = torch.randn(count, 6, generator=generator, dtype=torch.float64).requires_grad_()
    leaves = [features, *first.parameters(), *second.parameters()]
    results = []
    for call in (lambda: heads(features, first, second, True), lambda: plainly(features, first, second)):
        out = call()
        factors = [torch.randn(o.shape, generator=seeded(3 + i), dtype=o.dtype) for i, o in enumerate(out)]
        loss = sum((o * factor).sum() for o, factor, use in zip(out, factors, used, strict=True) if use)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True)]
        results.append([o.detach() for o in out] + filled)
    for fast, slow in zip(*results, strict=True):
        assert fast.shape == slow.shape
        assert torch.allclose(fast, slow, rtol=1e-10, atol=1e-10)


def test_gradients_by_finite_differences() -> None:
    first, second = networks()
    features = torch.randn(9, 6, generator=seeded(5), dtype=torch.float64).requires_grad_()
    names = [(network, name) for network in (first, second) for name, _ in network.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        pair = []
        for network in (first, second):
            fresh = MLP(6, len(network.last.bias), len(network.hidden[0].bias), 1).double()
            for (owner, name), value in zip(names, values, strict=True):
                if owner is network:
                    layer, _, field = name.rpartition(".")
                    target = fresh.get_submodule(layer)
                    del target._parameters[field]
                    setattr(target, field, value)
            pair.append(fresh)
        out = heads(x, pair[0], pair[1], True)
        return tuple(o for o in out if o is not None)

    values = [p.detach().clone().requires_grad_() for network in (first, second) for p in network.parameters()]
    assert torch.autograd.gradcheck(call, (features, *values), eps=1e-7, atol=1e-5)


def test_without_gradients_nothing_is_kept() -> None:
    first, second = networks()
    with torch.no_grad():
        out, other, slope = heads(torch.randn(5, 6, dtype=torch.float64), first, second, False)
    assert slope is None
    assert not out.requires_grad
    assert not other.requires_grad


def test_no_points() -> None:
    first, second = networks()
    features = torch.zeros(0, 6, dtype=torch.float64, requires_grad=True)
    out, other, slope = heads(features, first, second, True)
    assert slope is not None
    assert (out.shape, other.shape, slope.shape) == ((0,), (0, 3), (0, 6))
    (out.sum() + other.sum() + slope.sum()).backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in first.parameters())


def test_a_number_that_is_none_stays_one() -> None:
    first, second = networks()
    features = torch.zeros(3, 6, dtype=torch.float64)
    features[1, 2] = torch.nan
    out, other, _ = heads(features, first, second, True)
    for values in (out[:, None], other):
        assert torch.isnan(values[1]).any()
        assert torch.isfinite(values[[0, 2]]).all()


def test_only_one_hidden_layer_has_the_closed_form() -> None:
    shallow, deep, none = MLP(4, 1, 8, 1), MLP(4, 1, 8, 2), MLP(4, 1, 8, 0)
    assert has_closed_form(shallow, shallow)
    assert not has_closed_form(deep, shallow)
    assert not has_closed_form(shallow, none)
    assert not NeRF(NeRF.Config.model_validate({"density_network": {"layers": 2}})).closed_form


@pytest.mark.parametrize("encoding", [{"levels": 4, "log2_size": 10, "base": 4, "finest": 24}, "dense-grid"])
@pytest.mark.parametrize("options", [{}, {"activation": "exp", "blob": {"form": "gaussian"}}, {"blob": None}])
def test_a_nerf_gives_the_same_with_and_without_it(encoding: object, options: dict[str, object]) -> None:
    """Density, albedo, normals, and the gradients of every parameter through all three, in float64."""
    nerf = NeRF(NeRF.Config.model_validate({"encoding": encoding, **options})).double()
    nerf.initialise(seeded())
    with torch.no_grad():
        for parameter in nerf.encoding.grid_parameters():
            parameter.mul_(1e4)
    points = torch.rand(200, 3, generator=seeded(4), dtype=torch.float64) * 2.2 - 1.1
    factor = torch.randn(200, 7, generator=seeded(6), dtype=torch.float64)
    results = []
    assert nerf.closed_form
    for closed in (True, False):
        nerf.closed_form = closed
        found = nerf.sample(points, normals=True)
        assert found.normal is not None
        out = torch.cat([found.density[:, None], found.albedo, found.normal], dim=1)
        results.append([out.detach(), *torch.autograd.grad((out * factor).sum(), list(nerf.parameters()))])
    for fast, slow in zip(*results, strict=True):
        assert torch.allclose(fast, slow, rtol=1e-8, atol=1e-9)
