"""The kernel of a hash grid with two networks, against its twins in float64."""

from __future__ import annotations

import itertools
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from dfw_geometry.encoded_field import CoarseToFine
from dfw_geometry.fast import field as fast
from dfw_geometry.hash_grid import HashGridConfig, grid_layout, hash_grid_twin
from dfw_geometry.layers import layers
from dfw_geometry.nerf import NeRF
from dfw_geometry.networks import NetworkConfig

Leaves = tuple[Tensor, ...]


def leaves(features: int, hidden: tuple[int, int], outputs: int, count: int) -> tuple[Tensor, Tensor, Leaves]:
    """Points (N, 3) with corners of the cube among them, the layout, and the table and both networks' weights as leaves."""
    config = HashGridConfig(levels=3, features=features, log2_size=9, base=4, finest=11)  # one dense level, two hashed ones
    layout, generator = grid_layout(config), torch.Generator().manual_seed(features)
    corners = torch.tensor(list(itertools.product([0.0, 1.0, 0.3], repeat=3)))
    points = torch.cat([torch.rand(count, 3, generator=generator), corners])[:count]
    width = 3 * features
    shapes: list[tuple[int, ...]] = [(int(layout[-1, 1] + layout[-1, 2]) + 1, features)]
    for units, last in zip(hidden, (1, outputs), strict=True):
        shapes += [(units, width), (units,), (last, units), (last,)]
    return points, layout, tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)


def twin(points: Tensor, layout: Tensor, tensors: Leaves) -> Leaves:
    """All outputs, from plain torch in float64."""
    points = points.double().requires_grad_()
    features = hash_grid_twin(points, tensors[0], layout).flatten(1)
    raw = layers(features, tensors[1:5])[:, 0]
    (slope,) = torch.autograd.grad(raw.sum(), points, create_graph=True)
    return raw, layers(features, tensors[5:]), slope


def wide(tensors: Leaves) -> Leaves:
    return tuple(each.detach().double().requires_grad_() for each in tensors)


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a.double() - b.double()).abs().max() <= 1e-5 * b.double().abs().max())


@pytest.mark.parametrize(
    ("features", "hidden", "outputs", "count"), [(4, (32, 32), 3, 1101), (2, (5, 9), 1, 515), (8, (16, 7), 6, 7)]
)
def test_values_slopes_and_gradients_equal_the_twins(features: int, hidden: tuple[int, int], outputs: int, count: int) -> None:
    """With whole chunks and a part of one, and vectors of eight that are full or not."""
    points, layout, one = leaves(features, hidden, outputs, count)
    two = wide(one)
    found, wanted = fast.values(points, one[0], layout, one[1:5], one[5:]), twin(points, layout, two)
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(each.shape, generator=generator) for each in found]
    pairs = zip(
        torch.autograd.grad(found, one, upstream), torch.autograd.grad(wanted, two, [u.double() for u in upstream]), strict=True
    )
    assert all(close(a, b) for a, b in pairs)


@pytest.mark.parametrize("used", [0, 1, 2])
def test_an_output_alone_has_the_twins_gradients(used: int) -> None:
    points, layout, one = leaves(4, (8, 8), 3, 60)
    two = wide(one)
    found, wanted = fast.values(points, one[0], layout, one[1:5], one[5:])[used], twin(points, layout, two)[used]
    first = torch.autograd.grad(found.square().sum(), one)
    second = torch.autograd.grad(wanted.square().sum(), two, allow_unused=True, materialize_grads=True)
    assert all((a - b).abs().max() <= 1e-5 * (1 + b.abs().max()) for a, b in zip(first, second, strict=True))


def test_the_number_of_threads_changes_no_bit() -> None:
    points, layout, tensors = leaves(4, (32, 32), 3, 4 * fast._CHUNK + 5)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out = fast.values(points, tensors[0], layout, tensors[1:5], tensors[5:])
            found.append((*out, *torch.autograd.grad(torch.cat([each.flatten().sin() for each in out]).sum(), tensors)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*found, strict=True))


def test_no_points_have_no_gradient() -> None:
    points, layout, tensors = leaves(4, (8, 8), 3, 0)
    found = fast.values(points, tensors[0], layout, tensors[1:5], tensors[5:])
    assert [tuple(each.shape) for each in found] == [(0,), (0, 3), (0, 3)]
    gradients = torch.autograd.grad(torch.cat([each.flatten() for each in found]).sum(), tensors)
    assert all(bool((each == 0).all()) for each in gradients)


def nerf(plan: CoarseToFine | None = None, hidden: int = 1) -> NeRF:
    small = HashGridConfig(levels=3, features=4, log2_size=9, base=4, finest=11)
    made = NeRF(NeRF.Config(encoding=small, density_network=NetworkConfig(layers=hidden), coarse_to_fine=plan, radius=1.5))
    generator = torch.Generator().manual_seed(0)
    made.initialise(generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return made


@pytest.mark.parametrize("plan", [None, CoarseToFine(start_levels=1, start=0.1, end=1)])
@pytest.mark.parametrize("track", [True, False])
def test_both_paths_of_a_field_agree(monkeypatch: pytest.MonkeyPatch, plan: CoarseToFine | None, track: bool) -> None:
    """With levels that take part and one that does not, if the encoding goes from coarse to fine."""
    made, spy = nerf(plan), Mock(wraps=fast.values)
    if made.level_weights is not None:
        made.level_weights.copy_(torch.tensor([1.0, 0.4, 0.0]))
    points = 3 * torch.rand(90, 3, generator=torch.Generator().manual_seed(2)) - 1.5
    monkeypatch.setattr(fast, "values", spy)
    results = []
    for enabled in (True, False):
        monkeypatch.setattr(fast, "enabled", enabled)
        with torch.set_grad_enabled(track):
            found = made.sample(points, normals=True)
        assert found.normal is not None
        parts = (found.density, found.albedo, found.normal)
        total = torch.cat([part.flatten().sin() for part in parts]).sum()
        results.append((*parts, *(torch.autograd.grad(total, list(made.parameters())) if track else ())))
    assert spy.call_count == 1
    assert all(a.requires_grad == b.requires_grad for a, b in zip(*results, strict=True))
    assert all((a - b).abs().max() <= 2e-5 * (1 + b.abs().max()) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("change", ["points", "deep", "float64", "autocast"])
def test_what_the_kernel_cannot_do_goes_the_other_way(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """And gradients reach points that ask for them."""
    made = nerf(hidden=2 if change == "deep" else 1)
    made = made.double() if change == "float64" else made
    points = torch.rand(9, 3, dtype=torch.float64 if change == "float64" else torch.float32).requires_grad_(change == "points")
    monkeypatch.setattr(fast.Field, "forward", None)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=change == "autocast"):
        normal = made.sample(points, normals=True).normal
    assert normal is not None
    normal.square().sum().backward()  # type: ignore[no-untyped-call]
    assert (points.grad is not None) == (change == "points")
