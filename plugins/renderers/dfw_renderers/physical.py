"""Physically based shading of metallic-roughness materials: one point light, and light from everywhere by spherical harmonics.

The material is that of glTF 2.0, appendix B: a Lambertian base under a layer of GGX microfacets (Cook and Torrance 1982; Walter
et al. 2007; shadowing by Heitz 2014). All light is linear; colours are display-referred before and after.

Legend: N points, K coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import Material

_SMOOTHEST = 0.05
"""Least roughness: a smoother surface mirrors a point light in less than a pixel."""

_DIELECTRIC = 0.04
"""How much a dielectric of refractive index 1.5 reflects at normal incidence. glTF 2.0, appendix B.2.3.1."""


def linear(display: Tensor) -> Tensor:
    """Returns linear light of sRGB values in [0, 1]. IEC 61966-2-1."""
    return torch.where(display <= 0.04045, display / 12.92, ((display.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def display(light: Tensor) -> Tensor:
    """Returns sRGB values of linear light, clipped to [0, 1]. IEC 61966-2-1."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def harmonics(direction: Tensor, count: int) -> Tensor:
    """Returns the first `count` of nine real spherical harmonics (N, K) in unit directions (N, 3).

    In the order of Ramamoorthi and Hanrahan 2001, "An Efficient Representation for Irradiance Environment Maps", eq. 3:
    L00, L1-1, L10, L11, L2-2, L2-1, L20, L21, L22.
    """
    x, y, z = direction.unbind(-1)
    level = [torch.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x]
    square = [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)]
    return torch.stack([*level, *square][:count], dim=-1)


def _degrees(count: int, like: Tensor) -> Tensor:
    """The degree l (K,) of each of the first harmonics."""
    return like.new_tensor([0, 1, 1, 1, 2, 2, 2, 2, 2][:count])


def ambient_diffuse(normal: Tensor, environment: Tensor) -> Tensor:
    """Returns irradiance over pi (N, 3), >= 0, on surfaces with normals (N, 3) under an environment's radiance (K, 3).

    The cosine weighs the degrees by 1, 2/3 and 1/4. Ramamoorthi and Hanrahan 2001, eq. 8.
    """
    weight = normal.new_tensor([1, 2 / 3, 1 / 4])[_degrees(len(environment), normal).long()]
    return _sum(harmonics(normal, len(environment)) * weight, environment)


def ambient_mirrored(reflected: Tensor, alpha: Tensor, environment: Tensor) -> Tensor:
    """Returns the radiance (N, 3), >= 0, that microfacets of GGX width `alpha` (N,) gather around directions `reflected` (N, 3).

    They weigh degree l by exp(-(alpha l)^2). Ramamoorthi and Hanrahan 2001, "A Signal-Processing Framework for Inverse
    Rendering", section 4.3.
    """
    weight = torch.exp(-(alpha[:, None] * _degrees(len(environment), reflected)).square())
    return _sum(harmonics(reflected, len(environment)) * weight, environment)


def _sum(weight: Tensor, environment: Tensor) -> Tensor:
    return (weight[:, :, None] * environment).sum(1).clamp(min=0)


def mirrored_share(at_normal: Tensor, roughness: Tensor, cosine: Tensor) -> Tensor:
    """Returns how much (N, 3) of an even environment microfacets reflect: Karis 2014, "Physically Based Shading on Mobile".

    at_normal: (N, 3), reflectance at normal incidence. cosine: (N,), between normal and viewer.
    """
    ends = ((-1, 1), (-0.0275, 0.0425), (-0.572, 1.04), (0.022, -0.04))
    a, b, c, d = (slope * roughness + start for slope, start in ends)
    bent = torch.minimum(a * a, torch.exp2(-9.28 * cosine)) * a + b
    return (at_normal * (c - 1.04 * bent)[:, None] + (d + 1.04 * bent)[:, None]).clamp(0, 1)


def facets(normal: Tensor, to_eye: Tensor, to_light: Tensor, alpha: Tensor, at_normal: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the GGX layer's reflectance D V (N,), 1/sr, and its Fresnel term F (N, 3). glTF 2.0, appendix B.3.2.

    normal, to_eye, to_light: (N, 3), unit length. alpha: (N,), > 0. at_normal: (N, 3), reflectance at normal incidence.
    """
    half = F.normalize(to_eye + to_light, dim=-1, eps=1e-8)
    eye, light = _cosine(normal, to_eye), _cosine(normal, to_light)
    square = alpha * alpha
    slope = torch.linalg.cross(normal, half).square().sum(-1)  # 1 - cos^2, which rounding would spoil where facets peak
    spread = torch.maximum(square * (normal * half).sum(-1).square() + slope, square)  # less only if the light is behind the eye
    density = square / (math.pi * spread.square())
    masking = light * (eye * eye * (1 - square) + square).sqrt() + eye * (light * light * (1 - square) + square).sqrt()
    grazing = (1 - (to_eye * half).sum(-1).clamp(0, 1)) ** 5
    return 0.5 * density / masking, at_normal + (1 - at_normal) * grazing[:, None]


def _cosine(normal: Tensor, direction: Tensor) -> Tensor:
    return (normal * direction).sum(-1).clamp(min=1e-4)


def physical(
    material: Material,
    normal: Tensor,
    to_eye: Tensor,
    to_light: Tensor,
    ambient: Tensor,
    diffuse: Tensor,
    environment: Sequence[tuple[float, float, float]],
) -> Tensor:
    """Returns display-referred colours (N, 3) in [0, 1] of points with a material and unit vectors (N, 3).

    ambient: (N,), strength of the environment, whose radiance has the harmonic coefficients `environment` (K, 3). diffuse: (N,),
    strength of the light: a white Lambertian surface that faces it has radiance 1. With neither roughness nor metallic nothing is
    mirrored; a metal without roughness has roughness 1.
    """
    base, sky = linear(material.albedo), normal.new_tensor(environment)
    metallic = torch.zeros_like(ambient) if material.metallic is None else material.metallic
    matt = base * (1 - metallic)[:, None]
    received = diffuse[:, None] * (normal * to_light).sum(-1).clamp(min=0)[:, None]
    if material.roughness is None and material.metallic is None:
        return display(matt * (received + ambient[:, None] * ambient_diffuse(normal, sky)))
    roughness = torch.ones_like(ambient) if material.roughness is None else material.roughness.clamp(min=_SMOOTHEST)
    alpha = roughness.square()
    at_normal = _DIELECTRIC + metallic[:, None] * (base - _DIELECTRIC)
    layer, fresnel = facets(normal, to_eye, to_light, alpha, at_normal)
    direct = received * (matt * (1 - fresnel) + math.pi * layer[:, None] * fresnel)
    share = mirrored_share(at_normal, roughness, _cosine(normal, to_eye))
    reflected = 2 * (normal * to_eye).sum(-1, keepdim=True) * normal - to_eye
    around = matt * (1 - share) * ambient_diffuse(normal, sky) + share * ambient_mirrored(reflected, alpha, sky)
    return display(direct + ambient[:, None] * around)
