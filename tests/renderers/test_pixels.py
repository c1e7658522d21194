"""The walk from samples to pixels and back, against its twin in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dfw_renderers.fast import pixels as fast
from dfw_renderers.marching import Samples
from dfw_renderers.pixels import pixels
from dfw_renderers.shading import Lighting

COUNTS = [3, 0, 70, 1, 0, 5, 40]  # samples of each ray
Case = tuple[list[Tensor | None], list[Any]]


def case(lit: bool, channels: int) -> Case:
    """What is differentiated (density, albedo, extras, normal), and the rest."""
    g = torch.Generator().manual_seed(0)
    ray = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    n = len(ray)
    density = 30 * torch.rand(n, generator=g) ** 2
    density[10] = 9000.0  # thicker than the bound
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=-1)
    made: list[Tensor | None] = [density, torch.rand(n, 3, generator=g), torch.randn(n, channels, generator=g), normal]
    made[3] = made[3] if lit else None
    columns = [torch.rand(2, generator=g) for _ in range(3)]
    light = Lighting(3 * torch.randn(2, 3, generator=g), columns[0], columns[1], columns[2], torch.ones(2))
    samples = Samples(ray, torch.rand(n, generator=g).cumsum(0), 0.01 + 0.05 * torch.rand(n, generator=g))
    view = (ray >= 3).long()
    return [leaf(each) for each in made], [torch.randn(n, 3, generator=g), view, samples, len(COUNTS), light if lit else None]


def leaf(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone().requires_grad_()


def wide(one: Case) -> Case:
    """The same in float64."""
    points, view, samples, rays, light = one[1]
    samples = replace(samples, distance=samples.distance.double(), length=samples.length.double())
    if light is not None:
        light = Lighting(**{name: value.double() for name, value in vars(light).items()})
    return [leaf(None if each is None else each.double()) for each in one[0]], [points.double(), view, samples, rays, light]


def leaves(one: Case) -> list[Tensor]:
    return [each for each in one[0] if each is not None and each.numel()]


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a.double() - b).abs() <= 2e-6 * (1 + b.abs().max())).all())


@pytest.mark.parametrize("lit", [False, True])
@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("asked", ["both", "weight", "total"])
def test_pixels_and_gradients_equal_the_twins(lit: bool, channels: int, asked: str) -> None:
    one = case(lit, channels)
    two = wide(one)
    assert fast.serves(one[0][0], [one[1][0]])  # type: ignore[arg-type]
    found, wanted = fast.pixels(*one[0], *one[1]), pixels(*two[0], *two[1])  # type: ignore[arg-type]
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))
    kept = [place for place, name in enumerate(("weight", "total")) if asked in (name, "both")]
    upstream = [torch.randn(each.shape, generator=torch.Generator().manual_seed(1)) for each in found]

    def gradients(made: tuple[Tensor, ...], those: list[Tensor]) -> list[Tensor]:
        towards = [upstream[place].to(made[place]) for place in kept]
        found = torch.autograd.grad([made[place] for place in kept], those, towards, allow_unused=True)
        return [torch.zeros_like(each) if slope is None else slope for each, slope in zip(those, found, strict=True)]

    pairs = zip(gradients(found, leaves(one)), gradients(wanted, leaves(two)), strict=True)
    assert all(close(a, b) for a, b in pairs)


def test_a_gradient_can_be_differentiated_again() -> None:
    one = case(True, 2)
    two = wide(one)

    def bend(made: tuple[Tensor, Tensor], those: list[Tensor]) -> tuple[Tensor, ...]:
        slopes = torch.autograd.grad(made[1].square().sum(), those, create_graph=True)
        return torch.autograd.grad(torch.stack([each.square().sum() for each in slopes]).sum(), those)

    first, second = fast.pixels(*one[0], *one[1]), pixels(*two[0], *two[1])  # type: ignore[arg-type]
    pairs = zip(bend(first, leaves(one)), bend(second, leaves(two)), strict=True)
    assert all(bool(((a - b).abs() <= 1e-4 * (1 + b.abs().max())).all()) for a, b in pairs)


def test_a_density_that_is_no_number_is_not_hidden() -> None:
    (density, albedo, extras, _), rest = case(False, 0)
    assert density is not None
    with torch.no_grad():
        density[1] = torch.nan
        weight, total = fast.pixels(density, albedo, extras, None, *rest)
    assert weight.isnan().nonzero().flatten().tolist() == [1, 2]
    assert total[:, 3].isnan().tolist() == [True] + [False] * 6


def test_no_samples_make_empty_pixels() -> None:
    none = Samples(torch.zeros(0, dtype=torch.long), torch.zeros(0), torch.zeros(0))
    made = [torch.zeros(0, requires_grad=True), torch.zeros(0, 3), torch.zeros(0, 2)]
    weight, total = fast.pixels(*made, None, torch.zeros(0, 3), none.ray, none, 4, None)
    assert (weight.shape, total.tolist()) == ((0,), [[0.0] * 7] * 4)
    (slope,) = torch.autograd.grad(total.sum(), made[0])
    assert slope.shape == (0,)


def test_what_needs_gradients_elsewhere_takes_torchs_path() -> None:
    density, points = torch.zeros(2), torch.zeros(2, 3)
    assert fast.serves(density, [points])
    assert not fast.serves(density, [points.requires_grad_()])
    assert not fast.serves(density.double(), [])
