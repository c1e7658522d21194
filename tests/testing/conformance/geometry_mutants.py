"""A right density field, and wrong ones: each differs in one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw import ComponentConfig, DensityField, FieldSample, LatentField, SignedDistance


class Twin(DensityField):
    """One Gaussian blob: height exp(-r^2/(2 size^2)) in the cube of half-width 1, with one colour."""

    class Config(ComponentConfig):
        """How large it starts."""

        size: float = 0.4
        """Standard deviation, world units."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.size = nn.Parameter(torch.tensor(float(config.size)))
        self.centre = nn.Parameter(torch.zeros(3))
        self.raw_colour = nn.Parameter(torch.zeros(3))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"density-field"})

    @property
    def radius(self) -> float:
        return 1.0

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.raw_colour.copy_(torch.randn(3, generator=generator, device=generator.device))
            self.centre.copy_(0.1 * torch.randn(3, generator=generator, device=generator.device))

    def raw(self, points: Tensor) -> Tensor:
        return 5 * torch.exp(-(points - self.centre).square().sum(-1) / (2 * self.size**2))

    def density(self, points: Tensor) -> Tensor:
        return self.raw(points) * (points.abs().amax(-1) <= self.radius)

    def albedo(self, points: Tensor) -> Tensor:
        return torch.sigmoid(self.raw_colour).expand_as(points)

    def normal(self, points: Tensor) -> Tensor:
        return F.normalize(points - self.centre, dim=-1, eps=1e-6)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        return FieldSample(self.density(points), self.albedo(points), self.normal(points) if normals else None)


class NegativeDensity(Twin):
    def raw(self, points: Tensor) -> Tensor:
        return super().raw(points) - 0.5


class FlippedNormals(Twin):
    def normal(self, points: Tensor) -> Tensor:
        return -super().normal(points)


class SwappedAxes(Twin):
    def normal(self, points: Tensor) -> Tensor:
        return super().normal(points)[..., [1, 0, 2]]


class LongNormals(Twin):
    def normal(self, points: Tensor) -> Tensor:
        return 2 * super().normal(points)


class NormalsWithoutGraph(Twin):
    def normal(self, points: Tensor) -> Tensor:
        return super().normal(points).detach()


class RawColour(Twin):
    def albedo(self, points: Tensor) -> Tensor:
        return (3 * self.raw_colour).expand_as(points)


class DetachedColour(Twin):
    def albedo(self, points: Tensor) -> Tensor:
        return super().albedo(points).detach()


class LeaksOut(Twin):
    def density(self, points: Tensor) -> Tensor:
        return self.raw(points)


class SphereForCube(Twin):
    """Zero outside the ball of radius 2 instead of the cube."""

    def density(self, points: Tensor) -> Tensor:
        return self.raw(points) * (points.norm(dim=-1) <= 2)


class LooksAtItsNeighbours(Twin):
    def raw(self, points: Tensor) -> Tensor:
        return super().raw(points) * (1 + 0.1 * torch.tanh(points.sum()))


class SpikeAtTheCentre(Twin):
    """sqrt(0) has no gradient."""

    def raw(self, points: Tensor) -> Tensor:
        return super().raw(points) * torch.exp(-0.1 * points.square().sum(-1).sqrt())

    def normal(self, points: Tensor) -> Tensor:
        with torch.enable_grad():
            where = points.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.raw(where + 1e-6).sum(), where, create_graph=True)
        return -F.normalize(slope, dim=-1, eps=1e-6)


class Flattens(Twin):
    def density(self, points: Tensor) -> Tensor:
        return super().density(points).reshape(-1) if points.dim() == 2 else super().density(points).flatten()[: len(points)]


class TwoFields(Twin):
    """density() and sample() disagree."""

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        found = super().sample(points, normals)
        return FieldSample(found.density * 1.1, found.albedo, found.normal)


class ThicknessForDensity(Twin):
    """The optical thickness of a segment, which grows with its length."""

    def segment(self, points: Tensor, directions: Tensor, length: Tensor, normals: bool = False) -> FieldSample:
        found = super().segment(points, directions, length, normals)
        return replace(found, density=found.density * length)


class ShinesAlongRays(Twin):
    def segment(self, points: Tensor, directions: Tensor, length: Tensor, normals: bool = False) -> FieldSample:
        found = super().segment(points, directions, length, normals)
        return replace(found, albedo=found.albedo * directions.abs())


class FogForRays(Twin):
    """A little matter everywhere, which `density` does not know."""

    def segment(self, points: Tensor, directions: Tensor, length: Tensor, normals: bool = False) -> FieldSample:
        found = super().segment(points, directions, length, normals)
        return replace(found, density=found.density + 0.01)


class LosesAParameter(Twin):
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"geometry": [self.size, self.raw_colour]}


class WrongSlope(Twin):
    """The size's gradient is doubled, its value is not."""

    def raw(self, points: Tensor) -> Tensor:
        size = 2 * self.size - self.size.detach()
        return 5 * torch.exp(-(points - self.centre).square().sum(-1) / (2 * size**2))


class DrawsOnTheCpu(Twin):
    """Hands the run's generator to a call that draws on the CPU."""

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.raw_colour.copy_(torch.randn(3, generator=generator))


class Signed(Twin, SignedDistance):
    """A ball by its signed distance f: the density is 5 / (1 + exp(8 f))."""

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"density-field", "signed-distance"})

    def distance(self, points: Tensor) -> Tensor:
        return ((points - self.centre).square().sum(-1) + 1e-12).sqrt() - self.size

    def raw(self, points: Tensor) -> Tensor:
        return 5 * torch.sigmoid(-8 * self.distance(points))

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        found = super().sample(points, normals)
        return replace(found, extras={"gradient": torch.ones_like(points[..., :1])}) if normals else found


class PositiveInside(Signed):
    """The density is right; what `distance` says is turned around."""

    def raw(self, points: Tensor) -> Tensor:
        return 5 * torch.sigmoid(8 * self.distance(points))

    def distance(self, points: Tensor) -> Tensor:
        return -super().distance(points)


class GradientOfTheDensity(Signed):
    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        found = super().sample(points, normals)
        return replace(found, extras={"gradient": 8 * found.density[..., None]}) if normals else found


class OfLatents(Twin, LatentField):
    """Two latents for red and blue; green is the mean of both."""

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"density-field", "latents"})

    def latents_of(self, colour: Tensor) -> Tensor:
        return colour[..., ::2]

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        found = super().sample(points, normals)
        return replace(found, extras={"latents": found.albedo[..., ::2]})


class LatentsThatAreNotThere(OfLatents):
    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        return Twin.sample(self, points, normals)


class OtherLatentsBehind(OfLatents):
    """A background would have three latents, and the field has two."""

    def latents_of(self, colour: Tensor) -> Tensor:
        return colour


MUTANTS: dict[type[Twin], set[str]] = {
    DrawsOnTheCpu: {"test_other_device"},
    NegativeDensity: {"test_density_is_not_negative", "test_rays_meet_what_is_there"},
    FlippedNormals: {"test_normals_match_density"},
    SwappedAxes: {"test_normals_match_density"},
    LongNormals: {"test_normals_are_unit"},
    NormalsWithoutGraph: {"test_normals_train_the_geometry"},
    RawColour: {"test_albedo_is_a_colour"},
    DetachedColour: {"test_every_parameter_gets_a_gradient", "test_gradients_match_differences"},
    LeaksOut: {"test_nothing_outside"},
    SphereForCube: {"test_nothing_outside"},
    LooksAtItsNeighbours: {"test_chunking_changes_nothing"},
    SpikeAtTheCentre: {"test_finite"},
    Flattens: {"test_shapes", "test_normals_are_unit", "test_normals_match_density"},
    TwoFields: {"test_sample_agrees_with_density"},
    ThicknessForDensity: {"test_segments_add_up"},
    ShinesAlongRays: {"test_rays_meet_what_is_there"},
    FogForRays: {"test_rays_meet_what_is_there"},
    PositiveInside: {"test_the_distance_makes_the_field"},
    GradientOfTheDensity: {"test_the_distance_makes_the_field"},
    LatentsThatAreNotThere: {"test_latents_come_with_samples"},
    OtherLatentsBehind: {"test_latents_come_with_samples"},
    LosesAParameter: {"test_parameter_groups_hold_each_parameter_once"},
    WrongSlope: {"test_gradients_match_differences"},
}
"""Wrong geometry -> the checks that catch it, and no other."""
