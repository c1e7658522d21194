"""Compositing turns densities along rays into weights and pixels: emission and absorption over packed samples, in plain torch.

Legend: R rays, N samples packed (sorted by ray, then by distance), C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .marching import Samples

_THICKEST = 80.0  # exp(-80) is 0 in practice; without the bound one dense sample would swamp the sum over all rays
"""Largest optical thickness of one sample."""


def transmittance(thickness_N: Tensor, ray_N: Tensor) -> Tensor:
    """Returns T_i = exp(-sum of sigma_j delta_j over samples j before i on the same ray), (N,). NeRF (Mildenhall 2020), eq. 3.

    thickness_N: sigma_i delta_i >= 0, dimensionless, float64. One cumulative sum runs over all rays, and in float32 the
    difference of two of its values would lose three digits.
    """
    before = thickness_N.cumsum(0) - thickness_N
    return torch.exp(before[first_of_ray(ray_N)] - before)


def first_of_ray(ray_N: Tensor) -> Tensor:
    """Returns, for each sorted sample, the index (N,) of the first sample on its ray. Does not wait for the device."""
    place = torch.arange(len(ray_N), device=ray_N.device)
    place[1:] *= ray_N[1:] != ray_N[:-1]
    first: Tensor = place.cummax(0).values
    return first


def optical_thickness(density_N: Tensor, length_N: Tensor) -> Tensor:
    """Returns sigma_i delta_i (N,), at most 80, in float64; in float32 on Apple's devices, which have no float64."""
    wide = torch.float32 if density_N.device.type == "mps" else torch.float64
    return (density_N.to(wide) * length_N.to(wide)).clamp(max=_THICKEST)


def weights(density_N: Tensor, samples: Samples) -> Tensor:
    """Returns w_i = T_i (1 - exp(-sigma_i delta_i)), (N,), in density's dtype. NeRF (Mildenhall 2020), eq. 3.

    density_N: 1/unit, >= 0. The weights of a ray sum to at most 1.
    """
    thickness = optical_thickness(density_N, samples.length)
    return (transmittance(thickness, samples.ray) * -torch.expm1(-thickness)).to(density_N.dtype)


def sum_per_ray(values: Tensor, ray_N: Tensor, rays: int) -> Tensor:
    """Sums `values` (N,) or (N, C) over each ray's samples: (R,) or (R, C), 0 for rays without samples. Sequential on the CPU."""
    return values.new_zeros(rays, *values.shape[1:]).index_add(0, ray_N, values)


def expected_distance(total_R: Tensor, opacity_R: Tensor) -> Tensor:
    """Returns sum_i w_i t_i / sum_i w_i per ray (R,), world units, from both sums. Below an opacity of 1e-5 it goes to 0."""
    return total_R / opacity_R.clamp(min=1e-5)
