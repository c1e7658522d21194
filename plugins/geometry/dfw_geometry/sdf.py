"""A signed distance that is rendered as a density: VolSDF and NeuS.

Legend: N points; f the signed distance, negative inside, world units; s the sharpness, 1/unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, model_validator
from torch import Tensor, nn

from dfw import FieldSample, Geometry, Progress, SignedDistance, mesh_distance, points_on, shape_of

from .encoded_field import EncodedField
from .fitting import draw_rows, fit
from .networks import NetworkConfig

_CELLS = 128  # along each axis of the grid that a density field's surface is taken from
_POINTS = 100_000  # on the surface; as many near it, and as many anywhere
_NEAR = 0.05  # half-widths: the standard deviation of points near the surface, and the unit of errors


class SDF(EncodedField, SignedDistance):
    """A signed distance and an albedo over the cube |x|_inf <= radius, from one encoding. The surface is where f = 0.

    f(x) = |x| - sphere + network(x). The network's outputs are small at first, so the scene starts as a sphere. A network alone
    would start with no inside at all, and f keeps a slope of about 1 where it has not learned yet. Density follows from f by
    `density` and one learned number, the sharpness s. It is 0 outside the cube. albedo = sigmoid(network), in (0, 1).
    """

    class Config(EncodedField.Config):
        """What a signed distance is made of, and how it becomes a density."""

        distance_network: NetworkConfig = NetworkConfig()
        """Network from features to what is added to the sphere, world units."""
        sphere: PositiveFloat = 0.5
        """Radius of the sphere that the scene starts as, world units."""
        density: Literal["volsdf", "neus"] = "volsdf"
        """`volsdf`: s times the Laplace CDF of -f, with s = 1/beta (Yariv et al. 2021, eq. 2-3). `neus`: what makes the weight
        along a ray peak at the surface it enters (Wang et al. 2021, eq. 10, 13); each step computes the gradient of f."""
        sharpness: PositiveFloat = 20.0
        """Where s starts, 1/unit. s is also the density deep inside, and the density at the surface is s/2."""

        @model_validator(mode="after")
        def _fits(self) -> SDF.Config:
            if self.sphere >= self.radius:
                raise ValueError(
                    f"sphere ({self.sphere:g}) does not fit the scene's cube; write less than radius ({self.radius:g})"
                )
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.distance_network)
        # the logarithm, so that s stays above 0 and that a step of Adam changes it by the same factor everywhere
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(config.sharpness)))

    def initialise(self, generator: torch.Generator) -> None:
        """As `EncodedField`. The distance's network starts ten times smaller, since its output is a length in this cube."""
        super().initialise(generator)
        with torch.no_grad():
            self.shape_network.last.weight.mul_(0.1)

    def start_from(self, source: Geometry) -> None:
        """Takes over the shape of any density field or surface, and its colours; a source of this class and options is copied.

        Distance and albedo are fitted by least squares: the distance at points near the surface and anywhere in the cube, the
        albedo on the surface. Raises ConfigError for a source without a surface in this cube.
        """
        if isinstance(source, SDF) and source.config == self.config:
            super().start_from(source)
            return
        shape = shape_of(source, _CELLS)
        generator = torch.Generator().manual_seed(0)  # the points do not depend on the run's seed
        where = self.log_sharpness.device
        corners, faces = (torch.as_tensor(part, device=where) for part in (shape.mesh.vertices, shape.mesh.faces))
        on = points_on(corners.float(), faces.long(), _POINTS, generator)
        near = on + _NEAR * self.radius * torch.randn(on.shape, generator=generator).to(on)
        anywhere = self.radius * (2 * torch.rand(on.shape, generator=generator).to(on) - 1)
        points = torch.cat([near, anywhere])
        distance, albedo = mesh_distance(shape.mesh, points), shape.colour(on)

        def error() -> Tensor:
            rows, painted = (draw_rows(len(those), generator, where) for those in (points, on))
            off = (self.distance(points[rows]) - distance[rows]) / (_NEAR * self.radius)
            return (
                off.square().mean() + (self._painted(self._networks(on[painted], False)[1])[0] - albedo[painted]).square().mean()
            )

        fit(self.parameters(), error)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides density and albedo over space, and the distance that the density is made of."""
        return frozenset({"density-field", "signed-distance"})

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """As `EncodedField`, and logs the sharpness."""
        super().begin_step(progress, generator)
        self.log("sharpness", self.log_sharpness.detach().exp())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.encoding`, `geometry.network`, and `geometry.sharpness` with the logarithm of s."""
        groups = super().parameter_groups()
        groups["geometry.network"] = [p for p in groups["geometry.network"] if p is not self.log_sharpness]
        return {**groups, "geometry.sharpness": [self.log_sharpness]}

    def distance(self, points: Tensor) -> Tensor:
        """Returns f (...) at `points` (..., 3), world units, negative inside."""
        flat = points.reshape(-1, 3)
        return (self._shape(flat) + self._sphere(flat)[0]).reshape(points.shape[:-1])

    def density(self, points: Tensor) -> Tensor:
        """As `DensityField`. For `neus` it is what a ray meets that goes straight in where |grad f| = 1, s sigmoid(-s f)."""
        flat = points.reshape(-1, 3)
        return self._density(self.distance(flat), flat).reshape(points.shape[:-1])

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """As `DensityField`, with the density of `density`. With normals, `extras` has `gradient`: |grad f| (..., 1)."""
        return self._sample(points, normals, normals, lambda distance, _, flat: self._density(distance, flat))

    def segment(self, points: Tensor, directions: Tensor, length: Tensor, normals: bool = False) -> FieldSample:
        """As `DensityField`. `neus` always has `extras` of `gradient`.

        NeuS, eq. 13: the opacity is max((Phi(s f_0) - Phi(s f_1)) / Phi(s f_0), 0), Phi the logistic function and f_0, f_1 the
        distances at both ends. So the mean density is (ln Phi(s f_0) - ln Phi(s f_1)) / length, 0 where a ray leaves the surface.
        As in the authors' code, the ends follow from f and its slope in the middle.
        """
        if self.config.density == "volsdf":
            return self.sample(points, normals)
        along, step = directions.reshape(-1, 3), length.reshape(-1)

        def density(distance: Tensor, gradient: Tensor | None, flat: Tensor) -> Tensor:
            assert gradient is not None  # it was asked for
            half = (gradient * along).sum(-1) * step / 2
            s = self.log_sharpness.exp()
            thickness = F.logsigmoid(s * (distance - half)) - F.logsigmoid(s * (distance + half))
            return self._inside(thickness.clamp(min=0) / step, flat)

        return self._sample(points, normals, True, density)

    def _sample(
        self, points: Tensor, normals: bool, slopes: bool, density: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    ) -> FieldSample:
        """The field at `points` (..., 3), with `density` of f (N,), of its gradient (N, 3) where `slopes`, and of the points."""
        flat, shape = points.reshape(-1, 3), points.shape[:-1]
        raw, colour, slope = self._networks(flat, slopes)
        albedo = self._painted(colour)[0].reshape(*shape, 3)
        start, tilt = self._sphere(flat)
        gradient = None if slope is None else slope + tilt
        found = density(raw + start, gradient, flat).reshape(shape)
        if gradient is None:
            return FieldSample(found, albedo)
        size = (gradient.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        normal = (gradient / size).reshape(*shape, 3) if normals else None
        return FieldSample(found, albedo, normal, {"gradient": size.reshape(*shape, 1)})

    def _sphere(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """|x| - sphere (N,) at points (N, 3), and its gradient (N, 3)."""
        length = (points.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        return length[:, 0] - self.config.sphere, points / length

    def _density(self, distance: Tensor, points: Tensor) -> Tensor:
        """Density (N,) from f (N,) at points (N, 3)."""
        s = self.log_sharpness.exp()
        if self.config.density == "neus":
            return self._inside(s * torch.sigmoid(-s * distance), points)
        tail = torch.exp(-s * distance.abs()) / 2
        return self._inside(s * torch.where(distance > 0, tail, 1 - tail), points)
