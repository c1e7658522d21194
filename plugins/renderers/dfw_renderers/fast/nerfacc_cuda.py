"""Marching and weights through nerfacc's CUDA kernels (Li et al. 2023), where they load. Imports nerfacc only when asked.

This replaces `dfw_renderers.marching.march` and `dfw_renderers.compositing.weights`. Its gain has not been measured: that takes
a CUDA device.

Legend: R rays, N samples packed.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from dfw import ConfigError
from dfw_renderers.compositing import optical_thickness, transmittance
from dfw_renderers.marching import Occupancy, Samples, cells, intersect_box

Backend = Literal["auto", "portable", "nerfacc"]


@cache
def _kernels() -> Any:
    """nerfacc's compiled extension (built on first use, which takes minutes), or None where it does not load."""
    if not torch.cuda.is_available():
        return None
    from nerfacc.cuda._backend import _C

    return _C


def uses_nerfacc(backend: Backend, device: torch.device) -> bool:
    """Whether nerfacc renders on `device`. Raises ConfigError where `backend` insists on it and it cannot."""
    if backend == "portable":
        return False
    ready = device.type == "cuda" and _kernels() is not None
    if backend == "nerfacc" and not ready:
        raise ConfigError(
            f"renderer.backend: nerfacc needs a CUDA device and its compiled kernels, and this run is on {device.type}; "
            "write auto or portable, which gives the same picture"
        )
    return ready


def march(
    origin: Tensor, direction: Tensor, occupancy: Occupancy, step: float, offset: Tensor | float, early_stop: float
) -> Samples:
    """As its twin, `dfw_renderers.marching.march`; CUDA, float32."""
    import nerfacc

    corner = origin.new_full((3,), occupancy.radius)
    enter, _ = intersect_box(origin, direction, -corner, corner)
    intervals, samples, _ = nerfacc.traverse_grids(
        origin.contiguous(),
        direction.contiguous(),
        occupancy.occupied[None],
        torch.cat([-corner, corner])[None],
        near_planes=enter + step * (offset - 0.5),
        step_size=step,
    )
    start, end = intervals.vals[intervals.is_left], intervals.vals[intervals.is_right]
    ray, distance, length = samples.ray_indices, (start + end) / 2, end - start
    if early_stop > 0 and occupancy.density is not None:
        cell = cells(origin[ray], direction[ray], distance[:, None], occupancy)[:, 0]
        thickness = optical_thickness(occupancy.density.flatten()[cell], length)
        keep = transmittance(thickness, ray) >= early_stop
        ray, distance, length = ray[keep], distance[keep], length[keep]
    return Samples(ray, distance, length)


def weights(density_N: Tensor, samples: Samples, rays: int) -> Tensor:
    """As its twin, `dfw_renderers.compositing.weights`, in float32."""
    import nerfacc

    half = samples.length / 2
    start, end = samples.distance - half, samples.distance + half
    weight, _, _ = nerfacc.render_weight_from_density(start, end, density_N, ray_indices=samples.ray, n_rays=rays)
    return torch.as_tensor(weight)
