"""The neural radiance field: an encoding, two small networks, and a blob to start from. No view dependence.

Legend: N points, D features of a point.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, DensityField, FieldSample, Progress

from .blobs import BlobConfig, LinearBlob, blob, blob_gradient
from .encodings import EncodingConfig, make_encoding
from .hash_grid import HashGridConfig
from .networks import MLP, NetworkConfig, truncated_exp, truncated_exp_slope

_STEEPEST = 1e4  # 1/unit; a blob that starts denser than this cannot be carved


class CoarseToFine(ComponentConfig):
    """Levels of the encoding enter one after the other, at an even pace. As in Nerfies (Park et al. 2021), section 3.5."""

    start_levels: PositiveInt = 4
    """Levels that take part from the first step."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the run after which further levels enter."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Fraction of the run after which all levels take part."""
    fade: bool = True
    """Whether the next level grows from 0 to 1, as in Nerfies. If false, it takes part as soon as it would have grown to 1."""

    @model_validator(mode="after")
    def _ordered(self) -> CoarseToFine:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) is not before end ({self.end:g}); write start < end")
        return self


class NeRF(DensityField):
    """A density and an albedo over the cube |x|_inf <= radius, from one encoding.

    density = density_scale * activation(raw + blob), or with the blob added after the activation; 0 outside the cube.
    albedo = sigmoid(network), in (0, 1).
    """

    class Config(ComponentConfig):
        """What a NeRF is made of."""

        radius: PositiveFloat = 1.0
        """Half-width of the scene, world units."""
        encoding: EncodingConfig = HashGridConfig()
        """`hash-grid`, `dense-grid` or `integrated-positional`, or a mapping with `type` and its fields."""
        density_network: NetworkConfig = NetworkConfig()
        """Network from features to the raw density."""
        colour_network: NetworkConfig = NetworkConfig()
        """Network from features to the albedo."""
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
        coarse_to_fine: CoarseToFine | None = None
        """Fine levels enter later; null: all from the start."""

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
    level_weights: Tensor | None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoding = make_encoding(config.encoding)
        self.density_network = MLP(self.encoding.width, 1, config.density_network.width, config.density_network.layers)
        self.colour_network = MLP(self.encoding.width, 3, config.colour_network.width, config.colour_network.layers)
        self.register_buffer("level_weights", torch.ones(self.encoding.levels) if config.coarse_to_fine else None)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides density and albedo over space."""
        return frozenset({"density-field"})

    @property
    def radius(self) -> float:
        """Half-width of the scene's cube, world units."""
        return self.config.radius

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the encoding, then the density's network, then the colour's."""
        for part in (self.encoding, self.density_network, self.colour_network):
            part.initialise(generator)
        if self.level_weights is not None:
            self.begin_step(Progress(0, 1), torch.Generator())

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Sets how much each level of the encoding takes part, for coarse-to-fine runs; no transfer from the device."""
        plan, weights = self.config.coarse_to_fine, self.level_weights
        if plan is None or weights is None:
            return
        first = min(plan.start_levels, len(weights))
        share = min(max((progress.fraction - plan.start) / (plan.end - plan.start), 0.0), 1.0)
        active = first + (len(weights) - first) * share
        whole = int(active + 1e-6)  # where a level is complete, rounding must not lose it
        weights[:whole].fill_(1.0)
        weights[whole:].fill_(0.0)
        if plan.fade:
            weights[whole : whole + 1].fill_(max(active - whole, 0.0))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.encoding`: what is stored over space (absent for sines); `geometry.network`: all else."""
        grids = self.encoding.grid_parameters()
        stored = {id(p) for p in grids}
        rest = [p for p in self.parameters() if id(p) not in stored]
        return {"geometry.encoding": grids, "geometry.network": rest} if grids else {"geometry.network": rest}

    def _unit(self, points: Tensor) -> Tensor:
        """World points (N, 3) -> [0, 1]."""
        return ((points / self.config.radius + 1) / 2).clamp(0, 1)

    def _encode(self, points: Tensor) -> Tensor:
        features: Tensor = self.encoding(self._unit(points), self.level_weights)
        return features

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
        inside = points.detach().abs().amax(-1) <= config.radius
        density = torch.where(inside, density, torch.zeros_like(density))
        if slope is None:
            return density, None
        rise = config.scale * (torch.sigmoid(raw) if soft else truncated_exp_slope(raw))
        gradient = rise[:, None] * slope
        gradient = gradient if tilt is None else gradient + tilt
        return density, torch.where(inside[:, None], gradient, torch.zeros_like(gradient))

    def density(self, points: Tensor) -> Tensor:
        """As `DensityField`; the colour's network is not evaluated."""
        flat = points.reshape(-1, 3)
        raw = self.density_network(self._encode(flat))[..., 0].to(flat.dtype)
        return self._density(raw, flat)[0].reshape(points.shape[:-1])

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
        return FieldSample(density.reshape(shape), torch.sigmoid(colour).reshape(*shape, 3), normal)

    def _networks(self, points: Tensor, slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both networks at points (N, 3), before their activations: (N,) and (N, 3); and the first's gradient (N, 3).

        The gradient is left out unless `slopes` asks for it. Works where grad mode is off, and then keeps no graph.
        """
        features = self._encode(points)
        colour = self.colour_network(features).to(points.dtype)
        if not slopes:
            return self.density_network(features)[..., 0].to(points.dtype), colour, None
        track = torch.is_grad_enabled()
        with torch.enable_grad():
            features = features if features.requires_grad else features.detach().requires_grad_()
            raw = self.density_network(features)[..., 0].to(points.dtype)
            (slope,) = torch.autograd.grad(raw.sum(), features, create_graph=track)
        slope = self._pull(points, slope)
        return (raw, colour, slope) if track else (raw.detach(), colour, slope.detach())

    def _pull(self, points: Tensor, slope: Tensor) -> Tensor:
        """A gradient with respect to the features (N, D) -> with respect to the points (N, 3), world units."""
        return self.encoding.pullback(self._unit(points), slope, self.level_weights) / (2 * self.config.radius)

    def _difference(self, points: Tensor) -> Tensor:
        """Central differences of the density, (N, 3); a neighbour outside the cube is moved onto its face."""
        step, radius = self.config.normal_step, self.config.radius
        offset = step * torch.eye(3, dtype=points.dtype, device=points.device)
        ahead = (points[:, None] + offset).clamp(-radius, radius)
        behind = (points[:, None] - offset).clamp(-radius, radius)
        rise = self.density(ahead) - self.density(behind)
        return rise / ((ahead - behind).diagonal(dim1=1, dim2=2).clamp(min=1e-3 * step))
