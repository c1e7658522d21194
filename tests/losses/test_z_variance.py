"""The variance of depth along a ray, by hand-computed values, a twin and finite differences."""

from __future__ import annotations

import loss_inputs
import pytest
import torch

from dfw import ConfigError, RaySamples
from dfw_losses.z_variance import ZVariance


def value(weight, ray, distance, opacity):
    direction = torch.zeros(len(weight), 3, dtype=weight.dtype)
    samples = RaySamples(weight, torch.as_tensor(ray, dtype=torch.int64), distance, direction)
    return ZVariance(ZVariance.Config())(loss_inputs.of_opacity(opacity.view(1, 1, -1), samples))


def test_by_hand():
    """Ray 0: shares 1/4, 3/4 at 1 and 3: mean 2.5, variance .75. Ray 1 misses. Ray 2: one place, 0. Ray 3: no samples, a miss."""
    weight = torch.tensor([0.2, 0.6, 0.1, 0.1, 0.9])
    found = value(weight, [0, 0, 1, 1, 2], torch.tensor([1.0, 3.0, 1.0, 9.0, 2.0]), torch.tensor([0.8, 0.2, 0.9, 0.0]))
    assert found.item() == pytest.approx(0.75 / 2)


def test_a_slow_twin_agrees_on_random_rays():
    generator = torch.Generator().manual_seed(0)
    ray = torch.randint(0, 30, (400,), generator=generator).sort().values
    weight, distance = (torch.rand(400, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = weight / 12
    opacity = torch.zeros(30, dtype=torch.float64).index_add(0, ray, weight).clamp_max(1)
    kept = []
    for index in range(30):
        w, z = weight[ray == index], distance[ray == index]
        if opacity[index] > 0.5:
            share = w / w.sum()
            kept.append((share * (z - (share * z).sum()) ** 2).sum())
    assert 3 < len(kept) < 30
    torch.testing.assert_close(value(weight, ray, distance, opacity), torch.stack(kept).mean())


def test_gradients_by_finite_differences_and_none_from_misses():
    weight = torch.tensor([0.2, 0.6, 0.1, 0.1], dtype=torch.float64, requires_grad=True)
    distance = torch.tensor([1.0, 3.0, 1.0, 9.0], dtype=torch.float64, requires_grad=True)
    opacity = torch.tensor([0.8, 0.2], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w, z: value(w, [0, 0, 1, 1], z, opacity), (weight, distance))
    value(weight, [0, 0, 1, 1], distance, opacity).backward()
    assert weight.grad[2:].abs().max() == 0
    assert weight.grad[:2].abs().min() > 0


def test_nothing_hit_is_nothing():
    assert value(torch.zeros(0), [], torch.zeros(0), torch.zeros(3)).item() == 0


def test_it_says_what_it_needs():
    assert ZVariance.requires(ZVariance.Config()) == {"ray-samples", "opacity"}
    with pytest.raises(ConfigError, match="volume renderer"):
        ZVariance(ZVariance.Config())(loss_inputs.of_opacity(torch.ones(1, 2, 2)))
