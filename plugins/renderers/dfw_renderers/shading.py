"""Shading turns albedo into colour: unchanged, lit by a point light, without texture, or replaced by the normal.

Legend: B views, N samples packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, field_validator, model_validator
from torch import Tensor

from dfw import ComponentConfig, Progress, Schedule, draw_views, value_at

Range = tuple[NonNegativeFloat, NonNegativeFloat]

WHITE_SKY = (3.545, 3.545, 3.545)
"""Radiance 1 from all sides, as a coefficient of the first harmonic: 2 sqrt(pi)."""


class LightConfig(ComponentConfig):
    """The paper's mixture of albedo, lit and textureless views, and the light of those that are lit."""

    start: Annotated[float, Field(ge=0, le=1)] = 1 / 15
    """All views show albedo before this fraction of the run. The paper has 1,000 of 15,000 steps."""
    probability: Schedule = 0.75
    """Share of the views that are lit, in [0, 1]. The others show albedo."""
    textureless: Schedule = 0.5
    """Share of the lit views with white in place of the albedo, so that the shape must explain the picture."""
    ambient: Range = (0.1, 0.1)
    """Ambient light, drawn uniformly for each lit view."""
    diffuse: Range = (0.9, 0.9)
    """Strength of the point light, drawn uniformly for each lit view."""
    light_distance: tuple[PositiveFloat, PositiveFloat] = (2.4, 4.5)
    """Range of the light's distance from the origin, world units: 3 times the paper's 0.8-1.5, which suits cameras at 1-1.5."""
    light_deviation: NonNegativeFloat = 2.5
    """Standard deviation of the light's offset from the camera, world units, before its distance is set; 0: in line with it."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("ambient", "diffuse", "light_distance"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: [{low:g}, {high:g}] runs backwards; write [{high:g}, {low:g}]")
        for name in ("probability", "textureless"):
            value: Schedule = getattr(self, name)
            ends = (value.from_, value.to) if not isinstance(value, float | int) else (value,)
            if not all(0 <= end <= 1 for end in ends):
                worst = max(ends, key=lambda end: abs(end - 0.5))
                raise ValueError(f"{name}: {worst:g} is not a probability; write a number in [0, 1]")
        return self


class ShadingConfig(LightConfig):
    """Albedo alone, or the paper's mixture of albedo, lit and textureless views."""

    mode: Literal["albedo", "lambertian", "normal"] = "albedo"
    """In training. `albedo`: unchanged (cheapest). `lambertian`: the mixture of lit views. `normal`: normals as colours."""
    normals: Literal["auto", "always", "never"] = "auto"
    """When normals are computed. `auto`: if shading uses them. `always`: in every step, for losses that need them. `never`."""
    eval_shading: Literal["albedo", "lambertian", "normal"] = "albedo"
    """What previews and turntables show. Their light stands at the camera."""

    @model_validator(mode="after")
    def _check_normals(self) -> Self:
        if self.normals == "never" and (self.mode != "albedo" or self.eval_shading != "albedo"):
            raise ValueError("normals: never, but shading needs them; write normals: auto, or albedo for mode and eval_shading")
        return self


class SurfaceShadingConfig(LightConfig):
    """From a surface's material to its colour: albedo alone, or a mixture of views with albedo, lit, and textureless."""

    mode: Literal["albedo", "lambertian", "pbr", "normal"] = "albedo"
    """In training. `albedo`: unchanged. `lambertian`: the mixture of lit views. `pbr`: the same, lit in linear light with
    roughness and metallic. `normal`: normals as colours."""
    environment: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat], ...] = (WHITE_SKY,)
    """pbr: ambient light from everywhere, linear RGB. 1, 4 or 9 coefficients of real spherical harmonics (L00, L1-1, L10, L11,
    L2-2, L2-1, L20, L21, L22), z up, which `ambient` multiplies. By default radiance 1 from all sides."""
    eval_shading: Literal["albedo", "lambertian", "pbr", "normal"] = "albedo"
    """What previews and turntables show. Their light stands at the camera."""

    @field_validator("environment")
    @classmethod
    def _check_environment(cls, value: tuple[tuple[float, float, float], ...]) -> tuple[tuple[float, float, float], ...]:
        if len(value) not in (1, 4, 9):
            raise ValueError(f"{len(value)} coefficients; write 1, 4 or 9, whole degrees of spherical harmonics")
        return value


@dataclass(frozen=True)
class Lighting:
    """One point light per view. A view that shows its albedo has ambient 1 and diffuse 0."""

    position: Tensor
    """(B, 3), world units."""
    ambient: Tensor
    """(B,)."""
    diffuse: Tensor
    """(B,)."""
    textureless: Tensor
    """(B,), 1 for views with white in place of the albedo, else 0."""
    lit: Tensor
    """(B,), 1 for views with a light, 0 for those that show their albedo."""


def lambertian(albedo: Tensor, normal: Tensor, to_light: Tensor, ambient: Tensor, diffuse: Tensor) -> Tensor:
    """Returns rho (l_p max(0, n . l) + l_a), (N, 3). DreamFusion (Poole et al. 2023), eq. 7.

    albedo rho and normal n: (N, 3). to_light l: (N, 3), unit vectors towards the light. ambient l_a, diffuse l_p: (N,).
    """
    cosine = (normal * to_light).sum(-1).clamp(min=0)
    return albedo * (diffuse * cosine + ambient)[:, None]


def shade(albedo: Tensor, normal: Tensor, points: Tensor, view: Tensor, lighting: Lighting) -> Tensor:
    """Returns colours (N, 3) of samples at `points` (N, 3) of `view` (N,) under each view's own light."""
    to_light = F.normalize(lighting.position[view] - points, dim=-1, eps=1e-8)
    white = lighting.textureless[view][:, None]
    return lambertian(albedo + white * (1 - albedo), normal, to_light, lighting.ambient[view], lighting.diffuse[view])


def normal_colours(normal: Tensor) -> Tensor:
    """Returns (n + 1)/2, in [0, 1]."""
    return (normal + 1) / 2


def draw_light(camera: Tensor, config: LightConfig, generator: torch.Generator | None) -> Tensor:
    """Draws positions (B, 3) near the cameras (B, 3): d normalize(camera + N(0, s^2 I)), d uniform. DreamFusion, app. A.2."""
    noise = draw_views(torch.randn, camera.shape, generator, camera.device).to(camera.dtype)
    distance = _uniform(config.light_distance, camera, generator)
    return distance[:, None] * F.normalize(camera + config.light_deviation * noise, dim=-1, eps=1e-8)


def draw_lighting(camera: Tensor, config: LightConfig, progress: Progress, generator: torch.Generator | None) -> Lighting:
    """Draws lights of B training views with cameras at `camera` (B, 3), and which views are lit or textureless."""
    position = draw_light(camera, config, generator)
    chance = draw_views(torch.rand, (2, camera.shape[0]), generator, camera.device, axis=1)
    lit = (chance[0] < value_at(config.probability, progress)).to(camera.dtype)
    bare = (chance[1] < value_at(config.textureless, progress)).to(camera.dtype)
    ambient, diffuse = _uniform(config.ambient, camera, generator), _uniform(config.diffuse, camera, generator)
    return Lighting(position, lit * ambient + (1 - lit), lit * diffuse, lit * bare, lit)


def camera_lighting(camera: Tensor, config: LightConfig) -> Lighting:
    """Returns the light for evaluation: at the camera (B, 3), in the middle of the configured ranges."""
    one = torch.ones_like(camera[:, 0])
    return Lighting(camera, sum(config.ambient) / 2 * one, sum(config.diffuse) / 2 * one, 0 * one, one)


def lighting_of(
    mode: str, camera: Tensor, config: LightConfig, progress: Progress, training: bool, generator: torch.Generator | None
) -> Lighting | None:
    """Returns the lights of B views with cameras at `camera` (B, 3), None where `mode`, or the time, asks for none."""
    if mode not in ("lambertian", "pbr"):
        return None
    if not training:
        return camera_lighting(camera, config)
    return draw_lighting(camera, config, progress, generator) if progress.fraction >= config.start else None


def _uniform(bounds: tuple[float, float], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws U(low, high) once for each row of `like` (B, ...): (B,)."""
    drawn = draw_views(torch.rand, like.shape[:1], generator, like.device).to(like.dtype)
    return bounds[0] + (bounds[1] - bounds[0]) * drawn
