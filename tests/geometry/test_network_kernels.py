"""The kernels of networks with one hidden layer, against their twin in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfw_geometry.fast import networks as fast
from dfw_geometry.layers import layers
from dfw_geometry.networks import MLP

SIZES = [(24, 32, 3), (13, 20, 4), (1, 3, 17), (9, 1, 1), (32, 64, 1)]  # whole vectors of eight, and parts of them


def network(inputs: int, width: int, outputs: int, count: int = 4099) -> tuple[Tensor, ...]:
    """Inputs of two chunks and a part of a third, then weights and biases, as leaves."""
    generator = torch.Generator().manual_seed(inputs)
    shapes = [(count, inputs), (width, inputs), (width,), (outputs, width), (outputs,)]
    return tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)


def wide(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.detach().double().requires_grad_() for each in tensors)


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a.double() - b).abs().max() <= 1e-5 * b.abs().max())


@pytest.mark.parametrize(("inputs", "width", "outputs"), SIZES)
def test_values_and_gradients_equal_the_twins(inputs: int, width: int, outputs: int) -> None:
    one = network(inputs, width, outputs)
    two = wide(one)
    found, wanted = fast.values(one[0], one[1:]), layers(two[0], two[1:])
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    assert close(found, wanted)
    pairs = zip(torch.autograd.grad(found, one, upstream), torch.autograd.grad(wanted, two, upstream.double()), strict=True)
    assert all(close(a, b) for a, b in pairs)


def test_a_gradient_can_be_differentiated_again() -> None:
    one = network(5, 7, 2, 30)
    two = wide(one)

    def bend(values: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        slopes = torch.autograd.grad(values.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([each.square().sum() for each in slopes]).sum(), leaves)

    pairs = zip(bend(fast.values(one[0], one[1:]), one), bend(layers(two[0], two[1:]), two), strict=True)
    assert all(close(a, b) for a, b in pairs)


def test_the_number_of_threads_changes_no_bit() -> None:
    tensors, threads = network(24, 32, 3, 9000), torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            values = fast.values(tensors[0], tensors[1:])
            found.append((values, *torch.autograd.grad(values.sin().sum(), tensors)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_no_points_have_no_gradient() -> None:
    tensors = network(4, 8, 1, 0)
    values = fast.values(tensors[0], tensors[1:])
    assert values.shape == (0, 1)
    found = torch.autograd.grad(values.sum(), tensors)
    assert all(bool((each == 0).all()) for each in found)


def test_what_is_not_finite_is_seen() -> None:
    x, *weights = network(4, 8, 1, 20)
    with torch.no_grad():
        x[3, 2] = torch.nan
        bad = fast.values(x, weights).isnan().flatten()
    assert bad.nonzero().tolist() == [[3]]


@pytest.mark.parametrize("track", [True, False])
def test_both_paths_of_a_network_agree(monkeypatch: pytest.MonkeyPatch, track: bool) -> None:
    module = MLP(6, 1, 16, 1)
    module.initialise(torch.Generator().manual_seed(0))
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    assert fast.serves(x, list(module.parameters()))
    with torch.set_grad_enabled(track):
        found = (module(x), *module.with_slope(x))
        monkeypatch.setattr(fast, "enabled", False)
        wanted = (module(x), *module.with_slope(x))
    assert all(close(a, b.double()) and a.requires_grad == b.requires_grad == track for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("change", ["deep", "float64", "large", "autocast"])
def test_other_networks_take_torchs_path(change: str) -> None:
    module = MLP(6, 2, 4096 if change == "large" else 8, 2 if change == "deep" else 1)
    module = module.double() if change == "float64" else module
    x = torch.zeros(5, 6, dtype=torch.float64 if change == "float64" else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=change == "autocast"):
        assert not fast.serves(x, list(module.parameters()))
        assert module(x).dtype == (torch.bfloat16 if change == "autocast" else x.dtype)
