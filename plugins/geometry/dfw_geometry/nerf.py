"""The neural radiance field: an encoding, two small networks, and a blob to start from. No view dependence.

Legend: N points, D features of a point.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from dfw import FieldSample

from .blobs import BlobConfig, LinearBlob, blob, blob_gradient
from .encoded_field import EncodedField
from .networks import NetworkConfig, truncated_exp, truncated_exp_slope

_STEEPEST = 1e4  # 1/unit; a blob that starts denser than this cannot be carved


class NeRF(EncodedField):
    """A density and an albedo over the cube |x|_inf <= radius, from one encoding.

    density = density_scale * activation(raw + blob), or with the blob added after the activation; 0 outside the cube.
    albedo = sigmoid(network), in (0, 1).
    """

    class Config(EncodedField.Config):
        """What a NeRF is made of."""

        density_network: NetworkConfig = NetworkConfig()
        """Network from features to the raw density."""
        activation: Literal["softplus", "exp"] = "softplus"
        """What makes the raw density positive; `exp` has its gradient limited to that of exp(15)."""
        density_scale: PositiveFloat | None = None
        """Factor of the activation, 1/unit; if not given 10 for softplus, 1 for exp. Solids have 50-100 at 128 samples a ray."""
        blob: BlobConfig | None = LinearBlob()
        """Where matter starts; null for none."""
        normals: Literal["analytic", "finite-difference"] = "analytic"
        """Normals from the density's own gradient, or from six more densities around each point."""
        normal_step: PositiveFloat = 0.01
        """Distance of those six from the point, world units."""

        @model_validator(mode="after")
        def _check(self) -> NeRF.Config:
            start = self.blob
            if self.activation == "exp" and start is not None and start.placement == "before":
                highest = math.log(_STEEPEST / self.scale)
                if start.scale > highest:
                    raise ValueError(
                        f"blob.scale: {start.scale:g} before exp starts at density {self.scale * math.exp(start.scale):.1e}; "
                        f"write at most {highest:.1f} (5 is usual), or activation: softplus"
                    )
            return self

        @property
        def scale(self) -> float:
            """`density_scale`, or the activation's default."""
            if self.density_scale is not None:
                return self.density_scale
            return 10.0 if self.activation == "softplus" else 1.0

    config: Config

    def __init__(self, config: Config, channels: int = 3) -> None:
        super().__init__(config, config.density_network, channels)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides density and albedo over space."""
        return frozenset({"density-field"})

    def _density(self, raw: Tensor, points: Tensor, slope: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The density network's output (N,) at points (N, 3) -> density (N,).

        And, when `slope` (N, 3) = d raw/d points is given, the density's gradient (N, 3), by the chain rule.
        """
        config = self.config
        start = None if config.blob is None else blob(config.blob, points)
        tilt = None if config.blob is None or slope is None else blob_gradient(config.blob, points)
        if config.blob is not None and config.blob.placement == "before":
            raw = raw if start is None else raw + start
            slope = slope if slope is None or tilt is None else slope + tilt
            start = tilt = None
        soft = config.activation == "softplus"
        density = config.scale * (F.softplus(raw) if soft else truncated_exp(raw))
        density = density if start is None else density + start
        density = self._inside(density, points)
        if slope is None:
            return density, None
        rise = config.scale * (torch.sigmoid(raw) if soft else truncated_exp_slope(raw))
        gradient = rise[:, None] * slope
        gradient = gradient if tilt is None else gradient + tilt
        return density, self._inside(gradient, points)

    def density(self, points: Tensor) -> Tensor:
        """As `DensityField`; the colour's network is not evaluated."""
        flat = points.reshape(-1, 3)
        return self._density(self._shape(flat), flat)[0].reshape(points.shape[:-1])

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """As `DensityField`. Normals are shorter than 1 only where |grad| is below about 1e-5 of density per unit."""
        flat, shape = points.reshape(-1, 3), points.shape[:-1]
        raw, colour, slope = self._networks(flat, normals and self.config.normals == "analytic")
        density, gradient = self._density(raw, flat, slope)
        if normals and self.config.normals == "finite-difference":
            gradient = self._difference(flat)
        normal = None
        if gradient is not None:
            normal = (-gradient / (gradient.square().sum(-1, keepdim=True) + 1e-12).sqrt()).reshape(*shape, 3)
        albedo, extras = self._painted(colour.reshape(*shape, colour.shape[-1]))
        return FieldSample(density.reshape(shape), albedo, normal, extras)

    def _difference(self, points: Tensor) -> Tensor:
        """Central differences of the density, (N, 3); a neighbour outside the cube is moved onto its face."""
        step, radius = self.config.normal_step, self.config.radius
        offset = step * torch.eye(3, dtype=points.dtype, device=points.device)
        ahead = (points[:, None] + offset).clamp(-radius, radius)
        behind = (points[:, None] - offset).clamp(-radius, radius)
        rise = self.density(ahead) - self.density(behind)
        return rise / ((ahead - behind).diagonal(dim1=1, dim2=2).clamp(min=1e-3 * step))
