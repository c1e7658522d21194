"""From densities along rays to weights and pixels: emission and absorption over packed samples, in plain torch.

Legend: R rays, N samples packed (sorted by ray, then by distance), C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .marching import Samples

_THICKEST = 80.0
"""Largest optical thickness of one sample: exp(-80) is 0 in any use, and one dense sample cannot drown the sum over all rays."""


def transmittance(thickness_N: Tensor, ray_N: Tensor) -> Tensor:
    """T_i = exp(-sum of sigma_j delta_j over the samples j before i on the same ray), (N,). NeRF (Mildenhall 2020), eq. 3.

    thickness_N: sigma_i delta_i >= 0, dimensionless, float64. One cumulative sum over all rays: in float32 the difference of two
    of its values would have lost three digits.
    """
    before = thickness_N.cumsum(0) - thickness_N
    return torch.exp(before[first_of_ray(ray_N)] - before)


def first_of_ray(ray_N: Tensor) -> Tensor:
    """For each sample the index (N,) of the first one on its ray, in sorted order. Nothing waits for the device."""
    place = torch.arange(len(ray_N), device=ray_N.device)
    place[1:] *= ray_N[1:] != ray_N[:-1]
    first: Tensor = place.cummax(0).values
    return first


def optical_thickness(density_N: Tensor, length_N: Tensor) -> Tensor:
    """sigma_i delta_i (N,), cut off at 80; in float64, or float32 on Apple's devices, which have nothing wider."""
    wide = torch.float32 if density_N.device.type == "mps" else torch.float64
    return (density_N.to(wide) * length_N.to(wide)).clamp(max=_THICKEST)


def weights(density_N: Tensor, samples: Samples) -> Tensor:
    """w_i = T_i (1 - exp(-sigma_i delta_i)), (N,), in density's dtype. NeRF (Mildenhall et al. 2020), eq. 3.

    density_N: 1/unit, >= 0. The weights of a ray sum to at most 1.
    """
    thickness = optical_thickness(density_N, samples.length)
    return (transmittance(thickness, samples.ray) * -torch.expm1(-thickness)).to(density_N.dtype)


def sum_per_ray(values: Tensor, ray_N: Tensor, rays: int) -> Tensor:
    """Sums `values` (N,) or (N, C) over each ray's samples: (R,) or (R, C), 0 for rays without samples; sequential on the CPU."""
    return values.new_zeros(rays, *values.shape[1:]).index_add(0, ray_N, values)


def expected_distance(total_R: Tensor, opacity_R: Tensor) -> Tensor:
    """sum_i w_i t_i / sum_i w_i per ray (R,), world units, from both sums; goes to 0 where opacity does (below 1e-5)."""
    return total_R / opacity_R.clamp(min=1e-5)
