"""A cloud of Gaussians as a density over space, to make a mesh of. DreamGaussian (Tang et al. 2024), section 3.2.

Legend: N Gaussians, P points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import ComponentConfig, DensityField, FieldSample, load_warp

from .cloud import Cloud
from .projection import rotation_matrices

THICKEST = 0.99
"""The most opaque that a Gaussian is drawn; as in compositing."""


class Solid(DensityField):
    """density(x) = sum_i s_i exp(-d^T Sigma_i^-1 d / 2), d = x - mean_i; albedo is the colours' mean by density.

    s_i = -ln(1 - o_i) / (sqrt(2 pi) r_i), with r_i the geometric mean of the three standard deviations: a ray through the middle
    of a round Gaussian then meets its opacity o_i. DreamGaussian sums opacities instead, and takes the surface at 1. Each
    Gaussian counts up to three standard deviations. What the cloud is later changes nothing. Gradients reach nothing.
    """

    def __init__(self, cloud: Cloud, radius: float) -> None:
        """radius: half-width of the cube outside which there is nothing, world units."""
        super().__init__()
        self.config = ComponentConfig()
        self._radius = radius
        turn = rotation_matrices(cloud.rotation)
        scale = cloud.scale.clamp_min(1e-4 * radius)  # thinner ones have an inverse that single precision cannot hold
        mean_scale = scale.log().mean(-1).exp()
        peak = -torch.log1p(-cloud.opacity.clamp_max(THICKEST)) / (math.sqrt(2 * math.pi) * mean_scale)
        inverse = torch.einsum("nij,nj,nkj->nik", turn, scale**-2, turn)
        reach = (turn.square() * scale[:, None].square()).sum(-1).sqrt()  # of the ellipsoid along the world's axes
        tables = {"mean": cloud.mean, "reach": reach, "inverse": inverse, "peak": peak, "colour": cloud.colour}
        for name, value in tables.items():
            self.register_buffer(name, value.detach().float().contiguous(), persistent=False)
        self._tree: Any = None

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Density and albedo over space."""
        return frozenset({"density-field"})

    @property
    def radius(self) -> float:
        """Half-width of the scene's cube, world units."""
        return self._radius

    def density(self, points: Tensor) -> Tensor:
        """Density (...) at `points` (..., 3), 1/unit."""
        return self._look(points)[0]

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """As `DensityField`, without gradients; grey where nothing is."""
        density, painted, slope = self._look(points)
        there = density[..., None] > 0
        albedo = torch.where(there, painted / density[..., None].clamp_min(1e-12), 0.5)
        return FieldSample(density, albedo.clamp(0, 1), F.normalize(-slope, dim=-1) if normals else None)

    @torch.no_grad()
    def _look(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Density (...), density times colour (..., 3), and the density's gradient (..., 3)."""
        wp = load_warp()
        from .look_kernel import CUT, look

        flat = points.reshape(-1, 3).float().contiguous()
        device = str(flat.device)
        found = flat.new_zeros(len(flat)), flat.new_zeros(len(flat), 3), flat.new_zeros(len(flat), 3)

        def given(value: Tensor, kind: Any) -> Any:
            return wp.from_torch(value, dtype=kind, requires_grad=False)

        tables = [given(self.mean, wp.vec3), given(self.inverse, wp.mat33), given(self.peak, wp.float32)]
        tables.append(given(self.colour, wp.vec3))
        with wp.ScopedDevice(device):
            if self._tree is None or str(self._tree.device) != device:
                low, high = ((self.mean + sign * CUT * self.reach).contiguous() for sign in (-1, 1))
                self._tree = wp.Bvh(given(low, wp.vec3), given(high, wp.vec3))
            written = [given(found[0], wp.float32), given(found[1], wp.vec3), given(found[2], wp.vec3)]
            wp.launch(look, len(flat), [self._tree.id, given(flat, wp.vec3), *tables], written, record_tape=False)
        inside = flat.abs().amax(-1) <= self._radius
        density, painted, slope = (torch.where(inside.view(-1, *[1] * (one.dim() - 1)), one, 0.0).to(points) for one in found)
        return density.view(points.shape[:-1]), painted.view(points.shape), slope.view(points.shape)
