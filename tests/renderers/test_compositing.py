"""Weights and sums along rays, against products written out, nerfacc, and finite differences."""

import math

import pytest
import torch

from dfw_renderers.compositing import expected_distance, optical_thickness, sum_per_ray, transmittance, weights
from dfw_renderers.marching import Samples


def packed(counts: list[int], seed: int = 0, dtype: torch.dtype = torch.float64):
    """Random densities and lengths of rays with `counts` samples each."""
    g = torch.Generator().manual_seed(seed)
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    n = len(ray)
    density = 20 * torch.rand(n, generator=g, dtype=dtype) ** 2
    length = 0.01 + 0.05 * torch.rand(n, generator=g, dtype=dtype)
    return density, Samples(ray, torch.rand(n, generator=g, dtype=dtype).cumsum(0), length)


def written_out(density, samples) -> list[float]:
    """w_i = prod_{j<i} exp(-s_j d_j) (1 - exp(-s_i d_i)), one sample after the other."""
    result, light, current = [], 1.0, -1
    for s, d, r in zip(density.tolist(), samples.length.tolist(), samples.ray.tolist(), strict=True):
        light = light if r == current else 1.0
        current = r
        result.append(light * (1 - math.exp(-s * d)))
        light *= math.exp(-s * d)
    return result


def test_weights_are_the_products_written_out():
    density, samples = packed([3, 0, 7, 1, 0, 5, 40])
    assert weights(density, samples).tolist() == pytest.approx(written_out(density, samples), abs=1e-14)


def test_weights_of_a_ray_sum_to_its_opacity():
    density, samples = packed([5, 9, 0, 30])
    opacity = sum_per_ray(weights(density, samples), samples.ray, 4)
    thickness = sum_per_ray(density * samples.length, samples.ray, 4)
    assert torch.allclose(opacity, 1 - torch.exp(-thickness), atol=1e-14)
    assert opacity[2] == 0
    assert (opacity <= 1).all()


def test_rays_after_many_opaque_ones_keep_their_digits():
    before, ray = 200_000, 4_000
    density = torch.cat([torch.full((before,), 3000.0), torch.tensor([1.0, 2.0, 3.0])])
    index = torch.cat([torch.arange(ray).repeat_interleave(before // ray), torch.full((3,), ray)])
    samples = Samples(index, torch.zeros(len(index)), torch.full((len(index),), 0.01))
    alone = Samples(torch.zeros(3, dtype=torch.long), torch.zeros(3), torch.full((3,), 0.01))
    reference = weights(torch.tensor([1.0, 2.0, 3.0]), alone)
    assert torch.allclose(weights(density, samples)[-3:], reference, rtol=1e-6, atol=0)


def test_unbounded_density_is_opaque_and_stays_on_its_ray():
    density = torch.tensor([0.0, torch.inf, 5.0, 1e30, 2.0], requires_grad=True)
    samples = Samples(torch.tensor([0, 0, 0, 1, 2]), torch.zeros(5), torch.full((5,), 0.1))
    weight = weights(density, samples)
    assert weight.tolist() == pytest.approx([0, 1, 0, 1, 1 - math.exp(-0.2)])
    weight.sum().backward()
    assert torch.isfinite(density.grad).all()


def test_a_density_that_is_no_number_is_not_hidden():
    samples = Samples(torch.tensor([0, 0]), torch.zeros(2), torch.ones(2))
    assert weights(torch.tensor([torch.nan, 1.0]), samples).isnan().any()


def test_no_samples():
    density, samples = packed([0, 0])
    weight = weights(density, samples)
    opacity = sum_per_ray(weight, samples.ray, 2)
    assert opacity.tolist() == [0, 0]
    assert expected_distance(sum_per_ray(weight * samples.distance, samples.ray, 2), opacity).tolist() == [0, 0]


def test_transmittance_starts_at_one():
    density, samples = packed([4, 4])
    light = transmittance(optical_thickness(density, samples.length), samples.ray)
    assert light[0] == 1
    assert light[4] == 1
    assert (light[1:4].diff() < 0).all()


def test_sums_and_expected_distance():
    ray, values = torch.tensor([0, 0, 2]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert sum_per_ray(values, ray, 3).tolist() == [[4, 6], [0, 0], [5, 6]]
    samples = Samples(ray, torch.tensor([2.0, 4.0, 3.0]), torch.ones(3))
    weight = torch.tensor([0.25, 0.25, 0.1])
    depth = expected_distance(sum_per_ray(weight * samples.distance, ray, 3), sum_per_ray(weight, ray, 3))
    assert depth.tolist() == pytest.approx([3.0, 0.0, 3.0])


def test_gradients_by_finite_differences():
    density, samples = packed([3, 0, 4, 2])
    colour = torch.rand(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def pixels(density, colour):
        weight = weights(density, samples)
        opacity = sum_per_ray(weight, samples.ray, 4)
        distance = sum_per_ray(weight * samples.distance, samples.ray, 4)
        return sum_per_ray(weight[:, None] * colour, samples.ray, 4), opacity, expected_distance(distance, opacity)

    assert torch.autograd.gradcheck(pixels, (density.requires_grad_(), colour.requires_grad_()))


def test_same_as_nerfacc_on_dense_samples():
    nerfacc = pytest.importorskip("nerfacc")
    rays, count = 50, 64
    g = torch.Generator().manual_seed(3)
    density = 30 * torch.rand(rays, count, generator=g) ** 3
    edges = 2 + torch.cat([torch.zeros(rays, 1), (0.02 + 0.02 * torch.rand(rays, count, generator=g)).cumsum(1)], 1)
    start, end = edges[:, :-1], edges[:, 1:]
    theirs, _, _ = nerfacc.render_weight_from_density(start, end, density)
    samples = Samples(torch.arange(rays).repeat_interleave(count), ((start + end) / 2).flatten(), (end - start).flatten())
    ours = weights(density.flatten(), samples)
    assert torch.allclose(ours.view(rays, count), theirs, atol=1e-5)
    colour = torch.rand(rays, count, 3, generator=g)
    assert torch.allclose(
        sum_per_ray(ours[:, None] * colour.view(-1, 3), samples.ray, rays),
        nerfacc.accumulate_along_rays(theirs, colour),
        atol=1e-5,
    )
    opacity = sum_per_ray(ours, samples.ray, rays)
    assert torch.allclose(opacity, nerfacc.accumulate_along_rays(theirs)[..., 0], atol=1e-5)
