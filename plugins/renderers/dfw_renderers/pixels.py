"""From samples to pixels: shading, weights, and sums along the rays, in plain torch. The twin of `fast.pixels`.

Legend: R rays, N samples packed, E extra channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import compositing
from .marching import Samples
from .shading import Lighting, shade

THICKEST = compositing.THICKEST


def pixels(
    density: Tensor,
    albedo: Tensor,
    extras: Tensor,
    normal: Tensor | None,
    points: Tensor,
    view: Tensor,
    samples: Samples,
    rays: int,
    lighting: Lighting | None,
) -> tuple[Tensor, Tensor]:
    """Returns the weights (N,) of the samples, and the total (R, 5 + E) of each ray's colour, opacity, distance and extras.

    density (N,), 1/unit. albedo (N, 3). extras (N, E). normal (N, 3), read only if there is `lighting`. points (N, 3), world
    units, and view (N,) of the samples. rays: R, the number of rays that `samples` counts from 0.
    """
    weight = compositing.weights(density, samples)
    return weight, totals(weight, albedo, extras, normal, points, view, samples, rays, lighting)


def totals(
    weight: Tensor,
    albedo: Tensor,
    extras: Tensor,
    normal: Tensor | None,
    points: Tensor,
    view: Tensor,
    samples: Samples,
    rays: int,
    lighting: Lighting | None,
) -> Tensor:
    """Returns the total (R, 5 + E) as `pixels`, for given weights (N,)."""
    colour = albedo if lighting is None or normal is None else shade(albedo, normal, points, view, lighting)
    shown = torch.cat([colour, torch.ones_like(weight)[:, None], samples.distance[:, None], extras], dim=1)
    return compositing.sum_per_ray(weight[:, None] * shown, samples.ray, rays)
